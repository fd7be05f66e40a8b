"""A test's line of a JSON report, read by the writer's own templates.

A report of a large suite is nearly all such lines, and nearly all of them are plain: every request measured, nothing
violated. One pattern takes such a line apart, in less time and memory than a parsed object and a look at each of its
values. Whatever differs by one character from what ``document`` writes is no plain line, and is read the careful way.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pytest_tokenbudget.budget import Verdict
from pytest_tokenbudget.frozen import maker_of
from pytest_tokenbudget.patterns import COUNT, TEXT, NotPlain, pattern_of, unquote
from pytest_tokenbudget.record import BaselineResult, BaselineStatus, ModelTokens, Outcome, UsageRecord
from pytest_tokenbudget.report import templates
from pytest_tokenbudget.report.document import usage_of
from pytest_tokenbudget.usage import ModelCall, Role, Source, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.budget import Budget

    Entries = Mapping[str, Mapping[str, ModelTokens]]


def _one_of(words: Any) -> str:
    return f"(?:{'|'.join(get_args(words))})"


def _object_of(each: str) -> str:
    return rf"\{{(?:{each}(?:, {each})*)?\}}"


_USD = r'(?:null|"(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,50})?")'
_PART = '"(%s)": (%s)'
_PARTS = _object_of(_PART % (f"?:{_one_of(Role)}", f"?:{COUNT}"))
_MODELS = _object_of(pattern_of(templates.entry_model, TEXT, *[COUNT] * 5))
_ENTRY = pattern_of(
    templates.entry_object, f"({_one_of(BaselineStatus)})", f"(null|{COUNT})", f"({_USD})", f"(null|{_MODELS})"
)
_FIGURES = pattern_of(templates.figures, *[COUNT] * 6, _USD)
_USAGE = pattern_of(templates.usage_object, COUNT, _FIGURES, _USD, f"({COUNT})", COUNT, COUNT, r"\[[^]]*\]")

_take_test = re.compile(
    pattern_of(
        templates.test_row,
        *(f"({TEXT})", f"({_one_of(Outcome)})", f"({_one_of(Verdict)})", r"(null|\{[^{}]*\})", r"\[\]"),
        *(f"(?:null|{_ENTRY})", f"({_USAGE})", "(.*)"),
    )
).fullmatch
_take_call = re.compile(
    pattern_of(
        templates.call_row,
        *(f"({TEXT})", f"({TEXT})", f"({TEXT})", f"({_one_of(Source)})", "(true|false)", f"(null|{TEXT})"),
        *(f"(?P<figures>{pattern_of(templates.figures, *[f'({COUNT})'] * 6, f'({_USD})')})", f"(null|{_PARTS})"),
    )
    + r"(?:, (?=\{)|\Z)"
).match
_take_models = re.compile(pattern_of(templates.entry_model, f"({TEXT})", *[f"({COUNT})"] * 5)).findall
_take_parts = re.compile(_PART % (_one_of(Role), COUNT)).findall

# The figures of one test stand in its line several times: as objects they need be there once.
_count = lru_cache(maxsize=4096)(int)

_record, _result = maker_of(UsageRecord), maker_of(BaselineResult)
_model_call, _usage = maker_of(ModelCall), maker_of(Usage)


def read_plain_test(line: str, budget_of: Callable[[str], Budget], entries: Entries) -> UsageRecord | None:
    """The record that a line holds; ``None`` where it is no plain one.

    Args:
        line: one test, without the comma behind it.
        budget_of: reads the JSON text of a budget.
        entries: see ``reading.load``.
    """
    found = _take_test(line)
    if found is None:
        return None
    quoted, outcome, verdict, budget, *entry, usage, hits, rows = found.groups()
    status, tokens, cost, models = entry
    try:
        nodeid = unquote(quoted)
        return _record(
            nodeid=nodeid,
            outcome=outcome,  # type: ignore[arg-type]
            verdict=verdict,  # type: ignore[arg-type]
            calls=_calls(rows, usage, hits),
            cache_hits=_count(hits),
            budget=None if budget == "null" else budget_of(budget),
            baseline=None
            if status is None
            else _result(
                status=status,  # type: ignore[arg-type]
                tokens=None if tokens == "null" else _count(tokens),
                cost=_usd(cost),
                models=None if models == "null" else _models(models, entries.get(nodeid)),
            ),
        )
    except NotPlain:
        return None


def _calls(rows: str, usage: str, hits: str) -> tuple[ModelCall, ...]:
    """The calls of a test, which must add up to its usage."""
    calls = []
    figures = ""
    position = 0
    while position < len(rows):
        found = _take_call(rows, position)
        if found is None:
            raise NotPlain
        calls.append(_call(found))
        figures = found["figures"]
        position = found.end()
    if usage != usage_of(calls, _count(hits), figures):
        raise NotPlain
    return tuple(calls)


def _call(found: re.Match[str]) -> ModelCall:
    (model, provider, endpoint, source, replayed, request_id, _, given, cached, written, made, reasoning, total, cost,
     parts) = found.groups()  # fmt: skip
    usage = _usage(
        input_tokens=_count(given),
        cached_input_tokens=_count(cached),
        cache_write_tokens=_count(written),
        output_tokens=_count(made),
        reasoning_tokens=_count(reasoning),
    )
    if _count(total) != usage.total_tokens:
        raise NotPlain
    return _model_call(
        model=_name(model),
        provider=_name(provider),
        endpoint=_name(endpoint),
        usage=usage,
        cost=_usd(cost),
        source=source,  # type: ignore[arg-type]
        replayed=replayed == "true",
        request_id=None if request_id == "null" else unquote(request_id),
        parts=None if parts == "null" else _parts(parts),
    )


def _parts(text: str) -> dict[str, int]:
    found = _take_parts(text)
    parts = {role: _count(tokens) for role, tokens in found}
    if len(parts) < len(found):
        raise NotPlain
    return parts


def _models(text: str, known: Mapping[str, ModelTokens] | None) -> Mapping[str, ModelTokens]:
    found = _take_models(text)
    models = {_name(name): ModelTokens(*map(_count, counts)) for name, *counts in found}
    if len(models) < len(found):
        raise NotPlain
    return models if known is None or known != models else known


@lru_cache(maxsize=4096)
def _usd(text: str) -> Decimal | None:
    return None if text == "null" else Decimal(text[1:-1])


_name = lru_cache(maxsize=1024)(unquote)
"""For what many calls have in common."""
