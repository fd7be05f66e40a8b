"""The gate that each test passes: its ledger is opened before set-up, judged after the call, reported at the end."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.admission import MADE, RECORD_ATTRIBUTE, asks, wants_usage
from pytest_tokenbudget.budget import Budget, Violation, judge, verdict_of
from pytest_tokenbudget.capture import attach
from pytest_tokenbudget.capture.layout import (
    CaseName,
    check_inside,
    fixture_cassette,
    module_folder,
    named_cassette,
    shared_names,
    unique_name,
)
from pytest_tokenbudget.capture.offline import tiktoken_offline
from pytest_tokenbudget.capture.playback import DEFAULT_MATCH, Deck, insert
from pytest_tokenbudget.environment import replayed_environment
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.ledger import Frame, Ledger, pop_frame, push_frame
from pytest_tokenbudget.markers import Wishes, read_markers
from pytest_tokenbudget.record import BaselineResult, SharedRecord, Tally, UsageRecord
from pytest_tokenbudget.tracking import UsageTracker
from pytest_tokenbudget.usage import ModelCall, Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from decimal import Decimal
    from pathlib import Path

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import ModelTokens
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
        failed: whether its own code, or a fixture, failed.
        teardown: undone at its end.
    """

    wishes: Wishes
    ledger: Ledger
    tracker: UsageTracker
    deck: Deck | None
    record: UsageRecord | None = None
    message: str = ""
    failed: bool = False
    teardown: ExitStack = field(default_factory=ExitStack)


@dataclass(slots=True, eq=False, kw_only=True)
class Shared:
    """A fixture of wider scope than one test, while it exists."""

    fixture: str
    scope: str
    ledger: Ledger


PASSING = pytest.StashKey[Passing]()
REFUSAL = pytest.StashKey[str]()
"""Why a test is not let through: its markers can't be used."""


