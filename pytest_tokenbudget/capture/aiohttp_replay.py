"""Replay and recording of aiohttp, through vcrpy's stub for it.

The stub is put around each call of a replayed test, and not in the place of the method: a mock of the user's own may
stand there, and comes first. By itself it reads a live answer to its end before the client gets its first byte; here
it lets the answer pass while it is recorded. Cassettes of others keep what they had.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.aiohttp_client import record
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def hook_client(client: ModuleType) -> None:
    """Answer aiohttp; does nothing where that was done before."""
    wrap(client.ClientSession, "_request", _replayed_request)


def hook_stub(stubs: ModuleType) -> None:
    """Teach vcrpy's stub of aiohttp to let answers pass."""
    wrap(stubs, "record_response", _recording)


def _replayed_request(request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(request)
    async def replayed(self: Any, method: str, url: Any, **kwargs: Any) -> Any:
        playback = active_playback()
        if playback is None:
            return await request(self, method, url, **kwargs)
        from vcr.stubs.aiohttp_stubs import vcr_request  # noqa: PLC0415 - slow, and needed only now

        whole = self._build_url(url)  # the stub knows nothing of a session's base
        data = kwargs.get("data")
        if callable(data) and hasattr(data, "is_multipart"):  # a form, of which the stub would see no bytes
            payload = data()
            form = _Buffer()
            await payload.write(form)
            kwargs["data"] = bytes(form.data)
            kwargs["headers"] = type(payload.headers)(kwargs.get("headers") or {})
            kwargs["headers"]["Content-Type"] = payload.headers["Content-Type"]

        async def send(session: Any, method: str, target: Any, **options: Any) -> Any:
            # Sent as it was asked for: before aiohttp 3.12 a session with a base takes no whole URL.
            return await request(session, method, url if target == whole else target, **options)

        return await vcr_request(playback.cassette, send)(self, method, whole, **kwargs)

    return replayed


class _Buffer:
    """Takes what a payload of aiohttp would write to a connection."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, chunk: bytes) -> None:
        self.data += chunk


def _recording(record_response: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(record_response)
    async def recording(cassette: Any, request: Any, response: Any) -> Any:
        # What led to a redirect has been given back already, and is read by nobody.
        if not hasattr(type(cassette), "taps_itself") or response.closed:
            return await record_response(cassette, request, response)
        if (kept := cassette.record(request)) is not None:
            record(kept, response)
        return None

    return recording
