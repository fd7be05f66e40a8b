"""OpenAI's usage, which many servers speak too, and its endpoints besides chat and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.counts import (
    UncountableError,
    build_usage,
    read_count,
    read_details,
    settle_output,
)
from pytest_tokenbudget.capture.wire.prompts import build_text_prompt
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier
from pytest_tokenbudget.usage import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage


def measure_usage(usage: Any, *, generates: bool = True) -> Usage | None:
    """Read a ``usage`` object; ``None`` where it is absent, null or empty.

    Cached tokens are part of the input and reasoning is part of the output. xAI reports reasoning apart from the
    completion, but inside the total, so that the total's difference puts it where it belongs.

    Args:
        usage: the object.
        generates: whether the endpoint generates; where it only embeds, a lone total is the input.

    Raises:
        UncountableError: it can't be believed.

    Source: OpenAI API reference, ``CompletionUsage`` and ``ResponseUsage``; DeepSeek API reference, ``usage``.
    """
    if usage is None or usage == {}:
        return None
    if not isinstance(usage, dict):
        raise UncountableError("the reported usage is no object")
    if usage.get("type") == "duration" or ("seconds" in usage and "input_tokens" not in usage):
        raise UncountableError("billed by duration, not by token")
    prompt = read_count(usage, "prompt_tokens", "input_tokens")
    completion = read_count(usage, "completion_tokens", "output_tokens")
    total = read_count(usage, "total_tokens")
    if not (prompt or completion or total):
        raise UncountableError("the reported usage is all zero")
    if not generates:
        prompt = total if prompt is None else prompt
        completion = completion or 0
    details_in = read_details(
        usage, "prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"
    )
    details_out = read_details(
        usage,
        "completion_tokens_details",
        "completion_token_details",
        "output_tokens_details",
        "output_token_details",
    )
    cached = read_count(details_in, "cached_tokens")
    if cached is None:
        cached = read_count(
            usage, "prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens"
        )
    written = read_count(details_in, "cache_write_tokens", "cache_creation_tokens")
    if written is None:
        written = read_count(usage, "cache_creation_input_tokens")
    output = settle_output(input_tokens=prompt, output_tokens=completion, total_tokens=total)
    reasoning = read_count(details_out, "reasoning_tokens")
    if reasoning is None:
        reasoning = read_count(usage, "reasoning_tokens")
    return build_usage(
        input_tokens=prompt,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        # Routers count reasoning with another tokenizer than the output it is part of.
        reasoning_tokens=min(reasoning or 0, output),
        input_audio_tokens=read_count(details_in, "audio_tokens"),
        cached_input_audio_tokens=_read_cached_audio(details_in),
        output_audio_tokens=read_count(details_out, "audio_tokens"),
        input_image_tokens=read_count(details_in, "image_tokens"),
        output_image_tokens=read_count(details_out, "image_tokens"),
    )


def _read_cached_audio(details: Mapping[str, Any]) -> int | None:
    return read_count(read_details(details, "cached_tokens_details"), "audio_tokens")


def read_embeddings(traffic: Traffic) -> Reading | None:
    """Read an embeddings request."""
    answered = any("embedding" in each for event in traffic.events for each in read_objects(event.data, "data")[:1])
    given = traffic.request.get("input")
    if not answered and (given is None or isinstance(given, dict)) and not traffic.unseen:
        return None
    return make_reading(
        traffic,
        measure=lambda: measure_usage(traffic.body.get("usage"), generates=False),
        model=traffic.find_text("model"),
        prompt=build_text_prompt(given),
        outputs=() if answered else None,
        request_id=traffic.find_text("id"),
        service_tier=read_tier(traffic.body.get("service_tier")),
    )


def read_media(traffic: Traffic) -> Reading | None:
    """Read a request for images, a transcription or speech; only some models report usage for these."""
    asked = any(key in traffic.request for key in ("model", "prompt", "input"))
    if not asked and "usage" not in traffic.body and not name_provider(traffic.host, traffic.path, ""):
        return None
    found = [event.data["usage"] for event in traffic.events if event.data.get("usage") is not None]
    prompt = build_text_prompt(traffic.request.get("prompt", traffic.request.get("input")))
    opaque = "images" in traffic.segments or "transcriptions" in traffic.segments
    return make_reading(
        traffic,
        measure=lambda: measure_usage(found[-1] if found else None),
        model=traffic.find_text("model"),
        prompt=Prompt(opaque=True) if opaque or prompt is None else prompt,
        request_id=traffic.find_text("id"),
        service_tier=read_tier(traffic.find_text("service_tier")),
    )


def read_deployment(traffic: Traffic) -> str:
    """Return the name that a URL gives to what answers: an Azure deployment or a served model."""
    for marker in ("deployments", "engines", "serving-endpoints", "models"):
        if marker in traffic.segments:
            at = traffic.segments.index(marker) + 1
            rest = traffic.segments[at:]
            if marker == "models" and "chat" in rest:
                # Hugging Face's /models/<org>/<name>/v1/chat/completions
                cut = rest.index("v1") if "v1" in rest else rest.index("chat")
                return "/".join(rest[:cut])
            if rest and rest[0] not in {"chat", "completions", "embeddings", "responses"}:
                return rest[0]
    return ""


def read_error(traffic: Traffic) -> str | None:
    """Return the reason where an answer that says 200 holds an error instead, or an error event ended it."""
    for event in traffic.events:
        error = event.data.get("error")
        if error and not event.data.get("usage"):
            kind = read_text(error, "type") or read_text(error, "message") if isinstance(error, dict) else ""
            return f"an error came inside the answer{': ' + kind[:80] if kind else ''}"
        if event.name == "error" or event.data.get("type") == "error":
            return "an error came inside the answer"
    return None
