"""Plays a cassette: each request gets the answer that was recorded to it, or its test fails. Imports no vcrpy."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_tokenbudget.capture import guard, wire
from pytest_tokenbudget.capture.cassette_tap import tap
from pytest_tokenbudget.capture.plain_request import PlainRequest
from pytest_tokenbudget.capture.playback import Miss
from pytest_tokenbudget.capture.request_index import Index, body_bytes, exact_key, request_key
from pytest_tokenbudget.capture.scrub import scrub_url
from pytest_tokenbudget.capture.tracing import is_tracing_host
from pytest_tokenbudget.errors import ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.capture.drift import StandIn
    from pytest_tokenbudget.capture.playback import Playback
    from pytest_tokenbudget.capture.recording import Recording


READ_IN_REPLAY = ("content-type", "content-encoding")
"""Headers that a request is recognised by."""


def _read_in_replay(headers: Mapping[str, str]) -> dict[str, str]:
    if isinstance(headers, dict):
        return {name: value for name, value in headers.items() if name.lower() in READ_IN_REPLAY}
    # A client's own kind of mapping knows no case, and decodes all that it holds to list it.
    return {name: headers[name] for name in READ_IN_REPLAY if name in headers}


def fails_closed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let the test fail for what goes wrong in a player, whatever its code makes of the exception."""

    @wraps(method)
    def closed(self: Player, *args: Any) -> Any:
        try:
            return method(self, *args)
        except ReplayMiss:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            fault = f"a request could not be looked up in {self.playback.path}, or stored there: {what}"
            self.playback.fault = self.playback.fault or fault
            raise ReplayMiss(fault) from error

    return closed


