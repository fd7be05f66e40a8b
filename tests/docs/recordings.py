"""The recordings that the examples of the pages replay: written by hand, as small as a recording can be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Exchange = tuple[str, dict[str, Any], dict[str, Any]]
CHAT = "https://api.openai.com/v1/chat/completions"


def write_cassette(path: Path, exchanges: list[Exchange]) -> None:
    """Write a cassette; JSON is YAML too."""
    interactions = [
        {
            "request": {
                "method": "POST",
                "uri": url,
                "body": json.dumps(request),
                "headers": {"content-type": ["application/json"]},
            },
            "response": {
                "status": {"code": 200, "message": "OK"},
                "headers": {"content-type": ["application/json"], "date": ["Sun, 22 Nov 2026 10:00:00 GMT"]},
                "body": {"string": json.dumps(answer)},
            },
        }
        for url, request, answer in exchanges
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    # vcrpy reads these as YAML, whose flow style JSON is but for the brace at the start.
    text = "version: 1\ninteractions:\n" + "".join(f"- {json.dumps(each)}\n" for each in interactions)
    path.write_text(text, encoding="utf-8")


def chat(
    *prompt: str,
    answer: str,
    tokens: tuple[int, int],
    cached: int = 0,
    model: str = "gpt-4o-mini",
    served: str | None = None,
) -> Exchange:
    """One exchange with OpenAI's chat completions.

    Args:
        *prompt: what the user says; of two texts, the first is the system's.
        answer: what the model says.
        tokens: input and output tokens, as the provider reported them.
        cached: how many of the input tokens came from the provider's cache.
        model: the model that is asked for.
        served: the model that answers.
    """
    roles = ("system", "user")[-len(prompt) :]
    messages = [{"role": role, "content": text} for role, text in zip(roles, prompt, strict=True)]
    reported = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795341600,
        "model": served or model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
            "prompt_tokens_details": {"cached_tokens": cached},
        },
    }
    return CHAT, {"messages": messages, "model": model}, reported


SYSTEM = "Answer in one sentence."
SKY = "Why is the sky blue?"
SEA = "Why is the sea salty?"
BLUE = "Air scatters blue light more than red light."
SALT = "Rivers carry dissolved minerals from rocks into the sea, where they stay behind as water evaporates."


def sky(model: str = "gpt-4o-mini", *, served: str | None = None) -> Exchange:
    """The sky's colour, explained."""
    return chat(SYSTEM, SKY, answer=BLUE, tokens=(22, 10), model=model, served=served)


def sea(model: str = "gpt-4o-mini") -> Exchange:
    """The sea's salt, explained."""
    return chat(SYSTEM, SEA, answer=SALT.replace("minerals", "salt"), tokens=(22, 20), model=model)


DATED = "gpt-4o-mini-2024-07-18"
LONGER = chat(SYSTEM, f"{SEA} Consider rivers, rocks and evaporation.", answer=SALT, tokens=(30, 20))

RECORDINGS: dict[str, dict[str, list[Exchange] | str]] = {
    "README/joke": {"cassettes/test_jokes/test_joke.yaml": "test_jokes/test_one_joke.yaml"},
    "guide/recorded": {"cassettes/test_chat/test_sky.yaml": [sky()]},
    "budgets/over": {"cassettes/test_chat/test_two_answers.yaml": [sky(), sea("gpt-4o")]},
    "budgets/closest": {
        "cassettes/test_levels/TestAnswers.test_sky.yaml": [sky()],
        "cassettes/test_levels/TestAnswers.test_sea.yaml": [sea()],
    },
    "budgets/usage": {"cassettes/test_usage/test_sky.yaml": [sky(served=DATED), sea()]},
    "budgets/callback": {"cassettes/test_joke/joke.yaml": "test_jokes/test_one_joke.yaml"},
    "recording/drift": {
        "cassettes/test_drift/test_sky.yaml": [sky()],
        "cassettes/test_drift/test_larger_model.yaml": [sky()],
        "cassettes/test_drift/test_twice.yaml": [sky()],
    },
    "baselines/baseline": {
        "cassettes/test_chat/test_sky.yaml": [sky()],
        "cassettes/test_chat/test_sea.yaml": [sea()],
    },
    "baselines/over": {
        "cassettes/test_chat/test_sky.yaml": [sky()],
        "cassettes/test_chat/test_sea.yaml": [LONGER],
    },
    "baselines/total": {
        "cassettes/test_chat/test_sky.yaml": [sky()],
        "cassettes/test_chat/test_sea.yaml": [sea()],
    },
    "reports/reports": {
        "cassettes/test_chat/test_sky.yaml": [sky()],
        "cassettes/test_chat/test_sea.yaml": [sea("gpt-4o")],
    },
    "ci/cheaper": {"cassettes/test_chat/test_sea.yaml": [sea("gpt-4o")]},
    "prices/own": {"cassettes/test_own/test_tuned.yaml": [sky("my-org/tuned")]},
    "prices/unpriced": {"cassettes/test_unpriced/test_tuned.yaml": [sky("my-org/tuned")]},
}
"""``page/project`` -> cassette -> its exchanges, or the cassette of the examples that it is."""
