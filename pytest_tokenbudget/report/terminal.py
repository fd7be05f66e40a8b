"""The section that a run prints at its end, for a terminal of any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pytest_tokenbudget.failures import is_spared
from pytest_tokenbudget.report.changes import Change, format_change
from pytest_tokenbudget.report.figures import count_of, format_count, tally_figures
from pytest_tokenbudget.report.findings import cost_facts, describe_call, findings, model_names, verdict_facts
from pytest_tokenbudget.report.headroom import BAR_WIDTH, draw_bar, format_share, headroom_of, is_estimate
from pytest_tokenbudget.report.message import label_of
from pytest_tokenbudget.report.text import align, align_points, measure, pad, printable, shorten, wrap
from pytest_tokenbudget.summary import fixture_title, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.budget import Headroom
    from pytest_tokenbudget.record import SharedRecord, Tally, UsageRecord
    from pytest_tokenbudget.report.findings import Fact, Finding
    from pytest_tokenbudget.summary import Summary

T = TypeVar("T")
Style = Literal["plain", "heading", "good", "warning", "bad"]

MARKUP: dict[Style, dict[str, bool]] = {
    "plain": {},
    "heading": {"bold": True},
    "good": {"green": True},
    "warning": {"yellow": True},
    "bad": {"red": True},
}
"""What each style is called by pytest's terminal writer, for ``write_line(line.text, **MARKUP[line.style])``."""

MOST = 10
"""Rows and names of one kind, unless ``-vv`` asks for all."""
ALL = 2
"""The verbosity of ``-vv``."""
WIDE = 110
"""From this width on the tests' input, cached and output tokens have columns of their own, and bars are longer."""
WIDE_BAR = 10
MIN_WIDTH = 40
NAME_SHARE = 0.375
"""The part of the width that a table leaves to the names, if they are that long."""
SPARED = ("requests", "cached", "output", "input", "baseline", "tokens")
"""What a table leaves out, in this order, where names have no room."""
LABEL_WIDTH = 10


class Line(NamedTuple):
    """One line, and how it is to look where colours are on."""

    text: str
    style: Style = "plain"


def render_terminal(summary: Summary, *, width: int = 80, verbosity: int = 0, ascii_only: bool = False) -> list[Line]:
    """Say what the run used, dearest first.

    Args:
        summary: the run.
        width: columns of the terminal; no line is wider, but for a word that is too long to be broken.
        verbosity: pytest's; below 0 the tables are left out, from 2 on every test and every call is shown.
        ascii_only: whether the terminal's encoding takes ASCII alone.

    Returns:
        The lines below the section's title; none where no test used a model and there is nothing to say.
    """
    page = _Page(width=max(width, MIN_WIDTH), everything=verbosity >= ALL, ascii_only=ascii_only)
    total = summary.total
    found = findings(summary, described=None if page.everything else MOST)
    used = total.usage.requests > 0 or total.usage.cache_hits > 0
    if not (used or found or summary.run_violations or summary.price_change):
        return []
    if used and verbosity >= 0:
        shown = summary.costliest if page.everything else summary.costliest_of(MOST)
        page.add_tests(shown, len(summary.users), compared=summary.baseline is not None, enforced=summary.enforced)
        page.add_shared(summary.shared)
        page.add_models(summary, total)
    # In the order in which one asks: what does it cost, what got dearer and why, what is to be done.
    page.add_facts(cost_facts(summary, total))
    for finding in found:
        page.add_finding(finding)
    page.add_facts(verdict_facts(summary, total))
    return page.lines