class Player:
    """Finds the answer to a request at once, tells the counting, and fails a test whose request has none.

    It also answers, by their names, the questions of vcrpy's stub of aiohttp.

    Attributes:
        playback: what it belongs to.
        data: the exchanges, each a request, plain or one of vcrpy's, and the response to it; nobody changes those.
        play_counts: how often each was played, by its place.
        write_protected: whether no request of it may reach a real server.
    """

    taps_itself = True  # after its lock, and with the headers that the client will see
    write_protected = True

    def __init__(self, playback: Playback, data: list[tuple[Any, dict[str, Any]]], *, is_missing: bool) -> None:
        self.data = data
        self.play_counts: Counter[int] = Counter()
        self._loaded_count = len(data)
        self._is_missing = is_missing
        self._start(playback)

    def _start(self, playback: Playback) -> None:
        self.playback = playback
        # Most clients send the same bytes each time; only where they don't, bodies are compared as JSON.
        self._indexes = (Index(exact_key), Index(request_key))
        self._lock = threading.RLock()
        self._handled = 0

    # -- what clients ask that send their requests themselves

    @fails_closed
    def ask(self, method: str, url: str, body: bytes, headers: Any) -> dict[str, Any] | Recording | None:
        """Find out what becomes of a request of a client that sends it itself.

        Args:
            method: its method.
            url: its URL.
            body: what it sends.
            headers: a mapping of its headers.

        Returns:
            The recorded response; a ``Recording`` to fill with the answer of a real server; ``None`` where the
            request is none of the cassette's business.

        Raises:
            ReplayMiss: no recording answers it, and it must not be sent.
        """
        request = PlainRequest(method, url, body, _read_in_replay(headers))
        if is_local_traffic(request):
            return None
        return self._play(request)

    # -- what vcrpy's stub asks

    def can_play_response_for(self, request: Any) -> bool:
        """Whether a recording answers the request, or stands in for one that does."""
        guard.keep_traces_out(request.host or "", request.port)
        return bool(self._has_answer_for(request))

    @fails_closed
    def _has_answer_for(self, request: Any) -> bool:
        with self._lock:
            return self._can_play(request) or (
                self.filter_request(request) is not None and self._find_stand_in(request) is not None
            )

    @fails_closed
    def play_response(self, request: Any) -> dict[str, Any]:
        """Hand out the recording, once."""
        response = self._play(request)
        # vcrpy's stubs take headers off the dict that they are given.
        return {**response, "headers": dict(response.get("headers") or {})}

    def filter_request(self, request: Any) -> Any:
        """The request as it would be stored; ``None`` for one that is none of the cassette's business."""
        return None if is_local_traffic(request) else request

    @fails_closed
    def find_requests_with_most_matches(self, request: Any) -> list[Any]:
        """Fail: vcrpy asks this to explain a request that it can't answer, and that is where the test fails.

        Raises:
            ReplayMiss: unless a recording does answer it: the stub of aiohttp asks also where a redirect leads.
        """
        with self._lock:
            if self.can_play_response_for(request):
                return [(request, [], [])]
            return self._refuse(self._miss(request))

    def record(self, request: Any) -> None:
        """Keep nothing: what is answered past a player is talk with the test's own server."""

    def append(self, request: Any, response: dict[str, Any]) -> None:
        """Likewise; before vcrpy 9.4, the stub hands over what ``filter_request`` has turned down."""

    # -- playing

    def _play(self, request: Any) -> dict[str, Any]:
        """The recording of the request, or one that stands in for it, counted.

        Raises:
            ReplayMiss: there is none.
        """
        input_tokens = None
        with self._lock:
            response = self._take(request)
            if response is None:
                response, input_tokens = self._stand_in_for(request)
            else:
                self._handled += 1
        tap(request, response, replayed=True, more_input_tokens=input_tokens)
        return response

    def _can_play(self, request: Any) -> bool:
        place = self._find(request)
        return place is not None and not self.play_counts[place]

    def _take(self, request: Any) -> dict[str, Any] | None:
        """The first recording of the request that was not played, which it is now; ``None`` where there is none."""
        place = self._find(request)
        if place is None or self.play_counts[place]:
            return None
        self.play_counts[place] += 1
        return self.data[place][1]

    def _find(self, stored: Any) -> int | None:
        """The recording of a request: the first that was not played, else one that was, else none."""
        found = None
        for index in self._indexes:
            found = index.first(stored, self.data, self.play_counts)
            if found is not None and not self.play_counts[found]:
                break
        return found

    def _stand_in_for(self, request: Any) -> tuple[dict[str, Any], int | None]:
        """The nearest recording, and how many more input tokens the request has than that one's own.

        Raises:
            ReplayMiss: there is none that is near enough, or the run does not want it.
        """
        miss = self._miss(request)
        if (found := self._find_stand_in(request)) is None:
            self._refuse(miss)
        self.play_counts[found.place] += 1
        self.playback.estimated.append(replace(miss, reason="estimated"))
        return self.data[found.place][1], found.input_tokens

    def _find_stand_in(self, request: Any) -> StandIn | None:
        if not (self.playback.estimates and self.write_protected):
            return None
        from pytest_tokenbudget.capture.drift import find_stand_in  # noqa: PLC0415 - it counts with tiktoken

        return find_stand_in(self, request)

    def _refuse(self, miss: Miss) -> NoReturn:
        self.playback.misses.append(miss)
        shown = scrub_url(miss.url)
        raise ReplayMiss(f"no recording in {self.playback.path} answers {miss.method} {shown} ({miss.reason})")

    def _miss(self, request: Any) -> Miss:
        self._handled += 1
        return Miss(
            method=request.method,
            url=request.uri,
            body=body_bytes(request),
            number=self._handled,
            reason=self._reason(request),
        )

    def _reason(self, request: Any) -> str:
        if self._is_missing:
            return "missing"
        return "drift" if self._find(request) is None else "played"

    # -- what became of the cassette

    def save(self, *, whole: bool) -> None:
        """Do nothing: nothing was recorded."""

    def unplayed(self) -> tuple[str, ...]:
        """The loaded recordings that were not asked for, each one line."""
        with self._lock:
            return tuple(
                f"{request.method} {scrub_url(request.uri)}"
                for index, (request, _) in enumerate(self.data[: self._loaded_count])
                if not self.play_counts[index]
            )

    def played_headers(self) -> list[Any]:
        """The headers of each recorded answer that was played."""
        with self._lock:
            played = [index for index, times in self.play_counts.items() if times and index < self._loaded_count]
            return [self.data[index][1].get("headers") for index in played]


_is_loopback = lru_cache(maxsize=256)(guard.is_loopback)


def is_local_traffic(request: Any) -> bool:
    """Whether it is talk with a server of the test's own, or with LangSmith, and no model's: it is not recorded."""
    if wire.recognise(request.method, request.uri):
        return False
    host = request.host or ""
    return _is_loopback(host) or is_tracing_host(host, request.port)
