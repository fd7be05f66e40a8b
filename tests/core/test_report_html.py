"""The HTML report without a browser: bars are drawn to scale, and whatever others wrote, the page has no other elements."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass, replace
from decimal import Inexact, Rounded, localcontext
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import call, entry, summarise, varied
from report_strategies import calls, summaries

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.bars import FULL, KINDS, call_bar, limit_bar, sum_bar
from pytest_tokenbudget.report.html import SHOWN, render_html
from pytest_tokenbudget.report.html_view import view_test


class Page(HTMLParser):
    """The elements of a page, what runs or loads in it, and how many tests it lists."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.tests, self.kept = Counter(), set(), 0, []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attributes}
        self.tests += tag == "tr" and any(name == "data-words" for name, _ in attributes)
        self.kept.append(tag == "script" and dict(attributes).get("type") == "text/html")

    def handle_data(self, data):
        # What a script makes elements of, when somebody asks for it.
        if self.kept and self.kept.pop():
            inner = Page(data)
            self.tags += inner.tags
            self.attributes |= inner.attributes
            self.tests += inner.tests


OWN = Page(render_html(varied()))
NO_ENTRY = Violation(limit="baseline", reason="it has no entry")
RUN_OVER = Violation(limit="total_max_tokens", allowed=1, used=2)


# What HTML takes for its own, and letters that nothing takes for its own.
TAME = str.maketrans("<>&\"'", "\u0391\u0392\u0393\u0394\u0395")


def tame(value):
    """The same run, whose names hold nothing of HTML's."""
    if isinstance(value, str):
        return value.translate(TAME)
    if is_dataclass(value):
        return replace(value, **{each.name: tame(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, dict):
        return {tame(name): tame(each) for name, each in value.items()}
    if isinstance(value, list | tuple) and not isinstance(value, ModelTokens):
        return type(value)(map(tame, value))
    return value


@settings(deadline=None, max_examples=50)
@given(summaries())
def test_whatever_is_in_a_run_the_page_holds_it_as_text(summary):
    html = render_html(summary)
    html.encode("utf-8")
    page = Page(html)
    assert page.tests == len(summary.tests)
    assert page.tags == Page(render_html(tame(summary))).tags
    assert page.attributes <= OWN.attributes
    assert html.count("<script") == (3 if summary.tests else 1)


def test_the_page_names_no_other_place():
    html = render_html(varied())
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


@given(calls, st.integers(1, 10**10))
def test_a_bar_shows_each_kind_and_none_twice(each, more):
    bar = call_bar(each, longest=each.usage.total_tokens + more if each.usage else more)
    if each.usage is None:
        assert bar is None
        return
    shown = [piece.kind for piece in bar.pieces]
    assert shown == [kind for kind in KINDS if kind in shown]
    assert all(piece.width >= 1 for piece in bar.pieces)
    end = 0
    for piece in bar.pieces:
        assert piece.start == end
        end += piece.width
    assert end <= FULL
    assert (bar.cached is None) == (each.usage.cached_input_tokens == 0)


def test_tokens_that_are_few_beside_the_others_are_seen():
    (bar,) = [sum_bar([call(10**9, 2, None, reasoning=1, parts={"system": 1, "user": 1})])]
    assert [(piece.kind, piece.width) for piece in bar.pieces] == [
        ("system", 1), ("user", 1), ("other", 996), ("reasoning", 1), ("output", 1),
    ]  # fmt: skip


def test_no_tokens_make_no_bar():
    assert sum_bar([]) is None
    assert sum_bar([call(0, 0, "0")]) is None
    assert call_bar(call(0, 0, "0"), longest=0).pieces == ()


@pytest.mark.parametrize(
    ("used", "allowed", "expected"),
    [
        (0, 10, (0, 1000, False)),
        (5, 10, (500, 1000, False)),
        (10, 10, (1000, 1000, False)),
        (20, 10, (1000, 500, True)),
    ],
)
def test_a_limit_stands_at_the_end_until_it_is_passed(used, allowed, expected):
    assert limit_bar(used, allowed) == expected


def test_whatever_decimal_context_a_test_left_behind():
    expected = render_html(varied())
    with localcontext() as context:
        context.prec = 1
        for trap in (Inexact, Rounded):
            context.traps[trap] = True
        assert render_html(varied()) == expected


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ({"verdict": "within"}, "holds"),
        ({}, "no limit"),
        ({"verdict": "over"}, "does not hold"),
        ({"verdict": "over", "outcome": "xfailed"}, "holds"),
        ({"verdict": "unmeasured"}, "does not hold"),
        ({"drift": ("changed",), "outcome": "failed"}, "does not hold"),
        ({"blocked": ("tried",)}, "does not hold"),
        ({"unfit": ("too old",), "outcome": "failed"}, "does not hold"),
        ({"unfit": ("too old",), "outcome": "xfailed"}, "no limit"),
        ({"unplayed": ("one",)}, "no limit"),
        ({"verdict": "unmeasured", "violations": (NO_ENTRY,), "outcome": "failed"}, "does not hold"),
    ],
)
def test_the_page_says_what_the_shards_of_the_run_would_be_judged(record, verdict):
    summary = summarise(UsageRecord(nodeid="t.py::test_a", calls=(call(1, 1, "0.1"),), **record))
    assert f"<title>Token budget: $0.1000, {verdict}</title>" in render_html(summary)


