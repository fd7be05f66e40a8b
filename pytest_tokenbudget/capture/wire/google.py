"""Google's Gemini, on its own API and on Vertex: generation, streams and embeddings; the model is in the URL."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire import anthropic, openai_chat
from pytest_tokenbudget.capture.wire.counts import (
    UncountableError,
    build_usage,
    read_count,
    read_details,
    settle_output,
)
from pytest_tokenbudget.capture.wire.prompts import build_tools, join_outputs, read_role, write_json
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Role, Usage

_EMBEDDINGS = ("embedding", "embeddings", "predictions")


def read_generation(traffic: Traffic) -> Reading | None:
    """Read a request that generates content.

    A stream repeats a usage that grows; the last one is its sum. It is believed where the stream came whole or a
    candidate had finished.

    Source: Gemini API reference, ``GenerateContentResponse.UsageMetadata``.
    """
    found: dict[str, Any] | None = None
    finished = False
    for event in traffic.events:
        usage = _read_metadata(event.data)
        finished = finished or any(each.get("finishReason") for each in read_objects(event.data, "candidates"))
        if usage:
            found = usage
    answered = found is not None or any("candidates" in event.data for event in traffic.events[:3])
    if not answered and "contents" not in traffic.request and not traffic.unseen:
        return None
    final = traffic.complete or finished
    return _make_reading(
        traffic,
        usage=found if final else None,
        prompt=_build_prompt(traffic.request),
        outputs=_collect_outputs(traffic),
        why_none="no usage was reported" if final else "the stream ended before its usage came",
    )


def read_embedding(traffic: Traffic) -> Reading | None:
    """Read a request that embeds; some models report usage, others only bill it."""
    asked = any(key in traffic.request for key in ("content", "requests", "contents"))
    if not asked and not any(key in traffic.body for key in _EMBEDDINGS) and not traffic.unseen:
        return None
    requests = read_objects(traffic.request, "requests") or [dict(traffic.request)]
    texts = [_read_parts(read_details(each, "content")) for each in requests]
    prompt = Prompt(
        parts=tuple(PromptPart("user", text) for text, _ in texts), opaque=any(opaque for _, opaque in texts)
    )
    usage = _read_metadata(traffic.body)
    return _make_reading(traffic, usage=usage, prompt=prompt if asked else None, outputs=(), generates=False)


def read_prediction(traffic: Traffic) -> Reading | None:
    """Read Vertex's predictions of Google's own models: of text embeddings, each says how many tokens it took."""
    if "publishers" not in traffic.segments or ("instances" not in traffic.request and not traffic.unseen):
        return None
    predictions = read_objects(traffic.body, "predictions")
    statistics = [read_details(read_details(each, "embeddings"), "statistics") for each in predictions]
    texts = [read_text(each, "content") for each in read_objects(traffic.request, "instances")]
    prompt = Prompt(parts=tuple(PromptPart("user", text) for text in texts), opaque=not all(texts))

    def measure() -> Usage | None:
        counts = [read_count(each, "token_count") for each in statistics]
        if not counts or None in counts:
            return None
        return build_usage(input_tokens=sum(count or 0 for count in counts))

    return make_reading(
        traffic,
        measure=measure,
        provider=_name_provider(traffic),
        request_model=read_model(traffic),
        prompt=prompt if texts else None,
        outputs=() if statistics and all(statistics) else None,
    )


def read_partner(traffic: Traffic) -> Reading | None:
    """Read Vertex's raw predictions, which speak the format of the model's maker."""
    if "anthropic" in traffic.segments:
        return anthropic.read_message(traffic)
    if "publishers" in traffic.segments:
        return openai_chat.read_chat(traffic)
    return None


def read_model(traffic: Traffic) -> str:
    """Return the model that the URL names before the verb."""
    return traffic.segments[-1].rpartition(":")[0]


def measure_usage(usage: Mapping[str, Any] | None, *, generates: bool = True) -> Usage | None:
    """Read ``usageMetadata``: thoughts come apart from the candidates, results of tools apart from the prompt.

    A count that is zero is left out of the answer.

    Raises:
        UncountableError: it can't be believed.
    """
    if not usage:
        return None
    prompt = read_count(usage, "promptTokenCount", "inputTokenCount")
    candidates = read_count(usage, "candidatesTokenCount", "responseTokenCount")
    thoughts = read_count(usage, "thoughtsTokenCount")
    tools = read_count(usage, "toolUsePromptTokenCount") or 0
    total = read_count(usage, "totalTokenCount")
    if not generates:
        prompt = total if prompt is None else prompt
        candidates, total = 0, None
    if prompt is None and candidates is None and thoughts is None and total:
        raise UncountableError("only a total was reported")
    whole_input = (prompt or 0) + tools
    written = None if candidates is None and thoughts is None and total else (candidates or 0) + (thoughts or 0)
    output = settle_output(input_tokens=whole_input, output_tokens=written, total_tokens=total)
    return build_usage(
        input_tokens=whole_input,
        cached_input_tokens=read_count(usage, "cachedContentTokenCount"),
        output_tokens=output,
        reasoning_tokens=thoughts,
        input_audio_tokens=_sum_modality(usage, "AUDIO", "promptTokensDetails", "toolUsePromptTokensDetails"),
        cached_input_audio_tokens=_sum_modality(usage, "AUDIO", "cacheTokensDetails"),
        output_audio_tokens=_sum_modality(usage, "AUDIO", "candidatesTokensDetails"),
        output_image_tokens=_sum_modality(usage, "IMAGE", "candidatesTokensDetails"),
    )


def _make_reading(  # noqa: PLR0913 - keyword-only
    traffic: Traffic,
    *,
    usage: dict[str, Any] | None,
    prompt: Prompt | None,
    outputs: tuple[str, ...] | None,
    generates: bool = True,
    why_none: str = "no usage was reported",
) -> Reading:
    tier = read_tier((usage or {}).get("serviceTier"))
    if tier is None:
        # Vertex: ON_DEMAND, ON_DEMAND_PRIORITY, ON_DEMAND_FLEX, PROVISIONED_THROUGHPUT
        tier = read_tier(
            read_text(usage or {}, "trafficType").removeprefix("TRAFFIC_TYPE_").removeprefix("ON_DEMAND_")
        )
    return make_reading(
        traffic,
        measure=lambda: measure_usage(usage, generates=generates),
        model=traffic.find_text("modelVersion", "model_version"),
        provider=_name_provider(traffic),
        request_model=read_model(traffic),
        prompt=prompt,
        outputs=outputs,
        request_id=traffic.find_text("responseId"),
        service_tier=tier,
        why_none=why_none,
    )


def _name_provider(traffic: Traffic) -> str:
    return name_provider(traffic.host, traffic.path, "") or "google"


def _read_metadata(data: Mapping[str, Any]) -> dict[str, Any] | None:
    usage = data.get("usageMetadata", data.get("usage_metadata"))
    return usage if isinstance(usage, dict) and usage else None


def _sum_modality(usage: Mapping[str, Any], modality: str, *names: str) -> int:
    details = [each for name in names for each in read_objects(usage, name) if each.get("modality") == modality]
    return sum(read_count(each, "tokenCount") or 0 for each in details)


def _collect_outputs(traffic: Traffic) -> tuple[str, ...] | None:
    texts: dict[int, list[str]] = defaultdict(list)
    for event in traffic.events:
        for candidate in read_objects(event.data, "candidates"):
            text, opaque = _read_parts(read_details(candidate, "content"))
            if opaque:
                return None
            index = candidate.get("index")
            number = index if type(index) is int else 0
            texts[number].append(text)
    return join_outputs(texts) if texts and traffic.frames.intact else None


def _read_parts(content: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the text of a content's parts, and whether some are no text or a summary of thoughts."""
    texts = []
    opaque = False
    for part in read_objects(content, "parts"):
        call = part.get("functionCall", part.get("functionResponse"))
        if isinstance(call, dict):
            given = call.get("args", call.get("response"))
            texts.append(read_text(call, "name") + (write_json(given) or ""))
        elif isinstance(part.get("text"), str) and not part.get("thought"):
            texts.append(part["text"])
        else:
            opaque = True
    return "".join(texts), opaque


def _build_prompt(request: Mapping[str, Any]) -> Prompt | None:
    contents = request.get("contents")
    if not isinstance(contents, list):
        return None
    parts = []
    opaque = bool(request.get("cachedContent"))
    system = read_details(request, "systemInstruction", "system_instruction")
    for content in [dict(system) | {"role": "system"}, *read_objects(request, "contents")]:
        text, hidden = _read_parts(content)
        opaque = opaque or hidden
        answers = any("functionResponse" in part for part in read_objects(content, "parts"))
        role: Role = "tool" if answers else read_role(content.get("role"))
        if text:
            parts.append(PromptPart(role, text))
    declared = [
        each for tool in read_objects(request, "tools") for each in read_objects(tool, "functionDeclarations")
    ]
    tools, hidden = build_tools(declared)
    return Prompt(parts=(*parts, *tools), chat=True, opaque=opaque or hidden)
