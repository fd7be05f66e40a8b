"""The gate that each test passes: its ledger is opened before set-up, judged after the call, reported at the end."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.admission import RECORD_ATTRIBUTE, asks
from pytest_tokenbudget.budget import Budget
from pytest_tokenbudget.capture import attach
from pytest_tokenbudget.decks import Decks, describe_misses, playing, save
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.judgement import Judge
from pytest_tokenbudget.ledger import Frame, Ledger, pop_frame, push_frame
from pytest_tokenbudget.markers import Wishes, read_markers
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.shared import SharedFixtures
from pytest_tokenbudget.tracking import UsageTracker, locate_input

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.capture.playback import Deck
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings

PROPERTY_PREFIX = "token_budget."


@dataclass(slots=True, eq=False, kw_only=True)
class Passing:
    """A test on its way through the gate.

    Attributes:
        wishes: what its markers say.
        ledger: its model calls.
        deck: where it replays from; ``None`` where it does not replay.
        record: its record, once it was judged.
        message: what fails it, once it was judged.
        judged: whether it was judged.
        failed: whether its own code, or a fixture, failed.
        teardown: undone at its end.
    """

    wishes: Wishes
    ledger: Ledger
    tracker: UsageTracker
    deck: Deck | None
    record: UsageRecord | None = None
    message: str = ""
    judged: bool = False
    failed: bool = False
    teardown: ExitStack = field(default_factory=ExitStack)


PASSING = pytest.StashKey[Passing]()
REFUSAL = pytest.StashKey[str]()
"""Why a test is not let through: its markers can't be used."""


