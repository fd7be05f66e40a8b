"""Chat models: one call, a stream, and three calls at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from langchain_openai import ChatOpenAI

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "Tell me a joke"


def ask(prompt: str = PROMPT, *, model: str = "gpt-4o-mini") -> str:
    """Ask once and wait for the whole answer."""
    return ChatOpenAI(model=model).invoke(prompt).text


def listen(prompt: str = PROMPT, *, model: str = "gpt-4o-mini") -> Iterator[str]:
    """Ask once and hear the answer word by word."""
    for chunk in ChatOpenAI(model=model).stream(prompt):
        yield chunk.text


async def ask_at_once(times: int, prompt: str = PROMPT, *, model: str = "gpt-4o-mini") -> list[str]:
    """Ask the same several times at the same time."""
    llm = ChatOpenAI(model=model)
    answers = await asyncio.gather(*(llm.ainvoke(prompt) for _ in range(times)))
    return [answer.text for answer in answers]
