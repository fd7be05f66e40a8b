"""The judgement of one test: what it used, against its budget and its baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.budget import Violation, judge, verdict_of
from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.record import BaselineResult, baseline_result
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal

    from pytest_tokenbudget.baseline import Baseline, Price
    from pytest_tokenbudget.budget import Budget
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import ModelTokens, Tally, UsageRecord
    from pytest_tokenbudget.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Holds the records of a session against what was allowed."""

    settings: Settings
    book: PriceBook
    baseline: Baseline | None

    def judge(self, record: UsageRecord, tally: Tally, budget: Budget, *, unanswered: str, ran: bool) -> UsageRecord:
        """Complete a test's record with its verdict.

        Args:
            record: what the test used, priced.
            tally: its sum.
            budget: its limits.
            unanswered: why a request of it got no answer, so that nothing else can be said; empty where all did.
            ran: whether its code ran; a test that was skipped need not have made its requests, and is not compared.
        """
        limits = budget if ran else replace(budget, min_requests=None)
        violations: list[Violation] = []
        if unanswered and budget.watches:
            violations.append(Violation(limit="unmeasured", reason=unanswered))
        elif budget.watches:
            violations += judge(tally, limits, estimates_count=self.settings.estimates_count)
        if record.incidents and budget.watches:
            violations.append(Violation(limit="unmeasured", reason="; ".join(record.incidents)))
        result = self._compare(record, budget, violations) if ran and not unanswered else None
        return remade(
            record,
            budget=budget if budget.watches or budget.tolerance is not None else None,
            verdict=verdict_of(limits, violations),
            violations=tuple(violations),
            baseline=result,
        )

    def _compare(self, record: UsageRecord, budget: Budget, violations: list[Violation]) -> BaselineResult | None:
        """Hold the record against the baseline, and add what does not hold to the violations."""
        if self.baseline is None or self.settings.enforcement == "off":
            return None
        entry = self.baseline.tests.get(record.nodeid)
        if entry is None and not record.calls:
            return None
        tolerance = self.settings.tolerance if budget.tolerance is None else budget.tolerance
        result, found = hold_against(record, entry, tolerance, self.book, beside=violations)
        violations += found
        if result is not None and result.status == "new" and self.settings.baseline_missing_fails:
            violations.append(
                Violation(
                    limit="baseline",
                    reason="it has no entry in the baseline; run pytest --token-update-baseline to add it",
                )
            )
        return result


def hold_against(
    record: UsageRecord,
    entry: Mapping[str, ModelTokens] | None,
    tolerance: Decimal,
    book: PriceBook,
    *,
    beside: Collection[Violation],
) -> tuple[BaselineResult | None, tuple[Violation, ...]]:
    """Compare a test with its entry.

    Args:
        record: the test, priced.
        entry: what the baseline remembers of it, if it has an entry.
        tolerance: as a fraction.
        book: today's prices, for both sides.
        beside: what else does not hold: a budget may say already that the test can't be measured.

    Returns:
        How it stands, and what does not hold. Usage that is not known is within nothing: then there is no result.
    """
    if entry is not None:
        if (unchanged := _unchanged(record, entry, book)) is not None:
            return unchanged, ()
        if not record.is_known:
            if any(not each.over for each in beside):
                return None, ()
            reason = f"{_why_unknown(record)}; its baseline can't be compared"
            return None, (Violation(limit="unmeasured", reason=reason),)
    models, price = record.models, price_like(record, book)
    result = baselines.compare(models, entry, tolerance=tolerance, price=price)
    if result.status != "over":
        return result, ()
    return result, baselines.violations(result, models, tolerance=tolerance, price=price)


def _unchanged(record: UsageRecord, entry: Mapping[str, ModelTokens], book: PriceBook) -> BaselineResult | None:
    """How a test stands whose only call is what its entry says, as in most tests of a suite; ``None`` for any other.

    It is what ``compare`` says of such a test, in half the time.
    """
    calls = record.calls
    if len(calls) != 1 or len(entry) != 1 or record.incidents or record.late_calls:
        return None
    call = calls if isinstance(calls, WrittenCall) else calls[0]
    tokens, known = call.tokens, entry.get(call.model)
    if tokens is None or known is None or tokens != known:
        return None
    cost = book.price_sum(tokens, model=call.model, provider=call.provider)
    _, given, _, _, made = tokens
    return baseline_result(status="within", tokens=given + made, cost=cost, models=entry)


def _why_unknown(record: UsageRecord) -> str:
    unmeasured = [call for call in record.calls if call.usage is None]
    if not unmeasured:
        return "; ".join(record.incidents)
    reasons = sorted({call.reason or "no usage was reported" for call in unmeasured})
    return f"{len(unmeasured)} of {len(record.calls)} requests could not be measured ({'; '.join(reasons)})"


def price_like(record: UsageRecord, book: PriceBook) -> Price:
    """Prices sums of tokens per model at today's prices, as whoever billed this record would."""
    providers = {}
    for call in record.figures:  # a comprehension is a call of its own, for one model in most tests
        providers[call.model] = call.provider

    def price(model: str, tokens: ModelTokens) -> Decimal | None:
        if model in providers:
            return book.price_sum(tokens, model=model, provider=providers[model])
        # A model that the entry alone has: whoever bills the test now sold that one too, most likely.
        sellers = dict.fromkeys((*sorted(providers.values()), ""))  # in whatever order its calls came
        asked = (book.price_sum(tokens, model=model, provider=seller) for seller in sellers)
        return next((cost for cost in asked if cost is not None), None)

    return price
