"""Amazon Bedrock: Converse and InvokeModel, plain and as event streams; the model is in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire import anthropic, openai
from pytest_tokenbudget.capture.wire.counts import (
    UncountableError,
    build_usage,
    read_count,
    read_details,
    settle_output,
)
from pytest_tokenbudget.capture.wire.prompts import (
    build_chat_prompt,
    build_text_prompt,
    build_tools,
    read_role,
    write_json,
)
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage

_METRICS = "amazon-bedrock-invocationMetrics"
_HEADERS = {
    "inputTokens": "x-amzn-bedrock-input-token-count",
    "outputTokens": "x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": "x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": "x-amzn-bedrock-cache-write-input-token-count",
}
_ASKING = ("messages", "anthropic_version", "inputText", "prompt", "message", "texts", "inferenceConfig")
_MAX_DIGITS = 12
_CUT = "the stream ended before its usage came"


def read_conversation(traffic: Traffic) -> Reading | None:
    """Read Converse or ConverseStream, whose usage is in the answer, or in the stream's last event.

    Source: Amazon Bedrock API reference, ``TokenUsage``.
    """
    if not _looks_like_bedrock(traffic):
        return None
    found = [usage for event in traffic.events if (usage := read_details(event.data, "usage"))]
    tier = read_tier(read_details(traffic.events[-1].data, "serviceTier").get("type")) if traffic.events else None
    return make_reading(
        traffic,
        measure=lambda: measure_usage(found[-1] if found else None),
        provider="aws",
        request_model=read_model(traffic),
        prompt=_build_prompt(traffic.request),
        outputs=_collect_outputs(traffic),
        request_id=traffic.headers.get("x-amzn-requestid"),
        service_tier=tier,
        why_none=_explain(traffic),
    )


def read_invocation(traffic: Traffic) -> Reading | None:
    """Read InvokeModel: the answer speaks the format of the model's maker; if that counts nothing, the headers do."""
    if not _looks_like_bedrock(traffic):
        return None
    request = traffic.request
    chat = anthropic.build_prompt(request) if "anthropic_version" in request else build_chat_prompt(request)
    text = next((request[key] for key in ("prompt", "inputText", "message") if key in request), None)
    return make_reading(
        traffic,
        measure=lambda: _measure_invocation(traffic),
        provider="aws",
        request_model=read_model(traffic),
        prompt=chat or build_text_prompt(text),
        request_id=traffic.headers.get("x-amzn-requestid"),
        service_tier=read_tier(traffic.headers.get("x-amzn-bedrock-service-tier")),
        why_none=_explain(traffic),
    )


def read_model(traffic: Traffic) -> str:
    """Return the model that the URL names, be it an id, one with a region in front, or the end of an ARN."""
    at = traffic.segments.index("model")
    model = "/".join(traffic.segments[at + 1 : -1])
    kind, _, name = model.rpartition("/")
    # The names of application profiles and provisioned models are made up by AWS: they stay whole.
    known = kind.endswith((":foundation-model", ":inference-profile"))
    return name if known else model


