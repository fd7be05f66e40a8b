"""A client that only ever sees replays gets no connection pool: it is made as soon as something is to be sent.

httpx makes one with each client, and imports httpcore for the first of them. That import alone takes as long as
replaying a dozen tests.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.tls import named_certificates
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_POOL = "_pool"
"""The attribute in which httpx's transports have their pool."""

_WISHES = "_tokenbudget_wishes"
"""The attribute of a transport that waits: what it is to be made with."""

_METHODS = {
    "HTTPTransport": ("__enter__", "__exit__", "close"),
    "AsyncHTTPTransport": ("__aenter__", "__aexit__", "aclose"),
}
"""httpx's transports, and the methods that have nothing to do without a pool."""

_FLAGS = frozenset({"trust_env", "http1", "http2"})

_LOCK = threading.RLock()


def hook_transports(library: ModuleType) -> None:
    """Let the transports of httpx or httpx2 do without a pool while a test replays; once per process."""
    core = library.__name__.replace("httpx", "httpcore")
    for name, methods in _METHODS.items():
        transport = getattr(library, name)
        if not hasattr(transport, _POOL):
            setattr(transport, _POOL, _LatePool(transport.__init__, core))
            wrap(transport, "__init__", functools.partial(_postponed, transport, library.Limits, core))
            for method in methods:
                wrap(transport, method, _unless_idle)


def pool_of(transport: Any) -> type | None:
    """The class of a transport's pool; ``None`` where it has none, and where nobody can have replaced it yet."""
    if is_idle(transport) and not _is_loaded(getattr(type(transport), _POOL).core):
        return None
    pool = getattr(transport, _POOL, None)
    return None if pool is None else type(pool)


def is_idle(transport: Any) -> bool:
    """Whether a transport waits for its first request."""
    own = getattr(transport, "__dict__", {})
    return _WISHES in own and _POOL not in own


class _LatePool:
    """The pool of a transport that waits: made when it is looked at, and kept in its place."""

    def __init__(self, build: Callable[..., None], core: str) -> None:
        self._build, self.core = build, core

    def __get__(self, transport: Any, owner: type) -> Any:
        if transport is None:
            return self
        own = vars(transport)
        with _LOCK:
            if is_idle(transport):
                self._build(transport, **own[_WISHES])
                own.pop(_WISHES, None)
        if _POOL not in own:
            raise AttributeError(f"{type(transport).__name__!r} object has no attribute {_POOL!r}")
        return own[_POOL]


def _postponed(transport: type, limits: type, core: str, build: Callable[..., None]) -> Callable[..., None]:
    """Let a transport wait that is httpx's own, and asked for as a client does it: all others may be mistaken."""

    @functools.wraps(build)
    def made(self: Any, *args: Any, **wishes: Any) -> None:
        playback = active_playback()
        if (
            playback is None
            or playback.live
            or args
            or type(self) is not transport
            or _is_loaded(core)
            or not _are_a_clients(wishes, limits)
            or (wishes.get("trust_env", True) and any(named_certificates()))
        ):
            build(self, *args, **wishes)
        else:
            vars(self)[_WISHES] = wishes

    return made


def _is_loaded(core: str) -> bool:
    """Whether somebody has paid for httpcore already, and may have put something into its place."""
    return core in sys.modules


def _are_a_clients(wishes: dict[str, Any], limits: type) -> bool:
    return (
        wishes.get("verify", True) is True
        and wishes.get("cert") is None
        and isinstance(wishes.get("limits"), limits)
        and wishes.keys() <= {"verify", "cert", "limits", *_FLAGS}
        and all(isinstance(wishes[each], bool) for each in _FLAGS & wishes.keys())
    )


def _unless_idle(method: Callable[..., Any]) -> Callable[..., Any]:
    def nothing(transport: Any) -> Any:
        return transport if "enter" in method.__name__ else None

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def done(self: Any, *details: Any, **named: Any) -> Any:
            return nothing(self) if is_idle(self) else await method(self, *details, **named)

    else:

        @functools.wraps(method)
        def done(self: Any, *details: Any, **named: Any) -> Any:
            return nothing(self) if is_idle(self) else method(self, *details, **named)

    return done
