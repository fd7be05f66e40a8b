"""One exchange with a real server on its way into a cassette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.cassette_tap import tap
from pytest_tokenbudget.capture.scrub import scrub_url
from pytest_tokenbudget.capture.tracked_request import current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vcr.request import Request

    from pytest_tokenbudget.capture.cassette import TokenCassette


class Recording:
    """One exchange with a real server, kept as the client reads it and stored when it ends.

    Attributes:
        is_counted: whether somebody sees it who counts it; a transport may be used without its client.
    """

    def __init__(self, cassette: TokenCassette, request: Request) -> None:
        self._cassette = cassette
        self._request = request
        self._response: dict[str, Any] | None = None
        self._body = bytearray()
        self._open = True
        self.is_counted = current.get() is not None

    def answer(self, status: int, reason: str, headers: Iterable[tuple[str, str]]) -> None:
        """Note the head of the answer; from now on the recording waits for the end of its body."""
        listed: dict[str, list[str]] = {}
        for name, value in headers:
            listed.setdefault(name, []).append(value)
        self._response = {"status": {"code": status, "message": reason}, "headers": listed}
        self._cassette.playback.begin(self)

    def feed(self, chunk: bytes) -> None:
        """Note a piece of the body as it passes."""
        if self._open:
            self._body += chunk

    def finish(self, *, complete: bool = False) -> None:  # noqa: ARG002 - see below
        """Store it: the body has ended, or its client reads no further, as it will not in a replay."""
        if self._open and self._response is not None:
            self._open = False
            response = {**self._response, "body": {"string": bytes(self._body)}}
            if not self.is_counted:
                tap(self._request, response, replayed=False)
            self._cassette.store(self._request, response)
            self._cassette.playback.end(self)

    def break_off(self, error: BaseException) -> None:
        """Give it up: the connection failed before the body ended, which a cassette can't say."""
        if self._open:
            self._open = False
            playback = self._cassette.playback
            what = f"the answer to {self._request.method} {scrub_url(self._request.uri)} broke off ({error!r})"
            playback.end(self, f"{what}, so it can't be recorded; {playback.path} is as it was")
