"""Anthropic's messages, plain and streamed, wherever they are served: its own hosts, Vertex, Bedrock, proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.counts import UncountableError, build_usage, read_count, read_details
from pytest_tokenbudget.capture.wire.openai import read_error
from pytest_tokenbudget.capture.wire.prompts import build_text_prompt, build_tools, read_role, write_json
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage

_CUT = "the stream ended before its usage came"


def read_message(traffic: Traffic) -> Reading | None:
    """Read a message; ``None`` where neither request nor answer has the shape of one, as other services' have not."""
    if not _looks_answered(traffic) and not _looks_asked(traffic) and not traffic.unseen:
        return None
    usage, final = collect_usage(traffic)
    message = _find_message(traffic)
    model = read_text(message, "model")
    provider = name_provider(traffic.host, traffic.path, "") or "anthropic"
    why = read_error(traffic) or ("no usage was reported" if final else _CUT)
    return make_reading(
        traffic,
        measure=lambda: measure_usage(usage) if final else None,
        model=model,
        provider=provider,
        request_model=traffic.request_model or _read_vertex_model(traffic),
        prompt=build_prompt(traffic.request),
        outputs=collect_outputs(traffic),
        request_id=read_text(message, "id"),
        service_tier=_read_tier(usage),
        why_none=why,
    )


def read_text_completion(traffic: Traffic) -> Reading | None:
    """Read one of the old text completions, which report no usage."""
    prompt = traffic.request.get("prompt")
    asked = isinstance(prompt, str) and "max_tokens_to_sample" in traffic.request
    if not asked and not traffic.unseen:
        return None
    texts = [read_text(event.data, "completion") for event in traffic.events]
    return make_reading(
        traffic,
        measure=lambda: None,
        model=traffic.find_text("model"),
        provider=name_provider(traffic.host, traffic.path, "") or "anthropic",
        prompt=build_text_prompt(prompt),
        outputs=("".join(texts),) if texts and traffic.frames.intact else None,
        request_id=traffic.find_text("id"),
    )


def collect_usage(traffic: Traffic) -> tuple[dict[str, Any], bool]:
    """Return the usage of an answer, and whether it is the final one.

    A stream's ``message_start`` knows the input and only the first few tokens of the output; each count of a later
    ``message_delta`` is cumulative and takes its place.

    Source: Anthropic API documentation, streaming messages.
    """
    usage: dict[str, Any] = {}
    final = False
    for event in traffic.events:
        kind = read_text(event.data, "type")
        if kind == "message_start":
            usage |= read_details(read_details(event.data, "message"), "usage")
        elif kind == "message_delta":
            found = {key: value for key, value in read_details(event.data, "usage").items() if value is not None}
            usage |= found
            stopped = read_details(event.data, "delta").get("stop_reason") is not None
            final = final or (bool(found) and (traffic.complete or stopped))
        elif kind == "message" and "usage" in event.data:
            usage |= read_details(event.data, "usage")
            final = True
    return usage, final


def measure_usage(usage: Mapping[str, Any]) -> Usage | None:
    """Read a message's usage, whose ``input_tokens`` leave out what was read from and written to the cache.

    Raises:
        UncountableError: it can't be believed.

    Source: Anthropic API documentation, prompt caching.
    """
    if not usage:
        return None
    fresh = read_count(usage, "input_tokens")
    output = read_count(usage, "output_tokens")
    if fresh is None or output is None:
        raise UncountableError(f"no {'input' if fresh is None else 'output'} count was reported")
    cached = read_count(usage, "cache_read_input_tokens") or 0
    by_lifetime = read_details(usage, "cache_creation")
    hour = read_count(by_lifetime, "ephemeral_1h_input_tokens") or 0
    written = read_count(usage, "cache_creation_input_tokens")
    if written is None:
        written = hour + (read_count(by_lifetime, "ephemeral_5m_input_tokens") or 0)
    thinking = read_count(read_details(usage, "output_tokens_details"), "thinking_tokens", "reasoning_tokens") or 0
    return build_usage(
        input_tokens=fresh + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        # A delta may repeat the sum of the writes without their lifetimes.
        cache_write_1h_tokens=min(hour, written),
        output_tokens=output,
        reasoning_tokens=min(thinking, output),
    )


