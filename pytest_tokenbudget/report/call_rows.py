"""What a test used, as its line of a JSON report tells it: the sum of its calls, and a row for each of them."""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, get_args

from pytest_tokenbudget.patterns import COUNT, TEXT, NotPlain, count_of, pattern_of, unquote
from pytest_tokenbudget.report import templates
from pytest_tokenbudget.report.document import usage_of
from pytest_tokenbudget.usage import ModelCall, Role, Source, make_call, make_usage


def one_of(words: Any) -> str:
    """The pattern of the words that a ``Literal`` names."""
    return f"(?:{'|'.join(get_args(words))})"


def object_of(each: str) -> str:
    """The pattern of an object, given that of its pairs."""
    return rf"\{{(?:{each}(?:, {each})*)?\}}"


# Amounts of money and the parts of an input; either may be unknown.
USD = r'(?:null|"(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{1,50})?")'
_PART = '"(%s)": (%s)'
PARTS = object_of(_PART % (f"?:{one_of(Role)}", f"?:{COUNT}"))
_FIGURES = pattern_of(templates.figures, *[COUNT] * 6, USD)
_USAGE = pattern_of(templates.usage_object, COUNT, _FIGURES, USD, f"({COUNT})", COUNT, COUNT, r"\[[^]]*\]")

_take_used = re.compile(pattern_of(templates.used, f"({_USAGE})", "(.*)")).fullmatch
_take_call = re.compile(
    pattern_of(
        templates.call_row,
        *(f"({TEXT})", f"({TEXT})", f"({TEXT})", f"({one_of(Source)})", "(true|false)", f"(null|{TEXT})"),
        *(f"(?P<figures>{pattern_of(templates.figures, *[f'({COUNT})'] * 6, f'({USD})')})", f"(null|{PARTS})"),
    )
    + r"(?:, (?=\{)|\Z)"
).match
_take_parts = re.compile(_PART % (one_of(Role), COUNT)).findall

name_of = lru_cache(maxsize=1024)(unquote)
"""A text that many calls have in common."""


@lru_cache(maxsize=4096)
def amount_of(text: str) -> Decimal:
    """An amount of money as a string has it."""
    return Decimal(text[1:-1])


def usd_of(text: str) -> Decimal | None:
    """What matched ``USD``."""
    return None if text == "null" else amount_of(text)


def read_calls(used: str) -> tuple[tuple[ModelCall, ...], int]:
    """The calls of a test and its cache hits.

    Args:
        used: see ``templates.used``.

    Raises:
        NotPlain: it is written in another way, or its calls don't add up to its usage.
    """
    found = _take_used(used)
    if found is None:
        raise NotPlain
    usage, shown_hits, rows = found.groups()
    hits = count_of(shown_hits)
    calls = []
    figures = ""
    position = 0
    while position < len(rows):
        row = _take_call(rows, position)
        if row is None:
            raise NotPlain
        calls.append(_call(row))
        figures = row["figures"]
        position = row.end()
    if usage != usage_of(calls, hits, figures):
        raise NotPlain
    return tuple(calls), hits


def _call(found: re.Match[str]) -> ModelCall:
    (model, provider, endpoint, source, replayed, request_id, _, given, cached, written, made, reasoning, total, cost,
     parts) = found.groups()  # fmt: skip
    usage = make_usage(
        input_tokens=count_of(given),
        cached_input_tokens=count_of(cached),
        cache_write_tokens=count_of(written),
        output_tokens=count_of(made),
        reasoning_tokens=count_of(reasoning),
    )
    if count_of(total) != usage.total_tokens:
        raise NotPlain
    return make_call(
        model=name_of(model),
        provider=name_of(provider),
        endpoint=name_of(endpoint),
        usage=usage,
        cost=usd_of(cost),
        source=source,  # type: ignore[arg-type]
        replayed=replayed == "true",
        request_id=None if request_id == "null" else unquote(request_id),
        parts=None if parts == "null" else _parts(parts),
    )


def _parts(text: str) -> dict[str, int]:
    found = _take_parts(text)
    parts = {role: count_of(tokens) for role, tokens in found}
    if len(parts) < len(found):
        raise NotPlain
    return parts
