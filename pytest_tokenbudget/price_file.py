"""The user's own prices: a TOML file with rates and aliases, and the day whose prices hold."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.price_rates import Rate, Rates

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

RATE_KEYS = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "input_audio", "output_audio")
"""What a model's table may hold, each in USD per million tokens."""

MAX_BYTES = 1024 * 1024
"""A larger file is not a price file."""

_Value = TypeVar("_Value")
_DIGITS = 8
_REQUIRED = ("input", "output")
_MAX_USD_PER_MILLION_TOKENS = Decimal(1_000_000)
_MAX_DECIMALS = 18
_NUMBER = re.compile(r"\d{1,18}(?:\.\d{1,18})?")
_ALLOWED_RATE = "a number of USD per million tokens, from 0 to 1000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverrides:
    """Prices of the user's own; they win over every table. Names match exactly, else without regard to case.

    Attributes:
        models: rates by model name; ``name@tier`` holds those of a service tier, such as ``gpt-4o@priority``.
        aliases: names that stand for a ``model`` or for a ``provider:model``.
        path: the file that they came from.
    """

    models: Mapping[str, Rates] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    def describe(self) -> list[str]:
        """As reports name them: ``prices.toml (1a2b3c4d)``; without a file each model and alias.

        The file has no folder, which is another one in every checkout. The digits are others where a price or an
        alias is: the same file later is not the same prices.
        """
        names = [self.path.name] if self.path is not None else sorted({*self.models, *self.aliases})
        return [f"{name} ({self._digest()})" for name in names]

    def _digest(self) -> str:
        # Of what the file says: a comment, an order or a line's end makes nothing dearer. A ratio of whole numbers is
        # the same for 3 and 3.00, at any precision.
        models = {
            name: {
                key: rate.usd_per_million_tokens.as_integer_ratio()
                for key in RATE_KEYS
                if (rate := getattr(rates, key)) is not None
            }
            for name, rates in self.models.items()
        }
        said = json.dumps([models, dict(self.aliases)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:_DIGITS]

    def rates(self, model: str) -> Rates | None:
        """The rates given for that name, or ``None``."""
        return _lookup(self.models, model)

    def target(self, model: str) -> str | None:
        """What the name stands for at the end of its chain of aliases, or ``None`` where it is no alias."""
        seen: list[str] = []
        name = model
        while (further := _lookup(self.aliases, name)) is not None and further not in seen:
            seen.append(further)
            name = further
        return seen[-1] if seen else None


def load_price_file(path: Path) -> PriceOverrides:
    """Read the file that the ini option ``token_prices`` names.

    Raises:
        ConfigurationError: it can't be read, or anything in it is not what it has to be; one line that holds the
            path, the key, its value and what is allowed.
    """
    document = _parse(path)
    reader = _Reader(path)
    reader.check_keys(document, ("models", "aliases"), where="")
    models = {
        name: reader.rates(name, table) for name, table in reader.table(document.get("models", {}), "models").items()
    }
    aliases = {
        name: reader.alias(name, target)
        for name, target in reader.table(document.get("aliases", {}), "aliases").items()
    }
    reader.check_names(models, aliases)
    return PriceOverrides(models=models, aliases=aliases, path=path)


def parse_price_date(text: str) -> date:
    """Read a day such as ``2026-11-18``.

    Raises:
        ConfigurationError: it is no such day.
    """
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text.strip(), re.ASCII) is not None:
        try:
            return date.fromisoformat(text.strip())
        except ValueError:
            pass  # 2026-02-30 looks like a day: the message below says what one is
    raise ConfigurationError(f"token_price_date: {text!r} is no day; allowed is YYYY-MM-DD, for example 2026-11-18")


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(_line(f"price file {path}: can't be read: {reason}")) from error
    if len(data) > MAX_BYTES:
        raise ConfigurationError(
            _line(f"price file {path}: is larger than {MAX_BYTES} bytes; allowed is a TOML file")
        )
    try:
        return tomllib.loads(data.decode("utf-8-sig"), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise ConfigurationError(_line(f"price file {path}: is not UTF-8: {error}")) from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ConfigurationError(_line(f"price file {path}: is not TOML: {error or type(error).__name__}")) from error


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns the document's values into ours; every refusal names the file."""

    path: Path

    def table(self, value: object, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse(key, value, "a table")
        return value

    def check_keys(self, table: Mapping[str, object], allowed: Collection[str], *, where: str) -> None:
        for key, value in table.items():
            if key in allowed:
                continue
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            self._refuse(f"{where}{key}", value, f"{hint}the keys {', '.join(allowed)}", fault="unknown key, ")

    def rates(self, name: str, value: object) -> Rates:
        where = f'models."{name}"'
        if not name.strip():
            self._refuse(where, value, "a model's name that is not empty")
        table = self.table(value, where)
        self.check_keys(table, RATE_KEYS, where=f"{where}.")
        if missing := [key for key in _REQUIRED if key not in table]:
            self._refuse(f"{where}.{missing[0]}", None, _ALLOWED_RATE, fault="is missing, ")
        given = {key: self._rate(f"{where}.{key}", rate) for key, rate in table.items()}
        return Rates(
            input=given["input"],
            cached_input=given.get("cached_input"),
            cache_write=given.get("cache_write"),
            cache_write_1h=given.get("cache_write_1h"),
            output=given["output"],
            input_audio=given.get("input_audio"),
            output_audio=given.get("output_audio"),
        )

    def alias(self, name: str, target: object) -> str:
        where = f'aliases."{name}"'
        if not name.strip() or not isinstance(target, str) or not target.strip(" :/"):
            self._refuse(where, target, 'the name of a model, such as "gpt-4o" or "azure:gpt-4o"')
        return target.strip()

    def check_names(self, models: Mapping[str, Rates], aliases: Mapping[str, str]) -> None:
        taken: dict[str, str] = {}
        for name, where in [*((each, "models") for each in models), *((each, "aliases") for each in aliases)]:
            if (other := taken.setdefault(name.casefold(), f'{where}."{name}"')) != f'{where}."{name}"':
                self._refuse(f'{where}."{name}"', name, f"one entry for a name, and {other} has it already")
        for name in aliases:
            steps = [name.casefold()]
            while (target := _lookup(aliases, steps[-1])) is not None:
                if target.casefold() in steps:
                    self._refuse(f'aliases."{name}"', aliases[name], "a name that does not lead back to itself")
                steps.append(target.casefold())

    def _rate(self, key: str, value: object) -> Rate:
        amount: Decimal | None = None
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            amount = Decimal(value.strip())
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            amount = Decimal(value)
        if amount is None or not amount.is_finite() or not 0 <= amount <= _MAX_USD_PER_MILLION_TOKENS:
            self._refuse(key, value, _ALLOWED_RATE)
        if int(amount.as_tuple().exponent) < -_MAX_DECIMALS:
            self._refuse(key, value, f"{_ALLOWED_RATE}, of at most {_MAX_DECIMALS} decimals")
        return Rate(usd_per_million_tokens=abs(amount))

    def _refuse(self, key: str, value: object, allowed: str, *, fault: str = "") -> NoReturn:
        shown = "" if value is None else f"{_shown(value)}; "
        raise ConfigurationError(_line(f"price file {self.path}: {key}: {fault}{shown}allowed: {allowed}"))


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - what fits on a line beside the rest


def _lookup(table: Mapping[str, _Value], name: str) -> _Value | None:
    if name in table:
        return table[name]
    folded = name.casefold()
    return next((value for key, value in table.items() if key.casefold() == folded), None)


def _line(text: str) -> str:
    return " ".join(text.split())
