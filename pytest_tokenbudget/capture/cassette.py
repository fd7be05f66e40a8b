"""vcrpy's cassette with an index, strict loading and safe saving. Importing this module imports vcrpy."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NoReturn

from vcr import VCR
from vcr.cassette import Cassette
from vcr.errors import UnhandledHTTPRequestError
from vcr.matchers import requests_match
from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.record_mode import RecordMode
from vcr.request import Request

from pytest_tokenbudget.capture import guard, wire
from pytest_tokenbudget.capture.cassette_file import CassetteFile
from pytest_tokenbudget.capture.cassette_tap import tap
from pytest_tokenbudget.capture.plain_request import PlainRequest
from pytest_tokenbudget.capture.playback import DEFAULT_MATCH, Miss
from pytest_tokenbudget.capture.recording import Recording
from pytest_tokenbudget.capture.request_index import Index, body_bytes, exact_key, request_key
from pytest_tokenbudget.capture.scrub import scrub_request, scrub_response, scrub_url
from pytest_tokenbudget.capture.tracing import is_tracing_host
from pytest_tokenbudget.errors import CassetteError, ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.capture.drift import StandIn
    from pytest_tokenbudget.capture.playback import Playback


def open_cassette(playback: Playback) -> TokenCassette:
    """Open the cassette that a playback names, with the user's ``vcr_config``.

    Raises:
        CassetteError: the file can't be used.
    """
    options = dict(playback.configure())
    # These are decided by our own options, markers and layout.
    for name in ("record_mode", "cassette_library_dir", "path_transformer", "allowed_hosts", "path"):
        options.pop(name, None)
    match_on = tuple(playback.match_on or options.pop("match_on", DEFAULT_MATCH))  # a marker outdoes a fixture
    options.pop("match_on", None)
    if options.get("serializer") == "json" and playback.path.suffix == ".yaml":
        playback.path = playback.path.with_name(playback.path.name.removesuffix(".yaml") + ".json")
    elif playback.path.suffix == ".json":
        options["serializer"] = "json"
    file = CassetteFile(playback)
    if playback.live:
        file.check_writable()
    joins = playback.record == "rewrite" or (playback.record == "once" and file.own)
    config = _merged_config(options, match_on)
    cassette = TokenCassette(
        **config,
        path=str(playback.path),
        persister=file,
        record_mode=RecordMode("new_episodes" if joins else playback.record),
    )
    cassette.playback = playback
    cassette.indexed = match_on == DEFAULT_MATCH and "additional_matchers" not in options
    cassette.plain = not options.keys() - {"serializer"}
    cassette._load()  # noqa: SLF001 - vcrpy's own constructor-and-load is a class method that knows no playback
    return cassette


def _merged_config(options: dict[str, Any], match_on: tuple[str, ...]) -> dict[str, Any]:
    """What vcrpy makes of a ``vcr_config``; where the user has none, it has only matchers to find."""
    if not options and match_on == DEFAULT_MATCH:
        return {"match_on": _default_matchers()}
    config: dict[str, Any] = VCR().get_merged_config(**options, match_on=match_on)
    for name in ("path_transformer", "func_path_generator", "record_on_exception", "persister", "record_mode"):
        config.pop(name, None)
    return config


@lru_cache(maxsize=1)
def _default_matchers() -> tuple[Any, ...]:
    """The matchers of ``DEFAULT_MATCH``: by vcrpy's own, one chat completion would be a recording of any other."""
    return tuple(VCR().get_merged_config(match_on=DEFAULT_MATCH)["match_on"])


_READ_IN_REPLAY = ("content-type", "content-encoding")
"""Headers that a request is recognised by."""


def _read_in_replay(headers: Mapping[str, str]) -> dict[str, str]:
    if isinstance(headers, dict):
        return {name: value for name, value in headers.items() if name.lower() in _READ_IN_REPLAY}
    # A client's own kind of mapping knows no case, and decodes all that it holds to list it.
    return {name: headers[name] for name in _READ_IN_REPLAY if name in headers}


