"""vcrpy's cassette with an index, strict loading and safe saving. Importing this module imports vcrpy."""

from __future__ import annotations

import copy
import json
import threading
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from vcr import VCR
from vcr.cassette import Cassette
from vcr.errors import UnhandledHTTPRequestError
from vcr.record_mode import RecordMode

from pytest_tokenbudget.capture import wire
from pytest_tokenbudget.capture.cassette_file import CassetteFile
from pytest_tokenbudget.capture.cassette_tap import tap
from pytest_tokenbudget.capture.playback import DEFAULT_MATCH, Miss
from pytest_tokenbudget.capture.scrub import (
    scrub_body,
    scrub_request,
    scrub_response,
    scrub_url,
    secret_parameter,
)
from pytest_tokenbudget.errors import CassetteError, ReplayMiss

if TYPE_CHECKING:
    from vcr.request import Request

    from pytest_tokenbudget.capture.playback import Playback

LOOPBACK = ("localhost", "::1")


def open_cassette(playback: Playback) -> TokenCassette:
    """Open a playback's cassette with the user's ``vcr_config``.

    Raises:
        CassetteError: the file can't be used.
    """
    options = dict(playback.configure())
    # The rest of these is decided by our own options, markers and layout.
    for name in ("record_mode", "cassette_library_dir", "path_transformer", "allowed_hosts", "path"):
        options.pop(name, None)
    if playback.match_on is not None:
        options["match_on"] = playback.match_on  # a marker says more than a fixture for all
    options.setdefault("match_on", DEFAULT_MATCH)
    if options.get("serializer") == "json" and playback.path.suffix == ".yaml":
        playback.path = playback.path.with_name(playback.path.name.removesuffix(".yaml") + ".json")
    elif playback.path.suffix == ".json":
        options["serializer"] = "json"
    file = CassetteFile(playback)
    if playback.live:
        file.check_writable()
    loader = VCR()
    config = loader.get_merged_config(
        path=str(playback.path),
        record_mode="new_episodes"
        if playback.record == "rewrite" or (playback.record == "once" and file.own)
        else playback.record,
        persister=file,
        **options,
    )
    for name in TokenCassette._non_cassette_options:  # noqa: SLF001 - a constant of the class below
        config.pop(name, None)
    indexed = tuple(options["match_on"]) == DEFAULT_MATCH and "additional_matchers" not in options
    cassette = TokenCassette(**config)
    cassette.playback = playback
    cassette.indexed = indexed
    cassette._load()  # noqa: SLF001 - vcrpy's own constructor-and-load is a class method that knows no playback
    return cassette


