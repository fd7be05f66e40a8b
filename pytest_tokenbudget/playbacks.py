"""Which cassette a test, or a fixture that several tests share, replays from or records to."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_tokenbudget.capture.layout import (
    CaseName,
    fixture_cassette,
    module_folder,
    named_cassette,
    own_cassette,
    shared_names,
    unique_name,
)
from pytest_tokenbudget.capture.offline import tiktoken_offline
from pytest_tokenbudget.capture.playback import Playback, insert, record_command
from pytest_tokenbudget.environment import recorded_environment, replayed_environment
from pytest_tokenbudget.errors import CassetteError, ConfigurationError
from pytest_tokenbudget.fixture import wants_usage
from pytest_tokenbudget.markers import read_markers
from pytest_tokenbudget.neighbours import NO_CONFIG, has_own_cassette
from pytest_tokenbudget.options import CASSETTE, asks
from pytest_tokenbudget.plugin import MADE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta
    from pathlib import Path

    from pytest_tokenbudget.capture.playback import Miss
    from pytest_tokenbudget.ledger import Ledger
    from pytest_tokenbudget.markers import MarkerSettings
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings


class Playbacks:
    """The cassettes of one session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folders: dict[Path, Path] = {}
        self._shared_names: dict[Path, frozenset[str]] = {}
        self._users: dict[str, list[pytest.Item]] | None = None
        self._named: Counter[Path] | None = None
        self._since = time.time()
        self._written: set[Path] = set()
        self._others_since = self._since if "PYTEST_XDIST_WORKER" in os.environ else math.inf

    def of_test(self, item: pytest.Item, marker_settings: MarkerSettings) -> Playback | None:
        """The cassette of a test; ``None`` where it does not replay.

        Raises:
            ConfigurationError: its cassette's name can't be used.
        """
        if not self._replays(item, marker_settings.marked):
            return None
        folder = self._folder(item)
        try:
            if marker_settings.cassette is not None:
                path = named_cassette(folder, marker_settings.cassette)
            else:
                path = own_cassette(folder, unique_name(_name_of(item), self._names_beside(item)))
        except ValueError as error:
            raise ConfigurationError(f"{item.nodeid}: its cassette can't be used: {error}") from None
        settings = self._settings
        return Playback(
            path=path,
            record=settings.record if settings.record_forced else marker_settings.record or settings.record,
            match_on=marker_settings.match_on,
            configure=lambda: _vcr_config(item),
            since=self._since,
            written=self._written,
            others_since=self._others_since,
            estimates=settings.drift == "estimate",
        )

    def is_shared(self, playback: Playback, session: pytest.Session) -> bool:
        """Whether several tests have markers that name the same cassette."""
        if self._named is None:
            self._named = Counter(filter(None, map(self._named_by, session.items)))
        return self._named[playback.path] > 1

    def _named_by(self, item: pytest.Item) -> Path | None:
        if item.get_closest_marker(CASSETTE) is None:
            return None
        try:
            name = read_markers(item, self._settings.test_budget).cassette
            return None if name is None else named_cassette(self._folder(item), name)
        except (ConfigurationError, ValueError):
            return None  # its own test will say why

    def of_fixture(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Playback | None:
        """The cassette of a fixture of wider scope; ``None`` where no test that replays uses it.

        Raises:
            ConfigurationError: its cassette's name can't be used.
        """
        users = self._replaying_users(request.session).get(fixturedef.argname, ())
        item = next((each for each in users if _shares(each, fixturedef, request)), None)
        if item is None:
            return None
        asking = getattr(request, "_pyfuncitem", item)  # it is being set up, so its fixtures can be asked for
        try:
            path = fixture_cassette(self._folder(item), fixturedef.argname, fixturedef.scope)
        except ValueError as error:
            raise ConfigurationError(
                f"{asking.nodeid}: the cassette of {fixturedef.argname} can't be used: {error}"
            ) from None
        playback = Playback(
            path=path,
            record=self._settings.record,
            configure=lambda: _vcr_config(asking),
            since=self._since,
            written=self._written,
            others_since=self._others_since,
            estimates=self._settings.drift == "estimate",
        )
        playback.ward.is_shared = True
        return playback

    def _replays(self, item: pytest.Item, marked: bool) -> bool:  # noqa: FBT001 - one of two facts about the item
        if self._settings.replay == "off":
            return False
        return (self._settings.replay == "all" or marked or wants_usage(item)) and not has_own_cassette(item)

    def _folder(self, item: pytest.Item) -> Path:
        """The folder of a test's cassettes, worked out once for each module."""
        folder = self._folders.get(item.path)
        if folder is None:
            folder = module_folder(item.path, self._settings.cassette_dir, self._settings.rootdir)
            self._folders[item.path] = folder
        return folder

    def _names_beside(self, item: pytest.Item) -> frozenset[str]:
        """The cassette names that several tests of the item's module would share, those not selected included."""
        if item.path not in self._shared_names:
            made = item.config.stash.get(MADE, {}).get(item.path, [])
            beside = [other for other in item.session.items if other.path == item.path]
            self._shared_names[item.path] = shared_names(map(_name_of, [*made, *beside]))
        return self._shared_names[item.path]

    def _replaying_users(self, session: pytest.Session) -> dict[str, list[pytest.Item]]:
        """Fixture name -> the tests that replay and use it. Worked out once: it looks at every test."""
        if self._users is None:
            self._users = {}
            for item in session.items:
                if self._replays(item, marked=asks(item)):
                    for name in getattr(item, "fixturenames", ()):
                        self._users.setdefault(name, []).append(item)
        return self._users


@contextmanager
def playing(
    playback: Playback | None, settings: Settings, changes: dict[str, str | None] | None = None
) -> Iterator[None]:
    """Let a cassette answer for the length of a block; while it only replays, without keys and without network.

    Args:
        playback: the cassette; ``None`` where there is none.
        settings: what the user asked for.
        changes: of a shared fixture, what it has changed in the environment (see ``replayed_environment``).
    """
    if playback is None:
        yield
    elif playback.live:
        with recorded_environment(changes), insert(playback):
            yield
    else:
        served = tiktoken_offline() if settings.offline_tiktoken else nullcontext()
        with replayed_environment(changes), served, insert(playback):
            yield


def describe_estimates(playback: Playback, nodeid: str, book: PriceBook, rootdir: Path) -> list[str]:
    """One line for each request that the nearest recording answered."""
    return _described(playback, playback.estimated, nodeid, book, rootdir)


def _described(playback: Playback, misses: Sequence[Miss], nodeid: str, book: PriceBook, rootdir: Path) -> list[str]:
    if not misses:
        return []
    from pytest_tokenbudget.capture import drift  # noqa: PLC0415 - only when there is any

    return drift.describe_misses(playback, misses, nodeid=nodeid, book=book, rootdir=rootdir)


class Missed(NamedTuple):
    """What a test or fixture asked for and did not get, or should not have got, each one line.

    Attributes:
        drift: requests that no recording answers, and why a cassette can't be used.
        blocked: attempts to reach the network past the cassette.
        unfit: why the recordings that it got do not hold.
    """

    drift: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.drift, *self.blocked, *self.unfit)

    def joined(self, other: Missed) -> Missed:
        """These and others."""
        return Missed((*self.drift, *other.drift), (*self.blocked, *other.blocked), (*self.unfit, *other.unfit))


