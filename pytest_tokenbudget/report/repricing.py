"""What a run would cost on another model, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import (
    count_of,
    format_cost,
    format_count,
    format_excess,
    format_pair,
    format_percent,
    mark,
    plural,
    tally_figures,
)
from pytest_tokenbudget.report.text import align, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.repricing import Repriced

_HEADER = ("requests", "input", "output", "cost now", "there", "change", "model now")


def render_repriced(
    total: Repriced, rows: Sequence[Repriced], *, model: str, source: str, complete: bool = True
) -> str:
    """The total and a row for each model in use now, with what the figures leave out.

    Args:
        total: the run.
        rows: the models.
        model: the other model.
        source: where its prices come from.
        complete: whether the run came to its end.
    """
    names = [f"{row.provider}:{row.model}" if row.provider else row.model or "?" for row in rows]
    cells = [_HEADER, *(_cells(row, name) for row, name in zip(rows, names, strict=True)), _cells(total, "total")]
    lines = [f"on {model}: {_verdict(total)}", *(f"  {line}" for line in align(cells, rights=(0, 1, 2)))]
    usage = total.tally.usage
    if not complete:
        lines.append("the run did not come to its end: these are the figures of what finished")
    if usage.estimated_requests:
        lines.append(f"~ estimated: {usage.estimated_requests:,} of {plural(usage.requests, 'request')}")
    if usage.unmeasured_requests:
        lines.append(
            f"unmeasured: {usage.unmeasured_requests:,} of {plural(usage.requests, 'request')}; they come on top"
        )
    if total.unpriced:
        lines.append(
            f"unpriced on {model}: {plural(total.unpriced, 'request')}, with tokens that it has no price for; "
            "they come on top"
        )
    if total.tally.unpriced_models:
        lines.append(f"unpriced now: {', '.join(total.tally.unpriced_models)}")
    lines.append("the same tokens at other prices: another model may count, and say, more or less")
    lines.append(source)
    return "".join(f"{printable(line)}\n" for line in lines)


def _cells(row: Repriced, name: str) -> tuple[str, ...]:
    usage = row.tally.usage
    return (
        format_count(usage.requests),
        count_of(row.tally, usage.input_tokens),
        count_of(row.tally, usage.output_tokens),
        tally_figures(row.tally)[0],
        format_there(row),
        format_move(row),
        printable(name),
    )


def _verdict(total: Repriced) -> str:
    change = format_move(total)
    return format_there(total) + (f" instead of {tally_figures(total.tally)[0]}, {change}" if change else "")


def format_there(row: Repriced) -> str:
    """What it would cost on the other model: ``$0.0023``, or ``unknown, at least $0.0023``."""
    return format_cost(row.cost, row.known_cost, estimated=row.tally.usage.estimated_requests > 0)


def format_move(row: Repriced) -> str:
    """By how much it would be dearer; empty where one of the two costs is not known, or both are the same."""
    if row.cost is None or row.tally.cost is None or row.cost == row.tally.cost:
        return ""
    moved = mark(format_pair(row.cost, row.tally.cost)[2], estimated=row.tally.usage.estimated_requests > 0)
    return format_excess(moved, format_percent(row.cost, row.tally.cost))
