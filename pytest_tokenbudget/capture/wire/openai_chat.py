"""Chat completions and legacy completions, of OpenAI and of every server that speaks their format."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.openai import measure_usage, read_deployment, read_embeddings, read_error
from pytest_tokenbudget.capture.wire.prompts import (
    build_chat_prompt,
    build_text_prompt,
    join_outputs,
    read_tool_calls,
)
from pytest_tokenbudget.capture.wire.traffic import make_reading, read_objects, read_text, read_tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.usage import Prompt, Usage

_CUT = "the stream ended before its usage came"
_HIDDEN_REASONING = re.compile(
    r"(?:[\w.-]+/)*(?:ft:)?(?:o\d+(?:-|:|$)|gpt-(?:[5-9]|\d{2})(?!.*-chat)|codex-|grok-[4-9])"
)
_CHAT_KEYS = ("content", "refusal")
_REASONING_KEYS = ("reasoning_content", "reasoning")
_OPAQUE_KEYS = ("audio", "images")


def read_chat(traffic: Traffic) -> Reading | None:
    """Read a chat completion."""
    asked = isinstance(traffic.request.get("messages"), list)
    if not asked and not _looks_answered(traffic) and not traffic.unseen:
        return None
    return _read(traffic, build_chat_prompt(traffic.request), _collect_messages(traffic))


def read_completion(traffic: Traffic) -> Reading | None:
    """Read a legacy completion (also an edit), which may answer several prompts at once."""
    asked = "prompt" in traffic.request or "instruction" in traffic.request
    if not asked and not _looks_answered(traffic) and not traffic.unseen:
        return None
    given = traffic.request.get("prompt")
    if given is None:
        given = traffic.request.get("input")
    return _read(traffic, build_text_prompt(given), _collect_texts(traffic))


def read_served(traffic: Traffic) -> Reading | None:
    """Read a request to a served model, whose path does not tell what it is for: chat, completion or embedding."""
    if isinstance(traffic.request.get("messages"), list) or "choices" in traffic.body:
        return read_chat(traffic)
    if "usage" not in traffic.body:
        return None
    return read_embeddings(traffic) if "data" in traffic.body else read_completion(traffic)


def measure_events(traffic: Traffic) -> Usage | None:
    """Return the last usage among an answer's events; ``None`` where there is none, or it is not yet the final one.

    Servers that repeat a growing usage on every event make a cut stream's last one a lower bound only: it is believed
    where every choice had finished, or where it came on an event of its own, after the choices.
    """
    found: Any = None
    final = traffic.complete
    running: set[int] = set()
    finished = False
    for event in traffic.events:
        choices = read_objects(event.data, "choices")
        for choice in choices:
            index = _read_index(choice)
            if choice.get("finish_reason") is None:
                running.add(index)
            else:
                finished = True
                running.discard(index)
        usage = _find_usage(event.data, choices)
        if usage is not None:
            found = usage
            final = traffic.complete or not choices or (finished and not running)
    if traffic.frames.streamed and not final and not traffic.frames.done:
        return None
    return measure_usage(found)


def hides_reasoning(model: str, request: Mapping[str, Any]) -> bool:
    """Whether a model thinks in tokens that its answers do not show, so that they can't be counted from outside."""
    asked = request.get("reasoning")
    effort = asked.get("effort") if isinstance(asked, dict) else request.get("reasoning_effort")
    return effort != "none" and _HIDDEN_REASONING.match(model) is not None


def _read(traffic: Traffic, prompt: Prompt | None, outputs: tuple[str, ...] | None) -> Reading:
    error = read_error(traffic)
    model = traffic.find_text("model")
    if not model and not traffic.request_model:
        model = read_deployment(traffic)
    why = error or ("no usage was reported" if traffic.complete else _CUT)
    tiers = [tier for event in traffic.events if (tier := read_tier(event.data.get("service_tier")))]
    return make_reading(
        traffic,
        measure=lambda: None if error and not _ended(traffic) else measure_events(traffic),
        model=model,
        prompt=prompt,
        outputs=None if hides_reasoning(model or traffic.request_model, traffic.request) else outputs,
        request_id=traffic.find_text("id"),
        service_tier=tiers[-1] if tiers else None,
        why_none=why,
    )


