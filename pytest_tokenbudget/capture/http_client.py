"""Traffic of ``http.client``, and with it of urllib, urllib3, requests, httplib2 and botocore.

All of them send through ``http.client.HTTPConnection`` and read from its ``HTTPResponse``. Where a playback is
active, a request is held until it is whole; then a recording answers it, or it is sent after all. vcrpy's stubs do
that by taking the place of whole classes, for all threads at once, and threads that record lose each other's answers.

What goes to a real server is noted as the client writes and reads it: the response's file is wrapped, so every byte
is noted as it is taken, never before.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.guard import is_loopback
from pytest_tokenbudget.capture.http_body import Tee, body_of, is_complete, split_request
from pytest_tokenbudget.capture.http_replay import HeldRequest, NoSocket, response_of
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.streams import Observers
from pytest_tokenbudget.capture.tracked_request import begin_live, has_ceiling
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from pytest_tokenbudget.capture.recording import Recording
    from pytest_tokenbudget.capture.tracked_request import TrackedRequest

HTTPS_PORT = 443

# Attributes of a connection. Held: what is kept back for a cassette. Admission: what is kept back for the ceiling.
_HELD = "_tokenbudget_held"
_FOUND = "_tokenbudget_found"
_RECORDING = "_tokenbudget_recording"
_ADMISSION = "_tokenbudget_admission"
_TRACKED = "_tokenbudget_tracked"
_SENT = "_tokenbudget_sent"
_CONNECTING = "_tokenbudget_connecting"


def hook_http_client(client: ModuleType) -> None:
    """Hook into ``http.client``; does nothing where that was done before."""
    base = client.HTTPConnection
    _hook_connect(base)
    wrap(base, "__init__", _hooking_init)
    wrap(base, "putrequest", _tapped_putrequest)
    wrap(base, "send", _tapped_send)
    wrap(base, "getresponse", _tapped_getresponse)


def _hook_connect(kind: type) -> None:
    """Hook into how a class of connections connects, and those that are made of it: many do it on their own."""
    wrap(kind, "connect", _deferred_connect)
    other: type
    for other in kind.__subclasses__():
        _hook_connect(other)


def _hooking_init(init: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(init)
    def hooking(self: Any, *args: Any, **kwargs: Any) -> None:
        wrap(type(self), "connect", _deferred_connect)  # a class that was made since
        init(self, *args, **kwargs)

    return hooking


def _deferred_connect(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def deferred(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _CONNECTING in self.__dict__:
            return connect(self, *args, **kwargs)  # a class calls the one that it is made of
        playback = active_playback()
        if playback is not None and not _is_plain_local(self):
            self.sock = NoSocket(playback, f"{self.host}:{self.port}")
            if hasattr(self, "is_verified"):
                self.is_verified = True  # urllib3 would warn of a connection that was not
            return None
        with _connecting(self):
            return connect(self, *args, **kwargs)

    return deferred


@contextmanager
def _connecting(connection: Any) -> Iterator[None]:
    """Let what it does to connect reach the server, and be no request."""
    setattr(connection, _CONNECTING, True)
    try:
        yield
    finally:
        connection.__dict__.pop(_CONNECTING, None)


def _is_plain_local(connection: Any) -> bool:
    """Whether it leads to a server on this machine, as one that waits for its own server to come up expects it.

    Clients that use TLS connect before each request, also before one that a recording answers.
    """
    tunnels = getattr(connection, "_tunnel_host", None) is not None
    return not tunnels and connection.default_port != HTTPS_PORT and is_loopback(connection.host)


def _tapped_putrequest(putrequest: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(putrequest)
    def tapped(self: Any, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        result = putrequest(self, method, url, *args, **kwargs)
        # Forget a request that got no answer: the connection was made anew for this one.
        for name in (_TRACKED, _ADMISSION, _HELD, _FOUND, _RECORDING):
            self.__dict__.pop(name, None)
        playback = active_playback()
        if playback is not None:
            setattr(self, _HELD, HeldRequest(playback, method, _absolute(self, url)))
            return result
        if isinstance(self.sock, NoSocket):  # it was opened by a test that replayed
            self.sock.close()
            self.sock = None
        _track(self, method, _absolute(self, url))
        return result

    return tapped


def _track(connection: Any, method: str, url: str) -> None:
    tracked = begin_live(method, url)
    if tracked is not None:
        setattr(connection, _TRACKED, tracked)
        setattr(connection, _SENT, bytearray())
        if has_ceiling():
            setattr(connection, _ADMISSION, bytearray())


def _tapped_send(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def tapped(self: Any, data: Any) -> Any:
        state = self.__dict__
        if (held := state.get(_HELD)) is not None:
            if self.sock is None:
                self.sock = NoSocket(held.playback, f"{self.host}:{self.port}")
            held.write(data)
            if held.is_complete:
                _settle(self, held)
            return None
        tracked: TrackedRequest | None = state.get(_TRACKED)
        if tracked is None or _CONNECTING in state:  # what a proxy is told is no request
            return send(self, data)
        for piece in _admitted(self, tracked, data):
            _send_tracked(self, tracked, send, piece)
        return None

    return tapped


def _send_tracked(connection: Any, tracked: TrackedRequest, send: Callable[..., Any], piece: Any) -> None:
    try:
        send(connection, piece)
    except BaseException as error:
        if not tracked.sent:  # not even a connection; a server that hangs up on a body may have answered
            tracked.fail(error)
        raise
    tracked.sent = True
    if isinstance(piece, bytes | bytearray | memoryview):
        sent: bytearray = getattr(connection, _SENT)
        sent += piece
        if is_complete(sent):  # maybe nobody will ask for the answer
            tracked.request_body = body_of(bytes(sent))


def _admitted(connection: Any, tracked: TrackedRequest, data: Any) -> Sequence[Any]:
    """What may be sent now. Where there is a ceiling, that is nothing before the whole request is known.

    Raises:
        SpendingRefused: the request could bring the run above its ceiling; no byte of it was sent.
    """
    waiting: bytearray | None = connection.__dict__.get(_ADMISSION)
    if waiting is None:
        return [data]
    if isinstance(data, bytes | bytearray | memoryview):
        waiting += data
        return _let_out(connection, tracked) if is_complete(waiting) else []
    # What is read while it is sent can't be looked at before.
    return [*_let_out(connection, tracked), data]


def _let_out(connection: Any, tracked: TrackedRequest) -> list[bytes]:
    """What was kept back, head and body, if it may be sent.

    Raises:
        SpendingRefused: see ``_admitted``.
    """
    waiting = bytes(connection.__dict__.pop(_ADMISSION))
    # Of a request that is not complete, what is known of the body says nothing.
    tracked.request_body = body_of(waiting) if is_complete(waiting) else b""
    try:
        tracked.admit()
    except BaseException as error:
        connection.__dict__.pop(_TRACKED, None)
        tracked.fail(error)
        raise
    return split_request(waiting)


def _tapped_getresponse(getresponse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(getresponse)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if (held := self.__dict__.get(_HELD)) is not None:
            _settle(self, held)  # its head promises more than came
        if (found := self.__dict__.pop(_FOUND, None)) is not None:
            self.close()  # as after any answer that is the connection's last
            return response_of(self, *found)
        recording: Recording | None = self.__dict__.pop(_RECORDING, None)
        tracked = _take_sent(self)
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
            response.fp = Tee(response.fp, told, chunked=bool(response.chunked), length=response.length)
        return response

    return tapped


def _settle(connection: Any, held: HeldRequest) -> None:
    """Find out what becomes of a held request, and send it if that is its lot.

    Raises:
        ReplayMiss: no recording answers it, and it must not be sent.
        SpendingRefused: it could bring the run above its ceiling.
    """
    del connection.__dict__[_HELD]
    if isinstance(connection.sock, NoSocket):
        connection.sock.is_asked()
    try:
        found = held.ask()
        if isinstance(found, dict):
            setattr(connection, _FOUND, (found, held.method))
            return
        _connect_after_all(connection)
        _track(connection, held.method, held.url)
        if found is not None:
            found.is_counted = found.is_counted or _TRACKED in connection.__dict__
            setattr(connection, _RECORDING, found)
        for piece in held.pieces():
            connection.send(piece)
    except BaseException:
        connection.__dict__.pop(_RECORDING, None)
        connection.close()
        raise


def _connect_after_all(connection: Any) -> None:
    placeholder = connection.sock
    if not isinstance(placeholder, NoSocket):
        return
    placeholder.close()
    connection.sock = None
    with _connecting(connection):
        connection.connect()
    if placeholder.timeout is not ...:
        connection.sock.settimeout(placeholder.timeout)


def _take_sent(connection: Any) -> TrackedRequest | None:
    """The request whose answer is about to be read, with all that was sent of it; what was kept back goes out now.

    Raises:
        SpendingRefused: see ``_admitted``.
    """
    tracked: TrackedRequest | None = connection.__dict__.get(_TRACKED)
    if tracked is None:
        return None
    if _ADMISSION in connection.__dict__:
        for piece in _let_out(connection, tracked):
            connection.send(piece)
    del connection.__dict__[_TRACKED]
    tracked.request_body = body_of(bytes(connection.__dict__.pop(_SENT)))
    return tracked


def _absolute(connection: Any, url: str) -> str:
    if "://" in url.partition("?")[0]:
        return url  # a proxy is told the whole of it
    host = getattr(connection, "_tunnel_host", None) or connection.host
    port = (connection._tunnel_port if getattr(connection, "_tunnel_host", None) else None) or connection.port  # noqa: SLF001
    scheme = "https" if connection.default_port == HTTPS_PORT else "http"
    named = f"[{host}]" if ":" in host else host
    origin = f"{scheme}://{named}{'' if port == connection.default_port else f':{port}'}"
    return f"{origin}{url if url.startswith('/') else f'/{url}'}"
