"""Why a run fails, as its records tell it: for reports that are read, and for shards that are judged again."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from pytest_tokenbudget.record import ESTIMATED, RERECORD

if TYPE_CHECKING:
    from pytest_tokenbudget.record import UsageRecord
    from pytest_tokenbudget.summary import Summary

EXCUSED = ("skipped", "xfailed")
"""Outcomes that a verdict leaves as they are."""
_NOT_FAILED = ("passed", "xpassed", "skipped")
_FAILED = ("failed", "error")
_HOLDS = ("none", "within")
_OVER, _OVER_BASELINE, _NO_ENTRY = "over budget", "over the baseline", "without an entry in the baseline"
_UNMEASURED = "not measured or not priced"
_VERDICTS = (_OVER, _UNMEASURED, _NO_ENTRY, _OVER_BASELINE)
"""What a run that only warns is not failed for."""
_FAULTS = (
    *_VERDICTS,
    "failed for want of a recording",
    "failed for a request that was not let through",
    "failed for recordings that are too old or left unplayed",
    "to blame for an attempt to reach the network after its end",
)
"""Why a run fails for a test, in the order in which it is told."""


def failures(summary: Summary) -> tuple[str, ...]:
    """Why the run fails, each one line without figures; empty where all is within."""
    return tuple(line for line, only_warned in _told(summary) if not only_warned)


def warnings(summary: Summary) -> tuple[str, ...]:
    """What a run that only warns would fail for if its limits were enforced, each one line without figures."""
    return tuple(line for line, only_warned in _told(summary) if only_warned)


def _told(summary: Summary) -> list[tuple[str, bool]]:
    """What does not hold, each one line, and whether the run only warns of it."""
    found = []
    if not summary.complete:
        found.append(("the run is not complete", False))
    blamed: dict[str, set[str]] = {fault: set() for fault in _FAULTS}
    for record in summary.tests:
        for fault in faults_of(record):
            blamed[fault].add(record.nodeid)
    if summary.baseline is not None:
        # What the report as a whole says counts too, whatever its single tests say.
        excused = {record.nodeid for record in summary.tests if record.outcome in EXCUSED}
        blamed[_OVER_BASELINE] |= set(summary.baseline.over) - excused
    warns = not summary.enforced
    found += [
        (f"{_tests(len(tests))} {fault}", warns and fault in _VERDICTS) for fault, tests in blamed.items() if tests
    ]
    if any(record.blocked for record in summary.shared):
        found.append(("a request outside of tests was not let through", False))
    if summary.run_violations:
        found.append(("the run's total is over its limit, or not known", warns))
    return found


def faults_of(record: UsageRecord) -> list[str]:
    """Why the run fails for a test; empty where it does not."""
    over_baseline = record.baseline is not None and record.baseline.status == "over"
    if record.verdict in _HOLDS and not (over_baseline or record.drift or record.blocked or record.unfit):
        return []  # as nearly all tests of a suite
    excused = record.outcome in EXCUSED
    unmeasured = not excused and record.verdict == "unmeasured"
    no_entry = {each.limit for each in record.violations} == {"baseline"}
    failed = record.outcome in _FAILED
    holds = (
        not excused and record.verdict == "over" and not (over_baseline and is_over_baseline_alone(record)),
        unmeasured and not no_entry,
        unmeasured and no_entry,
        not excused and over_baseline,
        failed and not all(map(_was_answered, record.drift)),
        bool(record.blocked) and failed,
        bool(record.unfit) and failed,
        # Those that passed, or were skipped, tried it after their end: no outcome tells of that.
        bool(record.blocked) and record.outcome in _NOT_FAILED,
    )
    return list(compress(_FAULTS, holds))


def _was_answered(drift: str) -> bool:
    """Whether another recording answered the request that a line tells of; its command may name anything."""
    return drift.partition(RERECORD)[0].endswith(f"; {ESTIMATED}")


def is_spared(record: UsageRecord, *, enforced: bool) -> bool:
    """Whether a verdict leaves its test as it is: it may fail, or the run only warns."""
    return not enforced or record.outcome in EXCUSED


def is_over_baseline_alone(record: UsageRecord) -> bool:
    """Whether nothing but the baseline makes a test over."""
    over = [each.limit for each in record.violations if each.over]
    return bool(over) and all(limit.startswith("baseline") for limit in over)


def _tests(count: int) -> str:
    return "1 test is" if count == 1 else f"{count:,} tests are"
