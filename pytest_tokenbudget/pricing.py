"""What a model call costs at list prices: exact, on one fixed day, or openly unknown.

The user's own prices come first, then genai-prices' packaged table, whose gaps a small supplement fills. A name, a
service tier or a kind of token that none of them prices is unpriced. Unknown is never zero, and never guessed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.errors import UnmeasuredUsageError, UnpricedModelError
from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.price_file import PriceOverrides, load_price_file, parse_price_date
from pytest_tokenbudget.price_names import canonical_provider, model_candidates
from pytest_tokenbudget.price_rates import MissingRateError, Rates, charge
from pytest_tokenbudget.price_supplement import supplementary_rates
from pytest_tokenbudget.price_table import (
    SOURCE,
    UnknownModelError,
    installed_version,
    is_provider,
    newest_check,
    table_rates,
    table_window,
)
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from pytest_tokenbudget.price_flat import FlatRates
    from pytest_tokenbudget.record import Counts
    from pytest_tokenbudget.usage import ModelCall

__all__ = ["PriceBook", "PriceOverrides", "load_price_file", "parse_price_date"]

# What providers call their standard tier: OpenAI "default" (and "auto" while it is not settled), Anthropic
# "standard", Groq and Google "on_demand".
_STANDARD_TIERS = frozenset({"", "default", "standard", "auto", "on_demand"})

# Resellers whose answers name the maker's model, while the bill goes by the name in the request.
_BILLED_AS_ASKED = frozenset({"aws", "databricks"})


class PriceBook:
    """All prices that hold in a run. Cheap to make: the table is read when the first call is priced.

    Args:
        overrides: the user's own prices and aliases.
        price_date: the day whose list prices hold; without one, the newest day on which the installed table was
            checked, so that a suite's cost changes when a dependency does and not with the calendar.
    """

    def __init__(self, overrides: PriceOverrides | None = None, price_date: date | None = None) -> None:
        self._overrides = overrides or PriceOverrides()
        self._price_date = price_date
        self._found: dict[tuple[str, str, str, str], Rates | str] = {}
        self._flat: dict[str, dict[str, FlatRates | None]] = {}

    @property
    def date(self) -> date:
        """The day whose list prices hold."""
        return self._price_date or newest_check()

    @property
    def own(self) -> list[str]:
        """The user's own prices, as reports name them."""
        return self._overrides.describe()

    def describe(self) -> dict[str, Any]:
        """Where the prices come from, as the JSON report's ``prices`` holds it."""
        return {
            "source": SOURCE,
            "version": installed_version(),
            "date": self.date.isoformat(),
            "overrides": self.own,
        }

    def price(self, call: ModelCall) -> Decimal:
        """What the call costs, in exact USD.

        The user's own prices and aliases apply to the model, or Azure's deployment, as the request named it too. On
        Bedrock that name tells a global from a regional price, which the model's name in the answer does not.

        Args:
            call: the call; its own ``cost`` is not looked at.

        Raises:
            UnpricedModelError: there is no price for that model, that service tier, or a kind of token it used.
            UnmeasuredUsageError: the call's usage is not known.
        """
        if call.usage is None:
            raise UnmeasuredUsageError(f"the usage of {call.model!r} is not known: {call.reason or 'none reported'}")
        return self.price_usage(
            call.usage,
            model=call.model,
            provider=call.provider,
            service_tier=call.service_tier,
            request_model=call.request_model,
        )

    def price_usage(
        self,
        usage: Usage,
        *,
        model: str,
        provider: str = "",
        service_tier: str | None = None,
        request_model: str = "",
    ) -> Decimal:
        """What one request of that usage would cost with that model, in exact USD.

        Args:
            usage: the tokens of one request. Of a sum of requests, the mean prompt decides the tier.
            model: the model's name, also as ``provider:model`` or ``provider/model`` where the provider is empty.
            provider: who bills.
            service_tier: as the answer names it; ``None`` for the standard one.
            request_model: the model as the request named it, if that was another name.

        Raises:
            UnpricedModelError: as in :meth:`price`.
            UnmeasuredUsageError: the parts of the usage do not fit into the whole.
        """
        tier = (service_tier or "").strip().lower()
        tier = "" if tier in _STANDARD_TIERS else tier
        amount = self._amount(usage, (provider, model, tier, request_model))
        if isinstance(amount, str):
            key = json.dumps(f"{model}@{tier}" if tier else model, ensure_ascii=False)
            raise UnpricedModelError(
                (model,),
                f"{amount}; add it to the file that the ini option token_prices names, for example "
                f"[models.{key}] input = 3.00, output = 15.00 (USD per million tokens)",
            )
        return amount

    def price_sum(self, tokens: Counts, *, model: str, provider: str = "") -> Decimal | None:
        """What a sum of requests costs at the standard tier, in exact USD, as :meth:`price_usage` has it.

        Args:
            tokens: what they used, as ``ModelTokens`` has it.
            model: as for :meth:`price_usage`.
            provider: who bills.

        Returns:
            ``None`` where there is no price for it.
        """
        try:
            flat = self._flat[provider][model]
        except KeyError:
            flat = self._flat.setdefault(provider, {})[model] = self._flat_rates(provider, model)
        if flat is not None and (cost := flat.charge(tokens)) is not None:
            return cost
        requests, given, cached, written, made = tokens
        usage = Usage(
            requests=requests,
            input_tokens=given,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=made,
        )
        try:
            return self.price_usage(usage, model=model, provider=provider)
        except (UnpricedModelError, UnmeasuredUsageError):
            return None

    def context_window(self, model: str, *, provider: str = "") -> int | None:
        """How many tokens of input and output together the model takes; ``None`` where the table does not say.

        Args:
            model: the model's name; one that the user gave another model as an alias stands for that.
            provider: who bills.
        """
        target = self._overrides.target(model)
        seller, name = _split(target) if target is not None else ("", model)
        provider = canonical_provider(seller or provider)
        if not provider:
            provider, name = _split(name)
        try:
            return table_window(provider, name.strip().lower())
        except UnknownModelError:
            return None

    def real_name(self, model: str) -> str:
        """The model that the user's own alias stands for, without a provider in front; any other name as it is."""
        target = self._overrides.target(model)
        return model if target is None else _split(target)[1]

    def cost(self, call: ModelCall) -> Decimal | None:
        """What the call costs, in exact USD; ``None`` where it is unpriced or unmeasured."""
        return self.priced(call).cost

    def priced(self, call: ModelCall) -> ModelCall:
        """The same call with its cost, or with the reason why it has none."""
        try:
            return remade(call, cost=self.price(call))
        except UnpricedModelError as error:
            return remade(call, cost=None, reason=str(error).partition("; add it to")[0])
        except UnmeasuredUsageError as error:
            return remade(call, cost=None, reason=call.reason or str(error))

    def _amount(self, usage: Usage, key: tuple[str, str, str, str]) -> Decimal | str:
        """The price in USD, or the reason why there is none."""
        rates = self._rates_of(key)
        if isinstance(rates, str):
            return rates
        try:
            return charge(usage, rates)
        except MissingRateError as error:
            return f"no price for {error} with {key[1]!r}"

    def _flat_rates(self, provider: str, model: str) -> FlatRates | None:
        from pytest_tokenbudget.price_flat import flat_rates  # noqa: PLC0415 - most runs have no baseline to price

        rates = self._rates_of((provider, model, "", ""))
        return None if isinstance(rates, str) else flat_rates(rates)

    def _rates_of(self, key: tuple[str, str, str, str]) -> Rates | str:
        """The rates, looked for once, or the reason why there are none."""
        rates = self._found.get(key)
        if rates is None:
            rates = self._found[key] = self._rates(*key)
        return rates

    def _rates(self, provider: str, model: str, tier: str, request_model: str) -> Rates | str:
        if not model and not request_model:
            return "no price: neither the request nor the answer names the model"
        for name in filter(None, dict.fromkeys((model, request_model))):
            own = self._own_rates(provider, name, tier)
            if own is not None:
                return own
        asked_first = request_model and (not model or canonical_provider(provider) in _BILLED_AS_ASKED)
        names = (request_model, model) if asked_first else (model,)
        reasons = []
        for name in filter(None, names):
            found = self._listed_rates(provider, name, tier)
            if isinstance(found, Rates):
                return found
            reasons.append(found)
        return reasons[-1]

    def _own_rates(self, provider: str, model: str, tier: str) -> Rates | str | None:
        """The user's word on that name: rates, or a reason against it; ``None`` where there is none."""
        target = self._overrides.target(model)
        name = target or model
        seller, plain = _split(name) if target is not None else ("", name)
        spellings = dict.fromkeys((name, plain, *model_candidates(canonical_provider(provider), name)))
        for spelling in spellings:
            if tier and (rates := self._overrides.rates(f"{spelling}@{tier}")) is not None:
                return rates
        for spelling in spellings:
            if (rates := self._overrides.rates(spelling)) is not None:
                return f"no price for {spelling!r} at the service tier {tier!r}" if tier else rates
        if target is None:
            return None
        return self._listed_rates(seller or provider, plain, tier)

    def _listed_rates(self, provider: str, model: str, tier: str) -> Rates | str:
        """The published rates, or the reason why there are none."""
        seller, name = (canonical_provider(provider), model) if provider.strip() else _split(model)
        name = name.strip().lower()
        # The supplement knows OpenAI's names only. Azure resells those models at OpenAI's rates, as the table has it:
        # there it fills gaps, and adds no model.
        of_openai = seller in {"openai", ""}
        extra = supplementary_rates(_last(seller, name)) if of_openai or seller == "azure" else None
        try:
            rates = table_rates(seller, name, tier=tier, on=self.date)
        except UnknownModelError as error:
            return extra if extra is not None and extra.input is not None and of_openai and not tier else str(error)
        return rates if extra is None or tier else rates.completed_by(extra)


def _split(name: str) -> tuple[str, str]:
    """Take ``azure:gpt-4o`` or ``openai/gpt-4o`` apart; a name without a known provider in front has none."""
    for separator in ":/":
        front, found, rest = name.partition(separator)
        if found and rest and is_provider(canonical_provider(front)):
            return canonical_provider(front), rest
    return "", name


def _last(provider: str, model: str) -> str:
    """The model's name without its own provider in front."""
    return model_candidates(provider, model)[-1]
