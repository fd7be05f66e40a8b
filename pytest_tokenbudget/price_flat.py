"""Rates that are the same however many tokens there are, so that a sum of tokens is priced by whole numbers alone.

A baseline prices every test of a suite: what ``price_rates.charge`` works out with decimals takes ten times as long.
Imported when the first sum is priced.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from pytest_tokenbudget.price_rates import EXACT, canonical

if TYPE_CHECKING:
    from pytest_tokenbudget.price_rates import Rates
    from pytest_tokenbudget.record import Counts

_multiply = EXACT.multiply
_DIGITS_OF_A_MILLION = 6
_MOST_UNITS = 10**60
"""Of a rate, so that the product with any count stays within the digits of the context."""


@dataclass(frozen=True, slots=True)
class FlatRates:
    """What each token of text costs.

    Attributes:
        usd_per_unit: what a unit is worth, a power of ten.
        fresh: units per token of input that is neither read from the prompt cache nor written to it.
        cached: units per token that is read from it.
        cache_write: units per token that is written to it.
        output: units per generated token.
    """

    usd_per_unit: Decimal
    fresh: int
    cached: int
    cache_write: int
    output: int

    def charge(self, tokens: Counts) -> Decimal | None:
        """What they cost, in exact USD, as ``price_rates.charge`` has it; ``None`` where parts exceed the whole."""
        _, given, cached, written, made = tokens
        fresh = given - cached
        units = cached * self.cached + made * self.output
        if written:  # few providers bill for it
            fresh -= written
            units += written * self.cache_write
        if fresh < 0:
            return None
        units += fresh * self.fresh
        usd = _multiply(units, self.usd_per_unit)
        return usd if units % 10 else canonical(usd)  # only then are there zeros at its end


def flat_rates(rates: Rates) -> FlatRates | None:
    """The same rates for text alone; ``None`` where more than the count of each kind of token decides the price."""
    full, output = rates.input, rates.output
    if full is None or output is None or rates.usd_per_request is not None or rates.free:
        return None
    each = (full, rates.cached_input or full, rates.cache_write or full, output)
    usd = [rate.usd_per_million_tokens.normalize(EXACT) for rate in each]
    exponent = min(0, *(int(amount.as_tuple().exponent) for amount in usd))
    units = [int(amount.scaleb(-exponent, EXACT)) for amount in usd]
    if any(rate.tiers for rate in each) or max(units) >= _MOST_UNITS:
        return None
    return FlatRates(Decimal(1).scaleb(exponent - _DIGITS_OF_A_MILLION, EXACT), *units)
