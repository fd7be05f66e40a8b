"""Live traffic of ``http.client``, and with it of urllib, urllib3, requests and botocore.

All of them send through ``http.client.HTTPConnection`` and read from its ``HTTPResponse``. vcrpy puts its stubs above
it, so what is seen here went to a real server, and a replay is not seen here. The response's file is wrapped: every
byte is noted as the client takes it, never before.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.streams import Observers
from pytest_tokenbudget.capture.tracked_request import begin_live, has_ceiling
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pytest_tokenbudget.capture.cassette import Recording
    from pytest_tokenbudget.capture.streams import Observer
    from pytest_tokenbudget.capture.tracked_request import TrackedRequest

RECORDING = "_tokenbudget_recording"
"""The attribute of a connection that holds the recording of the answer it is about to get."""

_TRACKED = "_tokenbudget_tracked"
_SENT = "_tokenbudget_sent"
_HELD = "_tokenbudget_held"

_END_OF_HEAD = b"\r\n\r\n"
_CHUNKED = b"transfer-encoding: chunked"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})", re.IGNORECASE)


def hook_http_client(client: ModuleType) -> None:
    """Tap ``http.client``; does nothing where that was done before."""
    wrap(client.HTTPConnection, "putrequest", _tapped_putrequest)
    wrap(client.HTTPConnection, "send", _tapped_send)
    wrap(client.HTTPConnection, "getresponse", _tapped_getresponse)


def _tapped_putrequest(putrequest: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(putrequest)
    def tapped(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        # Forget a request that got no answer: the connection was made anew for this one.
        self.__dict__.pop(_TRACKED, None)
        self.__dict__.pop(_HELD, None)
        result = putrequest(self, method, url, *args, **kwargs)
        tracked = begin_live(method, _absolute(self, url))
        if tracked is not None:
            setattr(self, _TRACKED, tracked)
            setattr(self, _SENT, bytearray())
            if has_ceiling():
                setattr(self, _HELD, bytearray())
        return result

    return tapped


def _tapped_send(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def tapped(self: Any, data: Any) -> Any:
        tracked: TrackedRequest | None = self.__dict__.get(_TRACKED)
        if tracked is None:
            return send(self, data)
        result = None
        for piece in _admitted(self, tracked, data):
            try:
                result = send(self, piece)
            except BaseException as error:
                if not tracked.sent:  # not even a connection; a server that hangs up on a body may have answered
                    tracked.fail(error)
                raise
            tracked.sent = True
            if isinstance(piece, bytes | bytearray | memoryview):
                getattr(self, _SENT).extend(piece)
        return result

    return tapped


def _admitted(connection: Any, tracked: TrackedRequest, data: Any) -> list[Any]:
    """What may be sent now. Where there is a ceiling, that is nothing before the whole request is known.

    Raises:
        SpendingRefused: the request could bring the run above its ceiling; no byte of it was sent.
    """
    held: bytearray | None = connection.__dict__.get(_HELD)
    if held is None:
        return [data]
    if isinstance(data, bytes | bytearray | memoryview):
        held += data
        return _let_out(connection, tracked) if _is_complete(held) else []
    # What is read while it is sent can't be looked at before.
    return [*_let_out(connection, tracked), data]


def _let_out(connection: Any, tracked: TrackedRequest) -> list[Any]:
    """What was held back, head and body, if it may be sent.

    Raises:
        SpendingRefused: see ``_admitted``.
    """
    held = bytes(connection.__dict__.pop(_HELD))
    # Of a request that is not complete, what is known of the body says nothing.
    tracked.request_body = _body_of(held) if _is_complete(held) else b""
    try:
        tracked.admit()
    except BaseException as error:
        connection.__dict__.pop(_TRACKED, None)
        tracked.fail(error)
        raise
    head, end, body = held.partition(_END_OF_HEAD)
    return [piece for piece in (head + end, body) if piece]


def _is_complete(request: bytes | bytearray) -> bool:
    """Whether a request has come to its end, by what its head says of its body."""
    end = request.find(_END_OF_HEAD)
    if end < 0:
        return False
    head = bytes(request[:end])
    start = end + len(_END_OF_HEAD)
    if _CHUNKED in head.lower():
        chunks = Chunks()
        if request.endswith(b"0\r\n\r\n"):
            chunks.feed(bytes(request[start:]))
        return chunks.ended
    length = _LENGTH.search(head)
    return length is None or len(request) - start >= int(length[1])


def _tapped_getresponse(getresponse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(getresponse)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = _take_sent(self)
        recording: Recording | None = self.__dict__.pop(RECORDING, None)
        try:
            response = getresponse(self, *args, **kwargs)
        except BaseException as error:
            if tracked is not None:
                tracked.fail(error)
            raise
        if tracked is not None:
            tracked.answer(response.status, {name.lower(): value for name, value in response.headers.items()})
        if recording is not None:
            recording.answer(response.status, response.reason, response.headers.items())
        observers = [each for each in (tracked, recording) if each is not None]
        if observers and response.fp is None:
            Observers(*observers).finish(complete=True)
        elif observers:
            told = Observers(*observers)
            response.fp = _Tee(response.fp, told, chunked=bool(response.chunked), length=response.length)
        return response

    return tapped


def _take_sent(connection: Any) -> TrackedRequest | None:
    """The request whose answer is about to be read, with all that was sent of it; what was held back goes out now.

    Raises:
        SpendingRefused: see ``_admitted``.
    """
    tracked: TrackedRequest | None = connection.__dict__.get(_TRACKED)
    if tracked is None:
        return None
    if _HELD in connection.__dict__:
        for piece in _let_out(connection, tracked):
            connection.send(piece)
    del connection.__dict__[_TRACKED]
    tracked.request_body = _body_of(bytes(connection.__dict__.pop(_SENT)))
    return tracked


def _absolute(connection: Any, url: str) -> str:
    if not url.startswith("/"):
        return url  # a proxy is told the whole of it
    host = getattr(connection, "_tunnel_host", None) or connection.host
    port = (connection._tunnel_port if getattr(connection, "_tunnel_host", None) else None) or connection.port  # noqa: SLF001
    scheme = "https" if connection.default_port == 443 else "http"  # noqa: PLR2004 - HTTPS's own number
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}{'' if port == connection.default_port else f':{port}'}{url}"


def _body_of(sent: bytes) -> bytes:
    head, _, body = sent.partition(_END_OF_HEAD)
    if _CHUNKED in head.lower():
        return Chunks().feed(body)
    return body


class Chunks:
    """Takes HTTP's chunked framing off a body that comes in pieces.

    Attributes:
        ended: whether the last chunk, the empty one, has come.
    """

    def __init__(self) -> None:
        self.ended = False
        self._waiting = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the framed body, and give what it holds of the plain one."""
        self._waiting += data
        plain = []
        while self._waiting and not self.ended:
            if self._left > 2:  # noqa: PLR2004 - the line end after the chunk
                piece = self._waiting[: self._left - 2]
                self._waiting = self._waiting[len(piece) :]
                self._left -= len(piece)
                plain.append(piece)
            elif self._left:
                ending = self._waiting[: self._left]
                self._waiting = self._waiting[len(ending) :]
                self._left -= len(ending)
            else:
                line, found, rest = self._waiting.partition(b"\n")
                if not found:
                    break
                self._waiting = rest
                size = _size(line)
                self.ended = size == 0
                self._left = size + 2
        return b"".join(plain)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0].strip() or b"0", 16)
    except ValueError:
        return 0  # no framing that anybody can read: the client will say so


