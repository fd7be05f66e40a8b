"""The environment of a replayed test: no real key, no way out, nothing that reports to elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    Values = Mapping[Any, Any]
    """Variables by their raw names, each with its raw value; ``None`` for one that is not there."""

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


def raw_environment() -> MutableMapping[Any, Any]:
    """The environment as the system spells it: ``os.environ`` encodes and decodes at each look.

    Two dozen variables change with every test.
    """
    raw: MutableMapping[Any, Any] | None = getattr(os.environ, "_data", None)
    return _Spelled(os.environ) if raw is None else raw


_raw_name = getattr(os.environ, "encodekey", str)
_raw_value = getattr(os.environ, "encodevalue", str)


class _Spelled(MutableMapping[Any, Any]):
    """A mapping that somebody has put in the place of ``os.environ``, by the raw names that ours has."""

    def __init__(self, plain: MutableMapping[str, str]) -> None:
        self._plain = plain

    def __getitem__(self, key: Any) -> Any:
        return _raw_value(self._plain[os.fsdecode(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._plain[os.fsdecode(key)] = os.fsdecode(value)

    def __delitem__(self, key: Any) -> None:
        del self._plain[os.fsdecode(key)]

    def __iter__(self) -> Iterator[Any]:
        return map(_raw_name, self._plain)

    def __len__(self) -> int:
        return len(self._plain)


def _spelled(values: Mapping[str, str | None]) -> dict[Any, Any]:
    return {_raw_name(name): None if value is None else _raw_value(value) for name, value in values.items()}


_QUIET = _spelled(QUIET)
_ALWAYS = _spelled(dict.fromkeys(KEYS, DUMMY)) | _QUIET
_MAYBE = _spelled({**dict.fromkeys(REPLACED, DUMMY), **dict.fromkeys(WITHOUT)})

_outside: dict[Any, Any] = {}
"""What the variables that are held now go back to when nothing is replayed any more."""

_blocks: list[None] = []
"""One for each block that is open now."""


def replayed_environment(changes: dict[Any, Any] | None = None) -> AbstractContextManager[None]:
    """Hold dummy keys instead of real ones, for this process and those it starts; tracing is off.

    Args:
        changes: of a shared fixture, whose set-up and tear-down are two blocks: what it has changed. What it sets
            holds outside of replayed tests until it is torn down, and inside there are dummies. Without it, the block
            is a test's: what it leaves where there was nothing is its own affair, all else is put back.
    """
    values = _ALWAYS | {key: _MAYBE[key] for key in raw_environment().keys() & _MAYBE.keys()}
    if changes is not None:
        values = {**dict.fromkeys(_MAYBE), **values}  # it may set what nobody has set so far
    return _held(values, changes)


@contextmanager
def recorded_environment(changes: dict[Any, Any] | None = None) -> Iterator[None]:
    """Hold the real keys, also inside of a replayed test; tracing is off, for it would be recorded.

    Args:
        changes: as above.
    """
    with _held({**_outside, **_QUIET}, changes):
        yield


@contextmanager
def _held(values: Values, changes: dict[Any, Any] | None) -> Iterator[None]:
    before = _read(values)
    added = [key for key in values if key not in _outside]
    _outside.update((key, before[key]) for key in added)
    _blocks.append(None)
    _write(values)
    forget_settings()
    try:
        yield
    finally:
        _blocks.pop()
        after = before
        if changes is None:
            there = raw_environment()
            for key in added:
                after[key] = _outside.pop(key)
                if after[key] is None and there.get(key) != values[key]:
                    del after[key]
        else:
            _note_changes(values, _read(values), changes)
            for key in added:
                if not _blocks or _outside[key] == before[key]:
                    after[key] = _outside.pop(key)
                else:  # new to the test around it, which must not see it
                    after[key] = _MAYBE.get(key)
        if not _blocks:
            after = after | _outside
            _outside.clear()
        _write(after)
        forget_settings()


def _note_changes(values: Values, now: Values, changes: dict[Any, Any]) -> None:
    """Let what a shared fixture has set hold outside, and what it found hold again once it has put that back."""
    for key, value in now.items():
        if value != values[key]:
            changes.setdefault(key, _outside[key])
            _outside[key] = value
        elif key in changes:
            # It put back what it had found, which was ours.
            _outside[key] = changes.pop(key)


def _read(keys: Iterable[Any]) -> dict[Any, Any]:
    there = raw_environment()
    return {key: there.get(key) for key in keys}


def _write(values: Values) -> None:
    """Let this process, its C libraries and those that it starts see these values, as ``os.environ`` does it."""
    there = raw_environment()
    if isinstance(there, _Spelled):  # which C knows nothing of
        for key, value in values.items():
            if value is not None:
                there[key] = value
            else:
                there.pop(key, None)
        return
    for key, value in values.items():
        now = there.get(key)
        if now is value or (now is not None and now == value):
            continue
        if value is None:
            os.unsetenv(key)
            del there[key]
        else:
            os.putenv(key, value)
            there[key] = value


def forget_settings() -> None:
    """Let LangSmith read its environment anew: it remembers what it has read."""
    langsmith = sys.modules.get("langsmith.utils")
    forget = getattr(getattr(langsmith, "get_env_var", None), "cache_clear", None)
    if forget is not None:
        forget()
