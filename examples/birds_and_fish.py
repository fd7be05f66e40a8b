"""A chain: a prompt with a hole in it, and a model."""

from __future__ import annotations

from langchain_core.prompts import PromptTemplate
from langchain_openai import OpenAI


def tell_about(*topics: str) -> list[str]:
    """Tell one joke about each topic, one after the other."""
    chain = PromptTemplate.from_template("Tell me a joke about {topic}") | OpenAI(model="gpt-3.5-turbo-instruct")
    return [chain.invoke({"topic": topic}) for topic in topics]
