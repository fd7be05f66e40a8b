"""A test's line of a JSON report, read by the writer's own templates.

A report of a large suite is nearly all such lines, and nearly all of them are plain: every request measured, nothing
violated. One pattern takes such a line apart, in less time and memory than a parsed object and a look at each of its
values. Whatever differs by one character from what ``document`` writes is no plain line, and is read the careful way.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from pytest_tokenbudget.budget import Verdict
from pytest_tokenbudget.record import BaselineResult, BaselineStatus, ModelTokens, Outcome, UsageRecord
from pytest_tokenbudget.report import document
from pytest_tokenbudget.usage import ModelCall, Role, Source, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_tokenbudget.budget import Budget


def _one_of(words: Any) -> str:
    return f"({'|'.join(get_args(words))})"


def _pattern(template: str, *values: str) -> str:
    """The pattern of what a template writes, given that of each of its values."""
    first, *literals = map(re.escape, re.split("%[sd]", template))
    return first + "".join(value + literal for value, literal in zip(values, literals, strict=True))


_COUNT = "(0|[1-9][0-9]{0,14})"
_USD = r'(?:null|"((?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,50})?)")'
_TEXT = r'("(?:[^"\\\x00-\x1f]|\\.)*+")'
_OBJECT = r"(null|\{[^{}]*\})"
_CALL = re.compile(
    _pattern(
        document.CALL,
        *(_TEXT, _TEXT, _TEXT, _one_of(Source), "(true|false)", f"(?:null|{_TEXT})"),
        *(*[_COUNT] * 6, _USD, _OBJECT),
    )
)
_MODEL = re.compile(_pattern(document.ENTRY_MODEL, _TEXT, *[_COUNT] * 5))
_ENTRY = re.compile(
    _pattern(document.ENTRY, _one_of(BaselineStatus), f"(?:null|{_COUNT})", _USD, r"(?:null|\{(.*)\})")
)
_TEST = re.compile(
    _pattern(
        document.TEST,
        *(_TEXT, _one_of(Outcome), _one_of(Verdict), _OBJECT, r"\[\]", r"(null|\{.*?\})"),
        *(r'(\{[^{}]*?"cache_hits": (0|[1-9][0-9]{0,14}),[^{}]*\})', "(.*)"),
    )
)
_PART = re.compile(f'"{_one_of(Role)}": {_COUNT}')

# The figures of one test stand in its line several times: as objects they need be there once.
_count = lru_cache(maxsize=4096)(int)
_usd = lru_cache(maxsize=4096)(Decimal)


def read_plain_test(line: str, budget_of: Callable[[str], Budget]) -> UsageRecord | None:
    """The record that a line holds; ``None`` where it is no plain one.

    Args:
        line: one test, without the comma behind it.
        budget_of: reads the JSON text of a budget.
    """
    found = _TEST.fullmatch(line)
    if found is None:
        return None
    nodeid, outcome, verdict, budget, entry, usage, hits, rows = found.groups()
    try:
        named = _text(nodeid)
        calls = tuple(map(_call, _each(_CALL, rows)))
        baseline = None if entry == "null" else _baseline(entry)
    except _NotPlain:
        return None
    if document.usage_of(calls, _count(hits)) != usage:
        return None
    return UsageRecord(
        nodeid=named,
        outcome=outcome,  # type: ignore[arg-type]
        verdict=verdict,  # type: ignore[arg-type]
        calls=calls,
        cache_hits=_count(hits),
        budget=None if budget == "null" else budget_of(budget),
        baseline=baseline,
    )


class _NotPlain(Exception):  # noqa: N818 - an inner signal
    """It has to be read the careful way."""


def _each(pattern: re.Pattern[str], rows: str) -> Iterator[re.Match[str]]:
    """The rows of a list, which the pattern and commas must make up from its first character to its last."""
    position = 0
    while position < len(rows):
        found = pattern.match(rows, position)
        if found is None or rows[found.end() : found.end() + 2] not in (", ", ""):
            raise _NotPlain
        yield found
        position = found.end() + 2
        if position == len(rows):
            raise _NotPlain  # a comma at the end


def _call(found: re.Match[str]) -> ModelCall:
    model, provider, endpoint, source, replayed, request_id, *counts, cost, parts = found.groups()
    given, cached, written, made, reasoning, total = map(_count, counts)
    if total != given + made:
        raise _NotPlain
    return ModelCall(
        model=_name(model),
        provider=_name(provider),
        endpoint=_name(endpoint),
        usage=Usage(
            input_tokens=given,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=made,
            reasoning_tokens=reasoning,
        ),
        cost=None if cost is None else _usd(cost),
        source=source,  # type: ignore[arg-type]
        replayed=replayed == "true",
        request_id=None if request_id is None else _text(request_id),
        parts=None if parts == "null" else _parts(parts),
    )


def _parts(text: str) -> dict[str, int]:
    parts = {role: _count(tokens) for role, tokens in _PART.findall(text)}
    if document.flat(parts) != text:
        raise _NotPlain
    return parts


def _baseline(text: str) -> BaselineResult:
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise _NotPlain
    status, tokens, cost, rows = found.groups()
    models = None
    if rows is not None:
        each = list(_each(_MODEL, rows))
        models = {_name(row[1]): ModelTokens(
            requests=_count(row[2]), input=_count(row[3]), cached=_count(row[4]), cache_write=_count(row[5]),
            output=_count(row[6]),
        ) for row in each}  # fmt: skip
        if len(models) < len(each):
            raise _NotPlain
    return BaselineResult(
        status=status,  # type: ignore[arg-type]
        tokens=None if tokens is None else _count(tokens),
        cost=None if cost is None else _usd(cost),
        models=models,
    )


def _text(quoted: str) -> str:
    if "\\" not in quoted:
        return quoted[1:-1]
    try:
        text: str = json.loads(quoted)
    except ValueError:
        raise _NotPlain from None
    return text


_name = lru_cache(maxsize=1024)(_text)
"""For what many calls have in common."""
