"""A test's tokens and cost as cells of the table that pytest-html makes."""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal
from html import escape
from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import tally_figures
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.record import UsageRecord

HEADER = (
    '<th class="sortable" data-column-type="tokens">Tokens</th>',
    '<th class="sortable" data-column-type="cost">Cost</th>',
)
NO_CELLS = ('<td class="col-tokens"></td>', '<td class="col-cost"></td>')
"""The cells of a test that used no model; they sort before all others."""

UNKNOWN_KEY = "~"
"""Sorts behind every number: what is not known is not little."""

_INTEGER_DIGITS, _DECIMALS = 15, 15
_CONTEXT = Context(prec=100, rounding=ROUND_DOWN)


def html_cells(record: UsageRecord) -> Sequence[str]:
    """The two cells, as HTML; ``NO_CELLS`` for a test that used no model."""
    if not (record.calls or record.cache_hits):
        return NO_CELLS
    tally = tally_of(record.figures, cache_hits=record.cache_hits)
    cost, tokens = tally_figures(tally)
    unknown = tally.usage.unmeasured_requests > 0
    return (
        _cell("tokens", tokens, None if unknown else Decimal(tally.usage.total_tokens)),
        _cell("cost", cost, tally.cost),
    )


def _cell(name: str, shown: str, value: Decimal | None) -> str:
    # pytest-html sorts cells as text: a hidden number of a fixed length goes first.
    return f'<td class="col-{name}"><span hidden>{_sort_key(value)}</span>{escape(shown)}</td>'


def _sort_key(value: Decimal | None) -> str:
    if value is None:
        return UNKNOWN_KEY
    rounded = value.quantize(Decimal(1).scaleb(-_DECIMALS), context=_CONTEXT)
    return f"{rounded:0{_INTEGER_DIGITS + 1 + _DECIMALS}f}"
