"""What one test's, or one shared fixture's, requests are played back from; opened only when a request comes.

While a playback is active, clients ask it at the edge of the network: see ``transport`` (httpx), ``http_client``
(urllib, requests, botocore) and ``aiohttp_replay``. Nothing here imports vcrpy before it is needed.
"""

from __future__ import annotations

import math
import shlex
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture import guard
from pytest_tokenbudget.capture.ward import Ward, responsible
from pytest_tokenbudget.errors import CassetteError, ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_tokenbudget.capture.player import Player
    from pytest_tokenbudget.capture.recording import Recording

DEFAULT_MATCH = ("method", "scheme", "host", "port", "path", "query", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A request that no recording answers.

    Attributes:
        method: its method.
        url: where it went.
        body: what it sent.
        number: the how-manieth request of its test it was, from 1.
        reason: ``missing`` (no cassette), ``played`` (each recording of it has been used), ``drift``,
            ``estimated`` (the nearest recording answered it), or ``blocked``: something that no cassette covers tried
            to reach the network, and ``url`` is its ``host:port``.
    """

    method: str
    url: str
    body: bytes
    number: int
    reason: str


@dataclass(slots=True, eq=False, kw_only=True)
class Playback:
    """Where one test's requests are played back from, or recorded to.

    Attributes:
        path: the cassette file.
        record: vcrpy's record mode, or ``rewrite``.
        match_on: vcrpy matchers.
        configure: gives the user's ``vcr_config``, when the cassette is opened.
        since: when the run began, in seconds since the epoch.
        written: the files that this process has written in this run: with ``rewrite``, they are its own and stay.
        others_since: from when on other processes of the run may have written files, in seconds since the epoch.
        estimates: whether the nearest recording answers a request that has none of its own.
        misses: requests that had no answer.
        estimated: requests that the nearest recording answered.
        fault: why the file can't be used, or an answer not recorded.
        ward: tells whose the code is that asks.
    """

    path: Path
    record: str = "none"
    match_on: tuple[str, ...] | None = None
    configure: Callable[[], Mapping[str, Any]] = dict
    since: float = math.inf
    written: set[Path] = field(default_factory=set)
    others_since: float = math.inf
    estimates: bool = False
    misses: list[Miss] = field(default_factory=list)
    estimated: list[Miss] = field(default_factory=list)
    fault: str | None = None
    ward: Ward = field(init=False)
    _player: Player | None = None
    _under_way: list[Recording] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.ward = Ward(None if self.live else self.refuse)

    @property
    def live(self) -> bool:
        """Whether requests may reach a real server."""
        return self.record != "none"

    @property
    def used(self) -> bool:
        """Whether any request came."""
        return self._player is not None

    @property
    def failed(self) -> bool:
        """Whether a request got no answer."""
        return bool(self.misses) or self.fault is not None

    @property
    def cassette(self) -> Player:
        """The cassette, read when first asked for.

        Raises:
            ReplayMiss: the file can't be used; ``fault`` says why.
        """
        with self._lock:
            if self._player is None:
                from pytest_tokenbudget.capture.opening import open_player  # noqa: PLC0415 - imports much

                if self.fault is not None:
                    raise ReplayMiss(self.fault)
                try:
                    self._player = open_player(self)
                except CassetteError as error:
                    self.fault = str(error)
                    raise ReplayMiss(self.fault) from error
                except Exception as error:
                    # Above all a vcr_config that vcrpy can't use: whoever swallows it must not go on without.
                    self.fault = f"{self.path} can't be opened: {type(error).__name__}: {error}"
                    raise ReplayMiss(self.fault) from error
            return self._player

    def prepare(self) -> None:
        """Ask for the user's ``vcr_config`` now: when the test is torn down, no fixture can be asked for any more."""
        config = self.configure()
        self.configure = lambda: config

    def begin(self, recording: Recording) -> None:
        """Note an answer of a real server whose body is on its way."""
        with self._lock:
            self._under_way.append(recording)

    def end(self, recording: Recording, fault: str | None = None) -> None:
        """Note that the body has ended, or why it can't be recorded."""
        with self._lock:
            self._under_way.remove(recording)
            self.fault = fault or self.fault

    def save(self, *, whole: bool) -> None:
        """Write what was recorded.

        Args:
            whole: the recording is good; otherwise the old file stays and this one is kept as ``*.partial``.
        """
        if self.live and self._player is not None:
            for recording in tuple(self._under_way):
                recording.finish()  # its client left it unread
            self._player.save(whole=whole and self.fault is None)

    def refuse(self, target: str) -> None:
        """Note that the test tried to reach the network past its cassette."""
        self.note_attempt(target)

    def note_attempt(self, target: str) -> Miss:
        """Note that the test tried to reach the network, which may turn out to be for a request of its cassette."""
        attempt = Miss(method="", url=target, body=b"", number=1 + len(self.misses), reason="blocked")
        self.misses.append(attempt)
        return attempt

    def forget_attempt(self, attempt: Miss) -> None:
        """Take back what ``note_attempt`` has noted."""
        with self._lock:
            self.misses[:] = [miss for miss in self.misses if miss is not attempt]

    def unplayed(self) -> tuple[str, ...]:
        """The recordings that were not asked for, each one line."""
        return () if self._player is None else self._player.unplayed()

    def played_headers(self) -> list[Any]:
        """The headers of each recorded answer that was played; none of what was recorded in this run."""
        return [] if self._player is None else self._player.played_headers()


def record_command(nodeid: str, mode: str) -> str:
    """The command that records a test, or without one the suite, in a mode, ready for a shell."""
    return f"pytest {shlex.quote(nodeid)} --token-record={mode}" if nodeid else f"pytest --token-record={mode}"


_active: list[Playback] = []


def active_playback() -> Playback | None:
    """The playback that answers the code which runs now; ``None`` where requests go where they always went."""
    if not _active:
        return None
    ward = responsible()
    return next((each for each in reversed(_active) if each.ward is ward), None)


@contextmanager
def insert(playback: Playback) -> Iterator[Playback]:
    """Let a playback answer for the length of a block, and, unless it records, nobody else."""
    with guard.network(playback.ward):
        _active.append(playback)
        try:
            yield playback
        finally:
            _active.remove(playback)
