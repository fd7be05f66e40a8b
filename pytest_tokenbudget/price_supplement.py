"""Published rates that genai-prices lacks; they fill its gaps and never replace a rate of its own."""

from __future__ import annotations

import re
from decimal import Decimal

from pytest_tokenbudget.price_rates import Rate, Rates


def _rate(usd_per_million_tokens: str) -> Rate:
    return Rate(usd_per_million_tokens=Decimal(usd_per_million_tokens))


def _fine_tuned(base: str, snapshot: str) -> re.Pattern[str]:
    # ft:<base model>[-<snapshot>]:<organisation>:<suffix>:<id>, and :ckpt-step-<n> for a checkpoint.
    return re.compile(rf"ft:{re.escape(base)}(?:-{snapshot})?(?::[^:]*)*")


_OPENAI: tuple[tuple[re.Pattern[str], Rates], ...] = (
    # Inference on fine-tuned models, USD per million tokens.
    # Source: OpenAI, https://platform.openai.com/docs/pricing, "Fine-tuning", as repeated by LiteLLM's
    # model_prices_and_context_window.json (entries "ft:..."); compared on 2026-11-23.
    (
        _fine_tuned("gpt-4.1", "2025-04-14"),
        Rates(input=_rate("3.00"), cached_input=_rate("0.75"), output=_rate("12.00")),
    ),
    (
        _fine_tuned("gpt-4.1-mini", "2025-04-14"),
        Rates(input=_rate("0.80"), cached_input=_rate("0.20"), output=_rate("3.20")),
    ),
    (
        _fine_tuned("gpt-4.1-nano", "2025-04-14"),
        Rates(input=_rate("0.20"), cached_input=_rate("0.05"), output=_rate("0.80")),
    ),
    (
        _fine_tuned("o4-mini", "2025-04-16"),
        Rates(input=_rate("4.00"), cached_input=_rate("1.00"), output=_rate("16.00")),
    ),
    (_fine_tuned("babbage-002", "0"), Rates(input=_rate("1.60"), output=_rate("1.60"))),
    (_fine_tuned("davinci-002", "0"), Rates(input=_rate("12.00"), output=_rate("12.00"))),
    # genai-prices has these two, without the rate of cached input.
    (_fine_tuned("gpt-4o", "2024-(?:08-06|11-20)"), Rates(cached_input=_rate("1.875"))),
    (_fine_tuned("gpt-4o-mini", "2024-07-18"), Rates(cached_input=_rate("0.15"))),
    # Audio of the chat models; genai-prices has their text rates only.
    # Source: OpenAI's model pages https://platform.openai.com/docs/models/gpt-4o-audio-preview and
    # .../gpt-4o-mini-audio-preview, as repeated by OpenRouter ("$40 per million input and $80 per million output
    # audio tokens") and TheRouter; compared on 2026-11-23. The first snapshot, of 2024-10-01, cost 100 and 200.
    (
        re.compile(r"gpt-4o-audio-preview(?:-2024-12-17|-2025-06-03)?"),
        Rates(input_audio=_rate("40"), output_audio=_rate("80")),
    ),
    (
        re.compile(r"gpt-4o-audio-preview-2024-10-01"),
        Rates(input_audio=_rate("100"), output_audio=_rate("200")),
    ),
    (
        re.compile(r"gpt-4o-mini-audio-preview(?:-2024-12-17)?"),
        Rates(input_audio=_rate("10"), output_audio=_rate("20")),
    ),
    # Retired in 2023. OpenAI never charged for it during its beta and published no rate; this is the figure that
    # LangChain's OpenAI callback charges, so that a suite moved over from there finds the same cost.
    # Source: langchain_community/callbacks/openai_info.py (0.02 per thousand tokens); read on 2026-11-23.
    (re.compile(r"code-davinci-002"), Rates(input=_rate("20"), output=_rate("20"))),
)


def supplementary_rates(model: str) -> Rates | None:
    """The rates known for that model of OpenAI's beside the table's; ``None`` where there are none.

    Args:
        model: the model's name in lower case.
    """
    return next((rates for pattern, rates in _OPENAI if pattern.fullmatch(model)), None)
