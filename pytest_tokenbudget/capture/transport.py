"""Where HTTP answers pass by: httpx and httpx2, any client, any thread, sync and async, whole and streamed.

Two places of each library are wrapped, once per process. ``Client.send`` is above every way to fake a transport, so
each request is seen exactly once, whoever answers it. ``HTTPTransport.handle_request`` is where the network begins:
there a replayed test gets its recording instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture import mocks
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.tls import hook_contexts
from pytest_tokenbudget.capture.tracked_request import begin, current
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import ModuleType

    from pytest_tokenbudget.capture.tracked_request import TrackedRequest


def hook_client_library(module: ModuleType) -> None:
    """Wrap httpx or httpx2; does nothing where that was done before."""
    tees = _tee_streams(module)
    hook_contexts(module)
    wrap(module.Client, "send", lambda send: _tapped_send(send, tees[0]))
    wrap(module.AsyncClient, "send", lambda send: _tapped_async_send(send, tees[1]))
    wrap(module.HTTPTransport, "handle_request", lambda handle: _replayed_handle(handle, module))
    wrap(module.AsyncHTTPTransport, "handle_async_request", lambda handle: _replayed_async_handle(handle, module))


def _tapped_send(send: Callable[..., Any], tee: type) -> Callable[..., Any]:
    @functools.wraps(send)
    def tapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = begin(request.method, str(request.url), _request_body(request))
        if tracked is None:
            return send(self, request, *args, **kwargs)
        token = current.set(tracked)
        try:
            response = send(self, request, *args, **kwargs)
        except BaseException as error:
            tracked.fail(error)
            raise
        finally:
            current.reset(token)
        tracked.replayed = tracked.replayed or (not tracked.sent and mocks.is_made_up(self, request.url))
        _watch(tracked, response, tee)
        return response

    return tapped


def _tapped_async_send(send: Callable[..., Awaitable[Any]], tee: type) -> Callable[..., Any]:
    @functools.wraps(send)
    async def tapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = begin(request.method, str(request.url), _request_body(request))
        if tracked is None:
            return await send(self, request, *args, **kwargs)
        token = current.set(tracked)
        try:
            response = await send(self, request, *args, **kwargs)
        except BaseException as error:
            tracked.fail(error)
            raise
        finally:
            current.reset(token)
        tracked.replayed = tracked.replayed or (not tracked.sent and mocks.is_made_up(self, request.url))
        _watch(tracked, response, tee)
        return response

    return tapped


def _request_body(request: Any) -> bytes:
    try:
        return bytes(request.content)
    except Exception:  # noqa: BLE001 - a body that streams upwards can't be looked at without eating it
        return b""


def _watch(tracked: TrackedRequest, response: Any, tee: type) -> None:
    headers = {str(name).lower(): str(value) for name, value in response.headers.items()}
    if hasattr(response, "_content"):
        # httpx has read and decoded the body already.
        headers.pop("content-encoding", None)
        tracked.answer(response.status_code, headers)
        tracked.feed(response.content)
        tracked.finish(complete=True)
        return
    tracked.answer(response.status_code, headers)
    response.stream = tee(response.stream, tracked)


def _tee_streams(module: ModuleType) -> tuple[type, type]:  # noqa: C901 - two small classes, not branches
    """Byte streams of the library's own kinds that pass every chunk on and note it."""

    class Tee(module.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, stream: Any, tracked: TrackedRequest) -> None:
            self._stream = stream
            self._tracked = tracked

        def __getattr__(self, name: str) -> Any:
            return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                self._tracked.feed(chunk)
                yield chunk
            self._tracked.finish(complete=True)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._tracked.finish(complete=False)

    class AsyncTee(module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, stream: Any, tracked: TrackedRequest) -> None:
            self._stream = stream
            self._tracked = tracked

        def __getattr__(self, name: str) -> Any:
            return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                self._tracked.feed(chunk)
                yield chunk
            self._tracked.finish(complete=True)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._tracked.finish(complete=False)

    return Tee, AsyncTee


def _replayed_handle(handle: Callable[..., Any], module: ModuleType) -> Callable[..., Any]:
    def sent(self: Any, request: Any) -> Any:
        _note_sending(self)
        response = handle(self, request)
        _note_answer(response.status_code)
        return response

    @functools.wraps(handle)
    def replayed(self: Any, request: Any) -> Any:
        if (playback := active_playback()) is not None:
            return playback.handle(sent, self, request, module)
        return sent(self, request)

    return mocks.asks_mocks_first(replayed, handle)


def _replayed_async_handle(handle: Callable[..., Any], module: ModuleType) -> Callable[..., Any]:
    async def sent(self: Any, request: Any) -> Any:
        _note_sending(self)
        response = await handle(self, request)
        _note_answer(response.status_code)
        return response

    @functools.wraps(handle)
    async def replayed(self: Any, request: Any) -> Any:
        if (playback := active_playback()) is not None:
            return await playback.handle_async(sent, self, request, module)
        return await sent(self, request)

    return mocks.asks_mocks_first_async(replayed, handle)


def _note_sending(transport: Any) -> None:
    if (tracked := current.get()) is not None and not mocks.sees_sending(transport):
        tracked.sent, tracked.refused = True, False


def _note_answer(status: int) -> None:
    """Note the status before the user's own hooks may raise because of it: who is refused is not billed."""
    if (tracked := current.get()) is not None:
        tracked.refused = not 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers
