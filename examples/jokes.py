"""Jokes from the completion models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_openai import OpenAI

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "Tell me a joke"


def tell(model: str = "gpt-3.5-turbo-instruct") -> str:
    """Tell one joke."""
    return OpenAI(model=model).invoke(PROMPT)


def tell_two(model: str = "gpt-3.5-turbo-instruct") -> list[str]:
    """Tell two jokes in one request."""
    llm = OpenAI(model=model, n=2, best_of=2)
    return [generation.text for generation in llm.generate([PROMPT]).generations[0]]


def tell_slowly(model: str = "gpt-3.5-turbo-instruct") -> Iterator[str]:
    """Tell one joke, word by word."""
    yield from OpenAI(model=model).stream(PROMPT)
