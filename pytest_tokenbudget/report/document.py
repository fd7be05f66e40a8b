"""The JSON report: one document, one test per line, for tools and for the command line's own use.

The entries that come once per test are written from templates, and only their texts go through an encoder.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.report import templates
from pytest_tokenbudget.report.figures import plain_usd
from pytest_tokenbudget.summary import Summary, tally_of
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from pytest_tokenbudget.budget import Budget, Violation
    from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, Tally, UsageRecord
    from pytest_tokenbudget.summary import BaselineSummary, ModelRow
    from pytest_tokenbudget.usage import ModelCall, Usage

SCHEMA = "pytest-tokenbudget/report/1"
NAME = "pytest-tokenbudget"

# The encoder in C serves only without indentation: a line per record is as easy to compare, and ten times as fast.
# ASCII only, so that a lone surrogate in a name can be written to any file.
_encode = json.JSONEncoder(allow_nan=False).encode
quote = json.encoder.encode_basestring_ascii
_name = lru_cache(maxsize=1024)(quote)
"""For what many calls have in common."""

_UNMEASURED = templates.figures(*["null"] * 7)
_CHUNK = 2**16
_ROWS = 32
"""So many are joined to a piece: half a chunk, where each test makes one call."""


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
    if isinstance(calls, WrittenCall) and (line := calls.line_of(record)) is not None:
        return line
    return templates.test_row(
        quote(record.nodeid),
        record.outcome,
        record.verdict,
        "null" if record.budget is None else limits_of(record.budget),
        _encode([_violation(violation) for violation in record.violations]) if record.violations else "[]",
        "null" if record.baseline is None else _entry(record.baseline),
        calls.text if isinstance(calls, WrittenCall) else _used(calls, record.cache_hits),
    )


def limits_of(budget: Budget) -> str:
    """What a test's limits are."""
    return _flat(budget.to_dict())


def _shared(record: SharedRecord) -> str:
    return templates.shared_row(
        quote(record.fixture), quote(record.scope), _used(record.calls, record.cache_hits)
    )  # fmt: skip


def _used(calls: Sequence[ModelCall], cache_hits: int) -> str:
    """The sum of some calls, and their rows."""
    if len(calls) == 1:
        (call,) = calls
        figures = _figures(call.usage, call.cost)
        return templates.used(usage_of(calls, cache_hits, figures), _call(call, figures))
    rows = [_call(call, _figures(call.usage, call.cost)) for call in calls]
    return templates.used(usage_of(calls, cache_hits), ", ".join(rows))


def usage_of(calls: Sequence[ModelCall], cache_hits: int, figures: str = "") -> str:
    """The sum of some calls: of the plainest case, one call of known cost, without adding anything up.

    Args:
        calls: of one test or fixture.
        cache_hits: its own.
        figures: those of its only call, as its row has them.
    """
    if len(calls) != 1 or (usage := calls[0].usage) is None or calls[0].cost is None:
        return _usage(tally_of(calls, cache_hits=cache_hits))
    (call,) = calls
    spent = '"0"' if call.replayed else _usd(call.cost)
    estimated = int(call.source == "estimate")
    return templates.usage_object(1, figures, spent, cache_hits + usage.cache_hits, estimated, 0, "[]")


def _model(row: ModelRow) -> str:
    return f'{{"provider": {quote(row.provider)}, "model": {quote(row.model)}, "usage": {_usage(row.tally)}}}'


def _usage(tally: Tally) -> str:
    usage = tally.usage
    return templates.usage_object(
        usage.requests,
        _figures(usage, tally.cost),
        _usd(tally.spent),
        usage.cache_hits,
        usage.estimated_requests,
        usage.unmeasured_requests,
        _encode(tally.unpriced_models),
    )


def _call(call: ModelCall, figures: str) -> str:
    return templates.call_row(
        _name(call.model),
        _name(call.provider),
        _name(call.endpoint),
        call.source,
        "true" if call.replayed else "false",
        "null" if call.request_id is None else quote(call.request_id),
        figures,
        "null" if call.parts is None else _template(*call.parts) % tuple(call.parts.values()),
    )


def _figures(usage: Usage | None, cost: Decimal | None) -> str:
    if usage is None:
        return _UNMEASURED
    given, made = usage.input_tokens, usage.output_tokens
    return templates.figures(
        given,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        made,
        usage.reasoning_tokens,
        given + made,
        _usd(cost),
    )


def _violation(violation: Violation) -> dict[str, Any]:
    return {
        "limit": violation.limit,
        "allowed": _figure(violation.allowed),
        "used": _figure(violation.used),
    }


def _entry(result: BaselineResult) -> str:
    return templates.entry_object(
        result.status,
        "null" if result.tokens is None else result.tokens,
        _usd(result.cost),
        "null" if result.models is None else entry_models(result.models),
    )


def entry_models(models: Mapping[str, ModelTokens]) -> str:
    """The models of a test's entry in the baseline: most often it is one."""
    if len(models) == 1:
        ((name, tokens),) = models.items()
        return f"{{{templates.entry_model(_name(name), *tokens)}}}"
    return "{" + ", ".join([templates.entry_model(_name(name), *models[name]) for name in sorted(models)]) + "}"


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


def _flat(values: Mapping[str, str | int]) -> str:
    """An object of texts and whole numbers; the encoder takes twice as long to get ready for one."""
    shown = [value if isinstance(value, int) else quote(value) for value in values.values()]
    return _template(*values) % tuple(shown)


@lru_cache(maxsize=256)
def _template(*keys: str) -> str:
    """Of an object, to be filled with its values: the limits that tests set and the roles in prompts are few."""
    return "{" + ", ".join([f"{quote(key).replace('%', '%%')}: %s" for key in keys]) + "}"


def _field(name: str, value: Mapping[str, Any] | str | bool | None) -> tuple[str]:  # noqa: FBT001 - any JSON value
    return (f'"{name}": {_encode(value)}',)


def _lines(name: str, rows: Iterator[str]) -> Iterator[str]:
    before = f'"{name}": [\n  '
    while some := ",\n  ".join(islice(rows, _ROWS)):
        yield before + some
        before = ",\n  "
    yield f'"{name}": []' if before.startswith('"') else "\n ]"
