"""Where HTTP answers pass by: httpx and httpx2, any client, any thread, sync and async, whole and streamed.

Two places of each library are wrapped, once per process. ``Client.send`` is above every way to fake a transport, so
each request is seen exactly once, whoever answers it. ``HTTPTransport.handle_request`` is where the network begins:
there a replayed test gets its recording instead.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture import mocks
from pytest_tokenbudget.capture.idle_transports import hook_transports
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.proxies import hook_proxies
from pytest_tokenbudget.capture.streams import make_streams
from pytest_tokenbudget.capture.tls import hook_contexts
from pytest_tokenbudget.capture.tracked_request import begin, current, has_ceiling
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import ModuleType

    from pytest_tokenbudget.capture.streams import Streams
    from pytest_tokenbudget.capture.tracked_request import TrackedRequest

_SEEN_OR_LOCAL = frozenset({"HTTPTransport", "AsyncHTTPTransport", "MockTransport", "ASGITransport", "WSGITransport"})
"""httpx's own transports: where two of them begin to send is seen, and the others send nothing."""


def hook_client_library(module: ModuleType) -> None:
    """Wrap httpx or httpx2; does nothing where that was done before."""
    streams = make_streams(module)
    hook_contexts(module)
    hook_transports(module)
    hook_proxies(getattr(module, "_utils", module))
    wrap(module.Client, "send", lambda send: _tapped_send(send, streams.tee))
    wrap(module.AsyncClient, "send", lambda send: _tapped_async_send(send, streams.async_tee))
    wrap(module.HTTPTransport, "handle_request", lambda handle: _replayed_handle(handle, module, streams))
    wrap(
        module.AsyncHTTPTransport,
        "handle_async_request",
        lambda handle: _replayed_async_handle(handle, module, streams),
    )


def _tapped_send(send: Callable[..., Any], tee: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def tapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = begin(request.method, str(request.url), _request_body(request))
        if tracked is None:
            return send(self, request, *args, **kwargs)
        token = current.set(tracked)
        try:
            _admit_past_taps(tracked, self, request)
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


def _tapped_async_send(send: Callable[..., Awaitable[Any]], tee: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    async def tapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        tracked = begin(request.method, str(request.url), _request_body(request))
        if tracked is None:
            return await send(self, request, *args, **kwargs)
        token = current.set(tracked)
        try:
            _admit_past_taps(tracked, self, request)
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


def _admit_past_taps(tracked: TrackedRequest, client: Any, request: Any) -> None:
    """Admit a request now whose transport is of somebody else's making: where that begins to send, nobody sees.

    Raises:
        SpendingRefused: see ``TrackedRequest.admit``.
    """
    if not has_ceiling() or ((playback := active_playback()) is not None and not playback.live):
        return
    find_transport = getattr(client, "_transport_for_url", None)  # httpx has no public way to it
    kinds = type(None if find_transport is None else find_transport(request.url)).__mro__
    if not _SEEN_OR_LOCAL & {each.__name__ for each in kinds}:
        tracked.admit(unseen=True)


def _request_body(request: Any) -> bytes:
    try:
        return bytes(request.content)
    except Exception:  # noqa: BLE001 - a body that streams upwards can't be looked at without eating it
        return b""


def _watch(tracked: TrackedRequest, response: Any, tee: Callable[..., Any]) -> None:
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


def _replayed_handle(handle: Callable[..., Any], module: ModuleType, streams: Streams) -> Callable[..., Any]:
    def sent(self: Any, request: Any) -> Any:
        _note_sending(self)
        response = handle(self, request)
        _note_answer(response.status_code)
        return response

    @functools.wraps(handle)
    def replayed(self: Any, request: Any) -> Any:
        if (playback := active_playback()) is None:
            return sent(self, request)
        body = b"".join(request.stream)
        request.stream = module.ByteStream(body)  # reading has used it up
        found = playback.cassette.ask(request.method, str(request.url), body, request.headers)
        if isinstance(found, dict):
            return streams.response_of(found)
        response = sent(self, request)
        if found is not None:
            found.answer(response.status_code, response.reason_phrase, response.headers.multi_items())
            response.stream = streams.tee(response.stream, found)
        return response

    return mocks.asks_mocks_first(replayed, handle)


def _replayed_async_handle(handle: Callable[..., Any], module: ModuleType, streams: Streams) -> Callable[..., Any]:
    async def sent(self: Any, request: Any) -> Any:
        _note_sending(self)
        response = await handle(self, request)
        _note_answer(response.status_code)
        return response

    @functools.wraps(handle)
    async def replayed(self: Any, request: Any) -> Any:
        if (playback := active_playback()) is None:
            return await sent(self, request)
        body = b"".join([part async for part in request.stream])
        request.stream = module.ByteStream(body)  # reading has used it up
        found = playback.cassette.ask(request.method, str(request.url), body, request.headers)
        if isinstance(found, dict):
            return streams.response_of(found)
        response = await sent(self, request)
        if found is not None:
            found.answer(response.status_code, response.reason_phrase, response.headers.multi_items())
            response.stream = streams.async_tee(response.stream, found)
        return response

    return mocks.asks_mocks_first_async(replayed, handle)


def _note_sending(transport: Any) -> None:
    """Note that a request is about to be sent.

    Raises:
        SpendingRefused: see ``TrackedRequest.admit``.
    """
    if (tracked := current.get()) is None:
        return
    if mocks.sees_sending(transport):
        tracked.admit()
        tracked.sent = False  # a connection has to be made first
    else:
        tracked.leave()


def _note_answer(status: int) -> None:
    if (tracked := current.get()) is not None:
        tracked.hear(status)