class Gate:
    """The hooks of one session in a process that runs tests."""

    def __init__(self, settings: Settings, book: PriceBook, baseline: Baseline | None) -> None:
        self.settings = settings
        self.book = book
        self.baseline = baseline
        self.frame = Frame(book)
        self._shared: list[Shared] = []
        self._counted_fixtures: set[str] | None = None
        self._shared_names: dict[Path, frozenset[str]] = {}
        self._inside: dict[pytest.Item, Passing] = {}
        self._since = time.time()
        self._attached = False

    # -- the session

    def open(self) -> None:
        """Let calls of this process come here."""
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
            self._fail_on_misses(item, passing)
            raise
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
            self._judge(item, passing)
            self._fail_on_misses(item, passing)
            self._explain(item, passing)
            raise
        self._judge(item, passing)
        self._fail_on_misses(item, passing)
        if passing.message and self.settings.enforcement == "enforce":
            pytest.fail(passing.message, pytrace=False)
        self._fail_on_unplayed(passing)
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
        """Put the record on the last report, which crosses to the process that reports."""
        report = yield
        passing = item.stash.get(PASSING, None)
        if passing is not None and call.when == "call" and report.outcome == "skipped":
            passing.failed = False  # an expected failure: what it recorded is good
        if call.when == "teardown":
            shared = [record.to_dict() for record in self.drain_shared()]
            if passing is not None or shared:
                record = None if passing is None or passing.record is None else passing.record.to_dict()
                setattr(report, RECORD_ATTRIBUTE, {"record": record, "shared": shared})
        return report

    # -- a fixture that several tests share

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Charge a fixture of wider scope to itself: while it is set up, and while it is torn down."""
        if fixturedef.scope == "function" or not self._is_counted(fixturedef.argname, request):
            return (yield)
        self._attach()
        shared = Shared(
            fixture=fixturedef.argname, scope=fixturedef.scope, ledger=Ledger(f"fixture {fixturedef.argname}")
        )
        self._shared.append(shared)
        deck = self._fixture_deck(fixturedef, request)
        leave: list[ExitStack] = []
        nodeid = getattr(request, "_pyfuncitem", request.node).nodeid

        def end() -> None:
            if leave:
                leave.pop().close()
                self._end_deck(deck, nodeid)

        # Finalizers run last first: this one ends what the other, added after the fixture's own, begins.
        fixturedef.addfinalizer(end)
        with self._charged(shared, deck):
            try:
                result = yield
            finally:
                self._end_deck(deck, nodeid)

        def enter() -> None:
            stack = ExitStack()
            stack.enter_context(self._charged(shared, deck))
            leave.append(stack)

        fixturedef.addfinalizer(enter)
        return result

    @contextmanager
    def _charged(self, shared: Shared, deck: Deck | None) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(self.frame.charge(shared.ledger))
            if deck is not None:
                if not deck.live:
                    stack.enter_context(replayed_environment())
                stack.enter_context(insert(deck))
            yield

    def drain_shared(self) -> list[SharedRecord]:
        """What shared fixtures, and code outside of any test, have used since this was last asked."""
        pools = [(each.fixture, each.scope, each.ledger) for each in self._shared]
        pools.append(("", "session", self.frame.rest))
        records = []
        for fixture, scope, ledger in pools:
            calls, cache_hits, incidents = ledger.drain()
            if calls or cache_hits or incidents:
                records.append(
                    SharedRecord(
                        fixture=fixture,
                        scope=scope,
                        calls=tuple(self.book.priced(call) for call in calls),
                        cache_hits=cache_hits,
                        incidents=incidents,
                    )
                )
        return records

    # -- the steps

    def _admit(self, item: pytest.Item) -> Passing | None:
        """Open a test's ledger and cassette; ``None`` for a test that nobody asks figures of.

        Raises:
            ConfigurationError: its markers can't be used.
        """
        if not self.settings.counts_all and not asks(item):
            return None
        wishes = read_markers(item, self.settings.test_budget)
        deck = self._deck(item, wishes)
        if self.settings.enforcement == "off":
            wishes = replace(wishes, budget=Budget())
        self._attach()
        ledger = Ledger(item.nodeid)
        passing = Passing(wishes=wishes, ledger=ledger, tracker=UsageTracker(ledger, self.book), deck=deck)
        item.user_properties[:] = [
            each for each in item.user_properties if not str(each[0]).startswith(PROPERTY_PREFIX)
        ]
        passing.teardown.enter_context(self.frame.charge(ledger))
        if deck is not None:
            if not deck.live:
                passing.teardown.enter_context(replayed_environment())
                self._offer_tiktoken(passing)
            passing.teardown.enter_context(insert(deck))
        return passing

    def _judge(self, item: pytest.Item, passing: Passing) -> None:
        ledger, budget = passing.ledger, passing.wishes.budget
        ledger.settle()
        calls = passing.tracker.calls
        tally = Tally.of(calls, cache_hits=ledger.cache_hits)
        if passing.deck is not None and passing.deck.failed:
            # What was used can't be told from a test that got no answer; its failure says why.
            violations = [Violation(limit="unmeasured", reason="a request had no recording")] * budget.watches
        else:
            violations = list(judge(tally, budget, estimates_count=self.settings.estimates_count))
        if ledger.incidents and budget.watches:
            violations.append(Violation(limit="unmeasured", reason="; ".join(ledger.incidents)))
        record = UsageRecord(
            nodeid=item.nodeid,
            calls=calls,
            cache_hits=ledger.cache_hits,
            budget=budget if budget.watches else None,
            incidents=ledger.incidents,
        )
        result = self._compare(record, budget, violations)
        if violations or any(report.kind == "json" for report in self.settings.reports):
            calls = tuple(_with_parts(call) for call in calls)
        passing.record = replace(
            record,
            calls=calls,
            verdict=verdict_of(budget, violations),
            violations=tuple(violations),
            baseline=result,
        )
        if violations:
            from pytest_tokenbudget.report.message import render_verdict  # noqa: PLC0415 - only when it fails

            passing.message = render_verdict(passing.record)

    def _compare(self, record: UsageRecord, budget: Budget, violations: list[Violation]) -> BaselineResult | None:
        """Hold the record against the baseline, and add what does not hold to the violations."""
        if self.baseline is None or self.settings.enforcement == "off":
            return None
        entry = self.baseline.tests.get(record.nodeid)
        if entry is None and not record.calls:
            return None
        tolerance = self.settings.tolerance if budget.tolerance is None else budget.tolerance
        models = record.models
        providers = {call.model: call.provider for call in record.calls}

        def price(model: str, tokens: ModelTokens) -> Decimal | None:
            return self._price_sum(providers.get(model, ""), model, tokens)

        result = baselines.compare(models, entry, tolerance=tolerance, price=price)
        violations += baselines.violations(result, models, tolerance=tolerance, price=price)
        if result.status == "new" and self.settings.baseline_missing_fails:
            violations.append(
                Violation(
                    limit="baseline",
                    reason="it has no entry in the baseline; run pytest --token-update-baseline to add it",
                )
            )
        return result

    def _price_sum(self, provider: str, model: str, tokens: ModelTokens) -> Decimal | None:
        usage = Usage(
            requests=tokens.requests,
            input_tokens=tokens.input,
            cached_input_tokens=tokens.cached,
            cache_write_tokens=tokens.cache_write,
            output_tokens=tokens.output,
        )
        return self.book.cost(ModelCall(model=model, provider=provider, usage=usage))

    def _explain(self, item: pytest.Item, passing: Passing) -> None:
        """Add what a failing test used to its report."""
        if passing.message:
            item.add_report_section("call", "token budget", passing.message)
        elif passing.ledger.calls or passing.ledger.cache_hits:
            item.add_report_section("call", "token usage", str(passing.tracker))

    def _fail_on_misses(self, item: pytest.Item, passing: Passing) -> None:
        """A request that no recording answers fails the test, whatever its code made of it."""
        if passing.deck is not None and (lines := self._describe_misses(passing.deck, item.nodeid)):
            record = passing.record or UsageRecord(nodeid=item.nodeid, calls=passing.tracker.calls)
            if any(miss.reason == "blocked" for miss in passing.deck.misses):
                passing.record = replace(record, blocked=(*record.blocked, *lines))
            else:
                passing.record = replace(record, drift=(*record.drift, *lines))
            passing.failed = True
            passing.deck.misses.clear()
            # What the code under test made of the miss would only hide it.
            raise pytest.fail.Exception("\n".join(lines), pytrace=False) from None

    def _describe_misses(self, deck: Deck, nodeid: str) -> list[str]:
        if deck.fault is not None:
            fault, deck.fault = deck.fault, None
            return [fault]
        if not deck.misses:
            return []
        from pytest_tokenbudget.capture.drift import describe_misses  # noqa: PLC0415 - only when it fails

        return describe_misses(deck, nodeid=nodeid, book=self.book, rootdir=self.settings.rootdir)

    def _fail_on_unplayed(self, passing: Passing) -> None:
        deck = passing.deck
        if deck is None or deck.live or passing.record is None or not (unplayed := deck.unplayed()):
            return
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
        try:
            if passing.deck is not None:
                self._save(passing.deck, whole=not passing.failed)
        finally:
            passing.teardown.close()
            passing.ledger.close()
            record = passing.record or UsageRecord(nodeid=item.nodeid)
            calls = record.calls
            late = passing.tracker.calls[len(calls) :]  # used in teardown: reported, not judged
            cassettes = (str(passing.deck.path),) if passing.deck is not None and passing.deck.used else ()
            budget = passing.wishes.budget
            passing.record = replace(
                record,
                calls=(*calls, *late),
                cache_hits=passing.ledger.cache_hits,
                budget=budget if budget.watches else None,
                cassettes=cassettes,
                incidents=passing.ledger.incidents,
            )
            from pytest_tokenbudget.report.junit import junit_properties  # noqa: PLC0415 - not on the start-up path

            item.user_properties += junit_properties(passing.record)

    def _save(self, deck: Deck, *, whole: bool) -> None:
        try:
            deck.save(whole=whole)
        except OSError as error:
            pytest.fail(f"the recording {deck.path} could not be saved: {error}", pytrace=False)

    # -- decks

    def _deck(self, item: pytest.Item, wishes: Wishes) -> Deck | None:
        if not self._replays(item, wishes.marked):
            return None
        folder = self._folder(item)
        try:
            if wishes.cassette is not None:
                path = named_cassette(folder, wishes.cassette)
            else:
                name = unique_name(_name_of(item), self._names_beside(item))
                path = folder / f"{name}.yaml"
                check_inside(path, folder.parent)
        except ValueError as error:
            raise ConfigurationError(f"{item.nodeid}: its cassette can't be used: {error}") from None
        record = self.settings.record if self.settings.record_forced else wishes.record or self.settings.record
        return Deck(
            path=path,
            record=record,
            match_on=wishes.match_on or DEFAULT_MATCH,
            configure=lambda: _vcr_config(item),
            since=self._since,
        )

    def _replays(self, item: pytest.Item, marked: bool) -> bool:  # noqa: FBT001 - one of two facts about the item
        if self.settings.replay == "off":
            return False
        if item.get_closest_marker("vcr") is not None and _has_cassette_plugin(item.config):
            return False  # pytest-recording's or pytest-vcr's own
        return self.settings.replay == "all" or marked or wants_usage(item)

    def _folder(self, item: pytest.Item) -> Path:
        return module_folder(item.path, self.settings.cassette_dir, self.settings.rootdir)

    def _names_beside(self, item: pytest.Item) -> frozenset[str]:
        """The cassette names that several tests of the item's module would share, those not selected included."""
        if item.path not in self._shared_names:
            made = item.config.stash.get(MADE, {}).get(item.path, [])
            beside = [other for other in item.session.items if other.path == item.path]
            self._shared_names[item.path] = shared_names(map(_name_of, [*made, *beside]))
        return self._shared_names[item.path]

    def _is_counted(self, fixture: str, request: pytest.FixtureRequest) -> bool:
        """Whether a test that is counted uses the fixture; then its usage is, whoever asks for it first."""
        if self.settings.counts_all:
            return True
        if self._counted_fixtures is None:
            self._counted_fixtures = {
                name for item in request.session.items if asks(item) for name in getattr(item, "fixturenames", ())
            }
        return fixture in self._counted_fixtures

    def _fixture_deck(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Deck | None:
        users = [
            item
            for item in request.session.items
            if fixturedef.argname in getattr(item, "fixturenames", ()) and self._replays(item, marked=asks(item))
        ]
        item = next((each for each in users if _shares(each, fixturedef, request)), None)
        if item is None:
            return None
        asking = getattr(request, "_pyfuncitem", item)  # it is being set up, so its fixtures can be asked for
        try:
            path = fixture_cassette(self._folder(item), fixturedef.argname, fixturedef.scope)
        except ValueError as error:
            pytest.fail(
                f"{asking.nodeid}: the cassette of {fixturedef.argname} can't be used: {error}", pytrace=False
            )
        return Deck(path=path, record=self.settings.record, configure=lambda: _vcr_config(asking), since=self._since)

    def _end_deck(self, deck: Deck | None, nodeid: str) -> None:
        if deck is None:
            return
        whole = sys.exc_info()[0] is None and not deck.misses
        if lines := self._describe_misses(deck, nodeid):
            deck.misses.clear()
            raise pytest.fail.Exception("\n".join(lines), pytrace=False) from None
        self._save(deck, whole=whole)

    def _offer_tiktoken(self, passing: Passing) -> None:
        if self.settings.offline_tiktoken:
            passing.teardown.enter_context(tiktoken_offline())


def _with_parts(call: ModelCall) -> ModelCall:
    """The same call with where its input went, if that can be told."""
    if call.parts is not None or call.prompt is None or call.usage is None:
        return call
    from pytest_tokenbudget.capture.estimate import split_prompt  # noqa: PLC0415 - imports tiktoken

    return replace(call, parts=split_prompt(call.prompt, call.model, call.usage.input_tokens))


def _name_of(item: pytest.Item) -> CaseName:
    owner = getattr(item, "cls", None)
    return CaseName(None if owner is None else owner.__qualname__, item.name)


def _has_cassette_plugin(config: pytest.Config) -> bool:
    return config.pluginmanager.hasplugin("recording") or config.pluginmanager.hasplugin("vcr")


def _vcr_config(item: pytest.Item) -> Mapping[str, Any]:
    """The user's ``vcr_config`` fixture, as pytest-recording knows it; empty where there is none."""
    request = getattr(item, "_request", None)
    manager = item.session._fixturemanager  # noqa: SLF001 - pytest has no public way to ask whether a fixture exists
    if request is None or not manager.getfixturedefs("vcr_config", item):
        return {}
    config: Mapping[str, Any] = request.getfixturevalue("vcr_config")
    return config


def _shares(item: pytest.Item, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> bool:
    """Whether the item gets this very fixture: it lies below where the fixture is kept."""
    return fixturedef.scope == "session" or request.node in item.listchain()
