"""Fixtures that several tests share: charged to themselves, whoever asks for them first."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.admission import asks
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.ledger import Ledger
from pytest_tokenbudget.playbacks import describe_misses, describe_refusals, playing, save
from pytest_tokenbudget.record import SharedRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_tokenbudget.capture.playback import Playback
    from pytest_tokenbudget.ledger import Frame
    from pytest_tokenbudget.playbacks import Playbacks
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings


@dataclass(slots=True, eq=False, kw_only=True)
class Shared:
    """A fixture of wider scope than one test, while it exists."""

    fixture: str
    scope: str
    ledger: Ledger


class SharedFixtures:
    """The hooks around fixtures of class, module, package and session scope."""

    def __init__(
        self, settings: Settings, book: PriceBook, frame: Frame, playbacks: Playbacks, attach: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._book = book
        self._frame = frame
        self._playbacks = playbacks
        self._attach = attach
        self._shared: list[Shared] = []
        self._drift: list[str] = []
        self._blocked: list[str] = []
        self._counted_fixtures: set[str] | None = None

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
        try:
            playback = self._playbacks.of_fixture(fixturedef, request)
        except ConfigurationError as error:
            pytest.fail(str(error), pytrace=False)
        leave: list[ExitStack] = []
        nodeid = getattr(request, "_pyfuncitem", request.node).nodeid

        def end() -> None:
            if leave:
                leave.pop().close()
                self._end_playback(shared, playback, nodeid)

        # Finalizers run last first: this one ends what the other, added after the fixture's own, begins.
        fixturedef.addfinalizer(end)
        with self._charged(shared, playback):
            try:
                result = yield
            finally:
                try:
                    self._end_playback(shared, playback, nodeid)
                except pytest.fail.Exception as failure:
                    # pytest keeps what a fixture raised for the next test that asks for it; this it has not seen.
                    key = fixturedef.cache_key(request)  # type: ignore[arg-type] # it is a SubRequest here
                    fixturedef.cached_result = (None, key, (failure, None))
                    raise

        def enter() -> None:
            stack = ExitStack()
            stack.enter_context(self._charged(shared, playback))
            leave.append(stack)

        fixturedef.addfinalizer(enter)
        return result

    @contextmanager
    def _charged(self, shared: Shared, playback: Playback | None) -> Iterator[None]:
        with self._frame.charge(shared.ledger), playing(playback, self._settings):
            yield

    def take_drift(self) -> tuple[str, ...]:
        """Requests of shared fixtures that no recording answered, since this was last asked: each one line."""
        taken, self._drift = tuple(self._drift), []
        return taken

    def take_blocked(self) -> tuple[str, ...]:
        """Requests of shared fixtures that were refused for what they could cost, since this was last asked."""
        taken, self._blocked = tuple(self._blocked), []
        return taken

    def drain(self) -> list[SharedRecord]:
        """What shared fixtures, and code outside of any test, have used since this was last asked."""
        pools = [(each.fixture, each.scope, each.ledger) for each in self._shared]
        pools.append(("", "session", self._frame.rest))
        records = []
        for fixture, scope, ledger in pools:
            calls, cache_hits, incidents = ledger.drain()
            blocked = tuple(describe_refusals(ledger))
            if calls or cache_hits or incidents or blocked:
                records.append(
                    SharedRecord(
                        fixture=fixture,
                        scope=scope,
                        calls=tuple(self._book.priced(call) for call in calls),
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

    def _end_playback(self, shared: Shared, playback: Playback | None, nodeid: str) -> None:
        refused = describe_refusals(shared.ledger)
        whole = sys.exc_info()[0] is None and not refused and (playback is None or not playback.misses)
        missed = [] if playback is None else describe_misses(playback, nodeid, self._book, self._settings.rootdir)
        if playback is not None and not missed:
            save(playback, whole=whole)
        if not refused and not missed:
            return
        if playback is not None:
            playback.misses.clear()
        self._drift += missed
        self._blocked += refused
        raise pytest.fail.Exception("\n".join([*refused, *missed]), pytrace=False) from None