class Gate:
    """The hooks of one session in a process that runs tests."""

    def __init__(self, settings: Settings, book: PriceBook, baseline: Baseline | None) -> None:
        self.settings = settings
        self.book = book
        self.frame = Frame(book)
        self._judge_of_tests = Judge(settings=settings, book=book, baseline=baseline)
        self._decks = Decks(settings)
        self._tells_parts = any(report.kind == "json" for report in settings.reports)
        self._shared = SharedFixtures(settings, book, self.frame, self._decks, self._attach)
        self._inside: dict[pytest.Item, Passing] = {}
        self._finished: dict[str, dict[str, Any]] = {}
        self._attached = False

    # -- the session

    def open(self, manager: pytest.PytestPluginManager) -> None:
        """Let calls of this process come here."""
        manager.register(self, "pytest_tokenbudget_gate")
        manager.register(self._shared, "pytest_tokenbudget_shared")
        push_frame(self.frame)
        if self.settings.counts_all:
            self._attach()

    def close(self) -> None:
        """Give them back."""
        for item, passing in list(self._inside.items()):  # an interrupt leaves no time for their teardown
            passing.failed = True
            self._dismiss(item, passing)
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
        if PASSING in item.stash:
            del item.stash[PASSING]  # a rerun starts from nothing
        if REFUSAL in item.stash:
            del item.stash[REFUSAL]
        passing: Passing | None = None
        try:
            passing = self._admit(item)
        except ConfigurationError as error:
            item.stash[REFUSAL] = str(error)
        if passing is None:
            return (yield)
        item.stash[PASSING] = self._inside[item] = passing
        try:
            result = yield
        except BaseException:
            passing.failed = True
            if drift := self._shared.take_drift():
                passing.record = UsageRecord(nodeid=item.nodeid, calls=passing.tracker.priced_calls, drift=drift)
            self._fail_on_misses(item, passing)
            raise
        if passing.deck is not None:
            passing.deck.prepare()
        self._fail_on_misses(item, passing)
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
        passing = item.stash.get(PASSING, None)
        if passing is None:
            return (yield)
        try:
            result = yield
        except (KeyboardInterrupt, pytest.exit.Exception):
            passing.failed = True
            raise
        except BaseException as error:
            passing.failed = not isinstance(error, pytest.skip.Exception)
            self._judge(item, passing, ran=passing.failed)
            self._fail_on_misses(item, passing)
            self._explain(item, passing)
            raise
        self._judge(item, passing)
        self._fail_on_misses(item, passing)
        if passing.message and self.settings.enforcement == "enforce":
            pytest.fail(passing.message, pytrace=False)
        self._fail_on_unplayed(item, passing)
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Close what set-up opened."""
        passing = item.stash.get(PASSING, None)
        if passing is None:
            return (yield)
        try:
            result = yield
            self._fail_on_misses(item, passing)
        except BaseException:
            passing.failed = True
            raise
        else:
            return result
        finally:
            self._dismiss(item, passing)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Keep the record for the last report."""
        report = yield
        passing = item.stash.get(PASSING, None)
        if passing is not None and call.when == "call" and report.outcome == "skipped":
            passing.failed = False  # an expected failure: what it recorded is good
        if call.when == "teardown" and passing is not None and passing.record is not None:
            self._finished[item.nodeid] = passing.record.to_dict()
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Put the record on the last report, which crosses to the process that reports.

        Not when that report is made: pytest-rerunfailures makes some that are never told of.
        """
        if report.failed and hasattr(report, "context"):  # a subtest's
            for item, passing in self._inside.items():
                passing.failed = passing.failed or item.nodeid == report.nodeid
        if report.when == "teardown":
            record = self._finished.pop(report.nodeid, None)
            shared = [each.to_dict() for each in self._shared.drain()]
            if record is not None or shared:
                setattr(report, RECORD_ATTRIBUTE, {"record": record, "shared": shared})

    def drain_shared(self) -> list[SharedRecord]:
        """What shared fixtures, and code outside of any test, have used since this was last asked."""
        return self._shared.drain()

    # -- the steps

    def _admit(self, item: pytest.Item) -> Passing | None:
        """Open a test's ledger and cassette; ``None`` for a test that nobody asks figures of.

        Raises:
            ConfigurationError: its markers can't be used.
        """
        if not self.settings.counts_all and not asks(item):
            return None
        wishes = read_markers(item, self.settings.test_budget)
        deck = self._decks.of_test(item, wishes)
        if self.settings.enforcement == "off":
            wishes = replace(wishes, budget=Budget())
        self._attach()
        ledger = Ledger(item.nodeid)
        passing = Passing(wishes=wishes, ledger=ledger, tracker=UsageTracker(ledger, self.book), deck=deck)
        item.user_properties[:] = [
            each for each in item.user_properties if not str(each[0]).startswith(PROPERTY_PREFIX)
        ]
        passing.teardown.enter_context(self.frame.charge(ledger))
        passing.teardown.enter_context(playing(deck, self.settings))
        return passing

    def _judge(self, item: pytest.Item, passing: Passing, *, ran: bool = True) -> None:
        """Hold what the test used up to now against what it is allowed.

        Args:
            item: the test.
            passing: its state.
            ran: whether its code ran, and was not skipped.
        """
        passing.judged = True
        passing.ledger.settle()
        record = self._judge_of_tests.judge(
            UsageRecord(
                nodeid=item.nodeid,
                calls=passing.tracker.priced_calls,
                cache_hits=passing.ledger.cache_hits,
                incidents=passing.ledger.incidents,
            ),
            passing.wishes.budget,
            unanswered=(passing.deck is not None and passing.deck.failed)
            or (passing.record is not None and bool(passing.record.drift)),
            ran=ran,
        )
        if record.violations or self._tells_parts:
            record = replace(record, calls=tuple(map(locate_input, record.calls)))
        passing.record = record
        if record.violations:
            from pytest_tokenbudget.report.message import render_verdict  # noqa: PLC0415 - only when it fails

            passing.message = render_verdict(record)

    def _explain(self, item: pytest.Item, passing: Passing) -> None:
        """Add what a failing test used to its report."""
        if passing.message:
            item.add_report_section("call", "token budget", passing.message)
        elif passing.ledger.calls or passing.ledger.cache_hits:
            item.add_report_section("call", "token usage", str(passing.tracker))

    def _fail_on_misses(self, item: pytest.Item, passing: Passing) -> None:
        """A request that no recording answers fails the test, whatever its code made of it."""
        deck, root = passing.deck, self.settings.rootdir
        if deck is not None and (lines := describe_misses(deck, item.nodeid, self.book, root)):
            record = passing.record or UsageRecord(nodeid=item.nodeid, calls=passing.tracker.priced_calls)
            if any(miss.reason == "blocked" for miss in deck.misses):
                passing.record = replace(record, blocked=(*record.blocked, *lines))
            else:
                passing.record = replace(record, drift=(*record.drift, *lines))
            passing.failed = True
            deck.misses.clear()
            # What the code under test made of the miss would only hide it.
            raise pytest.fail.Exception("\n".join(lines), pytrace=False) from None

    def _fail_on_unplayed(self, item: pytest.Item, passing: Passing) -> None:
        deck = passing.deck
        if deck is None or deck.live or passing.record is None or not (unplayed := deck.unplayed()):
            return
        if passing.wishes.cassette is not None and self._decks.is_shared(deck, item.session):
            return  # what this test leaves, another one plays
        passing.record = replace(passing.record, unplayed=unplayed)
        if self.settings.unplayed_fails:
            passing.failed = True
            pytest.fail(
                f"{passing.record.nodeid} did not ask for {len(unplayed)} recording(s) of {deck.path.name}: "
                f"{'; '.join(unplayed)}; record it again with: "
                f"pytest {passing.record.nodeid} --token-record=rewrite",
                pytrace=False,
            )

    def _dismiss(self, item: pytest.Item, passing: Passing) -> None:
        """Close a test's ledger and cassette, and complete its record."""
        self._inside.pop(item, None)
        passing.ledger.settle()
        if not passing.judged:
            drift = passing.record
            self._judge(item, passing, ran=False)  # it ended in set-up
            if drift is not None and passing.record is not None:
                passing.record = replace(passing.record, drift=drift.drift, blocked=drift.blocked)
        try:
            if passing.deck is not None:
                save(passing.deck, whole=not passing.failed)
        finally:
            passing.teardown.close()
            passing.ledger.close()
            record = passing.record or UsageRecord(nodeid=item.nodeid)
            late = passing.tracker.priced_calls[len(record.calls) :]  # used in teardown: reported, not judged
            cassettes = (str(passing.deck.path),) if passing.deck is not None and passing.deck.used else ()
            passing.record = replace(
                record,
                calls=(*record.calls, *map(locate_input, late)) if self._tells_parts else (*record.calls, *late),
                cache_hits=passing.ledger.cache_hits,
                cassettes=cassettes,
                incidents=passing.ledger.incidents,
            )
            from pytest_tokenbudget.report.junit import junit_properties  # noqa: PLC0415 - not on the start-up path

            item.user_properties += junit_properties(passing.record)
