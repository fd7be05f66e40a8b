"""Traffic of the clients that vcrpy serves: what its cassettes play back, and what they record.

httpx is seen in ``Client.send`` whoever answers, and live traffic of ``http.client`` and aiohttp below vcrpy. What is
left are the replays of every other client, and recordings of clients that nothing else sees (tornado).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.request_index import body_bytes
from pytest_tokenbudget.capture.tracked_request import begin, claim_live, current
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_LOADING = "_tokenbudget_loading"


def hook_cassette(cassette: ModuleType) -> None:
    """Tap vcrpy's own cassettes, as users and pytest-recording open them."""
    wrap(cassette.Cassette, "_load", _noted_load)
    wrap(cassette.Cassette, "append", _tapped_append)
    wrap(cassette.Cassette, "play_response", _tapped_play)


def _noted_load(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def noted(self: Any) -> Any:
        setattr(self, _LOADING, True)  # what is appended now comes from the file
        try:
            return load(self)
        finally:
            setattr(self, _LOADING, False)

    return noted


def _tapped_append(append: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(append)
    def tapped(self: Any, request: Any, response: Any) -> Any:
        if not getattr(self, _LOADING, False) and not _taps_itself(self):
            tap(request, response, replayed=False)
        return append(self, request, response)

    return tapped


def _tapped_play(play: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(play)
    def tapped(self: Any, request: Any) -> Any:
        response = play(self, request)
        if not _taps_itself(self):
            tap(request, response, replayed=True)
        return response

    return tapped


def _taps_itself(cassette: Any) -> bool:
    return hasattr(type(cassette), "taps_itself")


def tap(request: Any, response: dict[str, Any], *, replayed: bool, more_input_tokens: int | None = None) -> None:
    """Count an exchange of a cassette, unless its client's own tap counts it; then only note that it was replayed.

    Args:
        request: the request, as vcrpy has it.
        response: the answer to it, likewise.
        replayed: whether the answer is a recorded one.
        more_input_tokens: how many more the request has than the one that was recorded; ``None`` where it is the one.
    """
    tracked = current.get()
    if tracked is not None:
        tracked.replayed = replayed
        tracked.more_input_tokens = more_input_tokens
        return
    if not replayed and claim_live(request.method, request.uri):
        return
    tracked = begin(request.method, request.uri, body_bytes(request))
    if tracked is None:
        return
    tracked.replayed, tracked.sent = replayed, not replayed
    tracked.more_input_tokens = more_input_tokens
    body = (response.get("body") or {}).get("string") or b""
    headers = {
        str(name).lower(): values if isinstance(values, str) else ", ".join(map(str, values))
        for name, values in (response.get("headers") or {}).items()
    }
    tracked.answer(response["status"]["code"], headers)
    tracked.feed(body.encode() if isinstance(body, str) else bytes(body))
    tracked.finish(complete=True)
