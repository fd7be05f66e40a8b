"""Which tests are the plugin's business. Asked of every test of every run, so it is quick and imports nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BUDGET = "token_budget"
CASSETTE = "token_cassette"
FIXTURE_HOME = "pytest_tokenbudget.plugin"
RECORD_ATTRIBUTE = "token_budget"
"""The attribute of a test's teardown report that carries its record, as plain data, from worker to controller."""

LEFTOVER = "token_budget_shared"
"""The key of xdist's worker output that carries what was used after the last test."""

LATE = "token_budget_late"
"""The key of xdist's worker output that carries what replayed tests tried after the last test."""

MADE: pytest.StashKey[dict[Path, list[pytest.Item]]] = pytest.StashKey()
"""The tests that each module made, those included that nobody selected: their names tell which cassette is whose."""

NEAR = 2
"""So many typing errors make a marker's name still ours: a misspelt budget must not be no budget."""


def asks(item: pytest.Item) -> bool:
    """Whether a test has a marker of ours, even a misspelt one, or wants its usage."""
    if "usage" in getattr(item, "fixturenames", ()) and wants_usage(item):
        return True
    return any(_is_ours(mark.name) for mark in item.iter_markers())


def wants_usage(item: pytest.Item) -> bool:
    """Whether a test asks for our fixture; a parameter or a fixture of its own may have the same name."""
    info: Any = getattr(item, "_fixtureinfo", None)
    definitions: Any = None if info is None else info.name2fixturedefs.get("usage")
    return bool(definitions) and definitions[-1].func.__module__ == FIXTURE_HOME


def meant_by(name: str) -> str | None:
    """The marker of ours that a misspelt name means; ``None`` for one of ours and for any other."""
    if name in (BUDGET, CASSETTE):
        return None
    return next((ours for ours in (BUDGET, CASSETTE) if _distance(name, ours) <= NEAR), None)


@lru_cache(maxsize=1024)
def _is_ours(name: str) -> bool:
    return name in (BUDGET, CASSETTE) or meant_by(name) is not None


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, left out, changed or swapped with the next to make one word of the other."""
    if abs(len(one) - len(other)) > NEAR:
        return NEAR + 1
    older: list[int] = []
    before = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        current = [row]
        for column, wanted in enumerate(other, start=1):
            best = min(before[column] + 1, current[column - 1] + 1, before[column - 1] + (letter != wanted))
            swapped = row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == wanted
            current.append(min(best, older[column - 2] + 1) if swapped else best)
        older, before = before, current
    return before[-1]
