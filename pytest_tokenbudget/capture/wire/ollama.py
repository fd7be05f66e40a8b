"""Ollama's own endpoints: chat, generation and embeddings, streamed as lines of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.counts import build_usage, read_count, read_details, settle_output
from pytest_tokenbudget.capture.wire.openai import read_error
from pytest_tokenbudget.capture.wire.prompts import build_chat_prompt, build_text_prompt, read_tool_calls
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_text
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Usage


def read_answer(traffic: Traffic) -> Reading | None:
    """Read a chat, a generation or an embedding.

    Source: Ollama API documentation, ``prompt_eval_count`` and ``eval_count`` of the last object.
    """
    last = traffic.events[-1].data if traffic.events else {}
    if read_text(last, "done_reason") in {"load", "unload"}:
        return None  # it only moved a model into memory or out
    embeds = traffic.segments[-1] in {"embed", "embeddings"}
    answered = "done" in traffic.body or (embeds and ("embeddings" in last or "embedding" in last))
    asked = "model" in traffic.request and any(key in traffic.request for key in ("messages", "prompt", "input"))
    if not answered and not (asked and ("error" in last or not traffic.events)):
        return None  # a chat of somebody else's: the path is a common one
    ended = embeds or last.get("done") is True
    why = read_error(traffic) or ("no usage was reported" if ended else "the stream ended before its usage came")
    return make_reading(
        traffic,
        measure=lambda: _measure(last, generates=not embeds) if ended else None,
        model=traffic.find_text("model"),
        provider="ollama",
        prompt=_build_prompt(traffic.request),
        outputs=() if embeds else _collect_outputs(traffic),
        why_none=why,
    )


def _measure(last: Mapping[str, Any], *, generates: bool) -> Usage | None:
    given = read_count(last, "prompt_eval_count")
    written = read_count(last, "eval_count")
    if given is None and written is None:
        return None
    if not generates:
        written = written or 0
    output = settle_output(input_tokens=given, output_tokens=written, total_tokens=None)
    return build_usage(input_tokens=given, output_tokens=output)


def _collect_outputs(traffic: Traffic) -> tuple[str, ...] | None:
    texts = []
    for event in traffic.events:
        message = read_details(event.data, "message")
        texts += [read_text(event.data, "thinking"), read_text(event.data, "response")]
        texts += [read_text(message, "thinking"), read_text(message, "content"), read_tool_calls(message)]
    return ("".join(texts),) if texts and traffic.frames.intact else None


def _build_prompt(request: Mapping[str, Any]) -> Prompt | None:
    if "messages" in request:
        return build_chat_prompt(request)
    prompt = build_text_prompt(request.get("prompt", request.get("input")))
    system = read_text(request, "system")
    if prompt is None or not (system or request.get("images") or request.get("context")):
        return prompt
    opaque = bool(request.get("images") or request.get("context"))
    parts = (PromptPart("system", system), *prompt.parts) if system else prompt.parts
    return Prompt(parts=parts, opaque=opaque)
