"""The kinds of values that a JSON report is made of: each taken as exactly that, or refused with its place.

Every function raises ``Fault`` where the value is something else; ``place`` says which one it is.
"""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from typing import Any

from pytest_tokenbudget.strict_json import Fault, kind, show

MAX_COUNT = 10**15
"""No run uses more tokens; a larger number is no count."""
MAX_DIGITS = 100
"""Digits of an amount of money: sums are exact to that many."""

_AMOUNT = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


def check_once(place: str, names: list[str]) -> None:
    """Refuse a list in which a name stands twice."""
    if len(set(names)) < len(names):
        raise Fault(f"{place} lists {show(min(name for name, times in Counter(names).items() if times > 1))} twice")


def as_object(value: Any, keys: frozenset[str] | None, place: str) -> dict[str, Any]:
    """An object, with exactly these keys where they are fixed."""
    if type(value) is not dict:
        raise Fault(f"{place} must be an object, not {kind(value)}")
    if keys is not None and value.keys() != keys:
        check_keys(value, keys, place)
    return value


def check_keys(value: dict[str, Any], keys: frozenset[str], place: str) -> None:
    """Refuse an object that lacks a key, or holds one that nobody knows."""
    if missing := sorted(keys - value.keys()):
        raise Fault(f"{place} lacks {', '.join(missing)}")
    if unknown := sorted(value.keys() - keys):
        raise Fault(f"{place} holds the unknown key {show(unknown[0])}")


def as_array(value: Any, place: str) -> list[Any]:
    """An array."""
    if type(value) is not list:
        raise Fault(f"{place} must hold an array, not {kind(value)}")
    return value


def as_text(value: Any, place: str) -> str:
    """A string."""
    if type(value) is not str:
        raise Fault(f"{place} must be a string, not {kind(value)}")
    return value


def as_texts(value: Any, place: str) -> tuple[str, ...]:
    """An array of strings."""
    return tuple(as_text(each, place) for each in as_array(value, place))


def as_flag(value: Any, place: str) -> bool:
    """True or false; no 0 or 1."""
    if type(value) is not bool:
        raise Fault(f"{place} must be true or false, not {kind(value)}")
    return value


def as_count(value: Any, place: str) -> int:
    """A whole number of tokens, requests or hits; no true, no 1.0."""
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise Fault(f"{place} is {show(value)}, where a whole number from 0 to {MAX_COUNT} is expected")
    return value


def as_word(value: Any, allowed: frozenset[str], place: str, name: str) -> Any:
    """One of the words; ``Any``, since a type checker can't see which ``Literal`` they make up."""
    if type(value) is not str or value not in allowed:
        raise Fault(f"{place}: {name} is {show(value)}, where {', '.join(sorted(allowed))} are known")
    return value


def as_amount(value: Any, place: str) -> Decimal | None:
    """USD or a fraction, exact; ``None`` where it is not known."""
    return None if value is None else as_known_amount(value, place)


def as_known_amount(value: Any, place: str) -> Decimal:
    """USD or a fraction, as the decimal string that it is written as."""
    if type(value) is not str or len(value) > MAX_DIGITS or not _AMOUNT.fullmatch(value):
        raise Fault(f'{place} is {show(value)}, where an amount as a string such as "0.0023" is expected')
    return Decimal(value)


def as_figure(value: Any, place: str) -> int | Decimal | None:
    """A limit or what was used: a count, an amount, or not known."""
    if value is None or type(value) is str:
        return as_amount(value, place)
    return as_count(value, place)
