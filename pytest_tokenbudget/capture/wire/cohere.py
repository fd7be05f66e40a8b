"""Cohere: chat of both versions, generation and embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire import openai_chat
from pytest_tokenbudget.capture.wire.counts import build_usage, read_count, read_details, settle_output
from pytest_tokenbudget.capture.wire.prompts import build_chat_prompt, build_text_prompt, read_content
from pytest_tokenbudget.capture.wire.prompts import read_role as read_known_role
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage

_ASKING = ("message", "messages", "prompt", "texts", "inputs", "images")


def read_answer(traffic: Traffic) -> Reading | None:
    """Read a chat, a generation or an embedding; ``None`` where the answer does not count as Cohere's do."""
    if "choices" in traffic.body:
        return openai_chat.read_chat(traffic)  # another provider, which chose the same path
    usage = _find_usage(traffic)
    known = name_provider(traffic.host, traffic.path, "") == "cohere"
    asked = any(key in traffic.request for key in _ASKING)
    if usage is None and not (known and (asked or not traffic.readable)):
        return None
    embeds = traffic.segments[-1] == "embed"
    return make_reading(
        traffic,
        measure=lambda: measure_usage(usage, generates=not embeds),
        model=traffic.find_text("model"),
        provider=name_provider(traffic.host, traffic.path, "") or "cohere",
        prompt=_build_prompt(traffic.request),
        outputs=() if embeds else _collect_outputs(traffic),
        request_id=traffic.find_text("id", "response_id", "generation_id"),
        why_none="no usage was reported" if traffic.complete else "the stream ended before its usage came",
    )


def measure_usage(usage: Mapping[str, Any] | None, *, generates: bool = True) -> Usage | None:
    """Read Cohere's two counts: the billed one is the truth; what the model read besides is the provider's own.

    Raises:
        UncountableError: it can't be believed.

    Source: Cohere API reference, ``billed_units`` and ``tokens``.
    """
    if not usage:
        return None
    counts = read_details(usage, "billed_units") or read_details(usage, "tokens")
    if not counts:
        return None
    given = read_count(counts, "input_tokens")
    written = read_count(counts, "output_tokens")
    if not generates:
        written = written or 0
    return build_usage(
        input_tokens=given,
        input_image_tokens=read_count(counts, "image_tokens"),
        output_tokens=settle_output(input_tokens=given, output_tokens=written, total_tokens=None),
    )


def _find_usage(traffic: Traffic) -> Mapping[str, Any] | None:
    found = None
    for event in traffic.events:
        data = event.data
        # Where the parts are: v1, the end of a v1 stream, v2, the end of a v2 stream.
        for place in (
            read_details(data, "meta"),
            read_details(read_details(data, "response"), "meta"),
            read_details(data, "usage"),
            read_details(read_details(data, "delta"), "usage"),
        ):
            if "billed_units" in place or "tokens" in place:
                found = place
    return found


def _collect_outputs(traffic: Traffic) -> tuple[str, ...] | None:
    texts: list[str] = []
    for event in traffic.events:
        data = event.data
        if data.get("event_type") == "stream-end":
            continue
        texts.append(read_text(data, "text"))
        texts += [read_text(each, "text") for each in read_objects(data, "generations")]
        message = read_details(data, "message") or read_details(read_details(data, "delta"), "message")
        content = message.get("content")
        text, opaque = read_content([content] if isinstance(content, dict) else content)
        if opaque or message.get("tool_calls") or data.get("tool_calls"):
            return None
        texts.append(text)
    return ("".join(texts),) if any(texts) and traffic.frames.intact else None


def _build_prompt(request: Mapping[str, Any]) -> Prompt | None:
    if "messages" in request:
        return build_chat_prompt(request)
    if isinstance(request.get("message"), str):
        parts = [PromptPart("system", text)] if (text := read_text(request, "preamble")) else []
        for turn in read_objects(request, "chat_history"):
            spoken = "assistant" if turn.get("role") == "CHATBOT" else read_text(turn, "role").lower()
            parts.append(PromptPart(read_known_role(spoken), read_text(turn, "message")))
        parts.append(PromptPart("user", request["message"]))
        hidden = any(request.get(key) for key in ("conversation_id", "documents", "connectors", "tools"))
        return Prompt(parts=tuple(parts), chat=True, opaque=hidden)
    return build_text_prompt(next((request[key] for key in ("texts", "prompt") if key in request), None))
