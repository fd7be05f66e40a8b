"""Who bills: the provider's name from a request's host and path."""

from __future__ import annotations

import re

_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.mistral.ai": "mistral",
    "codestral.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x-ai",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.cloudflare.com": "cloudflare",
    "api.moonshot.ai": "moonshotai",
    "api.moonshot.cn": "moonshotai",
    "api.novita.ai": "novita",
    "api.voyageai.com": "voyageai",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zhipuai",
    "api.minimax.io": "minimax",
    "api.minimax.com": "minimax",
    "api.minimaxi.com": "minimax",
    "api.arcee.ai": "arcee",
    "api.avian.io": "avian",
    "inference.baseten.co": "baseten",
    "api.doubleword.ai": "doubleword",
    "api.githubcopilot.com": "github-copilot",
    "api.meta.ai": "meta",
    "api.ai21.com": "ai21",
    "api-inference.huggingface.co": "huggingface",
    "oai.endpoints.kepler.ai.cloud.ovh.net": "ovhcloud",
    "ollama.com": "ollama",
}
_SUFFIXES = (
    (".openai.azure.com", "azure"),
    (".cognitiveservices.azure.com", "azure"),
    (".services.ai.azure.com", "azure"),
    (".models.ai.azure.com", "azure"),
    (".azure-api.net", "azure"),
    (".googleapis.com", "google"),
    (".amazonaws.com", "aws"),
    (".api.openai.com", "openai"),
    (".openrouter.ai", "openrouter"),
    (".cloud.databricks.com", "databricks"),
    (".azuredatabricks.net", "databricks"),
    (".gcp.databricks.com", "databricks"),
    (".modal.run", "modal"),
    (".modal.direct", "modal"),
)
_OPENAI_MODEL = re.compile(
    r"(ft:)?(gpt-(\d|image|audio|realtime)|chatgpt-|codex-|o\d+(-|$)|davinci|curie|babbage|ada(-|:|$)|computer-use-|"
    r"text-(davinci|curie|babbage|ada|embedding-(3-|ada)|moderation|search|similarity)|code-(davinci|cushman)|"
    r"dall-e|whisper-1|tts-1)"
)


def name_provider(host: str, path: str, model: str) -> str:
    """Name who bills, as genai-prices does; the empty string where nothing tells.

    An unknown host (a proxy, a server on loopback) is taken for OpenAI only where the model is one of OpenAI's own.
    """
    if known := _HOSTS.get(host):
        return known
    for suffix, provider in _SUFFIXES:
        if host.endswith(suffix):
            return provider
    if host == "router.huggingface.co":
        first = path.strip("/").partition("/")[0]
        return "huggingface" if first in {"v1", "models", ""} else f"huggingface_{first}"
    if "/openai/deployments/" in path:
        return "azure"
    return "openai" if is_openai_model(model) else ""


def is_openai_model(model: str) -> bool:
    """Whether a name is one that OpenAI gives to its own models."""
    return _OPENAI_MODEL.match(model) is not None
