"""The JSON report: one document, one test per line, for tools and for the command line's own use.

A suite can have a hundred thousand tests, so the entries that come once per test are written from templates: their
figures need no encoder, and their texts go through the one in C.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.report.figures import plain_usd
from pytest_tokenbudget.summary import Summary, tally_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from decimal import Decimal

    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, Tally, UsageRecord
    from pytest_tokenbudget.summary import BaselineSummary, ModelRow
    from pytest_tokenbudget.usage import ModelCall

SCHEMA = "pytest-tokenbudget/report/1"
NAME = "pytest-tokenbudget"

# The encoder in C serves only without indentation: a line per record is as easy to compare, and ten times as fast.
# ASCII only, so that a lone surrogate in a name can be written to any file.
_encode = json.JSONEncoder(allow_nan=False).encode
_quote = json.encoder.encode_basestring_ascii

TEST = (
    '{"nodeid": %s, "outcome": "%s", "verdict": "%s", "budget": %s, "violations": %s, "baseline": %s, '
    '"usage": %s, "calls": [%s]}'
)
_SHARED = '{"fixture": %s, "scope": %s, "usage": %s, "calls": [%s]}'
_USAGE = (
    '{"requests": %d, "input_tokens": %d, "cached_input_tokens": %d, "cache_write_tokens": %d, "output_tokens": %d, '
    '"reasoning_tokens": %d, "total_tokens": %d, "cost_usd": %s, "spent_usd": %s, "cache_hits": %d, '
    '"estimated_requests": %d, "unmeasured_requests": %d, "unpriced_models": %s}'
)
CALL = (
    '{"model": %s, "provider": %s, "endpoint": %s, "source": "%s", "replayed": %s, "request_id": %s, '
    '"input_tokens": %s, "cached_input_tokens": %s, "cache_write_tokens": %s, "output_tokens": %s, '
    '"reasoning_tokens": %s, "total_tokens": %s, "cost_usd": %s, "parts": %s}'
)
ENTRY = '{"status": "%s", "total_tokens": %s, "cost_usd": %s, "models": %s}'
ENTRY_MODEL = '%s: {"requests": %d, "input": %d, "cached": %d, "cache_write": %d, "output": %d}'
_NULLS = ("null",) * 6
_CHUNK = 2**16


def to_json(summary: Summary) -> str:
    """The report as JSON text, with a line break at its end.

    Money is a decimal string in full; what is not known is ``null``, never 0.
    """
    return b"".join(json_chunks(summary)).decode("ascii")


def json_chunks(summary: Summary) -> Iterator[bytes]:
    """The same text in pieces, so that the report of a large suite never is in memory as a whole."""
    pieces, size = [], 0
    for piece in _pieces(summary):
        pieces.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield "".join(pieces).encode("ascii")
            pieces, size = [], 0
    yield "".join(pieces).encode("ascii")


def _pieces(summary: Summary) -> Iterator[str]:
    fields: tuple[Iterable[str], ...] = (
        _field("schema", SCHEMA),
        _field("plugin", {"name": NAME, "version": summary.plugin_version}),
        _field("created", summary.created),
        _field("complete", summary.complete),
        _field("prices", summary.prices),
        (f'"total": {_usage(summary.total)}',),
        _lines("shared", map(_shared, summary.shared)),
        _lines("models", map(_model, summary.models)),
        _lines("tests", map(_test, summary.tests)),
        _field("baseline", _baseline(summary.baseline)),
        _lines("drift", map(_encode, summary.drift)),
        _lines("unplayed", map(_encode, summary.unplayed)),
        _lines("unused_cassettes", map(_encode, summary.unused_cassettes)),
        _lines("blocked", map(_encode, summary.blocked)),
    )
    for number, field in enumerate(fields):
        yield ",\n " if number else "{"
        yield from field
    yield "}\n"


def _test(record: UsageRecord) -> str:
    calls = record.calls
    return TEST % (
        _quote(record.nodeid),
        record.outcome,
        record.verdict,
        "null" if record.budget is None else flat(record.budget.to_dict()),
        _encode([_violation(violation) for violation in record.violations]) if record.violations else "[]",
        "null" if record.baseline is None else _entry(record.baseline),
        usage_of(calls, record.cache_hits),
        ", ".join(map(_call, calls)),
    )


def _shared(record: SharedRecord) -> str:
    usage = usage_of(record.calls, record.cache_hits)
    return _SHARED % (_quote(record.fixture), _quote(record.scope), usage, ", ".join(map(_call, record.calls)))


def _model(row: ModelRow) -> str:
    return f'{{"provider": {_quote(row.provider)}, "model": {_quote(row.model)}, "usage": {_usage(row.tally)}}}'


def _usage(tally: Tally) -> str:
    usage = tally.usage
    return _USAGE % (
        usage.requests,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
        _usd(tally.cost),
        _usd(tally.spent),
        usage.cache_hits,
        usage.estimated_requests,
        usage.unmeasured_requests,
        _encode(tally.unpriced_models),
    )


def usage_of(calls: tuple[ModelCall, ...], cache_hits: int) -> str:
    """The usage of some calls as JSON: of the plainest case, one call of known cost, without adding anything up."""
    if len(calls) == 1 and (usage := calls[0].usage) is not None and (cost := calls[0].cost) is not None:
        shown = _usd(cost)
        return _USAGE % (
            1,
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.total_tokens,
            shown,
            '"0"' if calls[0].replayed else shown,
            cache_hits + usage.cache_hits,
            calls[0].source == "estimate",
            0,
            "[]",
        )
    return _usage(tally_of(calls, cache_hits=cache_hits))


def _call(call: ModelCall) -> str:
    usage = call.usage
    counts: tuple[object, ...] = _NULLS
    if usage is not None:
        counts = (
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.cache_write_tokens,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.total_tokens,
        )
    return CALL % (
        _quote(call.model),
        _quote(call.provider),
        _quote(call.endpoint),
        call.source,
        "true" if call.replayed else "false",
        "null" if call.request_id is None else _quote(call.request_id),
        *counts,
        _usd(call.cost),
        "null" if call.parts is None else flat(call.parts),
    )


def _violation(violation: Violation) -> dict[str, Any]:
    return {
        "limit": violation.limit,
        "allowed": _figure(violation.allowed),
        "used": _figure(violation.used),
    }


def _entry(result: BaselineResult) -> str:
    return ENTRY % (
        result.status,
        "null" if result.tokens is None else result.tokens,
        _usd(result.cost),
        "null" if result.models is None else "{" + ", ".join(map(_entry_model, sorted(result.models.items()))) + "}",
    )


def _entry_model(entry: tuple[str, ModelTokens]) -> str:
    model, tokens = entry
    return ENTRY_MODEL % (_quote(model), *tokens)


def _baseline(baseline: BaselineSummary | None) -> dict[str, Any] | None:
    if baseline is None:
        return None
    return {
        "path": baseline.path,
        "new": baseline.new,
        "over": baseline.over,
        "improved": baseline.improved,
        "stale": baseline.stale,
    }


def _usd(amount: Decimal | None) -> str:
    return "null" if amount is None else f'"{plain_usd(amount)}"'


def _figure(value: Decimal | int | None) -> str | int | None:
    return value if value is None or isinstance(value, int) else plain_usd(value)


def flat(values: Mapping[str, str | int]) -> str:
    """An object of texts and whole numbers; the encoder takes twice as long to get ready for one."""
    pairs = [f"{_quote(key)}: {value if isinstance(value, int) else _quote(value)}" for key, value in values.items()]
    return "{" + ", ".join(pairs) + "}"


def _field(name: str, value: Mapping[str, Any] | str | bool | None) -> tuple[str]:  # noqa: FBT001 - any JSON value
    return (f'"{name}": {_encode(value)}',)


def _lines(name: str, rows: Iterable[str]) -> Iterator[str]:
    before = f'"{name}": [\n  '
    for row in rows:
        yield before
        yield row
        before = ",\n  "
    yield f'"{name}": []' if before.startswith('"') else "\n ]"
