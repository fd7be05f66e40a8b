"""The way back: the text of a JSON report as a ``Summary``, taken as a whole or refused.

What the document does not hold is lost: the reasons of calls and violations, their service tiers, limits on the run.
Sums are not taken from the document but made anew, and one that says something else is refused: a report in which
a total was edited must not pass for the run's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.budget import LIMIT_NAMES, Budget, Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import check_regular
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.document import NAME, SCHEMA
from pytest_tokenbudget.report.rows import read_plain_test
from pytest_tokenbudget.report.shapes import (
    MAX_COUNT,
    as_amount,
    as_array,
    as_count,
    as_figure,
    as_flag,
    as_known_amount,
    as_object,
    as_text,
    as_texts,
    as_word,
    check_keys,
    check_once,
)
from pytest_tokenbudget.report.text import printable
from pytest_tokenbudget.strict_json import Fault, kind, parse, read_regular, show
from pytest_tokenbudget.summary import BaselineSummary, PriceTable, Summary, tally_of
from pytest_tokenbudget.usage import ModelCall, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal
    from pathlib import Path
    from typing import BinaryIO

    from pytest_tokenbudget.record import Tally

MAX_BYTES = 256 * 1024 * 1024
"""A report of 250,000 tests is smaller; a larger file is another file."""

_OUTCOMES = frozenset({"passed", "failed", "error", "skipped", "xfailed", "xpassed"})
_VERDICTS = frozenset({"within", "over", "unmeasured", "none"})
_STATUSES = frozenset({"new", "within", "over", "improved"})
_SOURCES = frozenset({"response", "callback", "estimate"})
_ROLES = frozenset({"system", "user", "assistant", "tool", "tools"})

_TOP = frozenset(
    {"schema", "plugin", "created", "complete", "prices", "total", "shared", "models", "tests",
     "baseline", "drift", "unplayed", "unused_cassettes", "blocked"}
)  # fmt: skip
_TOKENS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_CALL_COUNTS = (*_TOKENS, "total_tokens")
_UNKNOWN_TOKENS = (None,) * len(_CALL_COUNTS)
_token_counts = itemgetter(*_CALL_COUNTS)
_COUNTS = ("requests", *_TOKENS, "total_tokens", "cache_hits", "estimated_requests", "unmeasured_requests")
_USAGE = frozenset({*_COUNTS, "cost_usd", "spent_usd", "unpriced_models"})
_PLAIN_TYPES = [*[int] * 7, str, str, int, int, int, list]
"""Of a usage as ``to_json`` writes it; True and 1.0 are equal to 1, and no counts."""
_TEST = frozenset({"nodeid", "outcome", "verdict", "budget", "violations", "baseline", "usage", "calls"})
_SHARED = frozenset({"fixture", "scope", "usage", "calls"})
_CALL = frozenset(
    {
        "model",
        "provider",
        "endpoint",
        "source",
        "replayed",
        "request_id",
        *_TOKENS,
        "total_tokens",
        "cost_usd",
        "parts",
    }
)
_ENTRY = frozenset({"status", "total_tokens", "cost_usd", "models"})
_ENTRY_MODEL = frozenset({"requests", "input", "cached", "cache_write", "output"})
_BASELINE = frozenset({"path", "new", "over", "improved", "stale"})
_NOTES = ("drift", "unplayed", "blocked")

# How a report is laid out: the lines around those of its tests.
_BEGIN, _END = b' "tests": [\n', b" ],\n"
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_VERSION = re.compile(re.escape(SCHEMA.rpartition("/")[0]) + r"/([0-9]{1,9})", re.ASCII)


def load(path: Path) -> Summary:
    """Read a JSON report.

    Raises:
        ConfigurationError: it is missing, broken, of another or a newer schema, or contradicts itself; one line with
            the path and the reason.
    """
    try:
        return _read_by_lines(path) or _summary(parse(read_regular(path, max_bytes=MAX_BYTES)))
    except Fault as fault:
        raise ConfigurationError(f"report {printable(str(path))}: {printable(str(fault))}") from None


def from_json(text: str) -> Summary:
    """The inverse of ``to_json``, for what the document holds.

    Raises:
        ConfigurationError: see ``load``.
    """
    try:
        return _summary(parse(text.encode("utf-8", "backslashreplace")))
    except Fault as fault:
        raise ConfigurationError(f"the report {printable(str(fault))}") from None


def _read_by_lines(path: Path) -> Summary | None:
    """Read a report as it is written, with a line for each test, of which only one is in memory at a time.

    Returns:
        ``None`` where somebody else laid it out, or anything is wrong with it: who reads it as a whole can say what.
    """
    try:
        check_regular(path)
        if path.stat().st_size > MAX_BYTES:
            return None
        with path.open("rb") as file:
            frame, begin = _frame(file)
            if begin is None:
                return None
            file.seek(begin)
            return _summary(parse(frame), _rows(file))
    except (OSError, ValueError, Fault):
        return None


def _frame(file: BinaryIO) -> tuple[bytes, int | None]:
    """All but the tests, and where their lines begin: ``None`` where they don't stand as they are written.

    No text in JSON holds a line break, so that no line is part of one.
    """
    lines = []
    begin = None
    while line := file.readline():
        lines.append(line)
        if begin is None and line == _BEGIN:
            begin = file.tell()
            while line and line != _END:
                line = file.readline()
            lines.append(line)
    return b"".join(lines), begin


def _rows(file: BinaryIO) -> Iterator[object]:
    """Each test's record, or, where it is no plain one, what its line holds."""
    more = True
    while more and (line := file.readline()):
        more = line.endswith(b",\n")
        row = line[: -2 if more else -1].decode().removeprefix("  ")
        yield read_plain_test(row, _plain_budget) or parse(row.encode())
    if more or file.readline() != _END:
        raise Fault("is cut short")


