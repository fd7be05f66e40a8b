"""The reports of a run that CI split into shards, as one run: joined, and judged over all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from operator import ne
from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.budget import judge_total, verdict_of
from pytest_tokenbudget.failures import faults_of
from pytest_tokenbudget.judgement import hold_against
from pytest_tokenbudget.merging import merge
from pytest_tokenbudget.summary import BaselineSummary, Summary, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import BaselineResult, UsageRecord
    from pytest_tokenbudget.summary import PriceTable

    Badness = tuple[bool, int, bool, bool, Decimal, int]

_SEVERITY = {"over": 3, "unmeasured": 2, "within": 1, "none": 0}


class Joined(NamedTuple):
    """Several reports as one.

    Attributes:
        summary: the run.
        notices: what the user should know about the joining, each one line.
    """

    summary: Summary
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the joined run is held against.

    Attributes:
        path: the baseline file, as the user names it.
        baseline: what it holds; ``None`` leaves the shards' own judgement.
        tolerance: as a fraction, for tests whose budget sets none; ``None`` keeps the shards' judgement of a test
            wherever they held it against the same entry, since only they know what the ini file says.
        total_max_cost: USD that the run may cost.
        total_max_tokens: tokens that the run may use.
    """

    path: str = ""
    baseline: Baseline | None = None
    tolerance: Decimal | None = None
    total_max_cost: Decimal | None = None
    total_max_tokens: int | None = None


def newest_prices(reports: Sequence[tuple[str, Summary]]) -> PriceTable:
    """The newest price table of the reports: of those that called a model, if any of them did."""
    summaries = [summary for _, summary in reports]
    return max(list(filter(_calls, summaries)) or summaries, key=_table).prices


def join(reports: Sequence[tuple[str, Summary]]) -> Joined:
    """Make one run of its shards' reports; neither their order nor their grouping matters.

    Of a test that several reports list the worst record stands: the one whose budget or baseline does not hold, else
    the dearest. Which one is the newest can't be told, and a gate must not open because a test ran twice. Costs are
    added up as the reports have them; that they were priced with different tables is said, and the newest is named.
    A report in which no model was called says nothing about prices.

    Args:
        reports: each with the name by which the user knows it.

    Raises:
        ValueError: there is none.
    """
    if len(reports) == 1:
        return Joined(reports[0][1], ())
    summaries = _with_one_table(reports)
    merged = merge(summaries)
    tests, twice = _each_once(merged.tests)
    notices = (*_tables_told(reports), *twice)
    own = sorted({", ".join(each.prices["overrides"]) or "none" for each in summaries if _calls(each)})
    if len(own) > 1:
        notices = (*notices, f"the reports were made with different prices of your own: {' | '.join(own)}")
    return Joined(replace(merged, tests=tests), notices)


def compare_tests(summary: Summary, gate: Gate, book: PriceBook) -> Summary:
    """The same report, its tests held against the baseline: before it is joined, so that the worst of each stands."""
    baseline = gate.baseline
    if baseline is None:
        return summary
    return replace(
        summary, tests=tuple(_compared(record, baseline, gate.tolerance, book) for record in summary.tests)
    )


def judge(summary: Summary, gate: Gate) -> Summary:
    """The same run, its tests compared before, with what that has shown and held against the limits on its total."""
    if gate.baseline is not None:
        summary = _with_baseline(summary, gate.path, gate.baseline)
    violations = judge_total(summary.total, gate.total_max_cost, gate.total_max_tokens)
    return summary if violations == summary.run_violations else replace(summary, run_violations=violations)


def _with_one_table(reports: Sequence[tuple[str, Summary]]) -> list[Summary]:
    """The reports as if all had been priced with the newest table among theirs."""
    prices = newest_prices(reports)
    return [
        replace(summary, prices={**prices, "overrides": summary.prices["overrides"]}) for _, summary in reports
    ]  # fmt: skip


