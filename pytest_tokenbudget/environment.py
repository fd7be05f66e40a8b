"""The environment of a replayed test: no real key, no way out, nothing that reports to elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    Values = Mapping[str, str | None]

DUMMY = "sk-replayed-by-pytest-tokenbudget"

KEYS = (
    "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "COHERE_API_KEY", "CO_API_KEY", "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY", "HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN",
    "MISTRAL_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "PERPLEXITY_API_KEY", "PPLX_API_KEY",
    "TOGETHER_API_KEY", "XAI_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
)  # fmt: skip
"""Clients refuse to be built without these; a recording does not care what they are."""

REPLACED = (
    "AI21_API_KEY", "AI_GATEWAY_API_KEY", "ALEPH_ALPHA_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANYSCALE_API_KEY",
    "ARK_API_KEY", "ASSEMBLYAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AZURE_AI_API_KEY", "AZURE_API_KEY",
    "AZURE_INFERENCE_CREDENTIAL", "AZURE_OPENAI_AD_TOKEN", "BASETEN_API_KEY", "BRAVE_SEARCH_API_KEY",
    "CEREBRAS_API_KEY", "CLARIFAI_API_KEY", "CLARIFAI_PAT", "CLAUDE_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN",
    "CLOUDFLARE_API_KEY", "CLOUDFLARE_API_TOKEN", "CODESTRAL_API_KEY", "DASHSCOPE_API_KEY", "DATABRICKS_API_KEY",
    "DATABRICKS_TOKEN", "DEEPGRAM_API_KEY", "DEEPINFRA_API_KEY", "DEEPINFRA_API_TOKEN", "ELEVENLABS_API_KEY",
    "ELEVEN_API_KEY", "EXA_API_KEY", "FAL_KEY", "FIRECRAWL_API_KEY", "FIREWORKS_AI_API_KEY", "FRIENDLI_TOKEN",
    "GIGACHAT_CREDENTIALS", "GITHUB_MODELS_TOKEN", "GOOGLE_GENERATIVE_AI_API_KEY", "GRADIENT_ACCESS_TOKEN",
    "HELICONE_API_KEY", "HUGGINGFACE_API_KEY", "HUGGINGFACE_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HYPERBOLIC_API_KEY",
    "INFERENCE_API_KEY", "JINA_AI_API_KEY", "JINA_API_KEY", "LAMBDA_API_KEY", "LANGCHAIN_API_KEY",
    "LANGSMITH_API_KEY", "LEPTON_API_KEY", "LITELLM_API_KEY", "LITELLM_MASTER_KEY", "LLAMA_API_KEY",
    "MARITALK_API_KEY", "MINIMAX_API_KEY", "MOONSHOT_API_KEY", "NEBIUS_API_KEY", "NGC_API_KEY", "NLPCLOUD_API_KEY",
    "NOMIC_API_KEY", "NOVITA_API_KEY", "NSCALE_API_KEY", "NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY", "OLLAMA_API_KEY",
    "OPENAI_ADMIN_KEY", "OPENAI_ORGANIZATION_KEY", "OR_API_KEY", "PORTKEY_API_KEY", "PREDIBASE_API_TOKEN",
    "QIANFAN_AK", "QIANFAN_SK", "REPLICATE_API_KEY", "REPLICATE_API_TOKEN", "REQUESTY_API_KEY", "RUNPOD_API_KEY",
    "SAMBANOVA_API_KEY", "SERPAPI_API_KEY", "SERPER_API_KEY", "SILICONFLOW_API_KEY", "SNOWFLAKE_JWT",
    "STABILITY_API_KEY", "TAVILY_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY", "UPSTAGE_API_KEY",
    "VERCEL_AI_GATEWAY_API_KEY", "VOLC_ACCESSKEY", "VOLC_SECRETKEY", "VOYAGE_API_KEY", "WATSONX_APIKEY",
    "WATSONX_API_KEY", "WATSONX_TOKEN", "WRITER_API_KEY", "XINFERENCE_API_KEY", "YANDEX_API_KEY", "YC_API_KEY",
    "ZAI_API_KEY", "ZHIPUAI_API_KEY",
)  # fmt: skip
"""Keys that are replaced where they are set, and not invented where they are not."""

WITHOUT = (
    "AWS_SESSION_TOKEN",
    # A proxy on loopback would be a way out, and one elsewhere is not to be asked.
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy",
)  # fmt: skip
"""What is taken away."""

QUIET = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "LANGSMITH_TRACING_V2": "false"}
"""Tracing would send each prompt away, and be recorded."""

_ALWAYS = {**dict.fromkeys(KEYS, DUMMY), **QUIET}
_MAYBE = {**dict.fromkeys(REPLACED, DUMMY), **dict.fromkeys(WITHOUT)}


def raw_environment() -> Mapping[Any, Any]:
    """The environment as the system has it; ``os.environ`` encodes and decodes at each look."""
    raw: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
    return raw


@cache
def _key(name: str) -> Any:
    """How the system spells a name."""
    return os.environ.encodekey(name) if raw_environment() is not os.environ else name


_MAYBE_BY_KEY = {_key(name): name for name in _MAYBE}

_outside: dict[str, str | None] = {}
"""What the variables that are held now go back to when nothing is replayed any more."""

_blocks: list[None] = []
"""One for each block that is open now."""


@contextmanager
def replayed_environment(changes: dict[str, str | None] | None = None) -> Iterator[None]:
    """Hold dummy keys instead of real ones, for this process and those it starts; tracing is off.

    Args:
        changes: of a shared fixture, whose set-up and tear-down are two blocks: what it has changed. What it sets
            holds outside of replayed tests until it is torn down, and inside there are dummies. Without it, the block
            is a test's: what it leaves where there was nothing is its own affair, all else is put back.
    """
    there = raw_environment().keys() & _MAYBE_BY_KEY.keys()
    values = _ALWAYS | {name: _MAYBE[name] for name in map(_MAYBE_BY_KEY.__getitem__, there)}
    if changes is not None:
        values = {**dict.fromkeys(_MAYBE), **values}  # it may set what nobody has set so far
    with _held(values, changes):
        yield


@contextmanager
def recorded_environment(changes: dict[str, str | None] | None = None) -> Iterator[None]:
    """Hold the real keys, also inside of a replayed test; tracing is off, for it would be recorded.

    Args:
        changes: as above.
    """
    with _held({**_outside, **QUIET}, changes):
        yield


@contextmanager
def _held(values: Values, changes: dict[str, str | None] | None) -> Iterator[None]:
    before = _read(values)
    added = [name for name in values if name not in _outside]
    _outside.update((name, before[name]) for name in added)
    _blocks.append(None)
    for name, value in values.items():
        _set(name, before[name], value)
    forget_settings()
    try:
        yield
    finally:
        _blocks.pop()
        now = _read(values)
        after = before
        if changes is None:
            for name in added:
                after[name] = _outside.pop(name)
                if after[name] is None and now[name] != values[name]:
                    after[name] = now[name]
        else:
            _note_changes(values, now, changes)
            for name in added:
                if not _blocks or _outside[name] == before[name]:
                    after[name] = _outside.pop(name)
                else:  # new to the test around it, which must not see it
                    after[name] = _MAYBE.get(name)
        if not _blocks:
            after = after | _outside
            now = _read(after)
            _outside.clear()
        for name, value in after.items():
            _set(name, now[name], value)
        forget_settings()


def _note_changes(values: Values, now: Values, changes: dict[str, str | None]) -> None:
    """Let what a shared fixture has set hold outside, and what it found hold again once it has put that back."""
    for name, value in now.items():
        if value != values[name]:
            changes.setdefault(name, _outside[name])
            _outside[name] = value
        elif name in changes:
            # It put back what it had found, which was ours.
            _outside[name] = changes.pop(name)


def _read(names: Iterable[str]) -> dict[str, str | None]:
    there = raw_environment()  # to ask os.environ for each that is not there takes longer
    return {name: os.environ[name] if _key(name) in there else None for name in names}


def _set(name: str, now: str | None, value: str | None) -> None:
    if value == now:
        return
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


def forget_settings() -> None:
    """Let LangSmith read its environment anew: it remembers what it has read."""
    langsmith = sys.modules.get("langsmith.utils")
    forget = getattr(getattr(langsmith, "get_env_var", None), "cache_clear", None)
    if forget is not None:
        forget()