@lru_cache(maxsize=1024)
def _plain_budget(text: str) -> Budget:
    """Many tests have the same one."""
    return _budget(parse(text.encode()), "a test")


def _summary(data: Any, rows: Iterable[object] | None = None) -> Summary:
    """What a document says.

    Args:
        data: the document.
        rows: its tests, where they are not in it: what they hold, or records of those that are plain.
    """
    if not isinstance(data, dict):
        raise Fault(f"must hold a JSON object, not {kind(data)}")
    _check_schema(data)
    check_keys(data, _TOP, "the report")
    plugin = as_object(data["plugin"], frozenset({"name", "version"}), "plugin")
    if plugin["name"] != NAME:
        raise Fault(f"was made by {show(plugin['name'])}, not by {NAME}")
    created = as_text(data["created"], "created")
    if not _INSTANT.fullmatch(created):
        raise Fault(f"created = {show(created)}, where a time such as 2026-11-22T10:00:00Z is expected")
    notes = _notes(data)
    calls: dict[tuple[str, str], list[ModelCall]] = {}
    tests = tuple(_test(test, notes, calls) for test in (as_array(data["tests"], "tests") if rows is None else rows))
    check_once("tests", [test.nodeid for test in tests])
    if unlisted := sorted({nodeid for each in notes.values() for nodeid in each} - {test.nodeid for test in tests}):
        raise Fault(f"has notes on the test {show(unlisted[0])}, which it does not list")
    shared = tuple(_shared(each, calls) for each in as_array(data["shared"], "shared"))
    check_once("shared", [f"{each.fixture} ({each.scope})" for each in shared])
    summary = Summary(
        plugin_version=as_text(plugin["version"], "plugin.version"),
        created=created,
        complete=as_flag(data["complete"], "complete"),
        prices=_prices(data["prices"]),
        tests=tests,
        shared=shared,
        baseline=None if data["baseline"] is None else _baseline(data["baseline"]),
        unused_cassettes=as_texts(data["unused_cassettes"], "unused_cassettes"),
    )
    _check_sums(data, summary, calls)
    return summary


def _check_schema(data: dict[str, Any]) -> None:
    schema = data.get("schema")
    if schema == SCHEMA:
        return
    if isinstance(schema, str) and (found := _VERSION.fullmatch(schema)):
        if int(found[1]) > int(SCHEMA.rpartition("/")[2]):
            raise Fault(f"was written by a newer pytest-tokenbudget (schema {show(schema)}); upgrade it here")
        raise Fault(f"has the schema {show(schema)}, where {SCHEMA!r} is expected")
    named = "no schema" if "schema" not in data else f"the schema {show(schema)}"
    raise Fault(f"is no JSON report: it has {named}, where {SCHEMA!r} is expected")


def _check_sums(data: dict[str, Any], summary: Summary, calls: dict[tuple[str, str], list[ModelCall]]) -> None:
    """The document's own sums must be those of its calls."""
    _same(data["total"], summary.total, "total", hits=True)
    named = set()
    for row in as_array(data["models"], "models"):
        as_object(row, frozenset({"provider", "model", "usage"}), "models")
        key = (as_text(row["provider"], "models.provider"), as_text(row["model"], "models.model"))
        if key in named or key not in calls:
            raise Fault(f"lists the model {show(key[1])} {'twice' if key in named else 'and no call of it'}")
        named.add(key)
        _same(row["usage"], tally_of(calls[key]), f"the model {show(key[1])}", hits=True)
    if missing := sorted(calls.keys() - named):
        raise Fault(f"holds calls of the model {show(missing[0][1])} and does not list it")


