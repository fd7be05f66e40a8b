"""The table that routes: which family reads a request, by the end of its path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.capture.wire import (
    anthropic,
    bedrock,
    cohere,
    google,
    interactions,
    ollama,
    openai,
    openai_chat,
    responses,
)
from pytest_tokenbudget.capture.wire.traffic import split_url, take_apart

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tokenbudget.capture.wire.exchange import Exchange, Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic

    Family = Callable[[Traffic], Reading | None]

# The last two segments of a path decide before the last one alone.
_ENDINGS: dict[str, Family] = {
    "chat/completions": openai_chat.read_chat,
    "fim/completions": openai_chat.read_chat,
    "agents/completions": openai_chat.read_chat,
    "completions": openai_chat.read_completion,
    "edits": openai_chat.read_completion,
    "responses": responses.read_response,
    "responses/compact": responses.read_response,
    "embeddings": openai.read_embeddings,
    "audio/transcriptions": openai.read_media,
    "audio/translations": openai.read_media,
    "audio/speech": openai.read_media,
    "images/generations": openai.read_media,
    "images/edits": openai.read_media,
    "images/variations": openai.read_media,
    "invocations": openai_chat.read_served,
    "interactions": interactions.read_interaction,
    "messages": anthropic.read_message,
    "complete": anthropic.read_text_completion,
    "converse": bedrock.read_conversation,
    "converse-stream": bedrock.read_conversation,
    "invoke": bedrock.read_invocation,
    "invoke-with-response-stream": bedrock.read_invocation,
    "api/chat": ollama.read_answer,
    "api/generate": ollama.read_answer,
    "api/embed": ollama.read_answer,
    "api/embeddings": ollama.read_answer,
    "v1/chat": cohere.read_answer,
    "v2/chat": cohere.read_answer,
    "v1/generate": cohere.read_answer,
    "v1/embed": cohere.read_answer,
    "v2/embed": cohere.read_answer,
}
_VERBS: dict[str, Family] = {
    "generateContent": google.read_generation,
    "streamGenerateContent": google.read_generation,
    "embedContent": google.read_embedding,
    "batchEmbedContents": google.read_embedding,
    "predict": google.read_prediction,
    "rawPredict": google.read_partner,
    "streamRawPredict": google.read_partner,
}
# Work that is made in the background, and asked for again.
_LOOKS: dict[str, Family] = {"responses": responses.read_response, "interactions": interactions.read_interaction}
_SUCCESS = range(200, 300)


def recognise(method: str, url: str) -> bool:
    """Whether a request could be one to a model, by its method and path alone; called for every request of a run."""
    return _find_family(method, url.partition("?")[0].partition("#")[0]) is not None


def read(exchange: Exchange) -> Reading | None:
    """Read model and usage off an exchange; ``None`` where it is no model request that is billed.

    Never raises, whatever the bytes are: an answer that can't be read or believed has no usage, and a reason.
    """
    family = _find_family(exchange.method, split_url(exchange.url)[1])
    if family is None or exchange.status not in _SUCCESS:
        return None
    return family(take_apart(exchange))


def _find_family(method: str, path: str) -> Family | None:
    method = method.upper()  # aiohttp's callers spell it as they like
    head, _, last = path.rstrip("/").rpartition("/")
    above = head.rpartition("/")[2]
    if method == "POST":
        family = _ENDINGS.get(f"{above}/{last}") or _ENDINGS.get(last)
        if family is not None:
            return family
        if ":" in last:
            return _VERBS.get(last.rpartition(":")[2])
        # A response that is made in the background can be called off, which answers with what it took.
        return responses.read_response if last == "cancel" and "/responses/" in head else None
    return _LOOKS.get(above) if method == "GET" else None
