"""The environment of a replayed test: no real key, nothing that reports to elsewhere."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DUMMY = "sk-replayed-by-pytest-tokenbudget"

KEYS = (
    "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY", "HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN",
    "MISTRAL_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "PERPLEXITY_API_KEY", "PPLX_API_KEY",
    "TOGETHER_API_KEY", "XAI_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK",
)  # fmt: skip
"""Clients refuse to be built without these; a recording does not care what they are."""

REPLACED = (
    "AI21_API_KEY", "ASSEMBLYAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "AZURE_API_KEY", "CEREBRAS_API_KEY",
    "CLAUDE_API_KEY", "DASHSCOPE_API_KEY", "DEEPINFRA_API_TOKEN", "ELEVENLABS_API_KEY", "HUGGING_FACE_HUB_TOKEN",
    "JINA_API_KEY", "MOONSHOT_API_KEY", "NEBIUS_API_KEY", "NVIDIA_API_KEY", "OPENAI_ADMIN_KEY",
    "OPENAI_ORGANIZATION_KEY", "REPLICATE_API_TOKEN", "SAMBANOVA_API_KEY", "SERPAPI_API_KEY", "STABILITY_API_KEY",
    "TAVILY_API_KEY", "UPSTAGE_API_KEY", "VOYAGE_API_KEY", "WATSONX_APIKEY", "WRITER_API_KEY", "ZHIPUAI_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
)  # fmt: skip
"""Keys that are replaced where they are set, and not invented where they are not."""

WITHOUT = ("AWS_SESSION_TOKEN", "LANGSMITH_API_KEY", "LANGCHAIN_API_KEY")
"""Keys that no client needs to be built."""

QUIET = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "LANGSMITH_TRACING_V2": "false"}
"""Tracing would send each prompt away, and be recorded."""

_REPLAYED = {**dict.fromkeys(KEYS, DUMMY), **QUIET}


@contextmanager
def replayed_environment() -> Iterator[None]:
    """Hold dummy keys instead of real ones, for this process and those it starts."""
    replayed = _REPLAYED | {name: DUMMY for name in REPLACED if name in os.environ}
    before = {name: os.environ.get(name) for name in (*replayed, *WITHOUT)}
    os.environ.update(replayed)
    for name in WITHOUT:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        # What the test itself set is its own affair, and its fixtures'; what we set is taken back.
        for name, value in before.items():
            if value is not None:
                os.environ[name] = value
            elif os.environ.get(name) == replayed.get(name):
                os.environ.pop(name, None)
