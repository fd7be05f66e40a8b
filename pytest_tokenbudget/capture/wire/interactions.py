"""Google's interactions API: like the responses API of others, with counts of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.counts import build_usage, read_count, read_details, settle_output
from pytest_tokenbudget.capture.wire.openai import read_error
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_text, read_tier
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage

_UNFINISHED = frozenset({"queued", "in_progress"})


def read_interaction(traffic: Traffic) -> Reading | None:
    """Read an interaction, or a later look at one that is made in the background."""
    found = _find_interaction(traffic)
    asked = "input" in traffic.request and ("model" in traffic.request or "agent" in traffic.request)
    if not found and not asked and not traffic.unseen:
        return None
    usage = read_details(found, "usage")
    pending = not usage and read_text(found, "status") in _UNFINISHED and not traffic.frames.streamed
    given = traffic.request.get("input")
    parts = (PromptPart("user", given),) if isinstance(given, str) else ()
    reading = make_reading(
        traffic,
        measure=lambda: _measure(usage),
        model=read_text(found, "model"),
        provider=name_provider(traffic.host, traffic.path, "") or "google",
        prompt=Prompt(parts=parts, chat=True, opaque=not parts or len(traffic.request) > len({"model", "input"})),
        request_id=read_text(found, "id"),
        service_tier=read_tier(found.get("service_tier")),
        why_none="the interaction is made in the background"
        if pending
        else read_error(traffic) or "no usage was reported",
    )
    return replace(reading, pending=True) if pending else reading


def _find_interaction(traffic: Traffic) -> Mapping[str, Any]:
    found: Mapping[str, Any] = {}
    for event in traffic.events:
        inner = event.data.get("interaction")
        if isinstance(inner, dict):
            found = {**found, **inner}
        elif event.data.get("object") == "interaction" or "total_input_tokens" in read_details(event.data, "usage"):
            found = event.data
    return found


def _measure(usage: Mapping[str, Any]) -> Usage | None:
    if not usage:
        return None
    given = read_count(usage, "total_input_tokens")
    tools = read_count(usage, "total_tool_use_tokens") or 0
    thoughts = read_count(usage, "total_thought_tokens", "total_reasoning_tokens")
    written = read_count(usage, "total_output_tokens")
    whole_input = None if given is None else given + tools
    whole_output = None if written is None and thoughts is None else (written or 0) + (thoughts or 0)
    total = read_count(usage, "total_tokens")
    return build_usage(
        input_tokens=whole_input,
        cached_input_tokens=read_count(usage, "total_cached_tokens"),
        output_tokens=settle_output(input_tokens=whole_input, output_tokens=whole_output, total_tokens=total),
        reasoning_tokens=thoughts,
    )