def _fails_closed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let the test fail for what goes wrong in here, whatever its code makes of the exception."""

    @wraps(method)
    def closed(self: TokenCassette, *args: Any) -> Any:
        try:
            return method(self, *args)
        except (ReplayMiss, UnhandledHTTPRequestError):
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            fault = f"a request could not be looked up in {self._path}, or stored there: {what}"
            self.playback.fault = self.playback.fault or fault
            raise ReplayMiss(fault) from error

    return closed


class TokenCassette(Cassette):  # type: ignore[misc]
    """A cassette that finds its answer at once, tells the counting, and fails a test whose request it lacks.

    Attributes:
        playback: what it belongs to.
        indexed: whether requests are found by ``request_key``; else by vcrpy's matchers, one after the other.
        plain: whether nothing of the user's, filter or hook, is to be run on what is loaded.
    """

    taps_itself = True  # after its lock, and with the headers that the client will see
    playback: Playback
    indexed: bool = True
    plain: bool = False

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        # Most clients send the same bytes each time; only where they don't, bodies are compared as JSON.
        self._indexes = (Index(exact_key), Index(request_key))
        self._asked: tuple[Request, Request | None] | None = None
        self._lock = threading.RLock()
        self._loaded_count = 0
        self._loading = False
        self._handled = 0

    def _load(self) -> None:
        self._loading = True
        try:
            if self.plain:
                self._load_plain()
            else:
                super()._load()
                self._loaded_count = len(self.data)  # vcrpy 8 keeps no count
        except CassetteError:
            raise
        except Exception as error:
            raise CassetteError(f"{self._path}: not a cassette that vcrpy understands ({error})") from error
        finally:
            self._loading = False

    def _load_plain(self) -> None:
        """Do what vcrpy does where there are no hooks, without its copy of each response."""
        try:
            requests, responses, *metadata = self._persister.load_shared(self._path)
        except CassetteNotFoundError:
            return
        self.data = list(zip(requests, responses, strict=True))
        self._old_interactions = list(self.data)
        self._loaded_count = len(self.data)
        self._metadata = metadata[0] if metadata else {}
        self.rewound = True

    @_fails_closed
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
        if self.plain and self.write_protected:  # nobody looks at the other headers
            request = PlainRequest(method, url, body, _read_in_replay(headers))
        else:
            request = Request(method, url, body, headers)
        with self._lock:
            if self.filter_request(request) is None:
                return None
            input_tokens = None
            if self._can_play(request):
                response = self._play(request)
            elif self.write_protected:
                response, input_tokens = self._stand_in_for(request)
            else:
                return Recording(self, request)
        tap(request, response, replayed=True, more_input_tokens=input_tokens)
        return response

    @_fails_closed
    def record(self, request: Request) -> Recording | None:
        """Keep the answer to a request that is being sent; ``None`` where it is none of the cassette's business."""
        return None if self.filter_request(request) is None else Recording(self, request)

    def append(self, request: Request, response: dict[str, Any]) -> None:
        """Add an exchange: one that was loaded, or one that a stub of vcrpy's had a real server answer."""
        if self._loading:
            super().append(request, response)
            return
        tap(request, response, replayed=False)
        self.store(request, response)

    @_fails_closed
    def store(self, request: Request, response: dict[str, Any]) -> None:
        """Keep an exchange that a real server has just answered, without what must not be stored."""
        if _is_local_traffic(request):
            return
        # The user's filters see what was really sent and answered, as in a replay; ours see what they make of it.
        filtered = self._before_record_request(copy.deepcopy(request))
        answer = self._before_record_response(copy.deepcopy(response)) if filtered else None
        with self._lock:
            self._handled += 1
            if filtered and answer is not None:
                self.data.append((scrub_request(filtered), scrub_response(answer)))
                self.dirty = True

    def can_play_response_for(self, request: Request) -> bool:
        """Whether a recording answers the request, or stands in for one that does."""
        guard.keep_traces_out(request.host or "", request.port)
        return bool(self._has_answer_for(request))

    @_fails_closed
    def _has_answer_for(self, request: Request) -> bool:
        with self._lock:
            return self._can_play(request) or (
                self.filter_request(request) is not None and self._find_stand_in(request) is not None
            )

    def _can_play(self, request: Request) -> bool:
        if not self.indexed:
            return bool(super().can_play_response_for(request))
        plays = self.record_mode is not RecordMode.ALL and (self.rewound or self.allow_playback_repeats)
        return plays and request in self

    @_fails_closed
    def play_response(self, request: Request) -> dict[str, Any]:
        """Hand out the recording, once, to one of vcrpy's stubs."""
        input_tokens = None
        with self._lock:
            try:
                response = self._play(request)
            except UnhandledHTTPRequestError:
                # One stands in for it, or another thread got the last one between our two questions.
                response, input_tokens = self._stand_in_for(request)
        # vcrpy's stubs take headers off the dict that they are given.
        response = {**response, "headers": dict(response.get("headers") or {})}
        tap(request, response, replayed=True, more_input_tokens=input_tokens)
        return response

    def _play(self, request: Request) -> dict[str, Any]:
        response: dict[str, Any] = super().play_response(request)
        self._handled += 1
        return response

    def filter_request(self, request: Request) -> Request | None:
        """The request as it would be stored; ``None`` for one that is none of the cassette's business."""
        return None if _is_local_traffic(request) else super().filter_request(request)

    @_fails_closed
    def find_requests_with_most_matches(self, request: Request) -> list[Any]:
        """Fail: vcrpy asks this to explain a request that it can't answer, and that is where the test fails.

        Raises:
            ReplayMiss: unless a recording does answer it: the stub of aiohttp asks also where a redirect leads.
        """
        with self._lock:
            if self.can_play_response_for(request):
                return [(request, [], [])]
            return self._refuse(self._miss(request))

    def _stand_in_for(self, request: Request) -> tuple[dict[str, Any], int | None]:
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

    def _find_stand_in(self, request: Request) -> StandIn | None:
        if not (self.playback.estimates and self.write_protected):
            return None
        from pytest_tokenbudget.capture.drift import find_stand_in  # noqa: PLC0415 - it counts with tiktoken

        return find_stand_in(self, request)

    def _refuse(self, miss: Miss) -> NoReturn:
        self.playback.misses.append(miss)
        shown = scrub_url(miss.url)
        raise ReplayMiss(f"no recording in {self._path} answers {miss.method} {shown} ({miss.reason})")

    def _miss(self, request: Request) -> Miss:
        self._handled += 1
        return Miss(
            method=request.method,
            url=request.uri,
            body=body_bytes(request),
            number=self._handled,
            reason=self._reason(request),
        )

    def save(self, *, whole: bool) -> None:
        """Write the cassette if anything was recorded; one that is not whole beside it, as ``*.partial``."""
        self._persister.suffix = "" if whole else ".partial"
        self._save(force=whole and self._persister.fresh and bool(self.data))

    def _rerecorded_interactions(self) -> list[tuple[Request, dict[str, Any]]]:
        """What ``all`` saves: new answers in the place of those that their requests had, and the rest as it was."""
        loaded, recorded = self.data[: self._loaded_count], self.data[self._loaded_count :]
        if self.drop_unused_requests:
            return recorded
        if self.indexed:
            anew = {request_key(request) for request, _ in recorded}
            return [each for each in loaded if request_key(each[0]) not in anew] + recorded

        def is_anew(request: Request) -> bool:
            return any(requests_match(each, request, self._match_on) for each, _ in recorded)

        return [each for each in loaded if not is_anew(each[0])] + recorded

    def _save(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - vcrpy's signature
        if self.record_mode is not RecordMode.ALL or hasattr(super(), "_rerecorded_interactions"):
            super()._save(force)
        elif force or self.dirty:  # vcrpy 8 would put the new answers behind the old ones
            kept = self._rerecorded_interactions()
            exchanges = {"requests": [each[0] for each in kept], "responses": [each[1] for each in kept]}
            self._persister.save_cassette(self._path, exchanges, serializer=self._serializer)
            self.dirty = False

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

    def _responses(self, request: Request) -> Any:
        if not self.indexed:
            # What is stored holds no secret; the user's own matchers may have to see the request so too.
            found = dict(super()._responses(request))
            yield from {**found, **dict(super()._responses(scrub_request(copy.deepcopy(request))))}.items()
        elif (index := self._find(request)) is not None:
            yield index, self.data[index][1]

    def _find(self, request: Request) -> int | None:
        """The recording of a request: the first that was not played, else one that was, else none."""
        stored = self._stored(request)
        if stored is None:
            return None
        found = None
        for index in self._indexes:
            found = index.first(stored, self.data, self.play_counts)
            if found is not None and not self.play_counts[found]:
                break
        return found

    def _stored(self, request: Request) -> Request | None:
        """A request as it would be stored; it is asked for several times."""
        if self._asked is None or self._asked[0] is not request:
            self._asked = request, self._before_record_request(request)
        return self._asked[1]

    def _reason(self, request: Request) -> str:
        if not self.rewound and not len(self):
            return "missing"
        return "played" if any(True for _ in self._responses(request)) else "drift"


_is_loopback = lru_cache(maxsize=256)(guard.is_loopback)


def _is_local_traffic(request: Request) -> bool:
    """Talk with a server of the test's own, or with LangSmith, which is no model: it is not recorded."""
    if wire.recognise(request.method, request.uri):
        return False
    host = request.host or ""
    return _is_loopback(host) or is_tracing_host(host, request.port)