class TokenCassette(Cassette):  # type: ignore[misc]
    """A cassette that finds its answer at once, tells the counting, and fails a test whose request it lacks."""

    _non_cassette_options = ("path_transformer", "func_path_generator", "record_on_exception")

    taps_itself = True  # after its lock, and with the headers that the client will see
    playback: Playback
    indexed: bool = True

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._index: dict[tuple[Any, ...] | None, deque[int]] = defaultdict(deque)
        self._asked: tuple[Request, tuple[Any, ...] | None] | None = None
        self._lock = threading.RLock()
        self._loading = False
        self._handled = 0

    def _load(self) -> None:
        self._loading = True
        try:
            super()._load()
        except CassetteError:
            raise
        except Exception as error:
            raise CassetteError(f"{self._path}: not a cassette that vcrpy understands ({error})") from error
        finally:
            self._loading = False

    def append(self, request: Request, response: dict[str, Any]) -> None:
        """Add an exchange: one that was loaded, or one that a real server just answered."""
        if self._loading:
            with self._lock:
                before = len(self.data)
                super().append(request, response)
                self._enter_from(before)
            return
        tap(request, response, replayed=False)
        if _is_local_traffic(request):
            return
        with self._lock:
            before = len(self.data)
            super().append(scrub_request(copy.deepcopy(request)), scrub_response(copy.deepcopy(response)))
            self._handled += 1
            self._enter_from(before)

    def can_play_response_for(self, request: Request) -> bool:
        """Whether a recording answers the request."""
        with self._lock:
            if not self.indexed:
                return bool(super().can_play_response_for(request))
            plays = self.record_mode is not RecordMode.ALL and (self.rewound or self.allow_playback_repeats)
            return plays and request in self

    def play_response(self, request: Request) -> dict[str, Any]:
        """Hand out the recording, once."""
        with self._lock:
            try:
                response: dict[str, Any] = super().play_response(request)
            except UnhandledHTTPRequestError:
                # Another thread asked the same, and got the last recording between our two questions.
                self.find_requests_with_most_matches(request)
                raise
            self._handled += 1
        # vcrpy's stubs take headers off the dict that they are given.
        response = {**response, "headers": dict(response.get("headers") or {})}
        tap(request, response, replayed=True)
        return response

    def filter_request(self, request: Request) -> Request | None:
        """The request as it would be stored; ``None`` for one that is none of the cassette's business."""
        return None if _is_local_traffic(request) else super().filter_request(request)

    def find_requests_with_most_matches(self, request: Request) -> list[Any]:
        """Fail: vcrpy asks this only to explain a request that it can't answer: that is where the test fails.

        Raises:
            ReplayMiss: always.
        """
        with self._lock:
            self._handled += 1
            miss = Miss(
                method=request.method,
                url=request.uri,
                body=body_bytes(request),
                number=self._handled,
                reason=self._reason(request),
            )
        self.playback.misses.append(miss)
        raise ReplayMiss(f"no recording in {self._path} answers {miss.method} {miss.url} ({miss.reason})")

    def save(self, *, whole: bool) -> None:
        """Write the cassette if anything was recorded; one that is not whole beside it, as ``*.partial``."""
        self._persister.suffix = "" if whole else ".partial"
        self._save(force=whole and self._persister.fresh and bool(self.data))

    def unplayed(self) -> tuple[str, ...]:
        """The loaded recordings that were not asked for, each one line."""
        with self._lock:
            return tuple(
                f"{request.method} {request.uri}"
                for index, (request, _) in enumerate(self.data[: self._loaded_count])
                if not self.play_counts[index]
            )

    def _responses(self, request: Request) -> Any:
        if not self.indexed:
            yield from super()._responses(request)
            return
        waiting = self._index.get(self._key_of(request))
        if not waiting:
            return
        # Played recordings are dropped from the front, so that the cost does not grow with the cassette.
        while len(waiting) > 1 and self.play_counts[waiting[0]]:
            waiting.popleft()
        index = waiting[0]
        yield index, self.data[index][1]

    def _key_of(self, request: Request) -> tuple[Any, ...] | None:
        """The index's key of a request that is to be answered; vcrpy asks for each of them several times."""
        if self._asked is None or self._asked[0] is not request:
            stored = self._before_record_request(request)
            self._asked = request, None if stored is None else request_key(stored)
        return self._asked[1]

    def _enter_from(self, start: int) -> None:
        if self.indexed:
            for index in range(start, len(self.data)):
                self._index[request_key(self.data[index][0])].append(index)

    def _reason(self, request: Request) -> str:
        if not self.rewound and not len(self):
            return "missing"
        return "played" if any(True for _ in self._responses(request)) else "drift"


def request_key(request: Request) -> tuple[Any, ...]:
    """What two requests must have in common to be the same: method, URL and body as JSON, all without secrets."""
    parts = urlsplit(scrub_url(request.uri))
    query = tuple(sorted(pair for pair in parse_qsl(parts.query) if not secret_parameter(pair[0])))
    return (
        request.method,
        request.scheme,
        request.host,
        request.port,
        parts.path or "/",
        query,
        canonical_body(request),
    )


def canonical_body(request: Request) -> bytes:
    """The body in the one form that equal JSON has: sorted keys, no blanks, whole numbers as such, no secrets."""
    body = request._body if isinstance(request._body, dict | list) else body_bytes(request)  # noqa: SLF001
    body = scrub_body(body)
    if isinstance(body, bytes):
        if body.lstrip()[:1] not in (b"{", b"["):
            return _without_boundary(body)
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return bytes(body)
    try:
        return json.dumps(_whole(body), sort_keys=True, separators=(",", ":"), default=str).encode()
    except RecursionError:
        return body_bytes(request)


def body_bytes(request: Request) -> bytes:
    """The request's body as bytes, whatever form the client gave it."""
    body = request.body
    if body is None:
        return b""
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if hasattr(body, "read"):
        return bytes(body.read())
    if isinstance(body, dict):
        return json.dumps(body, sort_keys=True, default=str).encode()
    return b"".join(part if isinstance(part, bytes) else str(part).encode() for part in body)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value


def _without_boundary(body: bytes) -> bytes:
    # Each client draws a new multipart boundary for each request; it stands at the body's start.
    if not body.startswith(b"--"):
        return body
    boundary = body.split(b"\r\n", 1)[0][2:]
    return body.replace(boundary, b"boundary") if boundary else body


def _is_local_traffic(request: Request) -> bool:
    """Talk with a server of the test's own, which is no model: it is neither recorded nor stopped."""
    host = request.host or ""
    local = host in LOOPBACK or host.startswith("127.")
    return local and not wire.recognise(request.method, request.uri)
