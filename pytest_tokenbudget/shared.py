"""Fixtures that several tests share: charged to themselves, whoever asks for them first."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.ledger import Ledger
from pytest_tokenbudget.neighbours import ungrouped_nodeid
from pytest_tokenbudget.options import asks
from pytest_tokenbudget.playbacks import (
    Missed,
    describe_age,
    describe_refusals,
    playing,
    save,
    take_misses,
)
from pytest_tokenbudget.record import SharedRecord
from pytest_tokenbudget.tracking import locate_input

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_tokenbudget.capture.playback import Playback
    from pytest_tokenbudget.late import LateAttempts
    from pytest_tokenbudget.ledger import Frame
    from pytest_tokenbudget.playbacks import Playbacks
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings


@dataclass(slots=True, eq=False, kw_only=True)
class Shared:
    """A fixture of wider scope than one test, while it exists.

    Attributes:
        fixture: its name.
        scope: its scope.
        nodeid: the test that asked for it first.
        ledger: its model calls.
        playback: where it replays from; ``None`` where it does not replay.
        changes: what it has changed in the environment, with what was there before.
    """

    fixture: str
    scope: str
    nodeid: str
    ledger: Ledger
    playback: Playback | None = None
    changes: dict[str, str | None] = field(default_factory=dict)


class SharedFixtures:
    """The hooks around fixtures of class, module, package and session scope."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it shares with the gate, which makes it
        self,
        settings: Settings,
        book: PriceBook,
        frame: Frame,
        playbacks: Playbacks,
        late: LateAttempts,
        attach: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._book = book
        self._frame = frame
        self._playbacks = playbacks
        self._late = late
        self._attach = attach
        self._shared: list[Shared] = []
        self._missed: list[tuple[Shared, Missed]] = []
        self._aged: set[Playback] = set()
        self._counted_fixtures: set[str] | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """Charge a fixture of wider scope to itself: while it is set up, and while it is torn down."""
        if fixturedef.scope == "function" or not self._is_counted(fixturedef.argname, request):
            return (yield)
        self._attach()
        nodeid = ungrouped_nodeid(getattr(request, "_pyfuncitem", request.node))
        name = fixturedef.argname
        shared = Shared(fixture=name, scope=fixturedef.scope, nodeid=nodeid, ledger=Ledger(f"fixture {name}"))
        self._shared.append(shared)
        try:
            shared.playback = self._playbacks.of_fixture(fixturedef, request)
        except ConfigurationError as error:
            pytest.fail(str(error), pytrace=False)
        leave: list[ExitStack] = []

        def end() -> None:
            entered = bool(leave)
            if entered:
                leave.pop().close()
            if shared.playback is not None:
                shared.playback.ward.end(self._late.teller(nodeid, name))
            if entered:
                self._settle(shared)
                self._fail_on_age(shared)
            else:  # its set-up failed, and was settled then
                self._late.add(nodeid, self._take_misses(shared).lines)

        # Finalizers run last first: this one ends what the other, added after the fixture's own, begins.
        fixturedef.addfinalizer(end)
        with self._charged(shared):
            try:
                result = yield
            finally:
                with _failing_all(fixturedef, request):
                    self._settle(shared)

        def enter() -> None:
            stack = ExitStack()
            stack.enter_context(self._charged(shared))
            leave.append(stack)

        fixturedef.addfinalizer(enter)
        with _failing_all(fixturedef, request):
            self._fail_on_age(shared)
        return result

    @contextmanager
    def _charged(self, shared: Shared) -> Iterator[None]:
        with self._frame.charge(shared.ledger), playing(shared.playback, self._settings, shared.changes):
            yield

    def take_misses(self) -> Missed:
        """What shared fixtures asked for and did not get, or should not have got, since this was last asked."""
        missed = Missed()
        for _, each in self._missed:
            missed = missed.joined(each)
        self._missed.clear()
        return missed

    def note_misses(self) -> None:
        """Note what no test could be told of: it was torn down with one that is not counted."""
        for shared, missed in self._missed:
            self._late.add(shared.nodeid, missed.blocked)
        self._missed.clear()

    def drain(self) -> list[SharedRecord]:
        """What shared fixtures, and code outside of any test, have used since this was last asked."""
        pools = [(each.fixture, each.scope, each.ledger) for each in self._shared]
        pools.append(("", "session", self._frame.rest))
        records = []
        for fixture, scope, ledger in pools:
            calls, cache_hits, incidents = ledger.drain()
            blocked = tuple(describe_refusals(ledger))
            if calls or cache_hits or incidents or blocked:
                priced = [self._book.priced(call) for call in calls]
                records.append(
                    SharedRecord(
                        fixture=fixture,
                        scope=scope,
                        calls=tuple(map(locate_input, priced) if self._settings.tells_parts else priced),
                        cache_hits=cache_hits,
                        incidents=incidents,
                        blocked=blocked,
                    )
                )
        return records

    def _is_counted(self, fixture: str, request: pytest.FixtureRequest) -> bool:
        """Whether a test that is counted uses the fixture; then its usage is, whoever asks for it first."""
        if self._settings.counts_all:
            return True
        if self._counted_fixtures is None:
            self._counted_fixtures = {
                name for item in request.session.items if asks(item) for name in getattr(item, "fixturenames", ())
            }
        return fixture in self._counted_fixtures

    def _settle(self, shared: Shared) -> None:
        """Save what a fixture has recorded; fail the test that asked for it if it asked for more than it got."""
        playback = shared.playback
        whole = sys.exc_info()[0] is None
        missed = self._take_misses(shared)
        if missed.lines:
            self._missed.append((shared, missed))
            if playback is not None:
                with suppress(pytest.fail.Exception):  # what was missed is told first
                    save(playback, whole=False)
            raise pytest.fail.Exception("\n".join(missed.lines), pytrace=False) from None
        if playback is not None:
            save(playback, whole=whole)

    def _take_misses(self, shared: Shared) -> Missed:
        missed = Missed(blocked=tuple(describe_refusals(shared.ledger)))
        if shared.playback is None:
            return missed
        root = self._settings.rootdir
        return missed.joined(take_misses(shared.playback, shared.nodeid, self._book, root, fixture=shared.fixture))

    def _fail_on_age(self, shared: Shared) -> None:
        """Recordings that are older than allowed fail each test that asks for the fixture."""
        playback, nodeid = shared.playback, shared.nodeid
        if playback is None or playback in self._aged:  # told before, and not again at the fixture's end
            return
        subject = f"fixture {shared.fixture}"
        if line := describe_age(playback, subject=subject, nodeid=nodeid, max_age=self._settings.max_age):
            self._aged.add(playback)
            self._missed.append((shared, Missed(unfit=(line,))))
            pytest.fail(line, pytrace=False)


@contextmanager
def _failing_all(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Iterator[None]:
    """Let what fails a fixture that was set up fail each test that asks for it.

    pytest keeps what a fixture raised for the next test that asks for it; what is raised here it has not seen.
    """
    try:
        yield
    except pytest.fail.Exception as failure:
        key = fixturedef.cache_key(request)  # type: ignore[arg-type] # it is a SubRequest here
        fixturedef.cached_result = (None, key, (failure, None))
        raise
