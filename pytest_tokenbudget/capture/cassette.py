"""vcrpy's cassette as a player: it records, and knows the user's matchers and hooks. Importing it imports vcrpy."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from vcr import VCR
from vcr.cassette import Cassette
from vcr.errors import UnhandledHTTPRequestError
from vcr.matchers import requests_match
from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.record_mode import RecordMode
from vcr.request import Request

from pytest_tokenbudget.capture.cassette_file import CassetteFile
from pytest_tokenbudget.capture.cassette_tap import tap
from pytest_tokenbudget.capture.playback import DEFAULT_MATCH
from pytest_tokenbudget.capture.player import Player, fails_closed, is_local_traffic
from pytest_tokenbudget.capture.recording import Recording
from pytest_tokenbudget.capture.request_index import request_key
from pytest_tokenbudget.capture.scrub import scrub_request, scrub_response
from pytest_tokenbudget.errors import CassetteError

if TYPE_CHECKING:
    from pytest_tokenbudget.capture.playback import Playback


def open_cassette(playback: Playback, options: dict[str, Any], match_on: tuple[str, ...]) -> TokenCassette:
    """Open the cassette that a playback names.

    Args:
        playback: names its file, and how it is recorded.
        options: what the user's ``vcr_config`` says beside that.
        match_on: the names of vcrpy's matchers.

    Raises:
        CassetteError: the file can't be used.
    """
    file = CassetteFile(playback)
    if playback.live:
        file.check_writable()
    joins = playback.record == "rewrite" or (playback.record == "once" and file.own)
    cassette = TokenCassette(
        playback,
        indexed=match_on == DEFAULT_MATCH and "additional_matchers" not in options,
        plain=not options.keys() - {"serializer"},
        **_merged_config(options, match_on),
        path=str(playback.path),
        persister=file,
        record_mode=RecordMode("new_episodes" if joins else playback.record),
    )
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


class TokenCassette(Player, Cassette):  # type: ignore[misc]  # vcrpy has no types
    """A player that also records, and finds what it plays as the user's configuration of vcrpy wants it found.

    Args:
        playback: what it belongs to.
        indexed: whether requests are found by ``request_key``; else by vcrpy's matchers, one after the other.
        plain: whether nothing of the user's, filter or hook, is to be run on what is loaded.
        config: what vcrpy's own constructor takes.
    """

    write_protected = Cassette.write_protected

    def __init__(self, playback: Playback, *, indexed: bool, plain: bool, **config: Any) -> None:
        Cassette.__init__(self, **config)
        self._start(playback)
        self._indexed = indexed
        self._plain = plain
        self._asked: tuple[Request, Request | None] | None = None
        self._loaded_count = 0
        self._loading = False

    def _load(self) -> None:
        self._loading = True
        try:
            if self._plain:
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
        self._metadata = metadata[0] if metadata else {}
        self.rewound = True

    @fails_closed
    def ask(self, method: str, url: str, body: bytes, headers: Any) -> dict[str, Any] | Recording | None:
        """As ``Player.ask`` says."""
        request = Request(method, url, body, headers)
        with self._lock:
            if self.filter_request(request) is None:
                return None
            if not self.write_protected and not self._can_play(request):
                return Recording(self, request)
            return self._play(request)

    @fails_closed
    def record(self, request: Request) -> Recording | None:
        """Keep the answer to a request that is being sent; ``None`` where it is none of the cassette's business."""
        return None if self.filter_request(request) is None else Recording(self, request)

    def append(self, request: Request, response: dict[str, Any]) -> None:
        """Add an exchange: one that was loaded, or one that a stub of vcrpy's had a real server answer."""
        if self._loading:
            Cassette.append(self, request, response)
            return
        tap(request, response, replayed=False)
        self.store(request, response)

    @fails_closed
    def store(self, request: Request, response: dict[str, Any]) -> None:
        """Keep an exchange that a real server has just answered, without what must not be stored."""
        if is_local_traffic(request):
            return
        # The user's filters see what was really sent and answered, as in a replay; ours see what they make of it.
        filtered = self._before_record_request(copy.deepcopy(request))
        answer = self._before_record_response(copy.deepcopy(response)) if filtered else None
        with self._lock:
            self._handled += 1
            if filtered and answer is not None:
                self.data.append((scrub_request(filtered), scrub_response(answer)))
                self.dirty = True

    def filter_request(self, request: Request) -> Request | None:
        """The request as it would be stored; ``None`` for one that is none of the cassette's business."""
        return None if is_local_traffic(request) else Cassette.filter_request(self, request)

    def _can_play(self, request: Request) -> bool:
        if not self._indexed:
            return bool(Cassette.can_play_response_for(self, request))
        plays = self.record_mode is not RecordMode.ALL and (self.rewound or self.allow_playback_repeats)
        return plays and request in self

    def _take(self, request: Request) -> dict[str, Any] | None:
        try:
            response: dict[str, Any] = Cassette.play_response(self, request)
        except UnhandledHTTPRequestError:
            return None
        return response

    def _responses(self, request: Request) -> Any:
        if not self._indexed:
            # What is stored holds no secret; the user's own matchers may have to see the request so too.
            found = dict(super()._responses(request))
            yield from {**found, **dict(super()._responses(scrub_request(copy.deepcopy(request))))}.items()
        elif (stored := self._stored(request)) is not None and (index := self._find(stored)) is not None:
            yield index, self.data[index][1]

    def _stored(self, request: Request) -> Request | None:
        """A request as it would be stored; it is asked for several times."""
        if self._asked is None or self._asked[0] is not request:
            self._asked = request, self._before_record_request(request)
        return self._asked[1]

    def _reason(self, request: Request) -> str:
        if not self.rewound and not len(self):
            return "missing"
        return "played" if any(True for _ in self._responses(request)) else "drift"

    def save(self, *, whole: bool) -> None:
        """Write the cassette if anything was recorded; one that is not whole beside it, as ``*.partial``."""
        self._persister.suffix = "" if whole else ".partial"
        self._save(force=whole and self._persister.fresh and bool(self.data))

    def _rerecorded_interactions(self) -> list[tuple[Request, dict[str, Any]]]:
        """What ``all`` saves: new answers in the place of those that their requests had, and the rest as it was."""
        loaded, recorded = self.data[: self._loaded_count], self.data[self._loaded_count :]
        if self.drop_unused_requests:
            return recorded
        if self._indexed:
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
