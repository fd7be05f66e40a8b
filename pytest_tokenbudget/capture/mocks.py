"""Mocks of the user's own: they answer before a cassette does, and what they answer was neither sent nor spent.

pytest-httpx, ``httpx.MockTransport`` and transports of the user's own sit above the place where a cassette answers,
so they come first by themselves. respx sits below it, in httpcore's connection pool. Where somebody has put something
into that pool's place, it is asked first, and only what it passes on reaches the cassette.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.idle_transports import pool_of
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.tracked_request import current
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

POOLS = {"ConnectionPool": "handle_request", "AsyncConnectionPool": "handle_async_request"}
"""httpcore's classes that httpx hands its requests to, and what it calls of them."""

CONNECTIONS = {
    "HTTP11Connection": "handle_request",
    "HTTP2Connection": "handle_request",
    "AsyncHTTP11Connection": "handle_async_request",
    "AsyncHTTP2Connection": "handle_async_request",
}
"""httpcore's classes that have reached a server, and write to it."""

_MOCKING = frozenset({"httpx", "httpx2", "respx"})
"""Libraries whose own transports either send, which is noted, or make an answer up."""

_asking: ContextVar[bool] = ContextVar("pytest_tokenbudget_asking_mocks", default=False)


class _PassedOn(BaseException):
    """No mock answers: the request has come to where it would be sent.

    Attributes:
        stream: its body, which the mock may have read.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream


def hook_pools(core: ModuleType) -> None:
    """Tap httpcore or httpcore2; does nothing where that was done, or where a mock stands there already."""
    for name, handler in POOLS.items():
        if not _is_foreign(getattr(core, name), handler):
            wrap(getattr(core, name), handler, _passed_on_async if handler == "handle_async_request" else _passed_on)
    for name, handler in CONNECTIONS.items():
        wrap(getattr(core, name, None), handler, _noted)


def asks_mocks_first(replayed: Callable[..., Any], send: Callable[..., Any]) -> Callable[..., Any]:
    """Let a mock below the cassette answer before it.

    Args:
        replayed: what a transport does with a request: it asks the cassette, and may send.
        send: what it does without a cassette.
    """

    @functools.wraps(replayed)
    def handle(self: Any, request: Any) -> Any:
        if active_playback() is None or not is_mocked(self):
            return replayed(self, request)
        token = _asking.set(True)
        try:
            return send(self, request)
        except _PassedOn as passed:
            request.stream = passed.stream
        finally:
            _asking.reset(token)
        return replayed(self, request)

    return handle


def asks_mocks_first_async(replayed: Callable[..., Any], send: Callable[..., Any]) -> Callable[..., Any]:
    """``asks_mocks_first`` for an asynchronous transport."""

    @functools.wraps(replayed)
    async def handle(self: Any, request: Any) -> Any:
        if active_playback() is None or not is_mocked(self):
            return await replayed(self, request)
        token = _asking.set(True)
        try:
            return await send(self, request)
        except _PassedOn as passed:
            request.stream = passed.stream
        finally:
            _asking.reset(token)
        return await replayed(self, request)

    return handle


def is_mocked(transport: Any) -> bool:
    """Whether something of somebody else's stands where a transport of httpx would send."""
    pool = pool_of(transport)
    return any(_is_foreign(pool, handler) for handler in POOLS.values())


def sees_sending(transport: Any) -> bool:
    """Whether what a transport of httpx sends goes through httpcore, where it is noted."""
    return type(getattr(transport, "_pool", None)).__module__.startswith("httpcore")


def is_made_up(client: Any, url: Any) -> bool:
    """Whether a client's answer, of which nobody saw the request being sent, can only have been made up.

    A transport that is neither httpx's nor respx's may have ways of its own to reach a server. What it answers was
    made up only where the network is closed anyway.
    """
    playback = active_playback()
    if playback is not None and not playback.live:
        return True
    find = getattr(client, "_transport_for_url", None)
    kinds = () if find is None else type(find(url)).__mro__
    return any(kind.__module__.partition(".")[0] in _MOCKING for kind in kinds if kind.__name__ not in _BASES)


_BASES = ("BaseTransport", "AsyncBaseTransport")


def _is_foreign(owner: Any, handler: str) -> bool:
    method = getattr(owner, handler, None)
    return method is not None and not str(getattr(method, "__module__", "")).startswith("httpcore")


def _passed_on(handle: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handle)
    def handle_request(self: Any, request: Any) -> Any:
        if _asking.get():
            raise _PassedOn(request.stream)
        return handle(self, request)

    return handle_request


def _passed_on_async(handle: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(handle)
    async def handle_async_request(self: Any, request: Any) -> Any:
        if _asking.get():
            raise _PassedOn(request.stream)
        return await handle(self, request)

    return handle_async_request


def _noted(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Note that a request is being written to a server: up to here it may have failed for nothing."""

    @functools.wraps(handle)
    def noted(self: Any, request: Any) -> Any:
        if (tracked := current.get()) is not None:
            tracked.depart()
        return handle(self, request)

    return noted