def collect_outputs(traffic: Traffic) -> tuple[str, ...] | None:
    """Return what the model wrote; ``None`` where it thought, since thinking is shown as a summary only."""
    texts: list[str] = []
    for event in traffic.events:
        data = event.data
        block = data.get("content_block")
        blocks = [block] if isinstance(block, dict) else read_objects(data, "content")
        for each in blocks:
            if read_text(each, "type") not in {"text", "tool_use"}:
                return None
            texts.append(_read_block(each))
        delta = read_details(data, "delta")
        texts.append(read_text(delta, "text") + read_text(delta, "partial_json"))
    return ("".join(texts),) if texts and traffic.frames.intact else None


def build_prompt(request: Mapping[str, Any]) -> Prompt | None:
    """Read the input of a request for a message."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return None
    parts: list[PromptPart] = []
    opaque = False
    system = request.get("system")
    blocks = read_objects(request, "system") if isinstance(system, list) else [{"type": "text", "text": system}]
    if text := "".join(read_text(block, "text") for block in blocks):
        parts.append(PromptPart("system", text))
    for message in messages:
        if not isinstance(message, dict):
            opaque = True
            continue
        content = message.get("content")
        blocks = (
            read_objects(message, "content") if isinstance(content, list) else [{"type": "text", "text": content}]
        )
        texts = []
        for block in blocks:
            if block.get("type") == "tool_result":
                text, hidden = _read_result(block)
                parts.append(PromptPart("tool", text))
            else:
                hidden = read_text(block, "type") not in {"text", "tool_use", "thinking"}
                texts.append(_read_block(block))
            opaque = opaque or hidden
        if any(texts):
            parts.append(PromptPart(read_role(message.get("role")), "".join(texts)))
    tools, hidden = build_tools(read_objects(request, "tools"))
    return Prompt(parts=(*parts, *tools), chat=True, opaque=opaque or hidden)


def _read_block(block: Mapping[str, Any]) -> str:
    if block.get("type") == "tool_use":
        given = block.get("input")
        return read_text(block, "name") + ((write_json(given) or "") if given else "")
    return read_text(block, "text") or read_text(block, "thinking")


def _read_result(block: Mapping[str, Any]) -> tuple[str, bool]:
    content = block.get("content")
    if isinstance(content, list):
        inner = read_objects(block, "content")
        return "".join(read_text(each, "text") for each in inner), any(each.get("type") != "text" for each in inner)
    return (content if isinstance(content, str) else ""), False


def _looks_answered(traffic: Traffic) -> bool:
    body = traffic.body
    if read_text(body, "type") == "message" and "role" in body and "content" in body:
        return True
    return any(event.data.get("type") == "message_start" for event in traffic.events[:5])


def _looks_asked(traffic: Traffic) -> bool:
    request = traffic.request
    model = "model" in request or "anthropic_version" in request
    return isinstance(request.get("messages"), list) and model and "max_tokens" in request


def _find_message(traffic: Traffic) -> Mapping[str, Any]:
    for event in traffic.events:
        if event.data.get("type") == "message":
            return event.data
        if event.data.get("type") == "message_start":
            return read_details(event.data, "message")
    return {}


def _read_vertex_model(traffic: Traffic) -> str:
    return traffic.segments[-1].rpartition(":")[0] if ":" in traffic.segments[-1] else ""


def _read_tier(usage: Mapping[str, Any]) -> str | None:
    """Return what sets the price: the tier, the fast mode, or the guarantee to stay in one country."""
    if speed := read_tier(usage.get("speed")):
        return speed
    if tier := read_tier(usage.get("service_tier")):
        return tier
    return "geo-us" if usage.get("inference_geo") == "us" else None
