"""What a model's tokens cost, as a list for people."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pytest_tokenbudget.errors import UnpricedModelError
from pytest_tokenbudget.report.text import printable
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_tokenbudget.pricing import PriceBook

# Longer than any prompt: its price per token is that of a price list's last tier.
_LONGEST = 10**9
_MILLION = 1_000_000
_CENTS = 2


def render_prices(book: PriceBook, model: str | None) -> str:
    """The rates of one model, or where the prices come from.

    Raises:
        UnpricedModelError: the model has no price.
    """
    table = book.describe()
    lines = [f"{table['source']} {table['version']}, list prices of {table['date']}"]
    lines += [f"overrides: {each}" for each in table["overrides"]]
    if model is not None:
        rows = list(_rates(book, model))
        if not rows:
            raise UnpricedModelError((model,))
        width = max(len(name) for name, _ in rows)
        rates = [f"  {name:{width}}  {_money(rate)}" for name, rate in rows]
        lines = [f"{model}, USD per million tokens", *rates, *lines]
    return "".join(f"{printable(line)}\n" for line in lines)


def _rates(book: PriceBook, model: str) -> Iterator[tuple[str, Decimal]]:
    """What the kinds of tokens cost; a kind that is charged as the whole it belongs to has no row.

    They are asked for as prices, so that overrides, aliases and gaps answer as they do for a call.
    """

    def price(**tokens: int) -> Decimal:
        return book.price_usage(Usage(requests=1, **tokens), model=model) * _MILLION

    per_request = price()  # a model that is not known at all ends here
    given, made = _attempt(price, input_tokens=1), _attempt(price, output_tokens=1)
    if given is not None:
        yield "input", given - per_request
        for name, kind in (("cached input", "cached_input_tokens"), ("cache write", "cache_write_tokens")):
            if (part := price(input_tokens=1, **{kind: 1})) != given:
                yield name, part - per_request
    if made is not None:
        yield "output", made - per_request
    if given is not None:
        longest = price(input_tokens=_LONGEST)
        if (rate := (longest - per_request) / _LONGEST) != given - per_request:
            yield "input, longest prompts", rate
        if (
            made is not None
            and (rate := price(input_tokens=_LONGEST, output_tokens=1) - longest) != made - per_request
        ):
            yield "output, longest prompts", rate
    if per_request:
        yield "a million requests", per_request


def _attempt(price: Callable[..., Decimal], **tokens: int) -> Decimal | None:
    try:
        return price(**tokens)
    except UnpricedModelError:
        return None  # a model that takes or makes no text is charged for the other side alone


def _money(amount: Decimal) -> str:
    """At least two decimals, and as many more as there are."""
    trimmed = amount.normalize()
    return format(trimmed if -int(trimmed.as_tuple().exponent) > _CENTS else trimmed.quantize(Decimal("0.01")), "f")
