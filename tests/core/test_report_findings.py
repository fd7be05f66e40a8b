"""What the reports say of a run, whatever their format."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from report_samples import call, entry, summarise

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.failures import failures
from pytest_tokenbudget.record import UsageRecord
from pytest_tokenbudget.report.findings import describe, facts, findings
from pytest_tokenbudget.report.html import render_html
from pytest_tokenbudget.report.spending import describe_spending
from pytest_tokenbudget.report.terminal import render_terminal
from pytest_tokenbudget.spending import Spending
from pytest_tokenbudget.summary import BaselineSummary, tally_of
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
    assert (budgets.text, budgets.grave) == (
        "1 over" if grave else "1 over or unmeasured in tests that may fail or were skipped",
        grave,
    )


def test_where_limits_only_warn_they_raise_no_alarm():
    limit = Violation(limit="total_max_tokens", allowed=20, used=25)
    above = UsageRecord(
        nodeid="t.py::test_b", calls=(call(9, 1, "0.2"),), baseline=entry("over", given=5, cost="0.1")
    )
    unmeasured = UsageRecord(
        nodeid="t.py::test_c",
        verdict="unmeasured",
        calls=(UNMEASURED,),
        violations=(Violation(limit="unmeasured", reason="cut"),),
    )
    records = (over("passed"), above, unmeasured)
    baseline = BaselineSummary.of(records, path="b.json", stale=())
    summary = summarise(*records, baseline=baseline, run_violations=(limit,), enforced=False)
    assert {finding.title: finding.grave for finding in findings(summary)} == {
        "over the baseline, warning only": False,
        "not measured or not priced, so not within budget, warning only": False,
        "over budget, warning only": False,
    }
    told = {fact.label: fact for fact in facts(summary, summary.total)}
    assert told["run limit"].text.endswith("(warning only)")
    # That a figure is not known stays what it is.
    assert [label for label, fact in told.items() if fact.grave] == ["unmeasured"]
    assert {finding.grave for finding in findings(replace(summary, enforced=True))} == {True}


def test_recordings_that_fail_a_test_are_told_with_what_failed():
    old = UsageRecord(nodeid="t.py::test_old", outcome="failed", unfit=("t.py::test_old plays an old one",))
    left = UsageRecord(nodeid="t.py::test_left", outcome="failed", unplayed=("one",), unfit=("did not ask for one",))
    passed = UsageRecord(nodeid="t.py::test_passed", unplayed=("two",))
    expected = UsageRecord(nodeid="t.py::test_may_fail", outcome="xfailed", unfit=("plays an old one",))
    unplayed, unfit = findings(summarise(old, left, passed, expected))
    assert (unplayed.grave, [item.subject for item in unplayed.items]) == (False, ["t.py::test_passed"])
    assert (unfit.grave, [item.subject for item in unfit.items]) == (True, ["t.py::test_old", "t.py::test_left"])
    assert [item.lines for item in unfit.items] == [old.unfit, left.unfit]


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


def over_baseline(nodeid, *limits):
    return UsageRecord(
        nodeid=nodeid,
        outcome="failed",
        verdict="over",
        calls=(call(20, 5, "0.1"),),
        violations=tuple(Violation(limit=limit, allowed=10, used=25) for limit in limits),
        baseline=entry("over", given=10, cost="0.05"),
    )


@pytest.mark.parametrize(
    ("records", "title", "budgets"),
    [
        ((over("failed"),), "over budget", "1 over"),
        ((over_baseline("a", "baseline_tokens"),), "over the baseline", None),
        ((over_baseline("a", "baseline_tokens", "max_tokens"),), "over budget", "1 over"),
        ((over("failed"), over_baseline("a", "baseline_tokens")), "over budget or baseline", "1 over"),
    ],
)
def test_what_only_the_baseline_makes_over_is_over_no_budget(records, title, budgets):
    summary = summarise(*records, baseline=BaselineSummary.of(records, path="b.json", stale=()))
    assert [finding.title for finding in findings(summary)] == [title]
    assert {fact.label: fact.text for fact in facts(summary, summary.total)}.get("budgets") == budgets
    assert len(failures(summary)) == len({failure.split(" ", 1)[1] for failure in failures(summary)})


def test_tests_that_may_fail_are_counted_apart():
    within = UsageRecord(nodeid="t.py::test_b", verdict="within", calls=(call(1, 1, "0.1"),))
    summary = summarise(over("xfailed"), within)
    told = {fact.label: fact for fact in facts(summary, summary.total)}
    assert told["budgets"].text == "1 within, 1 over or unmeasured in tests that may fail or were skipped"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"drift": ("changed",)}, "1 test is failed for want of a recording"),
        ({"blocked": ("tried",)}, "1 test is failed for a request that was not let through"),
        ({"unfit": ("old",)}, "1 test is failed for recordings that are too old or left unplayed"),
    ],
)
def test_each_failure_has_its_own_word(record, reason):
    assert failures(summarise(UsageRecord(nodeid="t", outcome="failed", **record))) == (reason,)


def test_a_test_that_another_recording_answered_fails_for_reasons_of_its_own():
    stood_in = (
        "request 1 to /v1/chat/completions: user +3 tokens; estimated from the nearest recording; re-record with: x"
    )
    record = UsageRecord(nodeid="t", outcome="failed", drift=(stood_in,))
    assert failures(summarise(record)) == ()
    # The command may name anything.
    named = "test_a.py::test_it[; estimated from the nearest recording]"
    for other in ("request 2 to /v1: changed", f"request 2 to /v1: user +3 tokens; re-record with: pytest '{named}'"):
        record = UsageRecord(nodeid="t", outcome="failed", drift=(stood_in, other))
        assert failures(summarise(record)) == ("1 test is failed for want of a recording",)


def test_new_is_what_an_update_would_write():
    def new(name, *calls, **more):
        return UsageRecord(nodeid=name, calls=calls, baseline=entry("new"), **more)

    records = (
        new("passed", call(1, 1, "0.1")),
        new("unmeasured", call(1, 1, "0.1"), UNMEASURED),
        new("broken", call(1, 1, "0.1"), incidents=("the callback failed",)),
        new("cached", cache_hits=1),
        new("failed", call(1, 1, "0.1"), outcome="failed"),
    )
    assert BaselineSummary.of(records, path="b.json", stale=()).new == ("passed",)


@pytest.mark.parametrize(("outcome", "enforced"), [("passed", True), ("xfailed", True), ("passed", False)])
def test_what_a_verdict_spares_is_not_red(outcome, enforced):
    summary = summarise(over(outcome), enforced=enforced)
    (row,) = [line for line in render_terminal(summary) if line.text.endswith("t.py::test_a") and "$" in line.text]
    spared = not (outcome == "passed" and enforced)
    assert row.style == ("warning" if spared else "bad")
    assert ('class="test over spared"' in render_html(summary)) == spared
