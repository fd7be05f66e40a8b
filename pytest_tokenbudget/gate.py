"""The gate that each test passes: its ledger is opened before set-up, judged after the call, reported at the end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_tokenbudget.budget import Budget
from pytest_tokenbudget.capture import attach
from pytest_tokenbudget.capture.ward import await_left_behind
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.handover import FIGURES_ATTRIBUTE, Handover
from pytest_tokenbudget.judgement import Judge
from pytest_tokenbudget.late import PATIENCE_SECONDS, LateAttempts
from pytest_tokenbudget.ledger import Billing, Frame, Ledger, pop_frame, push_frame
from pytest_tokenbudget.markers import read_markers
from pytest_tokenbudget.neighbours import ungrouped_nodeid, untracked
from pytest_tokenbudget.options import asks
from pytest_tokenbudget.playbacks import (
    Missed,
    Playbacks,
    describe_age,
    describe_estimates,
    describe_refusals,
    describe_unplayed,
    playing,
    save,
    take_misses,
)
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.report.junit import junit_properties
from pytest_tokenbudget.running_test import RunningTest, plays_at_its_end
from pytest_tokenbudget.shared import SharedFixtures
from pytest_tokenbudget.tracking import UsageTracker, locate_input

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.handover import Post
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings
    from pytest_tokenbudget.spending import Account
    from pytest_tokenbudget.summary import Note
    from pytest_tokenbudget.usage import ModelCall

PROPERTY_PREFIX = "token_budget."


RUNNING = pytest.StashKey[RunningTest]()
REFUSAL = pytest.StashKey[str]()
"""Why a test is not let through: its markers can't be used."""


