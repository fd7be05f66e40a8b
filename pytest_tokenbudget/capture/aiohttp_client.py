"""Live traffic of aiohttp: seen where a request is written and its answer's stream is read, below vcrpy's stub."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_tokenbudget.capture.streams import Observers
from pytest_tokenbudget.capture.tracked_request import begin_live
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

    from pytest_tokenbudget.capture.recording import Recording
    from pytest_tokenbudget.capture.streams import Observer
    from pytest_tokenbudget.capture.tracked_request import TrackedRequest

_TRACKED = "_tokenbudget_tracked"
_DECODED = "_tokenbudget_decoded"

_Read = TypeVar("_Read")


def hook_aiohttp(requests: ModuleType) -> None:
    """Tap ``aiohttp.client_reqrep``; does nothing where that was done before."""
    wrap(requests.ClientRequest, "send", _tapped_send)
    wrap(requests.ClientResponse, "start", _tapped_start)
    for name in ("close", "release"):
        wrap(requests.ClientResponse, name, _tapped_end)


def _tapped_send(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    async def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = begin_live(self.method, str(self.url), _body_of(self))
        try:
            if tracked is not None:
                tracked.admit()
            response = await send(self, *args, **kwargs)
        except BaseException as error:
            if tracked is not None:
                tracked.fail(error)
            raise
        session = getattr(self, "session", None) or getattr(self, "_session", None)  # by aiohttp's version
        setattr(response, _DECODED, getattr(session, "auto_decompress", True))
        if tracked is not None:
            tracked.sent = True
            setattr(response, _TRACKED, tracked)
        return response

    return tapped


def _tapped_start(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    async def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        tracked: TrackedRequest | None = self.__dict__.get(_TRACKED)
        if tracked is None:
            return await start(self, *args, **kwargs)
        try:
            result = await start(self, *args, **kwargs)
        except BaseException as error:
            tracked.fail(error)
            raise
        headers = {name.lower(): value for name, value in self.headers.items()}
        if getattr(self, _DECODED):
            headers.pop("content-encoding", None)
        tracked.answer(self.status, headers)
        self.content = _Tee(self.content, tracked)
        return result

    return tapped


def _tapped_end(end: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(end)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        content = self.content
        if isinstance(content, _Tee):
            content.note_end()
        return end(self, *args, **kwargs)

    return tapped


def record(recording: Recording, response: Any) -> None:
    """Record an answer while its client reads it."""
    headers = [(str(name), value) for name, value in response.headers.items()]
    if getattr(response, _DECODED, True):
        headers = [(name, value) for name, value in headers if name.lower() != "content-encoding"]
    recording.is_counted = recording.is_counted or _TRACKED in response.__dict__
    recording.answer(response.status, response.reason, headers)
    if isinstance(response.content, _Tee):
        response.content.tell(recording)
    else:
        response.content = _Tee(response.content, recording)


def _body_of(request: Any) -> bytes:
    value = getattr(request.body, "_value", request.body)
    if hasattr(value, "getvalue"):
        value = value.getvalue()
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


class _Tee:
    """aiohttp's stream of a response, noting each piece as it is taken."""

    def __init__(self, stream: Any, observer: Observer) -> None:
        self._stream = stream
        self._observer = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet

    async def read(self, n: int = -1) -> bytes:
        return self._note(await self._heard(self._stream.read(n)))

    async def readany(self) -> bytes:
        return self._note(await self._heard(self._stream.readany()))

    async def readexactly(self, n: int) -> bytes:
        return self._note(await self._heard(self._stream.readexactly(n)))

    async def readline(self, **limits: Any) -> bytes:
        return self._note(await self._heard(self._stream.readline(**limits)))

    async def readuntil(self, *separator: Any, **limits: Any) -> bytes:
        return self._note(await self._heard(self._stream.readuntil(*separator, **limits)))

    async def readchunk(self) -> tuple[bytes, bool]:
        data, ended = await self._heard(self._stream.readchunk())
        return self._note(data), ended

    def read_nowait(self, n: int = -1) -> bytes:
        return self._note(self._stream.read_nowait(n))

    # The stream's own of these would read past the tee.

    def __aiter__(self) -> Any:
        return type(self._stream).__aiter__(self)

    def iter_any(self) -> Any:
        return type(self._stream).iter_any(self)

    def iter_chunked(self, n: int) -> Any:
        return type(self._stream).iter_chunked(self, n)

    def iter_chunks(self) -> Any:
        return type(self._stream).iter_chunks(self)

    def tell(self, observer: Observer) -> None:
        """Let another one be told too."""
        self._observer = Observers(self._observer, observer)

    def note_end(self) -> None:
        """The response is given back. What has come whole can still be read; the rest nobody will get."""
        if self._stream.is_eof():
            return
        if self._stream.exception() is None:
            self._observer.feed(self._stream.read_nowait(-1))
        self._observer.finish(complete=False)

    async def _heard(self, reading: Awaitable[_Read]) -> _Read:
        try:
            return await reading
        except BaseException as error:  # a cancelled wait too: more would have come
            self._observer.break_off(error)
            raise

    def _note(self, data: bytes) -> bytes:
        self._observer.feed(data)
        if self._stream.at_eof():
            self._observer.finish(complete=True)
        return data
