"""genai-prices' packaged table, read on one fixed day; imported when the first price is asked for.

Only the table that is installed is read: neither a snapshot that another library downloaded nor the network
changes what a suite costs.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.price_names import covers, model_candidates
from pytest_tokenbudget.price_rates import Rate, Rates

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = "genai-prices"

# The hour at which prices are read. DeepSeek is cheaper at some hours; 08:00 UTC lies within all its peak windows
# (00:30-16:30, and 06:00-10:00 for the newer models), so the full list price is taken and never a discount.
_HOUR = time(8, 0, tzinfo=UTC)

# "... rates verified on 2026-10-12", "(checked 2026-07-17 and 2026-08-27)", "verified live via the API on ...".
_CHECKED = re.compile(
    r"\b(?:checked|verified)\b[^.;]{0,60}?\b(20\d\d-\d\d-\d\d)(?:\s+and\s+(20\d\d-\d\d-\d\d))?", re.IGNORECASE
)

_TOKEN_RATES = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "cached_input_audio": "cache_audio_read_mtok",
    "output_audio": "output_audio_mtok",
    "input_image": "input_image_mtok",
    "output_image": "output_image_mtok",
}

_REQUESTS_PER_UNIT = 1000


class UnknownModelError(LookupError):
    """The table has no entry for a model, or none for its service tier; the message says which."""


def installed_version() -> str:
    """The version of genai-prices that is installed; does not import it."""
    return metadata.version(SOURCE)


@cache
def newest_check() -> date:
    """The newest day on which somebody checked a price of the installed table against its provider.

    The table's own remarks say so ("verified on 2026-10-12"). The days on which prices start do not count: some are
    announced for next year. Nor do the dates of files, which differ from one installation to the next. A table
    without a single such remark is read on the day its newest price started.
    """
    providers = _providers()
    remarks = [each.price_comments for each in (*providers, *_models(providers)) if each.price_comments]
    checks = [found for remark in remarks for found in _checks(remark)]
    return max(checks) if checks else max(_starts(providers), default=date(2026, 1, 1))


def table_rates(provider: str, model: str, *, tier: str, on: date) -> Rates:
    """What the table says that model costs on that day.

    Args:
        provider: the canonical provider; empty where nobody knows who bills, then the model's name decides.
        model: the model's name in lower case.
        tier: the service tier; empty for the standard one.
        on: the fixed day.

    Raises:
        UnknownModelError: no such provider, model or tier. A tier is never priced as the standard one.
    """
    billing = _billing_provider(provider, model)
    entry, own = _find(billing, model)
    moment = datetime.combine(on, _HOUR)
    rates = _rates(entry.get_prices(moment), entry.id)
    if not tier:
        return rates
    # Another provider's tiers are not this one's: Azure sells OpenAI's models, but not at OpenAI's flex rates.
    variants = [each for each in entry.price_variants or () if own] if hasattr(entry, "price_variants") else []
    wanted = ({"service_tier": tier}, {"processing": tier}, {"speed": tier})
    for variant in variants:
        if variant.when in wanted and (variant.constraint is None or variant.constraint.active(moment)):
            return rates.overlaid_with(_rates(variant.prices, ""))
    raise UnknownModelError(f"no price for {model!r} at the service tier {tier!r}")


def table_window(provider: str, model: str) -> int | None:
    """The tokens of input and output together that the model takes, as the table has it; ``None`` where it says none.

    Args:
        provider: as for ``table_rates``.
        model: as for ``table_rates``.

    Raises:
        UnknownModelError: no such provider or model.
    """
    entry, _ = _find(_billing_provider(provider, model), model)
    window: int | None = entry.context_window
    return window


def is_provider(name: str) -> bool:
    """Whether the table knows a provider of that id."""
    return any(each.id == name for each in _providers())


def _providers() -> list[Any]:
    from genai_prices.data import providers  # noqa: PLC0415 - 0.3 s: paid when the first call is priced

    return providers


def _models(providers: list[Any]) -> Iterator[Any]:
    return (model for provider in providers for model in provider.models)


def _checks(remark: str) -> Iterator[date]:
    for found in _CHECKED.finditer(remark):
        yield from (date.fromisoformat(day) for day in found.groups() if day)


def _starts(providers: list[Any]) -> Iterator[date]:
    for model in _models(providers):
        for price in model.prices if isinstance(model.prices, list) else ():
            if (start := getattr(price.constraint, "start_date", None)) is not None:
                yield start


def _billing_provider(provider: str, model: str) -> Any:
    for each in _providers():
        if each.id == provider or (
            not provider and each.model_match is not None and each.model_match.is_match(model)
        ):
            return each
    known = f"of the provider {provider!r}" if provider else f"by its name alone{_known_as(model)}"
    raise UnknownModelError(f"no price for {model!r} {known}")


def _known_as(model: str) -> str:
    """The names under which the table has a model whose own name does not tell who bills for it."""
    names = [
        f"{each.id}:{model}" for each in _providers() if any(covers(entry.match, model) for entry in each.models)
    ]
    return f" (there is one for {', '.join(names)})" if names else ""


def _find(provider: Any, model: str) -> tuple[Any, bool]:
    """The table's entry, and whether it is the provider's own and not one of those whose models it resells."""
    by_id = {each.id: each for each in _providers()}
    resold = [by_id[each] for each in provider.fallback_model_providers or () if each in by_id]
    for spelling in model_candidates(provider.id, model):
        for seller in (provider, *resold):
            for entry in seller.models:
                if (entry.id.lower() == spelling and entry.is_match(spelling)) or covers(entry.match, spelling):
                    return entry, seller is provider
    raise UnknownModelError(f"no price for {model!r} of the provider {provider.id!r}")


def _rates(prices: Any, entry_id: str) -> Rates:
    listed = {name: _rate(getattr(prices, key, None)) for name, key in _TOKEN_RATES.items()}
    per_unit = getattr(prices, "requests_kcount", None)
    # An entry without any rate is a price of nothing only where its name says that it is free.
    free = entry_id.endswith(":free") and not any(listed.values()) and per_unit is None
    return Rates(
        **listed,
        usd_per_request=None if per_unit is None else _usd(per_unit) / _REQUESTS_PER_UNIT,
        free=free,
    )


def _rate(price: Any) -> Rate | None:
    if price is None:
        return None
    if (tiers := getattr(price, "tiers", None)) is not None:
        rising = sorted((tier.start, _usd(tier.price)) for tier in tiers)
        return Rate(usd_per_million_tokens=_usd(price.base), tiers=tuple(rising))
    return Rate(usd_per_million_tokens=_usd(price))


def _usd(price: Any) -> Decimal:
    # Older tables may hold whole numbers; through str, so that nothing binary creeps in.
    return price if isinstance(price, Decimal) else Decimal(str(price))
