"""The command line, beside pytest: ``tokenbudget`` or ``python -m pytest_tokenbudget``."""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tokenbudget import __version__
from pytest_tokenbudget.errors import ConfigurationError, TokenBudgetError, UnpricedModelError
from pytest_tokenbudget.pricing import PriceBook, PriceOverrides, load_price_file, parse_price_date
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

EXIT_FAILED = 1
EXIT_USAGE = 4
"""What pytest answers where a file or an option can't be used."""

# Longer than any prompt: its price per token is that of a price list's last tier.
_LONGEST = 10**9
_MILLION = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; the process's own where there are none.

    Returns:
        The exit status: 0, 1 where the answer is no, 4 where a file or an option can't be used.
    """
    words = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], str] = words.command
    try:
        text = command(words)
    except TokenBudgetError as error:
        sys.stderr.write(f"tokenbudget: {_printable(str(error))}\n")
        return EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED
    sys.stdout.write(text)
    return 0


def show_prices(words: argparse.Namespace) -> str:
    """The rates of one model, or where the prices come from.

    Raises:
        ConfigurationError: the price file or the day can't be used.
        UnpricedModelError: the model has no price.
    """
    overrides = load_price_file(Path(words.prices)) if words.prices is not None else PriceOverrides()
    book = PriceBook(overrides, parse_price_date(words.date) if words.date is not None else None)
    table = book.describe()
    lines = [f"{table['source']} {table['version']}, list prices of {table['date']}"]
    lines += [f"overrides: {each}" for each in table["overrides"]]
    if words.model is None:
        return _text(lines)
    rows = list(_rates(book, words.model))
    if not rows:
        raise UnpricedModelError((words.model,))
    width = max(len(name) for name, _ in rows)
    return _text(
        [f"{words.model}, USD per million tokens"]
        + [f"  {name:{width}}  {_money(rate)}" for name, rate in rows]
        + lines
    )


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenbudget", description="What tests spend on language models, beside pytest.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"pytest-tokenbudget {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    prices = commands.add_parser(
        "prices",
        help="show a model's list prices, or where prices come from",
        description="Show a model's list prices, or where prices come from. The network is never asked.",
        allow_abbrev=False,
    )
    prices.add_argument("model", nargs="?", metavar="MODEL", help="for example gpt-4o-mini or azure:gpt-4o")
    prices.add_argument("--prices", metavar="FILE", help="prices of your own, as the ini option token_prices names")
    prices.add_argument("--date", metavar="YYYY-MM-DD", help="the day whose list prices hold")
    prices.set_defaults(command=show_prices)
    return parser


def _money(amount: Decimal) -> str:
    """At least two decimals, and as many more as there are."""
    trimmed = amount.normalize()
    return format(trimmed if -int(trimmed.as_tuple().exponent) > 2 else trimmed.quantize(Decimal("0.01")), "f")  # noqa: PLR2004 - cents


def _text(lines: Sequence[str]) -> str:
    return "".join(f"{_printable(line)}\n" for line in lines)


def _printable(line: str) -> str:
    """The line as any terminal can show it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in line)