def _same(found: Any, tally: Tally, place: str, *, hits: bool = False) -> int:
    """Hold a usage against the sum of its calls; returns its cache hits, which no call of a test tells."""
    usage = as_object(found, _USAGE, f"{place}: usage")
    summed = tally.usage
    for name in _COUNTS:
        count = as_count(usage[name], f"{place}: {name}")
        if count != getattr(summed, name) and (hits or name != "cache_hits"):
            expected = getattr(summed, name)
            raise Fault(f"contradicts itself: {place}: {name} is {count}, and its calls make {expected}")
    for name, expected_usd in (("cost_usd", tally.cost), ("spent_usd", tally.spent)):
        amount = as_amount(usage[name], f"{place}: {name}")
        if amount != expected_usd:
            raise Fault(
                f"contradicts itself: {place}: {name} is {show(usage[name])}, and its calls make "
                f"{'null' if expected_usd is None else format(expected_usd, 'f')}"
            )
    if as_texts(usage["unpriced_models"], f"{place}: unpriced_models") != tally.unpriced_models:
        raise Fault(f"contradicts itself: {place}: unpriced_models are not those of its calls")
    return int(usage["cache_hits"])


def _cache_hits(data: dict[str, Any], own: tuple[ModelCall, ...], place: str) -> int:
    """The cache hits of a test or fixture, whose usage must be the sum of its calls."""
    usage = data["usage"]
    if len(own) == 1 and own[0].cost is not None and type(usage) is dict and _is_that_call(usage, data["calls"][0]):
        return int(usage["cache_hits"])
    return _same(usage, tally_of(own), place)


def _is_that_call(usage: dict[str, Any], call: dict[str, Any]) -> bool:
    """Whether the sum is plainly its only call: most tests make one, and adding it up would take as long as all else.

    A ``False`` means no more than that it has to be added up.
    """
    cost, hits = call["cost_usd"], usage.get("cache_hits")
    return usage == {
        "requests": 1,
        **{name: call[name] for name in _TOKENS},
        "total_tokens": call["total_tokens"],
        "cost_usd": cost,
        "spent_usd": "0" if call["replayed"] else cost,
        "cache_hits": hits,
        "estimated_requests": int(call["source"] == "estimate"),
        "unmeasured_requests": 0,
        "unpriced_models": [],
    } and [*map(type, usage.values())] == _PLAIN_TYPES and 0 <= usage["cache_hits"] <= MAX_COUNT  # fmt: skip