class Gate:
    """The hooks of one session in a process that runs tests."""

    def __init__(
        self, settings: Settings, book: PriceBook, baseline: Baseline | None, account: Account | None, post: Post
    ) -> None:
        self.settings = settings
        self.book = book
        self.frame = Frame(book, account)
        self._judge_of_tests = Judge(settings=settings, book=book, baseline=baseline)
        self._playbacks = Playbacks(settings)
        self._tells_parts = settings.tells_parts
        self.late = LateAttempts()
        self._shared = SharedFixtures(settings, book, self.frame, self._playbacks, self.late, self._attach)
        self._inside: dict[pytest.Item, RunningTest] = {}
        self._finished: dict[str, UsageRecord] = {}
        self._post = post
        self._attached = False

    # -- the session

    def open(self, manager: pytest.PytestPluginManager, *, runs_tests: bool = True) -> None:
        """Let calls of this process come here.

        Args:
            manager: where the hooks are registered.
            runs_tests: whether it runs tests; xdist's controller does not, and only its own calls are seen.
        """
        if runs_tests:
            manager.register(self, "pytest_tokenbudget_gate")
            manager.register(self._shared, "pytest_tokenbudget_shared")
        push_frame(self.frame)
        if self.settings.counts_all:
            self._attach()

    def close(self) -> None:
        """Give them back."""
        for item, running in list(self._inside.items()):  # an interrupt leaves no time for their teardown
            running.failed = True
            try:
                self._dismiss(item, running)
            except pytest.fail.Exception as failure:  # its report was made: it is told with what comes late
                self.late.add(running.nodeid, [failure.msg or ""])
        self.frame.rest.settle()
        pop_frame(self.frame)
        if self._attached:
            attach.detach()
            self._attached = False

    def _attach(self) -> None:
        if not self._attached:
            self._attached = True
            attach.attach()

    # -- one test

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Open the test's ledger and cassette before any of its fixtures is set up."""
        if RUNNING in item.stash:
            del item.stash[RUNNING]  # a rerun starts from nothing
        if REFUSAL in item.stash:
            del item.stash[REFUSAL]
        if (untold := self._finished.pop(item.nodeid, None)) is not None:
            self._keep_spent(untold.calls)  # an earlier try's
        running: RunningTest | None = None
        try:
            running = self._admit(item)
        except ConfigurationError as error:
            item.stash[REFUSAL] = str(error)
        if running is None:
            return (yield)
        item.stash[RUNNING] = self._inside[item] = running
        try:
            result = yield
        except BaseException:
            running.failed = True
            running.note_misses(self._shared.take_misses())
            self._fail_on_misses(running)
            raise
        if running.playback is not None:
            running.playback.prepare()
        self._fail_on_misses(running)
        return result

    @pytest.hookimpl(specname="pytest_runtest_setup", tryfirst=True)
    def pytest_refuse_bad_markers(self, item: pytest.Item) -> None:
        """Fail a test whose markers can't be used, before its fixtures.

        Not in the wrapper around set-up: what fails there keeps the wrappers of others from their set-up, and not
        from their teardown, which would then fail too.
        """
        if (reason := item.stash.get(REFUSAL, None)) is not None:
            pytest.fail(reason, pytrace=False)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge the test when its code is done, as a failed assertion would."""
        running = item.stash.get(RUNNING, None)
        if running is None:
            return (yield)
        try:
            result = yield
        except (KeyboardInterrupt, pytest.exit.Exception):
            running.failed = True
            raise
        except BaseException as error:
            running.failed = not isinstance(error, pytest.skip.Exception)
            self._judge(running, ran=running.failed)
            self._fail_on_misses(running)
            self._explain(item, running)
            raise
        self._judge(running)
        self._fail_on_misses(running)
        if running.message and self.settings.enforces:
            pytest.fail(running.message, pytrace=False)
        running.plays_on = plays_at_its_end(item)
        if not running.plays_on:
            self._fail_on_unplayed(item, running)
        self._fail_on_age(running)
        running.sound = True
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Close what set-up opened."""
        running = item.stash.get(RUNNING, None)
        if running is None:
            return (yield)
        try:
            result = yield
            self._fail_on_misses(running)
            if running.sound:  # with what its fixtures asked for at their end
                if running.plays_on or (running.record is not None and running.record.unplayed):
                    self._fail_on_unplayed(item, running)
                self._fail_on_age(running)
        except BaseException as error:
            running.failed = True
            running.note_misses(self._shared.take_misses())
            missed = self._dismiss(item, running)
            if isinstance(error, (KeyboardInterrupt, pytest.exit.Exception)):
                self._keep_spent(running.tracker.priced_calls)  # there will be no report to carry it
            elif missed:
                # What a fixture's end made of the refusal would only hide it.
                raise pytest.fail.Exception("\n".join(missed), pytrace=False) from None
            raise
        if missed := self._dismiss(item, running):
            raise pytest.fail.Exception("\n".join(missed), pytrace=False)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the record for the last report, and put the figures on the one by which pytest tells of the test."""
        report = yield
        running = item.stash.get(RUNNING, None)
        if running is not None and call.when == "call" and report.outcome == "skipped":
            running.failed = False  # an expected failure: what it recorded is good
        if running is not None and self.settings.names_tests and _ends_test(report):
            setattr(report, FIGURES_ATTRIBUTE, running.brief_figures)
        if call.when == "teardown" and running is not None:
            if running.record is not None:
                self._finished[item.nodeid] = running.record
            del item.stash[RUNNING]  # with its prompts: pytest keeps every test to the end of the run
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Hand the record over with the last report, which crosses to the process that reports.

        Not when that report is made: pytest-rerunfailures makes some that are never told of.
        """
        if report.failed and hasattr(report, "context"):  # a subtest's
            for item, running in self._inside.items():
                running.failed = running.failed or item.nodeid == report.nodeid
        self._post.announce(report)
        if report.when == "teardown":
            record, shared = self._finished.pop(report.nodeid, None), self._shared.drain()
            self._shared.note_misses()
            self._post.send(report, Handover(record, shared, self.late.take()))

    def take_late(self) -> list[Note]:
        """What replayed tests tried after their end since this was last asked; waits for what is about to try."""
        await_left_behind(PATIENCE_SECONDS)
        self._shared.note_misses()
        return self.late.take()

    def drain_rest(self) -> list[SharedRecord]:
        """What is charged to no test, at the end of the run: that of tests included which an interrupt cut short."""
        for running in self._inside.values():
            running.ledger.settle()
            self._keep_spent(running.tracker.priced_calls)
        return self._shared.drain()

    # -- the steps

    def _keep_spent(self, calls: Iterable[ModelCall]) -> None:
        """What a test has spent that will not be reported is charged to no test, and stays spent."""
        for call in calls:
            if not call.replayed:
                Billing((self.frame.rest,)).add(call)

    def _admit(self, item: pytest.Item) -> RunningTest | None:
        """Open a test's ledger and cassette; ``None`` for a test that nobody asks figures of.

        Raises:
            ConfigurationError: its markers can't be used.
        """
        if not self.settings.counts_all and not asks(item):
            return None
        marker_settings = read_markers(item, self.settings.test_budget)
        playback = self._playbacks.of_test(item, marker_settings)
        if self.settings.enforcement == "off":
            marker_settings = replace(marker_settings, budget=Budget())
        self._attach()
        ledger = Ledger(item.nodeid)
        running = RunningTest(
            nodeid=ungrouped_nodeid(item),
            marker_settings=marker_settings,
            ledger=ledger,
            tracker=UsageTracker(ledger, self.book),
            playback=playback,
        )
        item.user_properties[:] = [
            each for each in item.user_properties if not str(each[0]).startswith(PROPERTY_PREFIX)
        ]
        running.teardown.enter_context(self.frame.charge(ledger))
        if playback is not None:
            running.teardown.enter_context(untracked(item))
        running.teardown.enter_context(playing(playback, self.settings))
        return running

    def _judge(self, running: RunningTest, *, ran: bool = True) -> None:
        """Hold what the test used up to now against what it is allowed.

        Args:
            running: the test.
            ran: whether its code ran, and was not skipped.
        """
        running.judged = True
        running.ledger.settle()
        used = running.used
        running.tally = used.tally
        record = self._judge_of_tests.judge(
            used,
            running.tally,
            running.marker_settings.budget,
            unanswered=running.why_unanswered,
            ran=ran,
        )
        if running.playback is not None and (
            told := describe_estimates(running.playback, running.nodeid, self.book, self.settings.rootdir)
        ):
            record = remade(record, drift=(*record.drift, *told))
        if record.violations or self._tells_parts:
            record = remade(record, calls=tuple(map(locate_input, record.calls)))
        running.record = record
        if record.violations:
            from pytest_tokenbudget.report.message import render_verdict  # noqa: PLC0415 - only when it fails

            running.message = render_verdict(record)

    def _explain(self, item: pytest.Item, running: RunningTest) -> None:
        """Add what a failing test used to its report."""
        if running.message:
            item.add_report_section("call", "token budget", running.message)
        elif running.ledger.calls or running.ledger.cache_hits:
            item.add_report_section("call", "token usage", str(running.tracker))

    def _fail_on_misses(self, running: RunningTest) -> None:
        """A request without an answer, by no recording or too little money, fails the test, whatever its code did."""
        if lines := self._take_misses(running):
            # What the code under test made of the miss would only hide it.
            raise pytest.fail.Exception("\n".join(lines), pytrace=False) from None

    def _take_misses(self, running: RunningTest) -> tuple[str, ...]:
        """What the test asked for and did not get since this was last asked, each one line, noted in its record."""
        if not running.ledger.refused and (running.playback is None or not running.playback.failed):
            return ()
        missed = Missed(blocked=tuple(describe_refusals(running.ledger)))
        if running.playback is not None:
            missed = missed.joined(take_misses(running.playback, running.nodeid, self.book, self.settings.rootdir))
        running.note_misses(missed)
        return missed.lines

    def _fail_on_unplayed(self, item: pytest.Item, running: RunningTest) -> None:
        """Note what the test has left of its recordings up to now; where that fails, it fails."""
        playback = running.playback
        if playback is None or playback.live or running.record is None:
            return
        if running.marker_settings.cassette is not None and self._playbacks.is_shared(playback, item.session):
            return  # what this test leaves, another one plays
        unplayed = playback.unplayed()
        if unplayed != running.record.unplayed:
            running.record = remade(running.record, unplayed=unplayed)
        if unplayed and self.settings.unplayed_fails:
            self._fail_as_unfit(running, describe_unplayed(playback, unplayed, running.nodeid))

    def _fail_on_age(self, running: RunningTest) -> None:
        """Recordings that are older than allowed fail a test that passes otherwise."""
        nodeid = running.nodeid
        if running.playback is not None and (
            line := describe_age(running.playback, subject=nodeid, nodeid=nodeid, max_age=self.settings.max_age)
        ):
            self._fail_as_unfit(running, line)

    def _fail_as_unfit(self, running: RunningTest, reason: str) -> None:
        """Fail a test for the recordings that it played."""
        running.note_misses(Missed(unfit=(reason,)))
        pytest.fail(reason, pytrace=False)

    def _dismiss(self, item: pytest.Item, running: RunningTest) -> tuple[str, ...]:
        """Close a test's ledger and cassette, and complete its record.

        Returns:
            What it asked for and did not get since its fixtures were torn down, each one line.
        """
        self._inside.pop(item, None)
        running.ledger.settle()
        if not running.judged:
            missed = running.record
            self._judge(running, ran=False)  # it ended in set-up
            if missed is not None and running.record is not None:
                running.record = remade(
                    running.record, drift=missed.drift, blocked=missed.blocked, unfit=missed.unfit
                )
        try:
            if running.playback is not None:
                save(running.playback, whole=not running.failed)
        finally:
            running.teardown.close()
            if running.playback is not None:
                running.playback.ward.end(self.late.teller(running.nodeid))
            running.ledger.close()
            lines = self._take_misses(running)
            record = running.record or UsageRecord(nodeid=running.nodeid)
            late = running.tracker.priced_calls[len(record.calls) :]  # used in teardown: reported, not judged
            calls = (*record.calls, *map(locate_input, late)) if self._tells_parts else (*record.calls, *late)
            cassettes = (
                (str(running.playback.path),) if running.playback is not None and running.playback.used else ()
            )
            running.record = remade(
                record,
                calls=tuple([remade(call, prompt=None) for call in calls]),  # nobody asks for them any more
                late_calls=len(late),
                cache_hits=running.ledger.cache_hits,
                cassettes=cassettes,
                incidents=running.ledger.incidents,
            )
            as_judged = not late and running.record.cache_hits == record.cache_hits
            item.user_properties += junit_properties(running.record, running.tally if as_judged else None)
        return lines


def _ends_test(report: pytest.TestReport) -> bool:
    """Whether pytest tells of the test by this report: of its call, or of a set-up or teardown that did not pass."""
    return report.when == "call" or not report.passed