@pytest.mark.parametrize(
    ("record", "run", "verdict", "said"),
    [
        ({"verdict": "over"}, {}, "warns only", "1 test is over budget"),
        ({"verdict": "unmeasured"}, {}, "warns only", "1 test is not measured or not priced"),
        ({"baseline": entry("over", cost="0.05")}, {}, "warns only", "1 test is over the baseline"),
        ({}, {"run_violations": (RUN_OVER,)}, "warns only", "the run&#39;s total is over its limit, or not known"),
        (
            {"verdict": "unmeasured", "violations": (NO_ENTRY,)},
            {},
            "warns only",
            "1 test is without an entry in the baseline",
        ),
        ({"verdict": "within"}, {}, "holds", "budgets, baseline, limits of the run"),
        ({"verdict": "over"}, {"complete": False}, "does not hold", "the run is not complete"),
        (
            {"verdict": "over", "drift": ("changed",), "outcome": "failed"},
            {},
            "does not hold",
            "1 test is failed for want of a recording",
        ),
    ],
)
def test_the_page_of_a_run_that_only_warns_says_so(record, run, verdict, said):
    summary = summarise(UsageRecord(nodeid="t", calls=(call(1, 1, "0.1"),), **record), enforced=False, **run)
    limits = ": limits are not enforced in this run" if verdict == "warns only" else ""
    assert f"<strong>{verdict}</strong> {said}{limits}</li>" in render_html(summary)


def test_what_was_not_let_through_outside_of_tests_fails_the_run_in_the_page_too():
    within = UsageRecord(nodeid="t", verdict="within", calls=(call(1, 1, "0.1"),))
    refused = SharedRecord(fixture="", scope="session", blocked=("the request was not sent",))
    page = render_html(summarise(within, shared=[refused]))
    assert "<strong>does not hold</strong> a request outside of tests was not let through</li>" in page


def test_a_broken_limit_of_zero_is_shown_and_stands_first_among_those_that_sort():
    record = UsageRecord(
        nodeid="t",
        verdict="over",
        calls=(call(10, 11, "0.1", reasoning=4),),
        budget=Budget(max_tokens=100, max_reasoning_tokens=0),
        violations=(Violation(limit="max_reasoning_tokens", allowed=0, used=4),),
    )
    row = view_test(record)
    assert row.nearest is None
    assert row.nearness == "Infinity"
    assert [(limit.label, limit.used, limit.allowed, limit.share) for limit in row.limits] == [
        ("tokens", "21", "100", "21%"),
        ("reasoning", "4", "0", "over"),
    ]
    assert 'aria-label="reasoning 4 of 0, over"' in render_html(summarise(record))


def test_what_was_not_judged_is_said():
    record = UsageRecord(nodeid="t", calls=(call(1, 1, "0.1"), call(2, 1, "0.1")), late_calls=1)
    assert view_test(record).lines == ("the last request is of its fixtures' end: counted here, and not judged",)


def test_what_uses_more_tokens_of_a_cheaper_model_did_not_get_dearer():
    cheaper = UsageRecord(
        nodeid="a.py::test_cheaper",
        calls=(call(40, 0, "0.1", model="small"),),
        baseline=entry("within", given=30, cost="0.2", model="large"),
    )
    dearer = UsageRecord(
        nodeid="a.py::test_dearer",
        calls=(call(40, 0, "0.3", model="large"),),
        baseline=entry("within", given=50, cost="0.2", model="small"),
    )
    free = UsageRecord(
        nodeid="a.py::test_free",
        calls=(call(40, 0, "0", model="own"),),
        baseline=entry("within", given=30, cost="0", model="own"),
    )
    page = render_html(summarise(cheaper, dearer, free))
    listed = page[page.index("What got dearer") :].partition("</section>")[0]
    assert [name for name in ("cheaper", "dearer", "free") if f"test_{name}" in listed] == ["dearer", "free"]


def test_a_run_without_usage_that_failed_does_not_look_well():
    blocked = UsageRecord(nodeid="t", outcome="failed", blocked=("tried",))
    page = render_html(summarise(blocked))
    assert (
        '<p class="bad"><strong>does not hold</strong> 1 test is failed for a request that was not let through</p>'
        in page
    )
    assert "<strong>no limit" not in render_html(summarise())


def test_a_test_that_is_unmeasured_for_any_reason_is_found_by_that_word():
    unpriced = UsageRecord(nodeid="t.py::test_a", verdict="unmeasured", calls=(call(1, 1, None, model="mine"),))
    assert 'data-words="mine passed unmeasured unpriced"' in render_html(summarise(unpriced))


def test_what_is_shown_at_once_is_bounded():
    records = [UsageRecord(nodeid=f"t.py::test_{n}", calls=(call(1, 1, "0.1"),)) for n in range(SHOWN + 7)]
    html = render_html(summarise(*records))
    at_once, _, rest = html.partition('id="rest"')
    assert at_once.count("data-words") == SHOWN
    assert rest.count("data-words") == 7