def _notes(data: dict[str, Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """What is said of each test, by kind and node id."""
    notes: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in _NOTES:
        said = notes[name] = {}
        for note in as_array(data[name], name):
            as_object(note, frozenset({"nodeid", "message"}), name)
            nodeid = as_text(note["nodeid"], f"{name}: nodeid")
            said[nodeid] = (*said.get(nodeid, ()), as_text(note["message"], f"{name}: message"))
    return notes


def _test(
    data: Any, notes: dict[str, dict[str, tuple[str, ...]]], calls: dict[tuple[str, str], list[ModelCall]]
) -> UsageRecord:
    if isinstance(data, UsageRecord):
        for call in data.calls:
            calls.setdefault((call.provider, call.model), []).append(call)
        said = {name: messages for name, of_tests in notes.items() if (messages := of_tests.get(data.nodeid))}
        return replace(data, **said) if said else data  # type: ignore[arg-type]
    test = as_object(data, _TEST, "tests")
    nodeid = as_text(test["nodeid"], "tests: nodeid")
    own = _calls(test["calls"], nodeid, calls)
    return UsageRecord(
        nodeid=nodeid,
        outcome=as_word(test["outcome"], _OUTCOMES, nodeid, "outcome"),
        verdict=as_word(test["verdict"], _VERDICTS, nodeid, "verdict"),
        calls=own,
        cache_hits=_cache_hits(test, own, nodeid),
        budget=None if test["budget"] is None else _budget(test["budget"], nodeid),
        violations=tuple(_violation(each, nodeid) for each in as_array(test["violations"], nodeid)),
        baseline=None if test["baseline"] is None else _entry(test["baseline"], nodeid),
        drift=notes["drift"].get(nodeid, ()),
        blocked=notes["blocked"].get(nodeid, ()),
        unplayed=notes["unplayed"].get(nodeid, ()),
    )


def _shared(data: Any, calls: dict[tuple[str, str], list[ModelCall]]) -> SharedRecord:
    shared = as_object(data, _SHARED, "shared")
    fixture = as_text(shared["fixture"], "shared: fixture")
    place = f"the fixture {show(fixture)}"
    own = _calls(shared["calls"], place, calls)
    return SharedRecord(
        fixture=fixture,
        scope=as_text(shared["scope"], "shared: scope"),
        calls=own,
        cache_hits=_cache_hits(shared, own, place),
    )


def _calls(data: Any, place: str, calls: dict[tuple[str, str], list[ModelCall]]) -> tuple[ModelCall, ...]:
    own = tuple(_call(each, place) for each in as_array(data, place))
    for call in own:
        calls.setdefault((call.provider, call.model), []).append(call)
    return own


def _call(data: Any, place: str) -> ModelCall:
    call = as_object(data, _CALL, f"{place}: calls")
    request_id, parts = call["request_id"], call["parts"]
    cost = as_amount(call["cost_usd"], f"{place}: cost_usd")
    usage = _usage(call, place)
    if usage is None and cost is not None:
        raise Fault(f"contradicts itself: {place}: a call has a cost and no usage")
    if parts is not None:
        for role, tokens in as_object(parts, None, f"{place}: parts").items():
            as_word(role, _ROLES, place, "parts")
            as_count(tokens, f"{place}: {role}")
    return ModelCall(
        model=as_text(call["model"], place),
        provider=as_text(call["provider"], place),
        endpoint=as_text(call["endpoint"], place),
        usage=usage,
        cost=cost,
        source=as_word(call["source"], _SOURCES, place, "source"),
        replayed=as_flag(call["replayed"], f"{place}: replayed"),
        request_id=None if request_id is None else as_text(request_id, f"{place}: request_id"),
        parts=parts,
    )


def _usage(call: dict[str, Any], place: str) -> Usage | None:
    """A call's tokens; ``None`` where all of them are ``null``, which is the only way not to know them."""
    counts = _token_counts(call)
    if counts == _UNKNOWN_TOKENS:
        return None
    for name, count in zip(_CALL_COUNTS, counts, strict=True):
        # Asked here first: there are six in each of a hundred thousand calls.
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            as_count(count, f"{place}: {name}")
    given, cached, written, made, reasoning, total = counts
    if total != given + made:
        raise Fault(f"contradicts itself: {place}: total_tokens of a call is not its input and output")
    return Usage(
        input_tokens=given,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=made,
        reasoning_tokens=reasoning,
    )


def _budget(data: Any, nodeid: str) -> Budget:
    limits = as_object(data, None, f"{nodeid}: budget")
    values: dict[str, int | Decimal] = {}
    for name, value in limits.items():
        if name not in LIMIT_NAMES:
            raise Fault(f"{nodeid}: budget holds the unknown key {show(name)}")
        place = f"{nodeid}: {name}"
        values[name] = as_known_amount(value, place) if name in ("max_cost", "tolerance") else as_count(value, place)
    return Budget(**values)  # type: ignore[arg-type]


def _violation(data: Any, nodeid: str) -> Violation:
    violation = as_object(data, frozenset({"limit", "allowed", "used"}), f"{nodeid}: violations")
    return Violation(
        limit=as_text(violation["limit"], f"{nodeid}: limit"),
        allowed=as_figure(violation["allowed"], f"{nodeid}: allowed"),
        used=as_figure(violation["used"], f"{nodeid}: used"),
    )


def _entry(data: Any, nodeid: str) -> BaselineResult:
    entry = as_object(data, _ENTRY, f"{nodeid}: baseline")
    tokens, models = entry["total_tokens"], entry["models"]
    return BaselineResult(
        status=as_word(entry["status"], _STATUSES, nodeid, "status"),
        tokens=None if tokens is None else as_count(tokens, f"{nodeid}: baseline: total_tokens"),
        cost=as_amount(entry["cost_usd"], f"{nodeid}: baseline: cost_usd"),
        models=None
        if models is None
        else {
            model: ModelTokens(
                **{
                    name: as_count(count, f"{nodeid}: baseline: {name}")
                    for name, count in as_object(counts, _ENTRY_MODEL, f"{nodeid}: baseline").items()
                }
            )
            for model, counts in as_object(models, None, f"{nodeid}: baseline").items()
        },
    )


def _baseline(data: Any) -> BaselineSummary:
    baseline = as_object(data, _BASELINE, "baseline")
    return BaselineSummary(
        path=as_text(baseline["path"], "baseline.path"),
        **{name: as_texts(baseline[name], f"baseline.{name}") for name in ("new", "over", "improved", "stale")},
    )


def _prices(data: Any) -> PriceTable:
    prices = as_object(data, frozenset(PriceTable.__annotations__), "prices")
    day = prices["date"]
    if day is not None:
        try:
            date.fromisoformat(as_text(day, "prices.date"))
        except ValueError:
            raise Fault(f"prices.date is {show(day)}, where a day such as 2026-11-18 is expected") from None
    return {
        "source": as_text(prices["source"], "prices.source"),
        "version": as_text(prices["version"], "prices.version"),
        "date": day,
        "overrides": list(as_texts(prices["overrides"], "prices.overrides")),
    }
