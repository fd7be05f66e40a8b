"""The table of the page: its rows, and how they get into the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BEGIN, END = "<!-- table -->", "<!-- end of table -->"
HEAD = ("quantity", "pytest-tokenbudget", "compared with", "target", "met", "by")
SKIPPED = "valgrind is not there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured quantity.

    Attributes:
        quantity: what, and its unit.
        ours: the figure of pytest-tokenbudget.
        theirs: the figure of what it is compared with, and what that is.
        target: what was promised.
        met: whether it is kept; ``None`` where nothing was promised or measured.
        by: how it was measured.
    """

    quantity: str
    ours: str
    theirs: str = ""
    target: str = ""
    met: bool | None = None
    by: str = "instructions"

    def cells(self) -> list[str]:
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        return [self.quantity, self.ours, self.theirs, self.target, met, self.by]


def skipped(quantity: str) -> Row:
    """The row of what can't be measured without valgrind."""
    return Row(quantity=quantity, ours=SKIPPED)


def render(rows: Iterable[list[str]]) -> str:
    """The rows as Markdown."""
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def write(page: Path, rows: Iterable[Row], versions: str, order: tuple[str, ...]) -> None:
    """Put rows in the page's table: in the place of those of the same quantity, with the versions below.

    Args:
        page: a Markdown file with the marks of a table.
        rows: the new ones; the others stay as they are.
        versions: of what was measured.
        order: all quantities; a row of another is dropped.
    """
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    table = {cells[0]: cells for cells in map(_cells, old.splitlines()) if len(cells) == len(HEAD)}
    table |= {row.quantity: row.cells() for row in rows}
    text = render(table[quantity] for quantity in order if quantity in table)
    page.write_text(f"{before}{BEGIN}\n{text}\nMeasured with {versions}.\n{END}{after}", encoding="utf-8")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")]
