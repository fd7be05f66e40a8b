"""The OpenAI SDK used directly, with no LangChain in between."""

from __future__ import annotations

import asyncio

import openai

PROMPT = "Tell me a joke"


def chat(*, model: str = "gpt-4o-mini") -> str:
    """One chat completion."""
    with openai.OpenAI() as client:
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}])
    return answer.choices[0].message.content or ""


def embed(*texts: str) -> list[list[float]]:
    """One vector for each text, all in one request."""
    with openai.OpenAI() as client:
        answer = client.embeddings.create(model="text-embedding-3-small", input=list(texts))
    return [item.embedding for item in answer.data]


def respond(*, model: str = "gpt-4o-mini") -> str:
    """One call of the responses API."""
    with openai.OpenAI() as client:
        return client.responses.create(model=model, input=PROMPT).output_text


def respond_slowly(*, model: str = "gpt-4o-mini") -> str:
    """The same, streamed."""
    with openai.OpenAI() as client:
        events = client.responses.create(model=model, input=PROMPT, stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def chat_at_once(times: int, *, model: str = "gpt-4o-mini") -> list[str]:
    """Several chat completions of the async client, all under way at the same time."""
    async with openai.AsyncOpenAI() as client:
        calls = [
            client.chat.completions.create(model=model, messages=[{"role": "user", "content": PROMPT}])
            for _ in range(times)
        ]
        answers = await asyncio.gather(*calls)
    return [answer.choices[0].message.content or "" for answer in answers]
