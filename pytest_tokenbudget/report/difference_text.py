"""The difference of two runs as text for a terminal, or as Markdown for a pull request's comment.

Neither holds the day, a path or anything else that moves by itself, so that a comment changes only if the figures do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget.report.figures import (
    count_of,
    describe_prices,
    format_excess,
    format_pair,
    format_percent,
    format_usd,
    mark,
    plural,
    tally_figures,
)
from pytest_tokenbudget.report.markdown import MAX_NAME, code, escape
from pytest_tokenbudget.report.text import align, printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_tokenbudget.record import Tally
    from pytest_tokenbudget.report.difference import Change, Difference

MARKER = "<!-- pytest-tokenbudget -->"
"""The first line of the Markdown: by it a job finds the comment that it wrote before."""
MAX_COMMENT = 60_000
"""Characters; GitHub takes 65,536 for a comment."""
NO_CHANGE = "no change"
_MOST = 50
_HEADER = ("cost", "change", "tokens", "change")


_FIELDS = (
    ("input", "input_tokens"),
    ("cached", "cached_input_tokens"),
    ("cache write", "cache_write_tokens"),
    ("output", "output_tokens"),
    ("reasoning", "reasoning_tokens"),
    ("requests", "requests"),
    ("cache hits", "cache_hits"),
    ("estimated requests", "estimated_requests"),
    ("unmeasured requests", "unmeasured_requests"),
)


class _Row(NamedTuple):
    cells: tuple[str, str, str, str]
    subject: str
    details: str


class _Section(NamedTuple):
    """A part of the page: a table, where the rows have figures, or a list."""

    title: str
    rows: tuple[_Row, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def render_text(difference: Difference) -> str:
    """The difference for a terminal, every test that changed; one line where nothing did."""
    if difference.silent:
        return f"{NO_CHANGE}\n"
    lines = [printable(line) for line in _caveats(difference)]
    lines += align([("", *_HEADER), ("total", *_cells(difference.before, difference.after))], rights=())
    for section in _sections(difference):
        lines += ["", f"{section.title} ({len(section.rows) + len(section.notes):,})"]
        if section.rows:
            table = align([_HEADER, *(row.cells for row in section.rows)])
            width = max(map(len, table))
            lines.append(f"  {table[0]:{width}}  test")
            for line, row in zip(table[1:], section.rows, strict=True):
                lines.append(f"  {line:{width}}  {printable(row.subject)}")
                if row.details:
                    lines.append(f"      {printable(row.details)}")
        lines += [f"  {printable(subject)}: {printable(said)}" for subject, said in section.notes]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def render_markdown(difference: Difference) -> str:
    """The difference as GitHub-flavoured Markdown, short enough for a comment; its first line is ``MARKER``."""
    if difference.silent:
        return f"{MARKER}\nToken budget: {NO_CHANGE}\n"
    most = _MOST
    while len(text := _page(difference, most)) > MAX_COMMENT and most > 1:
        most //= 2
    return text


def _page(difference: Difference, most: int) -> str:
    before, after = difference.before, difference.after
    cost, cost_moved, tokens, tokens_moved = map(_cell, _cells(before, after))
    # Of what is not known nobody can say that it did not change.
    priced = before.cost is not None and after.cost is not None
    measured = not (before.usage.unmeasured_requests or after.usage.unmeasured_requests)
    costs = ", ".join(filter(None, (cost, cost_moved or (NO_CHANGE if priced else ""))))
    counts = ", ".join(filter(None, (f"{tokens} tokens", tokens_moved or (NO_CHANGE if measured else ""))))
    blocks = [
        f"{MARKER}\n## Token budget: what changed",
        f"**Total**: {costs}; {counts}",
    ]
    blocks += [f"- {_cell(line)}" for line in _caveats(difference)]
    for section in _sections(difference):
        count = len(section.rows) + len(section.notes)
        shown = f"{most} of {count:,}" if count > most else f"{count:,}"
        lines = [f"### {section.title[:1].upper()}{section.title[1:]} ({shown})", ""]
        if section.rows:
            lines += [f"| {' | '.join(_HEADER)} | test | what moved |", "| ---: | ---: | ---: | ---: | --- | --- |"]
            for row in section.rows[:most]:
                figures = " | ".join(map(_cell, row.cells))
                lines.append(f"| {figures} | {code(row.subject)} | {_cell(shorten(row.details, MAX_NAME))} |")
        lines += [f"- {code(subject)}: {_cell(shorten(said, MAX_NAME))}" for subject, said in section.notes[:most]]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _sections(difference: Difference) -> list[_Section]:
    sections = [
        _Section("verdicts that changed", notes=_notes(difference.rejudged, _verdicts)),
        _Section("changed", rows=_rows(difference.changed)),
        _Section("new", rows=_rows(difference.new)),
        _Section("gone", rows=_rows(difference.gone)),
        _Section("unpriced", notes=_notes(difference.unpriced, lambda each: ", ".join(each.now.unpriced_models))),
        _Section("unmeasured", notes=_notes(difference.unmeasured, _unmeasured)),
    ]
    return [section for section in sections if section.rows or section.notes]


def _caveats(difference: Difference) -> list[str]:
    said = [f"the {run} run did not come to its end: its figures are too low" for run in difference.incomplete]
    if count := len(difference.cut_short):
        said.append(
            f"{plural(count, 'test')} failed or skipped in one of the runs alone, so a part of the change may be "
            "calls that were not made"
        )
    if difference.prices is not None:
        old, new = map(describe_prices, difference.prices)
        said.append(f"the prices differ, so a part of the change may be theirs: {old} -> {new}")
    return said


def _rows(changes: Sequence[Change]) -> tuple[_Row, ...]:
    return tuple(_Row(_change_cells(change), change.subject, _details(change)) for change in changes)


def _notes(changes: Sequence[Change], say: Callable[[Change], str]) -> tuple[tuple[str, str], ...]:
    return tuple((change.subject, say(change)) for change in changes)


def _unmeasured(change: Change) -> str:
    usage = change.now.usage
    return f"{usage.unmeasured_requests:,} of {plural(usage.requests, 'request')}"


def _verdicts(change: Change) -> str:
    if change.before is None or change.after is None:
        return ""
    before, after = change.before, change.after
    said = []
    if before.verdict != after.verdict:
        said.append(f"budget {before.verdict} -> {after.verdict}")
    if before.over_baseline != after.over_baseline:
        said.append("over the baseline" if after.over_baseline else "no longer over the baseline")
    return ", ".join(said)


def _change_cells(change: Change) -> tuple[str, str, str, str]:
    """Cells of a test: before and after where there are two, else the figures alone."""
    if change.before is not None and change.after is not None:
        return _cells(change.was, change.now)
    cost, tokens = tally_figures(change.was if change.after is None else change.now)
    return cost, "", tokens, ""


def _details(change: Change) -> str:
    """Which of its figures moved, and whether it uses other models; empty where there is no before or after."""
    if change.before is None or change.after is None:
        return ""
    before, after = change.was, change.now
    said = []
    if change.cut_short:
        said = [
            f"{side.cut_short} in the {run} run"
            for run, side in (("old", change.before), ("new", change.after))
            if side.cut_short
        ]
    if change.before.models.keys() != change.after.models.keys():
        old, new = (", ".join(side.models) or "none" for side in (change.before, change.after))
        said.append(f"model {old} -> {new}")
    for name, field in _FIELDS:
        old_count, new_count = getattr(before.usage, field), getattr(after.usage, field)
        if old_count != new_count:
            said.append(f"{name} {old_count:,} -> {new_count:,}")
    return ", ".join(said)


def _cells(before: Tally, after: Tally) -> tuple[str, str, str, str]:
    """Cost and tokens as ``before -> after``, each with its difference and percent."""
    return *_cost_cells(before, after), *_token_cells(before, after)


def _cost_cells(before: Tally, after: Tally) -> tuple[str, str]:
    estimated = before.usage.estimated_requests > 0 or after.usage.estimated_requests > 0
    if before.cost is None or after.cost is None:
        old, new = (_least(each) for each in (before, after))
        return (old if old == new else f"{old} -> {new}"), ""
    if before.cost == after.cost:
        return tally_figures(after)[0], ""
    new, old, moved = format_pair(after.cost, before.cost)
    shown = f"{mark(old, estimated=before.usage.estimated_requests > 0)} -> " + mark(
        new, estimated=after.usage.estimated_requests > 0
    )
    return shown, format_excess(mark(moved, estimated=estimated), format_percent(after.cost, before.cost))


def _token_cells(before: Tally, after: Tally) -> tuple[str, str]:
    old, new = before.usage.total_tokens, after.usage.total_tokens
    shown_old, shown_new = count_of(before, old), count_of(after, new)
    shown = shown_new if shown_old == shown_new else f"{shown_old} -> {shown_new}"
    if before.usage.unmeasured_requests or after.usage.unmeasured_requests or old == new:
        return shown, ""
    estimated = before.usage.estimated_requests > 0 or after.usage.estimated_requests > 0
    moved = format_pair(new, old)[2]
    return shown, format_excess(mark(moved, estimated=estimated), format_percent(new, old))


def _least(tally: Tally) -> str:
    """A cost that may not be known as a whole."""
    estimated = tally.usage.estimated_requests > 0
    if tally.cost is None and tally.known_cost:
        return f"unknown, at least {format_usd(tally.known_cost, estimated=estimated)}"
    return format_usd(tally.cost, estimated=estimated)


def _cell(figure: str) -> str:
    # As an entity the tip of an ASCII arrow would be hard to read in the source.
    return escape(figure.replace(" -> ", " \N{RIGHTWARDS ARROW} "))
