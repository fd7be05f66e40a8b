"""OpenAI's responses API: plain, streamed, and in the background."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.openai import measure_usage, read_deployment, read_error
from pytest_tokenbudget.capture.wire.openai_chat import hides_reasoning
from pytest_tokenbudget.capture.wire.prompts import build_schema, build_tools, read_content, read_role, write_json
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic

_OBJECTS = frozenset({"response", "response.compaction"})
_UNFINISHED = frozenset({"queued", "in_progress"})
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_CONTEXTS = ("previous_response_id", "conversation", "prompt")


def read_response(traffic: Traffic) -> Reading | None:
    """Read a response, a receipt for one that is made in the background, or a later look at such a one.

    Source: OpenAI API reference, ``Response`` and its streaming events; only the last event of a stream has usage.
    """
    response, terminal = _find_response(traffic)
    if not response and not _looks_asked(traffic) and not traffic.unseen:
        return None
    status = read_text(response, "status")
    usage = response.get("usage")
    pending = (
        usage is None
        and status in _UNFINISHED
        and (not traffic.frames.streamed or (not terminal and response.get("background") is True))
    )
    outputs = _collect_items(response) if terminal else _collect_deltas(traffic)
    model = read_text(response, "model")
    if not model and not traffic.request_model:
        model = read_deployment(traffic)
    reading = make_reading(
        traffic,
        measure=lambda: measure_usage(usage),
        model=model,
        prompt=_build_prompt(traffic.request) if traffic.method == "POST" and traffic.readable else None,
        outputs=None if pending or hides_reasoning(model or traffic.request_model, traffic.request) else outputs,
        request_id=read_text(response, "id"),
        service_tier=read_tier(response.get("service_tier")),
        why_none=_explain(traffic, status, pending=pending),
    )
    return replace(reading, pending=True) if pending else reading


def _find_response(traffic: Traffic) -> tuple[Mapping[str, Any], bool]:
    """Return the last state of the response, and whether it is its end."""
    found: Mapping[str, Any] = {}
    terminal = False
    for event in traffic.events:
        inner = event.data.get("response")
        if isinstance(inner, dict):
            kind = read_text(event.data, "type") or event.name
            ended = kind in _TERMINAL
            if ended or not terminal:
                found, terminal = inner, ended
        elif read_text(event.data, "object") in _OBJECTS:
            found = event.data
            terminal = read_text(event.data, "status") not in _UNFINISHED
    return found, terminal


def _looks_asked(traffic: Traffic) -> bool:
    request = traffic.request
    if traffic.method != "POST" or not traffic.segments or traffic.segments[-1] == "cancel":
        return False
    return isinstance(request.get("model"), str) and any(
        key in request for key in ("input", "prompt", "instructions")
    )


def _explain(traffic: Traffic, status: str, *, pending: bool) -> str:
    if pending:
        return "the response is made in the background"
    if error := read_error(traffic):
        return error
    if not traffic.complete:
        return "the stream ended before its usage came"
    return f"no usage was reported (status {status[:20]})" if status else "no usage was reported"


def _collect_items(response: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the one text that a response generated; ``None`` where it reasoned or ran tools out of sight."""
    texts = []
    for item in read_objects(response, "output"):
        kind = read_text(item, "type")
        if kind == "message":
            text, opaque = read_content(item.get("content"))
            if opaque:
                return None
            texts.append(text)
        elif kind in {"function_call", "custom_tool_call"}:
            texts.append(_read_call(item))
        else:
            return None
    return ("".join(texts),) if texts else None


def _collect_deltas(traffic: Traffic) -> tuple[str, ...] | None:
    """Return what a stream had generated when it ended without its last event."""
    texts = []
    for event in traffic.events:
        kind = read_text(event.data, "type") or event.name
        if kind == "response.output_item.added":
            item = event.data.get("item")
            if not isinstance(item, dict) or read_text(item, "type") not in {
                "message",
                "function_call",
                "custom_tool_call",
            }:
                return None
            texts.append(read_text(item, "name"))
        elif kind.endswith(".delta"):
            texts.append(read_text(event.data, "delta"))
    return ("".join(texts),) if texts and traffic.frames.intact else None


def _read_call(item: Mapping[str, Any]) -> str:
    return read_text(item, "name") + (read_text(item, "arguments") or read_text(item, "input"))


def _build_prompt(request: Mapping[str, Any]) -> Prompt:
    parts: list[PromptPart] = []
    if instructions := read_text(request, "instructions"):
        parts.append(PromptPart("system", instructions))
    opaque = any(request.get(key) for key in _CONTEXTS)
    given = request.get("input")
    if isinstance(given, str):
        parts.append(PromptPart("user", given))
    elif isinstance(given, list):
        for item in given:
            part = _build_part(item)
            opaque = opaque or part is None
            if part is not None:
                parts.append(part)
    elif given is not None:
        opaque = True
    tools = []
    for tool in read_objects(request, "tools"):
        # Tools that the provider runs put text of their own into the input.
        opaque = opaque or read_text(tool, "type") not in {"function", "custom"}
        body = {key: value for key, value in tool.items() if key != "type"}
        tools.append({"type": "function", "function": body} if tool.get("type") == "function" else tool)
    built, hidden = build_tools(tools)
    text = request.get("text")
    schema = build_schema(text.get("format") if isinstance(text, dict) else None)
    return Prompt(parts=(*parts, *built, *schema), chat=True, opaque=opaque or hidden)


def _build_part(item: Any) -> PromptPart | None:
    if isinstance(item, str):
        return PromptPart("user", item)
    if not isinstance(item, dict):
        return None
    kind = read_text(item, "type") or "message"
    if kind == "message":
        text, opaque = read_content(item.get("content"))
        return None if opaque else PromptPart(read_role(item.get("role")), text)
    if kind in {"function_call", "custom_tool_call"}:
        return PromptPart("assistant", _read_call(item))
    return _build_tool_part(item) if kind in {"function_call_output", "custom_tool_call_output"} else None


def _build_tool_part(item: Mapping[str, Any]) -> PromptPart | None:
    output = item.get("output")
    text, opaque = (write_json(output) or "", False) if isinstance(output, dict) else read_content(output)
    return None if opaque else PromptPart("tool", text)
