"""A client that only ever sees replays gets no connection pool: it is made as soon as something is to be sent.

httpx makes one with each client, and imports httpcore for the first of them. That import alone takes as long as
replaying a dozen tests.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.tls import CERTIFICATES
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_POOL = "_pool"
"""The attribute in which httpx's transports have their pool."""

_WISHES = "_tokenbudget_wishes"
"""The attribute of a transport without a pool: what it is to be made with."""

_KINDS = {
    "HTTPTransport": ("ConnectionPool", ("__enter__", "__exit__", "close")),
    "AsyncHTTPTransport": ("AsyncConnectionPool", ("__aenter__", "__aexit__", "aclose")),
}
"""httpx's transports: httpcore's class of their pools, and the methods that have nothing to do without one."""

_LOCK = threading.RLock()


def hook_transports(library: ModuleType) -> None:
    """Let the transports of httpx or httpx2 do without a pool while a test replays; once per process."""
    core = library.__name__.replace("httpx", "httpcore")
    for name, (pool, methods) in _KINDS.items():
        transport = getattr(library, name)
        if not hasattr(transport, _POOL):
            setattr(transport, _POOL, _LatePool(transport.__init__, core, pool))
            wrap(transport, "__init__", _postponed)
            for method in methods:
                wrap(transport, method, _unless_idle)


def pool_of(transport: Any) -> type | None:
    """The class of the pool that a transport of httpx has, or will have; ``None`` where it has none.

    It is ``None`` too where the pool will be of a class that nobody has imported yet.
    """
    if _WISHES in getattr(transport, "__dict__", {}):
        late: _LatePool = getattr(type(transport), _POOL)
        return late.kind
    pool = getattr(transport, _POOL, None)
    return None if pool is None else type(pool)


class _LatePool:
    """The pool of a transport that waits for its first request: made when it is looked at, and kept there."""

    def __init__(self, build: Callable[..., None], core: str, name: str) -> None:
        self._build, self._core, self._name = build, core, name

    @property
    def kind(self) -> type | None:
        return getattr(sys.modules.get(self._core), self._name, None)

    def __get__(self, transport: Any, owner: type) -> Any:
        if transport is None:
            return self
        own = vars(transport)
        with _LOCK:
            if _WISHES in own:
                self._build(transport, **own[_WISHES])
                own.pop(_WISHES, None)
        if _POOL not in own:
            raise AttributeError(f"{type(transport).__name__!r} object has no attribute {_POOL!r}")
        return own[_POOL]


def _postponed(build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def made(self: Any, *args: Any, **wishes: Any) -> None:
        playback = active_playback()
        if playback is None or playback.live or args or not _can_wait(**wishes):
            build(self, *args, **wishes)
        else:
            vars(self)[_WISHES] = wishes

    return made


def _can_wait(verify: Any = True, cert: Any = None, trust_env: bool = True, proxy: Any = None, **_: Any) -> bool:  # noqa: FBT001, FBT002 - httpx's parameters
    """Whether it makes the same pool later: what is looked at when it is made may be gone then, or be wrong."""
    return (
        verify is True
        and cert is None
        and proxy is None
        and not (trust_env and any(os.environ.get(each) for each in CERTIFICATES))
    )


def _unless_idle(method: Callable[..., Any]) -> Callable[..., Any]:
    def nothing(transport: Any) -> Any:
        return transport if "enter" in method.__name__ else None

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def done(self: Any, *details: Any) -> Any:
            return nothing(self) if _WISHES in vars(self) else await method(self, *details)

    else:

        @functools.wraps(method)
        def done(self: Any, *details: Any) -> Any:
            return nothing(self) if _WISHES in vars(self) else method(self, *details)

    return done
