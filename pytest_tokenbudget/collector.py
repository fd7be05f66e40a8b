"""Gathers the records of all tests, from this process or from xdist's workers, and tells the run as a whole."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget import __version__
from pytest_tokenbudget.budget import judge_total
from pytest_tokenbudget.delivery import Delivery
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.extent import DESELECTED, Extent
from pytest_tokenbudget.files import shown_from
from pytest_tokenbudget.handover import LATE, LEFTOVER
from pytest_tokenbudget.late import spool_path, unspool
from pytest_tokenbudget.outcomes import Outcomes
from pytest_tokenbudget.plain_record import shared_of
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.run_baseline import RunBaseline
from pytest_tokenbudget.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal
    from pathlib import Path

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.handover import Post
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import Outcome
    from pytest_tokenbudget.settings import Settings
    from pytest_tokenbudget.summary import Note, PriceTable, Summary

FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)

PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)

_NO_RUN = ("collectonly", "showfixtures", "show_fixtures_per_test", "cacheshow", "setupplan")
"""Options with which pytest answers a question and runs no test: nothing is written."""


class Collector:
    """The hooks of the process that reports: the only one, or xdist's controller."""

    def __init__(
        self, config: pytest.Config, settings: Settings, book: PriceBook, baseline: Baseline | None, post: Post
    ) -> None:
        self.config = config
        self.settings = settings
        self.book = book
        self.created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.extent = Extent()
        self._baseline = RunBaseline(config, settings, baseline, self.extent)
        self.delivery = Delivery(config, settings.reports, book)
        self._post = post
        self._runs = not any(getattr(config.option, name, None) for name in _NO_RUN)
        self._records: dict[str, UsageRecord] = {}
        self._shared: list[SharedRecord] = []
        self._outcomes = Outcomes()
        self._seen: dict[str, Outcome] = {}
        self._crashed = False
        self._came_to_end = False
        self._failed_run: tuple[Violation, ...] = ()
        self._summary: Summary | None = None
        self._price_change: str | None = None
        self._late: dict[str, dict[str, None]] = {}
        self._spools: list[Path] = []
        self._session: pytest.Session | None = None
        self._tells_spending = self._runs and (settings.record != "none" or settings.max_spend is not None)
        self._spending = Spending()
        self._told = self._spending

    # -- the run

    def start(self) -> None:
        """Write what a killed run leaves behind, and find out now what can't be done at its end.

        Raises:
            pytest.UsageError: a report can't be written, or a part of the suite was asked to prune the baseline.
        """
        if not self._runs:
            return
        self.config.pluginmanager.register(self.extent, "pytest_tokenbudget_extent")
        if (reason := self._baseline.why_no_prune()) is not None:
            raise pytest.UsageError(f"token budget: {reason}")
        self._join_others()
        if not self.delivery.writes_files:
            return
        try:
            self.delivery.begin(self._summarise(complete=False))
        except ConfigurationError as error:
            raise pytest.UsageError(f"token budget: {error}") from None

    def _join_others(self) -> None:
        """Show figures where pytest, and pytest-html, show the tests."""
        manager = self.config.pluginmanager
        if (
            manager.hasplugin("terminalreporter")
            and self.config.get_verbosity(pytest.Config.VERBOSITY_TEST_CASES) > 0
        ):
            from pytest_tokenbudget.progress import Progress  # noqa: PLC0415 - only where it is shown

            manager.register(Progress(), "pytest_tokenbudget_progress")
        if self.config.getoption("htmlpath", None):
            from pytest_tokenbudget.html_columns import HtmlColumns, fits  # noqa: PLC0415 - only where there is a page

            if fits():
                manager.register(HtmlColumns(self._post), "pytest_tokenbudget_html_columns")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's record off its teardown report."""
        self._outcomes.note(report)
        if report.when != "teardown" or hasattr(report, "context"):
            return
        record, shared, late = self._post.receive(report)
        outcome = self._outcomes.take(report.nodeid)
        if record is None:
            self._seen[report.nodeid] = outcome
        else:
            self._take_record(record.with_outcome(outcome))
        self.take_shared(shared)
        self.take_late(late)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        """Say what was spent so far, when the terminal has said all it has to say about the test that spent it."""
        if not self._tells_spending or self._spending == self._told:
            return
        self._told = self._spending
        if self.delivery.is_quiet:
            return
        from pytest_tokenbudget.report.spending import describe_progress  # noqa: PLC0415 - only when it is shown

        self.delivery.note(describe_progress(self._spending, max_spend=self.settings.max_spend))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker used after its last test; a worker that crashed makes the run incomplete."""
        self._crashed = self._crashed or bool(error)
        output = getattr(node, "workeroutput", {})  # taken out of: of an interrupted worker, xdist tells twice
        self.extent.deselected = self.extent.deselected or output.get(DESELECTED, False)
        self.take_shared([shared_of(each) for each in output.pop(LEFTOVER, ())])
        self.take_late(output.pop(LATE, ()))
        if workerinput := getattr(node, "workerinput", None):
            self._spools.append(spool_path(workerinput))

    def end_tests(self, session: pytest.Session) -> None:
        """Judge the run as a whole, at the end of its tests, while pytest still decides how it ends."""
        self._came_to_end = True
        if self._runs and self._fails_limits():
            session.testsfailed += 1
        if self._runs and (self._late_failures() or (self._refusals() and not session.testsfailed)):
            session.testsfailed += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the baseline and the reports."""
        if not self._runs:
            return
        complete = (
            exitstatus in FINISHED
            and self._came_to_end
            and not (self._crashed or self.extent.failed or session.shouldstop or session.shouldfail)
        )
        self._session = session
        faults = self._read_spools()
        # Asked again: something may have been used after the last test, or a test may have ended the run.
        if (self._fails_limits() or self._late_failures()) and session.exitstatus in PASSED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.settings.baseline_update is not None:
            faults += self._update_baseline(complete=complete)
        if self._has_calls():
            from pytest_tokenbudget.last_prices import note_prices  # noqa: PLC0415 - only where there are prices

            self._price_change = note_prices(self.config, self._prices())
        if self.settings.reports or self._records or self._shared or self._late or self._failed_run:
            self._summary = self._summarise(complete=complete)
            faults += self.delivery.deliver(self._summary)
        if not self.config.pluginmanager.hasplugin("terminalreporter"):
            self.delivery.say([*(f"token budget: {line}" for line in self._spent()), *self._verdicts()])
        if faults:
            self.delivery.say([f"token budget: {fault}" for fault in faults])
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        elif self._refusals() and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # by what was refused after the last test

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the report, and what fails the run."""
        if self._summary is None:
            return
        if self.delivery.shows_summary:
            self.delivery.show(terminalreporter, self._summary)
            return
        spent, verdicts = self._spent(), self._verdicts()
        if spent or verdicts:
            terminalreporter.write_sep("=", "token budget")
            for line in spent:
                terminalreporter.write_line(line)
            fails = self.settings.enforcement != "warn" or self._late_failures() or self._refusals()
            for line in verdicts:
                terminalreporter.write_line(line, red=bool(fails), yellow=not fails)

    def take_shared(self, records: Sequence[SharedRecord]) -> None:
        """Take what shared fixtures, and code outside of any test, have used."""
        self._shared += records
        for record in records:
            self._spending = self._spending.plus(record.calls)

    def take_late(self, notes: Iterable[Note]) -> None:
        """Take what replayed tests tried after their end."""
        for note in notes:
            self._late.setdefault(note["nodeid"], {})[note["message"]] = None

    def amend(self, notes: list[Note]) -> bool:
        """Tell what replayed tests tried when the run had been reported.

        Returns:
            Whether the run had passed until then.
        """
        before = self._late_failures()
        self.take_late(notes)
        told = [line for line in self._late_failures() if line not in before]
        faults: list[str] = []
        if told and self._summary is not None:
            self._summary = self._summarise(complete=self._summary.complete)
            faults = self.delivery.deliver_again(self._summary)
        for line in (*told, *faults):
            print(f"token budget: {line}", file=sys.stderr)  # noqa: T201 - the terminal's own summary is done
        if not told or self._session is None or self._session.exitstatus not in PASSED:
            return False
        self._session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return True

    # -- the steps

    def _take_record(self, record: UsageRecord) -> None:
        """Take a test's record, by its own node id: behind the report's, there may be a group of xdist's."""
        self._seen[record.nodeid] = record.outcome
        if (before := self._records.pop(record.nodeid, None)) is not None:
            self._shared += _still_spent(before)  # a rerun takes the place of the first try
        self._records[record.nodeid] = record
        self._spending = self._spending.plus(record.calls)

    def _read_spools(self) -> list[str]:
        """Take what workers could no longer send; returns what can't be read."""
        faults = []
        for path in self._spools:
            try:
                self.take_late(unspool(path))
            except (OSError, ValueError) as error:
                faults.append(f"what a worker left in {path} can't be read: {error}")
        return faults

    def _late_failures(self) -> list[str]:
        """What replayed tests tried after their end, unless they are expected to fail: each one line."""
        return [line for nodeid, lines in self._late.items() if self._seen.get(nodeid) != "xfailed" for line in lines]

    def _fails_limits(self) -> bool:
        """Hold what the run has used up to now against its limits; whether it fails for that."""
        self._failed_run = self._judge_run()
        return bool(self._failed_run) and self.settings.enforces

    def _run_limits(self) -> tuple[Decimal | None, int | None]:
        """What the run may cost and use in all; where budgets are off, nothing holds."""
        if self.settings.enforcement == "off":
            return None, None
        return self.settings.total_max_cost, self.settings.total_max_tokens

    def _judge_run(self) -> tuple[Violation, ...]:
        limits = self._run_limits()
        if limits == (None, None):
            return ()
        from pytest_tokenbudget.summary import tally_of  # noqa: PLC0415 - not on the start-up path

        parts: tuple[UsageRecord | SharedRecord, ...] = (*self._records.values(), *self._shared)
        tally = tally_of(
            [call for part in parts for call in part.calls], cache_hits=sum(part.cache_hits for part in parts)
        )
        return judge_total(tally, *limits)

    def _refusals(self) -> list[str]:
        """Requests that were refused for what they could cost where there was no test to fail for it."""
        return [line for record in self._shared for line in record.blocked] if self._runs else []

    def _spent(self) -> list[str]:
        """What a run that may spend has spent, if any test of it used a model."""
        if not self._tells_spending or not (self._spending.requests or self._has_calls()):
            return []
        from pytest_tokenbudget.report.spending import describe_spending  # noqa: PLC0415 - only when it is shown

        return [f"spent: {describe_spending(self._spending, max_spend=self.settings.max_spend)}"]

    def _has_calls(self) -> bool:
        parts: tuple[UsageRecord | SharedRecord, ...] = (*self._records.values(), *self._shared)
        return any(part.calls for part in parts)

    def _verdicts(self) -> list[str]:
        """What fails the run as a whole, and what would fail tests if it were enforced."""
        if self._summary is None:
            return []
        refused = [f"the run: {line}" for line in self._refusals()]
        warned = [each for each in self._records.values() if each.violations and self.settings.enforcement == "warn"]
        late = self._late_failures()
        if not self._failed_run and not warned:
            return [*late, *refused]
        from pytest_tokenbudget.report.message import limit_lines  # noqa: PLC0415 - only when it is shown

        lines = []
        for record in warned:
            lines.append(f"{record.nodeid} (warning only)")
            lines += [f"  {line}" for line in limit_lines(record.violations, record.tally, record)]
        warned_only = " (warning only)" if self.settings.enforcement == "warn" else ""
        limits = [
            f"the run: {line.strip()}{warned_only}" for line in limit_lines(self._failed_run, self._summary.total)
        ]
        return [*lines, *late, *limits, *refused]

    def _update_baseline(self, *, complete: bool) -> list[str]:
        """Write it, and say so; returns why it can't be."""
        if (reason := self._baseline.why_no_prune(complete=complete)) is not None:
            return [reason]
        try:
            self.delivery.say([f"token budget: {self._baseline.update(self._records, self._seen)}"])
        except ConfigurationError as error:
            return [str(error)]
        return []

    def _summarise(self, *, complete: bool) -> Summary:
        from pytest_tokenbudget.summary import Summary  # noqa: PLC0415 - not on the start-up path

        max_cost, max_tokens = self._run_limits()
        known = self._baseline.entries
        # A test that was skipped was not compared; its entry is still listed.
        records = [
            *map(self._with_late, self._records.values()),
            *(
                self._with_late(UsageRecord(nodeid=nodeid, outcome=self._seen.get(nodeid, "passed")))
                for nodeid in self._late
                if nodeid not in self._records
            ),
            *(
                UsageRecord(nodeid=nodeid, outcome=outcome)
                for nodeid, outcome in self._seen.items()
                if nodeid in known and nodeid not in self._records and nodeid not in self._late
            ),
        ]
        summary = Summary.of(
            records,
            self._shared,
            plugin_version=__version__,
            created=self.created,
            prices=self._prices(),
            complete=complete,
            baseline=self._baseline.summarise(self._records, self._seen, complete=complete),
            run_violations=self._failed_run,
            price_change=self._price_change,
            unused_cassettes=self._unused_cassettes() if complete and self._baseline.partial is None else (),
            max_spend=self.settings.max_spend,
            total_max_cost=max_cost,
            total_max_tokens=max_tokens,
            enforced=self.settings.enforces,
        )
        listed = {record.nodeid for record in summary.tests} | known.keys()
        return replace(summary, tests=tuple(record for record in records if record.nodeid in listed))

    def _with_late(self, record: UsageRecord) -> UsageRecord:
        late = self._late.get(record.nodeid)
        return record if late is None else replace(record, blocked=(*record.blocked, *late))

    def _prices(self) -> PriceTable:
        if self._has_calls():
            return self.book.describe()  # type: ignore[return-value]
        from pytest_tokenbudget.price_day import describe_unread  # noqa: PLC0415 - only where nothing was priced

        return describe_unread(self.book.own, self.settings.price_date)

    def _unused_cassettes(self) -> tuple[str, ...]:
        """Cassettes in the folders that this run used that no test of it asked for."""
        from pytest_tokenbudget.unasked import unasked_cassettes  # noqa: PLC0415 - not on the start-up path

        asked = (path for record in self._records.values() for path in record.cassettes)
        return tuple(shown_from(self.settings.rootdir, path) for path in unasked_cassettes(asked))


def _still_spent(record: UsageRecord) -> list[SharedRecord]:
    """What an earlier try of a test has spent: it is charged to no test, and gone all the same."""
    live = tuple(call for call in record.calls if not call.replayed)
    return [SharedRecord(fixture="", scope="session", calls=live)] if live else []
