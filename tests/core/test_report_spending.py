"""What was spent, in one line."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pytest_tokenbudget.plain_record import plain_shared, shared_of
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.report.findings import facts, findings
from pytest_tokenbudget.report.spending import describe_progress, describe_spending
from pytest_tokenbudget.spending import Spending
from pytest_tokenbudget.summary import Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []}
ONE = Spending(requests=1, tokens=1_204, usd=Decimal("0.0023"))


@pytest.mark.parametrize(
    ("spending", "max_spend", "text"),
    [
        (Spending(), None, "nothing live"),
        (Spending(), "0", "nothing live, of at most $0"),
        (Spending(), "0.5", "nothing live, of at most $0.5000"),
        (ONE, None, "$0.0023 on 1 live request (1,204 tokens)"),
        (ONE, "0.01", "$0.0023 on 1 live request (1,204 tokens), of at most $0.0100"),
        (
            Spending(requests=2, tokens=9, usd=Decimal("0.00999999")),
            "0.01",
            "$0.00999999 on 2 live requests (9 tokens), of at most $0.01000000",
        ),
        (
            Spending(requests=2, tokens=9, usd=Decimal("0.01")),
            "0.01",
            "$0.0100 on 2 live requests (9 tokens), of at most $0.0100",
        ),
        (
            Spending(requests=3, tokens=9, usd=Decimal("0.5"), unknown_costs=1, estimated=True),
            None,
            "unknown, at least ~$0.5000 on 3 live requests (~9 tokens)",
        ),
        (
            Spending(requests=3, tokens=9, usd=Decimal("0.5"), unknown_costs=2, unmeasured_requests=1),
            "1",
            "unknown, at least $0.5000 on 3 live requests (at least 9 tokens), of at most $1.0000",
        ),
        (Spending(requests=1, tokens=9), None, "$0 on 1 live request (9 tokens)"),
    ],
)
def test_one_line(spending, max_spend, text):
    ceiling = None if max_spend is None else Decimal(max_spend)
    assert describe_spending(spending, max_spend=ceiling) == text
    assert describe_progress(spending, max_spend=ceiling) == f"token budget: so far {text}"


def summary(**more):
    live = ModelCall(model="m", usage=Usage(input_tokens=10), cost=Decimal("0.25"))
    return Summary.of(
        [UsageRecord(nodeid="t", calls=(live,))],
        **{"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES, **more},
    )


def test_a_report_tells_the_ceiling():
    run = summary(
        max_spend=Decimal("0.5"), shared=[SharedRecord(fixture="f", scope="module", calls=summary().tests[0].calls)]
    )
    spent = next(fact.text for fact in facts(run, run.total) if fact.label == "spent")
    assert spent == "$0.5000 on 2 live requests (20 tokens), of at most $0.5000"


def test_what_was_refused_outside_of_any_test_is_found_once_for_all_workers():
    run = summary(shared=[SharedRecord(fixture="", scope="session", blocked=(why,)) for why in ("one", "two")])
    (found,) = [each for each in findings(run) if each.title == "blocked on the way to the network"]
    assert found.items == (("outside of tests, and first tries of tests that ran again", ("one", "two")),)
    assert found.grave


def test_it_crosses_from_a_worker():
    record = SharedRecord(fixture="", scope="session", blocked=("why \ud800",))
    assert shared_of(plain_shared(record)).blocked == ("why \\ud800",)
