"""What the reports say of a run, whatever their format."""

from __future__ import annotations

from decimal import Decimal

import pytest
from report_samples import call, summarise

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import UsageRecord
from pytest_tokenbudget.report.findings import describe, facts, findings
from pytest_tokenbudget.report.html import render_html
from pytest_tokenbudget.report.spending import describe_spending
from pytest_tokenbudget.spending import Spending
from pytest_tokenbudget.summary import tally_of
from pytest_tokenbudget.usage import ModelCall

UNMEASURED = ModelCall(model="m", reason="cut")


def over(outcome):
    return UsageRecord(
        nodeid="t.py::test_a",
        outcome=outcome,
        verdict="over",
        calls=(call(20, 5, "0.1"),),
        budget=Budget(max_tokens=10),
        violations=(Violation(limit="max_tokens", allowed=10, used=25),),
    )


@pytest.mark.parametrize(
    ("outcome", "grave"), [("failed", True), ("passed", True), ("xfailed", False), ("skipped", False)]
)
def test_a_test_that_may_fail_is_told_of_without_alarm(outcome, grave):
    summary = summarise(over(outcome))
    (finding,) = findings(summary)
    assert finding.grave is grave
    assert [item.subject for item in finding.items] == ["t.py::test_a"]
    budgets = next(fact for fact in facts(summary, summary.total) if fact.label == "budgets")
    assert (budgets.text, budgets.grave) == ("1 over", grave)


def test_of_what_nobody_measured_no_figure_is_made():
    assert describe(tally_of([UNMEASURED])) == "unknown, in 1 request"
    assert describe(tally_of([UNMEASURED, call(20, 5, "0.1")])).startswith(
        "unknown, at least $0.1000 for at least 25"
    )
    assert describe_spending(Spending().plus([UNMEASURED])).startswith("unknown on 1 live request")


def test_a_limit_of_the_run_has_its_bar_in_the_page_too():
    summary = summarise(UsageRecord(nodeid="t", calls=(call(20, 5, "0.1"),)), total_max_cost=Decimal("0.4"))
    page = render_html(summary)
    place = page.index("run limit")
    assert '<rect class="used" y="2" width="250"' in page[place : place + 500]
