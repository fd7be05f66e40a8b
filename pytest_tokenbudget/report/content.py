"""What a JSON report says: its values as a ``Summary``, taken as a whole or refused.

What the document does not hold is lost: the reasons of calls and violations, their service tiers, limits on the run.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.report.document import NAME, SCHEMA
from pytest_tokenbudget.report.records import shared_of, test_of
from pytest_tokenbudget.report.shapes import as_array, as_flag, as_object, as_text, as_texts, check_keys, check_once
from pytest_tokenbudget.report.sums import check_sums
from pytest_tokenbudget.strict_json import Fault, kind, show
from pytest_tokenbudget.summary import BaselineSummary, PriceTable, Summary, fixture_title

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOP = frozenset(
    {"schema", "plugin", "created", "complete", "prices", "total", "shared", "models", "tests",
     "baseline", "drift", "unplayed", "unused_cassettes", "blocked"}
)  # fmt: skip
_BASELINE = frozenset({"path", "new", "over", "improved", "stale"})
_NOTES = ("drift", "unplayed", "blocked")

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_VERSION = re.compile(re.escape(SCHEMA.rpartition("/")[0]) + r"/([0-9]{1,9})", re.ASCII)


def summary_of(data: Any, rows: Iterable[object] | None = None) -> Summary:
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
    tests = tuple(map(_record, as_array(data["tests"], "tests") if rows is None else rows))
    nodeids = [test.nodeid for test in tests]
    check_once("tests", nodeids)
    shared = tuple(shared_of(each) for each in as_array(data["shared"], "shared"))
    check_once("shared", [f"{each.fixture} ({each.scope})" for each in shared])
    if notes["blocked"]:
        shared = _with_blocked(shared, notes["blocked"], nodeids)
    noted = {nodeid for each in notes.values() for nodeid in each}
    if noted:
        tests = tuple(_with_notes(each, notes) if each.nodeid in noted else each for each in tests)
    if unlisted := sorted(noted.difference(nodeids)):
        raise Fault(f"has notes on the test {show(unlisted[0])}, which it does not list")
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
    check_sums(data, summary)
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


def _record(row: object) -> UsageRecord:
    return row if isinstance(row, UsageRecord) else test_of(row)


def _with_notes(record: UsageRecord, notes: dict[str, dict[str, tuple[str, ...]]]) -> UsageRecord:
    return replace(record, **{name: of_tests.get(record.nodeid, ()) for name, of_tests in notes.items()})  # type: ignore[arg-type]


def _with_blocked(
    shared: tuple[SharedRecord, ...], blocked: dict[str, tuple[str, ...]], nodeids: list[str]
) -> tuple[SharedRecord, ...]:
    """Give shared fixtures the notes that name them; those that are left are of tests."""
    tests = set(nodeids)
    titles = [fixture_title(each) for each in shared]
    of_fixtures = {title: blocked.pop(title) for title in titles if title in blocked and title not in tests}
    return tuple(
        replace(each, blocked=of_fixtures[title]) if title in of_fixtures else each
        for each, title in zip(shared, titles, strict=True)
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