class _Page:
    """The lines so far, and what the terminal can show."""

    def __init__(self, *, width: int, everything: bool, ascii_only: bool) -> None:
        self.lines: list[Line] = []
        self.width = width
        self.everything = everything
        self.ascii_only = ascii_only

    def add_tests(self, shown: Sequence[UsageRecord], count: int, *, compared: bool, enforced: bool) -> None:
        """The costliest tests: what they use, how that changed, and how near it is to their budget.

        Args:
            shown: the dearest first.
            count: how many there are.
            compared: whether there is a baseline.
            enforced: whether a verdict fails its test.
        """
        if not shown:
            return
        hidden = f" ({len(shown)} of {count:,}; -vv shows all and their calls)" if len(shown) < count else ""
        self._heading(f"costliest tests{hidden}")
        tallies = [tally_of(record.figures, cache_hits=record.cache_hits) for record in shown]
        columns = self._figure_columns(tallies, detailed=self.width >= WIDE)
        changes = [format_change(record, Change.of(record)) for record in shown] if compared else []
        if any(changes):
            columns.append(["baseline", *changes])
        budgets = self._budgets(shown)
        if any(budgets):
            columns.append(["budget", *budgets])
        rows = self._rows(columns, ["test", *(record.nodeid for record in shown)], left=int(any(budgets)))
        self._put(rows[0])
        for row, record in zip(rows[1:], shown, strict=True):
            broken = record.verdict in ("over", "unmeasured")
            self._put(row, ("warning" if is_spared(record, enforced=enforced) else "bad") if broken else "plain")
            if self.everything:
                self._add_calls(record)

    def add_shared(self, shared: Sequence[SharedRecord]) -> None:
        """What shared fixtures used: charged to no test."""
        if not shared:
            return
        self._heading("shared fixtures, charged to no test")
        tallies = [tally_of(record.figures, cache_hits=record.cache_hits) for record in shared]
        columns = self._figure_columns(tallies, detailed=self.width >= WIDE)
        rows = self._rows(columns, ["fixture", *(fixture_title(record) for record in shared)])
        self._put(rows[0])
        for row, record in zip(rows[1:], shared, strict=True):
            self._put(row)
            if self.everything:
                self._add_calls(record)

    def add_models(self, summary: Summary, total: Tally) -> None:
        """One row for each model, and one for all."""
        models = summary.models
        if not models:
            return
        shown = self._some(models)
        hidden = f" ({len(shown)} of {len(models):,})" if len(shown) < len(models) else ""
        self._heading(f"by model{hidden}")
        columns = self._figure_columns([*(row.tally for row in shown), total], detailed=True)
        if self.width < WIDE:
            del columns[1]  # the total tokens: input and output say it, and names need the room
        names = model_names(models)[: len(shown)]
        rows = self._rows(columns, ["model", *names, "total"])
        for row in rows[:-1]:
            self._put(row)
        self._put(rows[-1], "heading")

    def add_finding(self, finding: Finding) -> None:
        """One thing that wants attention."""
        self._heading(
            f"{finding.title} ({len(finding.items):,})", "bad" if finding.grave else "warning", note=finding.remedy
        )
        shown = self._some(finding.items)
        for item in shown:
            self._put(f"  {shorten(self._clean(item.subject), self.width - 2, ascii_only=self.ascii_only)}")
            for line in item.lines:
                self._wrap(self._clean(line), first="    ", indent="      ")
        if len(shown) < len(finding.items):
            self._put(f"  ... and {len(finding.items) - len(shown):,} more; -vv shows all")

    def add_facts(self, said: Sequence[Fact]) -> None:
        """The run as a whole."""
        if said and self.lines:
            self._put("")
        for fact in said:
            style: Style = "bad" if fact.grave else "heading" if fact.label == "total" else "plain"
            label = pad(fact.label, LABEL_WIDTH)
            bar = f"{self._bar(fact.headroom)} " if fact.headroom is not None else ""
            self._wrap(bar + self._clean(fact.text), first=f"{label}  ", indent=" " * (LABEL_WIDTH + 2), style=style)

    def _budgets(self, records: Sequence[UsageRecord]) -> list[str]:
        """How near each test is to its budget: a bar, or the verdict in its place where it is not within."""
        rooms = [headroom_of(record) for record in records]
        shares = [
            format_share(room, estimated=is_estimate(record, room)) if room is not None else ""
            for record, room in zip(records, rooms, strict=True)
        ]
        width = max(map(len, shares))
        shown: list[str] = []
        for record, room, share in zip(records, rooms, shares, strict=True):
            word: str = "" if record.verdict == "none" else record.verdict
            if room is not None:
                bar = pad(word, self._bar_width()) if word == "over" else self._bar(room)
                word = f"{bar} {pad(share, width, right=True)}"
                word += f" of {label_of(room.limit)}" if self.width >= WIDE else ""
            shown.append(word)
        return shown

    def _bar(self, headroom: Headroom) -> str:
        return draw_bar(headroom, width=self._bar_width(), ascii_only=self.ascii_only)

    def _bar_width(self) -> int:
        return WIDE_BAR if self.width >= WIDE else BAR_WIDTH

    def _figure_columns(self, tallies: Sequence[Tally], *, detailed: bool) -> list[list[str]]:
        """Columns of cost, tokens and requests, each with its title."""
        figures = [tally_figures(tally) for tally in tallies]
        columns = [
            ["cost", *align_points([cost for cost, _ in figures])],
            ["tokens", *(tokens for _, tokens in figures)],
        ]
        if detailed:
            columns += [
                ["input", *(count_of(tally, tally.usage.input_tokens) for tally in tallies)],
                ["cached", *(count_of(tally, tally.usage.cached_input_tokens) for tally in tallies)],
                ["output", *(count_of(tally, tally.usage.output_tokens) for tally in tallies)],
            ]
        return [*columns, ["requests", *(format_count(tally.usage.requests) for tally in tallies)]]

    def _rows(self, columns: list[list[str]], names: Sequence[str], *, left: int = 0) -> list[str]:
        """Lines of the columns, figures at the right but for the cost and the last ``left``, then the names."""
        shown = [self._clean(name) for name in names]
        columns = self._make_room(columns, min(int(self.width * NAME_SHARE), max(map(measure, shown))))
        rights = range(1, len(columns) - left)
        figures = align(list(zip(*columns, strict=True)), rights)
        width = max(measure(row) for row in figures)
        room = self.width - 2 - width - 2
        return [
            f"  {pad(row, width)}  {shorten(name, room, ascii_only=self.ascii_only)}"
            for row, name in zip(figures, shown, strict=True)
        ]

    def _make_room(self, columns: list[list[str]], needed: int) -> list[list[str]]:
        """Leave out columns, those first that tell least, until the names have the room that they need."""
        kept = list(columns)
        for title in SPARED:
            taken = sum(2 + max(map(measure, column)) for column in kept)
            if self.width - taken - 2 >= needed:
                break
            kept = [column for column in kept if column[0] != title]
        return kept

    def _add_calls(self, record: UsageRecord | SharedRecord) -> None:
        for number, call in enumerate(record.calls, start=1):
            self._wrap(self._clean(f"{number}. {describe_call(call)}"), first=" " * 6, indent=" " * 9)

    def _some(self, items: Sequence[T]) -> Sequence[T]:
        return items if self.everything else items[:MOST]

    def _clean(self, text: str) -> str:
        return printable(text, ascii_only=self.ascii_only)

    def _heading(self, text: str, style: Style = "heading", *, note: str = "") -> None:
        if self.lines:
            self._put("")
        if note and len(text) + len(note) + 2 > self.width:
            self._wrap(text, first="", indent="  ", style=style)
            self._wrap(note, first="  ", indent="    ")
        else:
            self._wrap(f"{text}; {note}" if note else text, first="", indent="  ", style=style)

    def _wrap(self, text: str, *, first: str, indent: str, style: Style = "plain") -> None:
        for line in wrap(text, self.width, first=first, indent=indent):
            # A word that is wider than the terminal stays whole: it may be a part of a command that is to be copied.
            self.lines.append(Line(line.rstrip(), style))

    def _put(self, text: str, style: Style = "plain") -> None:
        self.lines.append(Line(shorten(text.rstrip(), self.width, ascii_only=self.ascii_only), style))
