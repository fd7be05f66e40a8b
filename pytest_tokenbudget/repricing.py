"""What a run would cost on another model: the same tokens, at that model's list prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tokenbudget.errors import UnmeasuredUsageError, UnpricedModelError
from pytest_tokenbudget.summary import add_usd, tally_of
from pytest_tokenbudget.usage import Usage

ELSEWHERE = (
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-5-mini",
    "gpt-5.4",
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
    "gemini-2.5-flash",
    "gemini-2.5-pro",
)
"""Models that many know, small and large, for a report that nobody told which other models to think of."""

if TYPE_CHECKING:
    from decimal import Decimal

    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import Tally
    from pytest_tokenbudget.summary import Summary
    from pytest_tokenbudget.usage import ModelCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Repriced:
    """Some calls, and what they would cost on the other model.

    Attributes:
        provider: who bills now; empty where not known, and for the total.
        model: the model that is used now; empty for the total.
        tally: what they use and cost now.
        known_cost: USD on the other model, exact, of the calls that it has a price for.
        unpriced: requests that it has no price for: tokens of a kind that it does not list.
    """

    provider: str
    model: str
    tally: Tally
    known_cost: Decimal
    unpriced: int

    @property
    def cost(self) -> Decimal | None:
        """USD on the other model; ``None`` where a call is unmeasured or has no price there."""
        return None if self.unpriced or self.tally.usage.unmeasured_requests else self.known_cost


def reprice(summary: Summary, model: str, book: PriceBook) -> tuple[Repriced, tuple[Repriced, ...]]:
    """Price each call of a run, by itself, as if the model had answered it.

    Returns:
        The total, and a row for each model that is used now, the dearest (now) first.

    Raises:
        UnpricedModelError: there is no price for that model.
    """
    book.price_usage(Usage(requests=1), model=model)  # a model that is not known at all ends here
    groups: dict[tuple[str, str], list[ModelCall]] = {}
    for part in summary.parts:
        for call in part.calls:
            groups.setdefault((call.provider, call.model), []).append(call)
    rows = [_row(provider, name, calls, model, book) for (provider, name), calls in groups.items()]
    rows.sort(key=lambda row: (row.tally.known_cost.copy_negate(), row.provider, row.model))
    total = Repriced(
        provider="",
        model="",
        tally=summary.total,
        known_cost=add_usd([row.known_cost for row in rows]),
        unpriced=sum(row.unpriced for row in rows),
    )
    return total, tuple(rows)


def reprice_elsewhere(summary: Summary, book: PriceBook) -> tuple[tuple[str, Repriced], ...]:
    """The run on each of ``ELSEWHERE`` that has a price, but for the model that is the only one it uses."""
    used = {row.model for row in summary.models}
    found = []
    for model in ELSEWHERE if used else ():
        if used == {model}:
            continue
        try:
            found.append((model, reprice(summary, model, book)[0]))
        except UnpricedModelError:
            continue
    return tuple(found)


def _row(provider: str, name: str, calls: list[ModelCall], model: str, book: PriceBook) -> Repriced:
    costs, unpriced = [], 0
    for call in calls:
        if call.usage is None:
            continue
        try:
            costs.append(book.price_usage(call.usage, model=model))
        except (UnpricedModelError, UnmeasuredUsageError):
            unpriced += 1
    return Repriced(
        provider=provider, model=name, tally=tally_of(calls), known_cost=add_usd(costs), unpriced=unpriced
    )