def _tables_told(reports: Sequence[tuple[str, Summary]]) -> tuple[str, ...]:
    """A line that says whose table is which, where they are not all priced with one."""
    tables: dict[tuple[str, str, str], list[str]] = {}
    for name, summary in reports:
        if _calls(summary):
            tables.setdefault(_table(summary), []).append(name)
    if len(tables) <= 1:
        return ()
    told = "; ".join(
        f"{' '.join(filter(None, (source, version, day)))} in {', '.join(sorted(names))}"
        for (day, version, source), names in sorted(tables.items())
    )
    return (f"the reports were priced with different tables, and their costs are added up as they are: {told}",)


def _table(summary: Summary) -> tuple[str, str, str]:
    """A price table, so that the newest is the greatest."""
    return summary.prices["date"] or "", summary.prices["version"], summary.prices["source"]


def _calls(summary: Summary) -> bool:
    return any(part.calls for part in summary.tests) or any(part.calls for part in summary.shared)


def _each_once(records: Sequence[UsageRecord]) -> tuple[tuple[UsageRecord, ...], tuple[str, ...]]:
    """The worst record of each test, and a line for each that was in more than one report.

    Args:
        records: as ``merge`` sorts them: by node id, and those of one test by all that they hold.
    """
    nodeids = [record.nodeid for record in records]
    if all(map(ne, nodeids, islice(nodeids, 1, None))):
        return tuple(records), ()
    times = Counter(nodeids)
    worst: dict[str, tuple[Badness, UsageRecord]] = {}
    for record in records:
        badness, known = _badness(record), worst.get(record.nodeid)
        if known is None or badness >= known[0]:  # of equals the last, whatever the order of the reports was
            worst[record.nodeid] = badness, record
    notices = tuple(
        f"{nodeid} is in {count} reports: the worst of its results stands"
        for nodeid, count in sorted(times.items())
        if count > 1
    )
    return tuple(record for _, record in worst.values()), notices


def _badness(record: UsageRecord) -> Badness:
    tally = tally_of(record.figures, cache_hits=record.cache_hits)
    return (
        bool(faults_of(record)),
        _SEVERITY[record.verdict],
        record.baseline is not None and record.baseline.status == "over",
        tally.cost is None,
        tally.known_cost,
        tally.usage.total_tokens,
    )


def _with_baseline(summary: Summary, path: str, baseline: Baseline) -> Summary:
    # Of a run that was cut off nobody knows which tests it would have had.
    stale = baselines.stale(baseline, (record.nodeid for record in summary.tests)) if summary.complete else ()
    return replace(summary, baseline=BaselineSummary.of(summary.tests, path=path, stale=stale))


def _compared(record: UsageRecord, baseline: Baseline, tolerance: Decimal | None, book: PriceBook) -> UsageRecord:
    entry = baseline.tests.get(record.nodeid)
    known = record.baseline
    if known is not None and tolerance is None and known.models == entry:
        return record
    others = tuple(each for each in record.violations if not each.limit.startswith("baseline"))
    if (entry is None and not record.calls) or (
        not record.calls and not record.cache_hits and record.outcome not in ("passed", "failed", "xpassed")
    ):
        # Nothing to compare: no entry and no usage, or a test that never came to its call.
        return _judged(record, others, None)
    own = None if record.budget is None else record.budget.tolerance
    allowed = next(each for each in (own, tolerance, Decimal(0)) if each is not None)
    result, over = hold_against(record, entry, allowed, book, beside=others)
    found = (*others, *over)
    if result is not None and result.status == "new":
        # The shard's own word where the ini file says that a test without an entry fails.
        found = (*found, *(each for each in record.violations if each.limit == "baseline"))
    return _judged(record, found, result)


def _judged(
    record: UsageRecord, violations: tuple[Violation, ...], result: BaselineResult | None
) -> UsageRecord:  # fmt: skip
    verdict = record.verdict if violations == record.violations else verdict_of(record.budget, violations)
    return replace(record, violations=violations, baseline=result, verdict=verdict)
