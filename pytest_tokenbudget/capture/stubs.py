"""vcrpy's stubs for clients that are not httpx, taught to let a live answer pass while it is recorded.

By themselves they read an answer to its end before the client gets its first byte. Cassettes of others keep that.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.aiohttp_client import record
from pytest_tokenbudget.capture.http_client import RECORDING
from pytest_tokenbudget.capture.playback import CassetteOfPlayback
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def hook_connections(stubs: ModuleType) -> None:
    """Teach the stub of ``http.client``'s connections, and with it urllib3, requests, botocore and httplib2."""
    wrap(stubs.VCRConnection, "request", _remembering)
    wrap(stubs.VCRConnection, "getresponse", _passing)


def hook_aiohttp(stubs: ModuleType) -> None:
    """Teach the stub of aiohttp."""
    wrap(stubs, "record_response", _recording)


_OPTIONS = "_tokenbudget_options"
_ABOUT_THE_ANSWER = ("preload_content", "decode_content", "enforce_content_length")


def _remembering(request: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(request)
    def remembering(self: Any, *args: Any, **kwargs: Any) -> Any:
        # urllib3 says here how it will read the answer, and vcrpy forgets it.
        setattr(self, _OPTIONS, {name: kwargs[name] for name in _ABOUT_THE_ANSWER if name in kwargs})
        return request(self, *args, **kwargs)

    return remembering


def _passing(getresponse: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(getresponse)
    def passing(self: Any, *args: Any, **kwargs: Any) -> Any:
        cassette, request = self.cassette, self._vcr_request
        if (
            not _is_ours(cassette)
            or cassette.can_play_response_for(request)
            or (cassette.write_protected and cassette.filter_request(request))
        ):
            return getresponse(self, *args, **kwargs)
        from vcr.patch import force_reset  # noqa: PLC0415 - it imports the module that is hooked here

        connection = self.real_connection
        with force_reset():  # the real connection makes others, which shall be real too
            if (deferred := self.__dict__.pop("_deferred_connect", None)) is not None:
                connection.connect(*deferred[0], **deferred[1])
            connection.request(
                method=request.method,
                url=self._url(request.uri),
                body=request.body_bytes,
                headers=request.headers,
                **self.__dict__.get(_OPTIONS, {}),
            )
        if (recording := cassette.record(request)) is not None:
            setattr(connection, RECORDING, recording)
        return connection.getresponse()

    return passing


def _recording(record_response: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(record_response)
    async def recording(cassette: Any, request: Any, response: Any) -> Any:
        # What led to a redirect has been given back already, and is read by nobody.
        if not _is_ours(cassette) or response.closed:
            return await record_response(cassette, request, response)
        if (kept := cassette.record(request)) is not None:
            record(kept, response)
        return None

    return recording


def _is_ours(cassette: Any) -> bool:
    return isinstance(cassette, CassetteOfPlayback) or hasattr(type(cassette), "taps_itself")
