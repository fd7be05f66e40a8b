"""Which of tiktoken's encodings a model uses."""

from __future__ import annotations

import functools
import re

_MAKERS = ("openai/", "azure/", "openai:", "azure:", "azure_openai:", "openai.")
"""What routers, LangChain and Bedrock put before the names of OpenAI's models."""

_RULES: tuple[tuple[str, str], ...] = (
    # The first that matches the whole name decides, so that the newer stand before the prefixes they share.
    (r"gpt-oss(-.*)?", "o200k_harmony"),
    (r"gpt-(4o|4\.1|4\.5|[56](\.\d+)?)(-.*)?", "o200k_base"),
    (r"gpt-(audio|realtime)(-.*)?", "o200k_base"),
    (r"o[134](-.*)?", "o200k_base"),
    (r"(gpt-)?chat-latest|chatgpt-4o(-.*)?|codex-mini(-.*)?|computer-use-preview(-.*)?", "o200k_base"),
    (r"gpt-4(-.*)?|gpt-3\.?5(-.*)?", "cl100k_base"),
    (r"text-embedding-(ada-002|3-small|3-large)|davinci-002|babbage-002", "cl100k_base"),
    (r"(text|code)-davinci-edit-001", "p50k_edit"),
    (r"text-davinci-00[23]|code-(davinci|cushman)-.*|(davinci|cushman)-codex", "p50k_base"),
    (r"text-(davinci|curie|babbage|ada)-001|davinci|curie|babbage|ada", "r50k_base"),
    (r"(text-similarity|text-search|code-search)-(davinci|curie|babbage|ada)-.*", "r50k_base"),
    (r"gpt-?2", "gpt2"),
)
_NEWER = re.compile(r"o\d|gpt-[56]")


@functools.lru_cache(maxsize=512)
def encoding_name_for(model: str) -> str | None:
    """Return the name of the encoding that a model's text is counted with; ``None`` for models of other makers.

    tiktoken's own table misses newer, audio and realtime models, and takes fine-tunes of gpt-4.1 for gpt-4.

    Source: OpenAI's tiktoken, ``model.py``; OpenAI's model list.
    """
    name = name_base(model)
    return next((encoding for pattern, encoding in _RULES if re.fullmatch(pattern, name)), None)


def name_base(model: str) -> str:
    """Return a model's name in lower case, without who serves it and without what a fine-tune adds to it."""
    name = model.strip().lower()
    if "/" in name:
        # openrouter/openai/gpt-4o: only what stands last, and only if OpenAI made it.
        maker, _, last = name.rpartition("/")
        if maker.rpartition("/")[2] in {"openai", "azure"}:
            name = f"openai/{last}"
    for prefix in _MAKERS:
        name = name.removeprefix(prefix)
    # ft:gpt-4o-mini-2024-07-18:org:name:id, davinci:ft-org-2023-01-01, gpt-4o:free
    return name.removeprefix("ft:").partition(":")[0]


def is_newer(model: str) -> bool:
    """Whether a model is of the o-series, gpt-5 or later, which read chats in a format of their own."""
    return _NEWER.match(name_base(model)) is not None


def always_reasons(model: str) -> bool:
    """Whether a model's output always holds reasoning that nobody sees: from gpt-5.1 on it can be switched off."""
    return re.fullmatch(r"o\d(-.*)?|codex-.*|gpt-5(-(?!chat).*)?", name_base(model)) is not None