def measure_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Read Bedrock's own usage, whose ``inputTokens`` leave out what was read from and written to the cache.

    Raises:
        UncountableError: it can't be believed.
    """
    if not usage:
        return None
    fresh = read_count(usage, "inputTokens", "inputTokenCount")
    cached = read_count(usage, "cacheReadInputTokens", "cacheReadInputTokenCount") or 0
    written = read_count(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount") or 0
    lifetimes = read_objects(usage, "cacheDetails")
    hour = sum(read_count(each, "inputTokens") or 0 for each in lifetimes if each.get("ttl") == "1h")
    output = read_count(usage, "outputTokens", "outputTokenCount")
    total = read_count(usage, "totalTokens")
    if not any((fresh, cached, written, output, total)):
        raise UncountableError("the reported usage is all zero")
    whole_input = None if fresh is None else fresh + cached + written
    return build_usage(
        input_tokens=whole_input,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hour, written),
        output_tokens=settle_output(input_tokens=whole_input, output_tokens=output, total_tokens=total),
    )


def _looks_like_bedrock(traffic: Traffic) -> bool:
    """Whether the path names a model, and anything else speaks for AWS: an ``/invoke`` alone says little."""
    if "model" not in traffic.segments[:-2]:
        return False
    if traffic.host.endswith(".amazonaws.com") or "x-amzn-requestid" in traffic.headers:
        return True
    return any(key in traffic.request for key in _ASKING)


def _measure_invocation(traffic: Traffic) -> Usage | None:
    usage = _measure_body(traffic)
    if usage is not None:
        return usage
    for event in reversed(traffic.events):
        if metrics := read_details(event.data, _METRICS):
            return measure_usage(metrics)
    return measure_usage(_read_headers(traffic.headers))


def _measure_body(traffic: Traffic) -> Usage | None:
    """Read the usage in the format of the model's maker.

    It comes before Bedrock's metrics at the end of a stream, which for calls of tools say less than the headers say
    of the same answer unstreamed.
    """
    usage, final = anthropic.collect_usage(traffic)
    if usage:
        return anthropic.measure_usage(usage) if final else None
    for event in reversed(traffic.events):
        data = event.data
        found = read_details(data, "usage") or read_details(read_details(data, "metadata"), "usage")
        if "inputTokens" in found:
            return measure_usage(found)
        if "prompt_tokens" in found or "total_tokens" in found:
            return openai.measure_usage(found)
        if "prompt_token_count" in data and not traffic.frames.streamed:
            return _count_parts(read_count(data, "prompt_token_count"), read_count(data, "generation_token_count"))
        if "inputTextTokenCount" in data and not traffic.frames.streamed:
            results = [read_count(each, "tokenCount") for each in read_objects(data, "results")]
            # Titan's embeddings have no results at all.
            output = None if None in results else sum(each or 0 for each in results)
            return _count_parts(read_count(data, "inputTextTokenCount"), output)
    return None


def _count_parts(given: int | None, written: int | None) -> Usage:
    output = settle_output(input_tokens=given, output_tokens=written, total_tokens=None)
    return build_usage(input_tokens=given, output_tokens=output)


def _read_headers(headers: Mapping[str, str]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for name, header in _HEADERS.items():
        text = headers.get(header)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise UncountableError(f"the header {header} is no count")
        counts[name] = int(text)
    if "inputTokens" in counts and "outputTokens" not in counts:
        counts["outputTokens"] = 0  # embeddings
    return counts


def _explain(traffic: Traffic) -> str:
    for event in traffic.events:
        if event.name.endswith("Exception"):
            return f"an error came inside the answer: {event.name[:80]}"
    return "no usage was reported" if traffic.whole else _CUT


def _collect_outputs(traffic: Traffic) -> tuple[str, ...] | None:
    message = read_details(read_details(traffic.body, "output"), "message")
    blocks: list[Mapping[str, Any]] = [*read_objects(message, "content")]
    for event in traffic.events:
        blocks += [each for key in ("delta", "start") if (each := read_details(event.data, key))]
    texts, opaque = _read_blocks(blocks)
    return (texts,) if blocks and not opaque and traffic.frames.intact else None


def _read_blocks(blocks: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    texts = []
    opaque = False
    for block in blocks:
        call = block.get("toolUse")
        if isinstance(call, dict):
            given = call.get("input")
            text = given if isinstance(given, str) else (write_json(given) or "") if given else ""
            texts.append(read_text(call, "name") + text)
        elif isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif "cachePoint" not in block:
            opaque = True
    return "".join(texts), opaque


def _build_prompt(request: Mapping[str, Any]) -> Prompt | None:
    if not isinstance(request.get("messages"), list):
        return None
    parts: list[PromptPart] = []
    text, opaque = _read_blocks(read_objects(request, "system"))
    if text:
        parts.append(PromptPart("system", text))
    for message in read_objects(request, "messages"):
        blocks = read_objects(message, "content")
        results = [read_details(each, "toolResult") for each in blocks if "toolResult" in each]
        for result in results:
            text, hidden = _read_blocks(
                [
                    {"text": write_json(each["json"]) or ""} if "json" in each else each
                    for each in read_objects(result, "content")
                ]
            )
            opaque = opaque or hidden
            parts.append(PromptPart("tool", text))
        text, hidden = _read_blocks([each for each in blocks if "toolResult" not in each])
        opaque = opaque or hidden
        if text:
            parts.append(PromptPart(read_role(message.get("role")), text))
    tools, hidden = build_tools(read_objects(read_details(request, "toolConfig"), "tools"))
    return Prompt(parts=(*parts, *tools), chat=True, opaque=opaque or hidden)
