"""What live requests have cost so far, in one line: while a run records, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import format_count, format_pair, format_usd, mark, plural

if TYPE_CHECKING:
    from decimal import Decimal

    from pytest_tokenbudget.spending import Spending


def describe_spending(spending: Spending, *, max_spend: Decimal | None = None) -> str:
    """Money, requests and tokens: ``$0.0023 on 3 live requests (1,204 tokens), of at most $0.0100``.

    Args:
        spending: what was spent.
        max_spend: the ceiling, if there is one.
    """
    if not spending.requests:
        return "nothing live" if max_spend is None else f"nothing live, of at most {format_usd(max_spend)}"
    cost = format_usd(spending.usd)
    ceiling = "" if max_spend is None else format_usd(max_spend)
    if max_spend is not None and cost == ceiling:
        cost, ceiling, _ = format_pair(spending.usd, max_spend)  # with the digits that tell them apart, if any do
    cost = mark(cost, estimated=spending.estimated)
    if spending.unknown_costs:
        cost = f"unknown, at least {cost}" if spending.usd else "unknown"
    tokens = format_count(spending.tokens, estimated=spending.estimated)
    least = "at least " if spending.unmeasured_requests else ""
    shown = f"{cost} on {plural(spending.requests, 'live request')} ({least}{tokens} tokens)"
    return f"{shown}, of at most {ceiling}" if ceiling else shown


def describe_progress(spending: Spending, *, max_spend: Decimal | None = None) -> str:
    """The line that a run shows while it records."""
    return f"token budget: so far {describe_spending(spending, max_spend=max_spend)}"