class _Tee:
    """The file that a response is read from, noting each byte as it is taken."""

    def __init__(self, file: Any, observer: Observer, *, chunked: bool, length: int | None) -> None:
        self._file = file
        self._observer = observer
        self._chunks = Chunks() if chunked else None
        self._left = None if chunked else length

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_file"), name)  # a copy in the making has none yet

    def read(self, size: int | None = -1, /) -> bytes:
        return self._note(self._file.read(size), wanted=size != 0)

    def read1(self, size: int = -1, /) -> bytes:
        return self._note(self._file.read1(size), wanted=size != 0)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._note(self._file.readline(size), wanted=size != 0)

    def readinto(self, buffer: Any, /) -> int:
        count: int = self._file.readinto(buffer)
        with memoryview(buffer) as view:
            self._note(bytes(view.cast("B")[:count]), wanted=len(view) > 0)
        return count

    def close(self) -> None:
        try:
            self._file.close()
        finally:
            self._observer.finish(complete=False)

    def _note(self, data: bytes, *, wanted: bool) -> bytes:
        if self._chunks is not None:
            self._observer.feed(self._chunks.feed(data))
            ended = self._chunks.ended
        else:
            self._observer.feed(data)
            if self._left is None:
                ended = wanted and not data  # the connection's end is the body's
            else:
                self._left -= len(data)
                ended = self._left <= 0
        if ended:
            self._observer.finish(complete=True)
        elif wanted and not data:
            self._observer.break_off(ConnectionError("the server hung up before the body's end"))
        return data
