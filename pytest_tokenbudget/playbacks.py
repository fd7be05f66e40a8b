"""Which cassette a test, or a fixture that several tests share, replays from or records to."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.admission import CASSETTE, MADE, asks, wants_usage
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
from pytest_tokenbudget.capture.playback import Playback, insert
from pytest_tokenbudget.environment import replayed_environment
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.markers import read_markers
from pytest_tokenbudget.neighbours import NO_CONFIG, has_own_cassette

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_tokenbudget.markers import MarkerSettings
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings


class Playbacks:
    """The cassettes of one session."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shared_names: dict[Path, frozenset[str]] = {}
        self._users: dict[str, list[pytest.Item]] | None = None
        self._named: Counter[Path] | None = None
        self._since = time.time()

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
                path = folder / f"{unique_name(_name_of(item), self._names_beside(item))}.yaml"
                check_inside(path, folder.parent)
        except ValueError as error:
            raise ConfigurationError(f"{item.nodeid}: its cassette can't be used: {error}") from None
        settings = self._settings
        return Playback(
            path=path,
            record=settings.record if settings.record_forced else marker_settings.record or settings.record,
            match_on=marker_settings.match_on,
            configure=lambda: _vcr_config(item),
            since=self._since,
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
        return Playback(
            path=path, record=self._settings.record, configure=lambda: _vcr_config(asking), since=self._since
        )

    def _replays(self, item: pytest.Item, marked: bool) -> bool:  # noqa: FBT001 - one of two facts about the item
        if self._settings.replay == "off":
            return False
        return (self._settings.replay == "all" or marked or wants_usage(item)) and not has_own_cassette(item)

    def _folder(self, item: pytest.Item) -> Path:
        return module_folder(item.path, self._settings.cassette_dir, self._settings.rootdir)

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
def playing(playback: Playback | None, settings: Settings) -> Iterator[None]:
    """Let a cassette answer for the length of a block; while it only replays, without keys and without network."""
    with ExitStack() as stack:
        if playback is not None:
            if not playback.live:
                stack.enter_context(replayed_environment())
                if settings.offline_tiktoken:
                    stack.enter_context(tiktoken_offline())
            stack.enter_context(insert(playback))
        yield


def describe_misses(playback: Playback, nodeid: str, book: PriceBook, rootdir: Path) -> list[str]:
    """One line for each request that got no answer, and for a cassette that can't be used; none where all is well."""
    if playback.fault is not None:
        fault, playback.fault = playback.fault, None
        return [fault]
    if not playback.misses:
        return []
    from pytest_tokenbudget.capture import drift  # noqa: PLC0415 - only when it fails

    return drift.describe_misses(playback, nodeid=nodeid, book=book, rootdir=rootdir)


def save(playback: Playback, *, whole: bool) -> None:
    """Write what was recorded; a recording that can't be written fails the test that made it."""
    try:
        playback.save(whole=whole)
    except OSError as error:
        pytest.fail(f"the recording {playback.path} could not be saved: {error}", pytrace=False)


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
