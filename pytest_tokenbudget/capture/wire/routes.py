"""The table that routes: which family reads a request, by the end of its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.capture.wire import openai, openai_chat, responses
from pytest_tokenbudget.capture.wire.traffic import split_url, take_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tokenbudget.capture.wire.exchange import Exchange, Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic

    Family = Callable[[Traffic], Reading | None]

_ENDINGS: dict[str, Family] = {
    "/chat/completions": openai_chat.read_chat,
    "/completions": openai_chat.read_completion,
    "/edits": openai_chat.read_completion,
    "/responses": responses.read_response,
    "/responses/compact": responses.read_response,
    "/embeddings": openai.read_embeddings,
    "/audio/transcriptions": openai.read_media,
    "/audio/translations": openai.read_media,
    "/audio/speech": openai.read_media,
    "/images/generations": openai.read_media,
    "/images/edits": openai.read_media,
    "/images/variations": openai.read_media,
}


def recognise(method: str, url: str) -> bool:
    """Whether a request could be one to a model, by its method and path alone; called for every request of a run."""
    return _find_family(method, split_url(url)[1]) is not None


def read(exchange: Exchange) -> Reading | None:
    """Read model and usage off an exchange; ``None`` where it is no model request that is billed.

    Never raises, whatever the bytes are: an answer that can't be read or believed has no usage, and a reason.
    """
    family = _find_family(exchange.method, split_url(exchange.url)[1])
    if family is None or not 200 <= exchange.status < 300:  # noqa: PLR2004 - the range of success
        return None
    return family(take_apart(exchange))


def _find_family(method: str, path: str) -> Family | None:
    path = path.rstrip("/")
    head, _, last = path.rpartition("/")
    if method == "GET" or (last == "cancel" and method == "POST"):
        # Background work of the responses API: asked for again, or called off.
        parent = head if method == "POST" else path
        return responses.read_response if parent.rpartition("/")[0].endswith("/responses") else None
    if method != "POST":
        return None
    return _ENDINGS.get(head[head.rfind("/") :] + "/" + last) or _ENDINGS.get("/" + last)
