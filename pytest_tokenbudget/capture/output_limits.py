"""How long an answer can get: the limit that a request sets, else the longest answer that its model gives."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.model_encodings import name_base
from pytest_tokenbudget.capture.wire.counts import read_details

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.capture.wire.traffic import Traffic

    Place = tuple[str, ...]

_CHAT: tuple[Place, ...] = (("max_completion_tokens",), ("max_tokens",))
_GOOGLE: tuple[Place, ...] = tuple(
    (outer, inner)
    for outer in ("generationConfig", "generation_config")
    for inner in ("maxOutputTokens", "max_output_tokens")
)
# Each maker's models on Bedrock have a format of their own.
_BEDROCK: tuple[Place, ...] = (
    *_CHAT,
    ("max_tokens_to_sample",),
    ("max_gen_len",),
    ("textGenerationConfig", "maxTokenCount"),
    ("inferenceConfig", "maxTokens"),
    ("inferenceConfig", "max_new_tokens"),
)
# By the end of the path, as in the table of routes: its last two segments, the last one, or the verb behind a colon.
_LIMITS: Mapping[str, tuple[Place, ...]] = {
    "responses": (("max_output_tokens",),),
    "responses/compact": (("max_output_tokens",),),
    "messages": (("max_tokens",),),
    "complete": (("max_tokens_to_sample",),),
    "interactions": _GOOGLE,
    "generateContent": _GOOGLE,
    "streamGenerateContent": _GOOGLE,
    "converse": (("inferenceConfig", "maxTokens"),),
    "converse-stream": (("inferenceConfig", "maxTokens"),),
    "invoke": _BEDROCK,
    "invoke-with-response-stream": _BEDROCK,
    "api/chat": (("options", "num_predict"),),
    "api/generate": (("options", "num_predict"),),
}
_EMBEDS = frozenset({"embeddings", "embed", "embedContent", "batchEmbedContents", "predict"})
_MAY_EMBED = frozenset({"invoke", "invocations"})
_ANSWERS: tuple[Place, ...] = (
    ("n",), ("best_of",), ("num_generations",), ("generationConfig", "candidateCount"),
    ("generation_config", "candidate_count"),
)  # fmt: skip

_UNASKED_COMPLETION = 16
"""Output tokens of a legacy completion that names no limit. Source: OpenAI API reference, completions."""

# Source: second hand, from lists of the "max output tokens" that OpenAI and Google document; not checked against
# their own pages. The first that matches the whole name decides. A family that is not here has its context as its
# limit.
_LONGEST: tuple[tuple[str, int], ...] = (
    (r"gpt-3\.?5-turbo(?!-16k)(-.*)?", 4_096),
    (r"gpt-4-(turbo|1106|0125|vision)(-.*)?", 4_096),
    (r"gpt-4o-2024-05-13", 4_096),
    (r"(gpt-4o|gpt-4\.5|chatgpt-4o)(-.*)?", 16_384),
    (r"gpt-4\.1(-.*)?", 32_768),
    (r"gpt-4(-\d{4})?", 8_192),
    (r"o1-mini(-.*)?", 65_536),
    (r"o1-preview(-.*)?", 32_768),
    (r"o[134](-.*)?", 100_000),
    (r"gpt-5-pro(-.*)?", 272_000),
    (r"gpt-5(\.[1-5])?(-.*)?", 128_000),
    (r"gemini-(1\.5|2\.0)-(flash|pro)(-lite)?(-00\d|-latest)?", 8_192),
    (r"gemini-(2\.5|3)-(flash|pro)(-.*)?", 65_536),
)


def requested_output(traffic: Traffic) -> int | None:
    """The output tokens that the request itself allows each of its answers; ``None`` where it names no limit."""
    two, last, verb = _endings(traffic)
    places = _LIMITS.get(two) or _LIMITS.get(verb) or _LIMITS.get(last) or _CHAT
    found = [count for place in places if (count := _read(traffic.request, place)) is not None and count > 0]
    # Where a request names several, nobody knows which one holds.
    return max(found, default=None)


def answers_asked(traffic: Traffic) -> int:
    """How many answers the request asks for: candidates, those that nobody will see included, of each prompt."""
    candidates = max((_read(traffic.request, place) or 1 for place in _ANSWERS), default=1)
    return max(candidates, 1) * _count_prompts(traffic)


def longest_output(traffic: Traffic, *, model: str, provider: str) -> int | None:
    """The output tokens of the longest answer to a request that names no limit; ``None`` where nobody knows.

    Args:
        traffic: the request.
        model: the model's real name.
        provider: who bills.
    """
    two, last, _ = _endings(traffic)
    if last == "completions" and two != "chat/completions" and provider in {"openai", "azure"}:
        return _UNASKED_COMPLETION
    name = name_base(model.rpartition("models/")[2])
    return next((longest for pattern, longest in _LONGEST if re.fullmatch(pattern, name)), None)


def only_reads(traffic: Traffic, model: str) -> bool:
    """Whether a request has no output at all: it embeds."""
    _, last, verb = _endings(traffic)
    return last in _EMBEDS or verb in _EMBEDS or (last in _MAY_EMBED and "embed" in model)


def _endings(traffic: Traffic) -> tuple[str, str, str]:
    last = traffic.segments[-1]
    return "/".join(traffic.segments[-2:]), last, last.rpartition(":")[2]


def _count_prompts(traffic: Traffic) -> int:
    if traffic.segments[-1] not in {"completions", "invocations"}:
        return 1
    prompts = traffic.request.get("prompt")
    if not isinstance(prompts, list) or all(type(each) is int for each in prompts):
        return 1  # a text, or one prompt as the numbers of its tokens
    return max(len(prompts), 1)


def _read(request: Mapping[str, Any], place: Place) -> int | None:
    *outer, name = place
    for each in outer:
        request = read_details(request, each)
    value = request.get(name)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None
