"""Clients that are not httpx: urllib3 (and with it requests and botocore), urllib and aiohttp.

vcrpy has stubs for them all. They are put in place when the first request of a replayed test is about to be made,
and not before: a test that calls no model must not pay for importing vcrpy. aiohttp's stub is put around each call
instead: a mock of the user's own may stand in the place of the same method, and comes first.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.wrapping import wrap

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
    """Answer aiohttp; does nothing where that was done before."""
    wrap(client.ClientSession, "_request", _replayed_request)


def _replayed_request(request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(request)
    async def replayed(self: Any, *args: Any, **kwargs: Any) -> Any:
        playback = active_playback()
        if playback is None:
            return await request(self, *args, **kwargs)
        from vcr.stubs.aiohttp_stubs import vcr_request  # noqa: PLC0415 - slow, and needed only now

        return await vcr_request(playback.cassette, request)(self, *args, **kwargs)

    return replayed


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
