"""Which marker of ours a misspelt name means: a budget that was misspelt must not be no budget."""

from __future__ import annotations

from pytest_tokenbudget.options import BUDGET, CASSETTE

NEAR = 2
"""So many typing errors make a marker's name still ours."""


def meant_by(name: str) -> str | None:
    """The marker of ours that a misspelt name means; ``None`` for one of ours and for any other."""
    if name in (BUDGET, CASSETTE):
        return None
    return next((ours for ours in (BUDGET, CASSETTE) if _distance(name, ours) <= NEAR), None)


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