def _ended(traffic: Traffic) -> bool:
    last = traffic.events[-1].data
    return bool(_find_usage(last, read_objects(last, "choices")))


def _looks_answered(traffic: Traffic) -> bool:
    return any("choices" in event.data for event in traffic.events[:3])


def _read_index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if type(index) is int else 0


def _find_usage(data: Mapping[str, Any], choices: list[dict[str, Any]]) -> Any:
    if data.get("usage") is not None:
        return data["usage"]
    groq = data.get("x_groq")
    if isinstance(groq, dict) and groq.get("usage") is not None:
        return groq["usage"]
    # Moonshot puts it on the last choice.
    return next((each["usage"] for each in choices if each.get("usage") is not None), None)


def _collect_messages(traffic: Traffic) -> tuple[str, ...] | None:
    """Return the text of each choice, ``None`` where some of the output can't be seen."""
    texts: dict[int, list[str]] = defaultdict(list)
    for event in traffic.events:
        for choice in read_objects(event.data, "choices"):
            message = choice.get("delta")
            if not isinstance(message, dict):
                message = choice.get("message")
            if not isinstance(message, dict):
                continue
            text = _read_message(message)
            if text is None:
                return None
            texts[_read_index(choice)].append(text)
    return join_outputs(texts) if texts and traffic.frames.intact else None


def _read_message(message: Mapping[str, Any]) -> str | None:
    if any(message.get(key) for key in _OPAQUE_KEYS):
        return None
    texts = [next((text for key in _REASONING_KEYS if (text := read_text(message, key))), "")]
    for key in _CHAT_KEYS:
        content = message.get(key)
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            read = [_read_part(part) for part in content]
            if None in read:
                return None
            texts += [each for each in read if each]
    return "".join(texts) + read_tool_calls(message)


def _read_part(part: Any) -> str | None:
    """Return the text of one part of an answer; Mistral's thinking is a part that holds parts."""
    if not isinstance(part, dict):
        return part if isinstance(part, str) else None
    if part.get("type") == "thinking":
        inner = part.get("thinking")
        if isinstance(inner, str):
            return inner
        return "".join(read_text(each, "text") for each in read_objects(part, "thinking"))
    if read_text(part, "type") in {"text", "reference"}:
        return read_text(part, "text")
    return None


def _collect_texts(traffic: Traffic) -> tuple[str, ...] | None:
    """Return the text of each choice of a legacy completion.

    Of ``best_of`` candidates only the best are shown and all are billed, so that nobody can count them.
    """
    request = traffic.request
    shown, tried = request.get("n") or 1, request.get("best_of") or 1
    if type(shown) is not int or type(tried) is not int or tried > shown:
        return None
    texts: dict[int, list[str]] = defaultdict(list)
    for event in traffic.events:
        for choice in read_objects(event.data, "choices"):
            texts[_read_index(choice)].append(read_text(choice, "text"))
    if not texts or not traffic.frames.intact:
        return None
    outputs = {index: "".join(pieces) for index, pieces in texts.items()}
    if request.get("echo"):
        return _take_off_echo(outputs, request.get("prompt"), shown)
    return tuple(outputs[index] for index in sorted(outputs))


def _take_off_echo(outputs: Mapping[int, str], given: Any, shown: int) -> tuple[str, ...] | None:
    prompts = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    texts = []
    for index in sorted(outputs):
        prompt = prompts[index // shown] if shown > 0 and 0 <= index // shown < len(prompts) else None
        if not isinstance(prompt, str) or not outputs[index].startswith(prompt):
            return None
        texts.append(outputs[index][len(prompt) :])
    return tuple(texts)
