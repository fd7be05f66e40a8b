"""Requests of ``http.client`` that a cassette is asked about before anything of them is sent.

A connection that belongs to a replayed or recorded test connects to nobody by itself, and what its client writes is
kept until the request is whole. Each connection keeps its own, so any number of threads can ask at once.
"""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_tokenbudget.capture import guard
from pytest_tokenbudget.capture.http_body import body_of, headers_of, is_complete, split_request
from pytest_tokenbudget.capture.streams import modernised
from pytest_tokenbudget.errors import ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tokenbudget.capture.playback import Playback
    from pytest_tokenbudget.capture.recording import Recording

_BLOCK = 65_536


class HeldRequest:
    """A request that is kept back while its client writes it.

    Attributes:
        playback: who will be asked for the answer.
        method: the request's method.
        url: its URL, whole.
    """

    def __init__(self, playback: Playback, method: str, url: str) -> None:
        self.playback = playback
        self.method = method
        self.url = url
        self._written = bytearray()

    def write(self, data: Any) -> None:
        """Keep what ``http.client`` would send: bytes, a file, or what gives bytes when it is iterated."""
        for piece in _pieces_of(data):
            self._written += piece

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been written."""
        return is_complete(self._written)

    def ask(self) -> dict[str, Any] | Recording | None:
        """Find out what becomes of it; see ``Player.ask``.

        Raises:
            ReplayMiss: no recording answers it, and it must not be sent.
            OSError: it carries traces of other tests, which will be sent again later.
        """
        parts = urlsplit(self.url)
        guard.keep_traces_out(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        written = bytes(self._written)
        found: dict[str, Any] | Recording | None = self.playback.cassette.ask(
            self.method, self.url, body_of(written), headers_of(written)
        )
        return found

    def pieces(self) -> list[bytes]:
        """What is to be sent: the head, and the body if there is one."""
        return split_request(bytes(self._written))


def _pieces_of(data: Any) -> Iterator[bytes]:
    if hasattr(data, "read"):
        while block := data.read(_BLOCK):
            yield _encoded(block)
        return
    try:
        view = memoryview(data)
    except TypeError:
        yield from map(_encoded, data)
    else:
        yield view.tobytes()


def _encoded(piece: Any) -> bytes:
    return piece.encode("latin-1") if isinstance(piece, str) else memoryview(piece).tobytes()


class NoSocket:
    """Stands for a connection that is not made yet, and may never be.

    While a test replays, it is an attempt to reach the network until a request is asked for on it.

    Attributes:
        timeout: what its client set, in seconds, for the real one; ``...`` where it set none.
    """

    def __init__(self, playback: Playback, target: str) -> None:
        self.timeout: Any = ...
        self._playback = playback
        self._target = target
        self._attempt = None if playback.live else playback.note_attempt(target)
        self._pair: tuple[socket.socket, socket.socket] | None = None

    def __getattr__(self, name: str) -> Any:
        # Whoever wants more of it would write to the network past the cassette.
        if not name.startswith("_") and not self._playback.live:
            self._playback.note_attempt(self._target)
            raise ReplayMiss(f"{self._target} is out of reach: a test is being replayed")
        raise AttributeError(name)

    def is_asked(self) -> None:
        """Note that a request is asked for on it."""
        if self._attempt is not None:
            self._playback.forget_attempt(self._attempt)
            self._attempt = None

    def settimeout(self, timeout: float | None) -> None:
        """Keep the timeout for the real socket."""
        self.timeout = timeout

    def gettimeout(self) -> float | None:
        """The timeout that was set."""
        return None if self.timeout is ... else self.timeout

    def setsockopt(self, *_: object) -> None:
        """Do nothing: the real socket gets what its client sets when it is made."""

    def shutdown(self, how: int) -> None:
        """Do nothing: nobody is at the other end."""

    def recv(self, *_: object) -> bytes:
        """Say that nothing has come."""
        raise BlockingIOError

    def fileno(self) -> int:
        """A descriptor on which nothing ever comes, for a client that waits for it."""
        if self._pair is None:
            self._pair = socket.socketpair()
        return self._pair[0].fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        for each in self._pair or ():
            each.close()
        self._pair = None


def response_of(connection: Any, recorded: dict[str, Any], method: str) -> Any:
    """Make the connection's own kind of response of a recorded one; its body is read like one that comes live."""
    recorded = modernised(recorded)
    status, body = recorded["status"], recorded["body"]["string"]
    response = connection.response_class(_RecordedSocket(body), method=method)
    response.version = 11
    response.code = response.status = status["code"]
    response.reason = status.get("message") or ""
    response.headers = response.msg = _message(recorded.get("headers") or {}, None if method == "HEAD" else len(body))
    response.chunked, response.chunk_left = False, None
    response.length = 0 if method == "HEAD" else len(body)
    response.will_close = True
    return response


def _message(headers: dict[str, Any], length: int | None) -> Any:
    from http.client import HTTPMessage  # noqa: PLC0415 - who comes here has imported it

    message = HTTPMessage()
    for name, values in headers.items():
        if name.lower() == "transfer-encoding":
            continue  # the body was kept without it
        if name.lower() == "content-length" and length is not None:
            values = str(length)  # noqa: PLW2901 - what was redacted, or unpacked, may have another
        for value in (values,) if isinstance(values, str) else values:
            message[name] = value
    return message


class _RecordedSocket:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._body))