def take_misses(playback: Playback, nodeid: str, book: PriceBook, rootdir: Path, *, fixture: str = "") -> Missed:
    """Take out what a playback could not answer since this was last asked; empty where all is well.

    Args:
        playback: the cassette that was asked.
        nodeid: the test that asked, or the first that wanted the fixture which did.
        book: the prices, for what a change costs.
        rootdir: paths are shown from here.
        fixture: the shared fixture that asked, if one did.
    """
    if not playback.failed:
        return Missed()
    blocked = [miss for miss in playback.misses if miss.reason == "blocked"]
    for miss in blocked:
        playback.misses.remove(miss)
    subject = f"the fixture {fixture} of {nodeid}" if fixture else nodeid
    lines = [
        f"{subject} tried to reach {target} past its cassette, and the network is closed to a replayed test; "
        "replace that call in the test, or run it live with token_replay = off"
        for target in dict.fromkeys(miss.url for miss in blocked)  # a client that retries tries the same again
    ]
    fault, playback.fault = playback.fault, None
    drift: list[str] = [] if fault is None else [fault]
    if count := len(playback.misses):
        if fault is None:
            drift = _described(playback, playback.misses[:count], nodeid, book, rootdir)
        del playback.misses[:count]
    return Missed(tuple(drift), tuple(lines))


def describe_age(playback: Playback, *, subject: str, nodeid: str, max_age: timedelta | None) -> str | None:
    """One line where a playback played recordings that are older than allowed; ``None`` where it did not.

    Args:
        playback: the cassette; one that records is not judged: what it stores is new.
        subject: who played it, for the line.
        nodeid: the test that asked for it, for the command.
        max_age: how old recordings may be; ``None`` for any age.
    """
    if max_age is None or playback.live or not playback.used:
        return None
    from pytest_tokenbudget.capture.age import describe_played  # noqa: PLC0415 - only where ages are judged

    return describe_played(
        playback.played_headers(),
        subject=subject,
        command=record_command(nodeid, "rewrite"),
        since=playback.since,
        max_age=max_age,
    )


def describe_unplayed(playback: Playback, unplayed: Sequence[str], nodeid: str) -> str:
    """One line for the recordings that a test did not ask for."""
    command = record_command(nodeid, "rewrite")
    return (
        f"{nodeid} did not ask for {len(unplayed)} recording(s) of {playback.path.name}: {'; '.join(unplayed)}; "
        f"record it again with: {command}"
    )


def describe_refusals(ledger: Ledger) -> list[str]:
    """One line for the requests that were refused for what they could cost; none where none was."""
    refusals = ledger.take_refusals()
    if len(refusals) < 2:  # noqa: PLR2004 - one says all
        return refusals
    # Each of the others says the same of another moment.
    return [f"{refusals[0]}; {len(refusals) - 1:,} more of its requests were refused"]


def save(playback: Playback, *, whole: bool) -> None:
    """Write what was recorded; a recording that can't be written fails the test that made it."""
    try:
        playback.save(whole=whole)
    except (OSError, CassetteError) as error:
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        pytest.fail(f"the recording {playback.path} could not be saved: {error}{notes}", pytrace=False)


def _name_of(item: pytest.Item) -> CaseName:
    owner = getattr(item, "cls", None)
    return CaseName(None if owner is None else owner.__qualname__, item.name)


def _vcr_config(item: pytest.Item) -> Mapping[str, Any]:
    """The user's ``vcr_config`` fixture, as pytest-recording knows it; empty where there is none."""
    request = getattr(item, "_request", None)
    manager = item.session._fixturemanager  # noqa: SLF001 - pytest has no public way to ask whether a fixture exists
    definitions = manager.getfixturedefs("vcr_config", item)
    if request is None or not definitions or definitions[-1].func.__module__ in NO_CONFIG:
        return {}
    config: Mapping[str, Any] = request.getfixturevalue("vcr_config")
    return config


def _shares(item: pytest.Item, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> bool:
    """Whether the item gets this very fixture: it lies below where the fixture is kept."""
    return fixturedef.scope == "session" or request.node in item.listchain()
