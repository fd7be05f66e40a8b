"""Clients that are not httpx: urllib3 (and with it requests and botocore), urllib and aiohttp.

vcrpy has stubs for them all. They are put in place when the first request of a replayed test is about to be made,
and not before: a test that calls no model must not pay for importing vcrpy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.playback import active_playback

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def hook_urllib3(connectionpool: ModuleType) -> None:
    """Cover ``requests``, ``botocore`` and whatever else sends through urllib3."""
    _cover_before(connectionpool.HTTPConnectionPool, "urlopen")


def hook_urllib(request: ModuleType) -> None:
    """Cover ``urllib.request.urlopen`` and every other opener."""
    _cover_before(request.OpenerDirector, "open")


def hook_aiohttp(client: ModuleType) -> None:
    """Cover aiohttp."""
    _cover_before(client.ClientSession, "_request")


def _cover_before(owner: type, name: str) -> None:
    """Let a method put the active playback's stubs in place before it does its work."""
    method: Callable[..., Any] = getattr(owner, name)
    if hasattr(method, "__tokenbudget__"):
        return

    @functools.wraps(method)
    def covered(self: Any, *args: Any, **kwargs: Any) -> Any:
        playback = active_playback()
        if playback is None or not playback.cover():
            return method(self, *args, **kwargs)
        # The stubs may have taken this very method's place.
        return getattr(self, name)(*args, **kwargs)

    covered.__tokenbudget__ = True  # type: ignore[attr-defined]
    setattr(owner, name, covered)
