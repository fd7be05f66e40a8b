"""The properties that a test carries in JUnit XML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import UNKNOWN, plain_usd

if TYPE_CHECKING:
    from pytest_tokenbudget.record import Tally, UsageRecord

PREFIX = "token_budget."


def junit_properties(record: UsageRecord, tally: Tally | None = None) -> list[tuple[str, str]]:
    """Names and values, ASCII without control characters; none for a test that used no model and has no budget.

    Args:
        record: the test.
        tally: the sum of what it used, from who has added that up already.
    """
    if not (record.calls or record.cache_hits or record.budget is not None):
        return []
    tally = record.tally if tally is None else tally
    usage = tally.usage
    values = {
        "verdict": record.verdict,
        "input_tokens": str(usage.input_tokens),
        "cached_input_tokens": str(usage.cached_input_tokens),
        "output_tokens": str(usage.output_tokens),
        "total_tokens": str(usage.total_tokens),
        "requests": str(usage.requests),
        "cost_usd": UNKNOWN if tally.cost is None else plain_usd(tally.cost),
        "estimated_requests": str(usage.estimated_requests),
        "unmeasured_requests": str(usage.unmeasured_requests),
    }
    if record.baseline is not None:
        values["baseline"] = record.baseline.status
    return [(PREFIX + name, value) for name, value in values.items()]
