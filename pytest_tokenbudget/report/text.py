"""Text for a terminal of any width: what others wrote made harmless, shortened, lined up."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TEXT = 2000
"""Characters of a message that are looked at; a longer one would only scroll the rest away."""

# Cc: control, Cf: format (bidirectional overrides, zero width), Cs: lone surrogates, Co/Cn: not characters,
# Zl/Zp: line and paragraph separators.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, ascii_only: bool = False) -> str:
    """The text on one line, with nothing in it that moves the cursor, hides, reorders or can't be encoded."""
    if text.isascii() and text.isprintable():
        return text
    text = text[:MAX_TEXT] + ("..." if len(text) > MAX_TEXT else "")
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if (ascii_only and not character.isascii()) or unicodedata.category(character) in _HARMFUL
        else character
        for character in text
    )


def measure(text: str) -> int:
    """Columns that the text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def shorten(text: str, width: int, *, ascii_only: bool = False) -> str:
    """Leave out the middle of a text that is wider than ``width``: its start and its end tell most."""
    if measure(text) <= width:
        return text
    gap = "..." if ascii_only else "\N{HORIZONTAL ELLIPSIS}"
    room = max(0, width - len(gap))
    # The end of a node id (the test and its parameters) tells more than its start.
    tail = _fit(text[::-1], (room * 3 + 4) // 5)[::-1]
    return _fit(text, room - measure(tail)) + gap[:width] + tail


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Fill up with spaces, to the left of the text where it is to stand at the right."""
    fill = " " * (width - measure(text))
    return fill + text if right else text + fill


def align(rows: Sequence[Sequence[str]], rights: Iterable[int] = (), *, gap: str = "  ") -> list[str]:
    """Lay rows out in columns of equal width.

    Args:
        rows: cells; all rows have the same number of them.
        rights: the columns whose cells stand at the right.
        gap: what is put between two columns.
    """
    if not rows:
        return []
    rights = frozenset(rights)
    widths = [max(measure(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        gap.join(
            pad(cell, width, right=index in rights)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def align_points(figures: Sequence[str]) -> list[str]:
    """Bring the decimal points of some figures under each other."""
    wholes = [figure.partition(".")[0] for figure in figures]
    width = max((len(whole) for whole in wholes if not whole.isalpha()), default=0)
    # A word such as "unknown" has no point: it stands at the left.
    return [
        figure if whole.isalpha() else " " * (width - len(whole)) + figure
        for figure, whole in zip(figures, wholes, strict=True)
    ]


def wrap(text: str, width: int, *, first: str = "", indent: str = "") -> list[str]:
    """Break a text at spaces; a word that is wider than the line is left whole rather than cut.

    Args:
        text: one paragraph.
        width: columns, the indent included.
        first: put before the first line.
        indent: put before every other line.
    """
    if measure(first) + measure(text) <= width:
        return [first + text]
    lines: list[str] = []
    line, empty = first, True
    for word in text.split():
        if not empty and measure(line) + 1 + measure(word) > width:
            lines.append(line)
            line, empty = indent, True
        line, empty = line + word if empty else f"{line} {word}", False
    return [*lines, line]


def _fit(text: str, width: int) -> str:
    """The longest start of the text that is no wider than ``width``."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:index]
    return text


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
