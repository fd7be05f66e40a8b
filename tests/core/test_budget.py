from __future__ import annotations

import decimal
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.budget import LIMIT_NAMES, Budget, judge, parse_count, parse_tolerance, parse_usd, verdict_of
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.record import Tally
from pytest_tokenbudget.usage import ModelCall, Usage

COUNTS = [name for name in LIMIT_NAMES if name not in ("max_cost", "tolerance")]
MAXIMA = [name for name in COUNTS if name.startswith("max_")]

small = st.integers(0, 50)
costs = st.decimals(min_value=0, max_value=1, places=6)
calls = st.builds(
    ModelCall,
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini"]),
    usage=st.none() | st.builds(Usage, input_tokens=small, output_tokens=small, reasoning_tokens=small),
    cost=st.none() | costs,
    source=st.sampled_from(["response", "estimate"]),
).map(lambda call: call if call.usage is not None else ModelCall(model=call.model))
tallies = st.builds(
    lambda calls, hits: Tally.of(calls, cache_hits=hits), st.lists(calls, max_size=4), st.integers(0, 2)
)
budgets = st.builds(Budget, max_cost=st.none() | costs, **{name: st.none() | small for name in COUNTS})


def tally_of(cost="0", *, cache_hits=0, **counts):
    call = ModelCall(model="m", usage=Usage(**counts), cost=Decimal(cost))
    return Tally.of([call], cache_hits=cache_hits)


@pytest.mark.parametrize(
    ("limit", "counts"),
    [
        ("max_tokens", {"input_tokens": 60, "output_tokens": 40}),
        ("max_input_tokens", {"input_tokens": 100, "output_tokens": 900}),
        ("max_output_tokens", {"input_tokens": 900, "output_tokens": 100}),
        ("max_reasoning_tokens", {"output_tokens": 900, "reasoning_tokens": 100}),
    ],
)
def test_a_limit_on_tokens_is_inclusive(limit, counts):
    tally = tally_of(**counts)
    assert judge(tally, Budget(**{limit: 100})) == ()
    (violation,) = judge(tally, Budget(**{limit: 99}))
    assert (violation.limit, violation.allowed, violation.used, violation.over) == (limit, 99, 100, True)


def test_a_limit_on_cost_is_inclusive_to_the_last_digit():
    tally = tally_of("0.0010000000000000000001")
    assert judge(tally, Budget(max_cost=Decimal("0.0010000000000000000001"))) == ()
    (violation,) = judge(tally, Budget(max_cost=Decimal("0.001")))
    assert violation.over


def test_a_limit_on_requests_is_inclusive():
    tally = Tally.of([ModelCall(model="m", usage=Usage())] * 3)
    assert judge(tally, Budget(max_requests=3)) == ()
    assert [each.limit for each in judge(tally, Budget(max_requests=2))] == ["max_requests"]


def test_a_cache_hit_is_something_seen_and_no_request():
    tally = Tally.of([], cache_hits=1)
    assert judge(tally, Budget(min_requests=1, max_requests=0, max_tokens=0, max_cost=Decimal(0))) == ()


def test_cached_input_is_part_of_the_input_and_not_counted_twice():
    assert judge(tally_of(input_tokens=100, cached_input_tokens=90), Budget(max_input_tokens=100)) == ()


def test_nothing_seen_is_unmeasured_with_a_minimum_and_within_without():
    assert verdict_of(Budget(min_requests=1), judge(Tally.of([]), Budget(min_requests=1))) == "unmeasured"
    assert verdict_of(Budget(min_requests=0), judge(Tally.of([]), Budget(min_requests=0))) == "within"


def test_an_unmeasured_call_fails_every_budget():
    tally = Tally.of([ModelCall(model="m", reason="no tokenizer for 'm'")])
    (violation,) = judge(tally, Budget(max_requests=5))
    assert violation.limit == "unmeasured"
    assert "no tokenizer for 'm'" in violation.reason
    assert verdict_of(Budget(max_requests=5), [violation]) == "unmeasured"


def test_an_unpriced_call_fails_a_limit_on_cost_only():
    tally = Tally.of([ModelCall(model="my-model", usage=Usage(input_tokens=1))])
    assert judge(tally, Budget(max_tokens=1)) == ()
    (violation,) = judge(tally, Budget(max_cost=Decimal(100)))
    assert violation.limit == "max_cost"
    assert "'my-model'" in violation.reason
    assert not violation.over


def test_what_is_known_to_be_over_is_over_whatever_is_unknown():
    calls = [ModelCall(model="m", usage=Usage(input_tokens=9), cost=Decimal(2)), ModelCall(model="x")]
    budget = Budget(max_cost=Decimal(1), max_tokens=100)
    violations = judge(Tally.of(calls), budget)
    assert {each.limit for each in violations} == {"max_cost", "unmeasured"}
    assert verdict_of(budget, violations) == "over"


def test_an_estimate_is_judged_or_unmeasured():
    tally = Tally.of([ModelCall(model="m", usage=Usage(input_tokens=9), source="estimate")])
    assert judge(tally, Budget(max_tokens=9)) == ()
    (violation,) = judge(tally, Budget(max_tokens=9), estimates_count=False)
    assert violation.limit == "unmeasured"


@given(tallies)
def test_without_a_budget_there_is_no_verdict(tally):
    for budget in (None, Budget(), Budget(tolerance=Decimal("0.1"))):
        assert judge(tally, budget) == ()
        assert verdict_of(budget, ()) == "none"


@given(tallies, budgets, st.sampled_from([*MAXIMA, "max_cost"]), st.integers(0, 100))
def test_raising_a_limit_never_adds_a_violation(tally, budget, limit, more):
    if getattr(budget, limit) is None:
        return
    raised = Budget(**{limit: getattr(budget, limit) + more}).over(budget)
    assert {each.limit for each in judge(tally, raised)} <= {each.limit for each in judge(tally, budget)}


@given(tallies, budgets, st.sampled_from([*COUNTS, "max_cost"]))
def test_a_further_limit_never_takes_a_violation_away(tally, budget, limit):
    fewer = Budget(**{name: getattr(budget, name) for name in LIMIT_NAMES if name != limit})
    if not fewer.watches:
        return
    assert {each.limit for each in judge(tally, fewer)} <= {each.limit for each in judge(tally, budget)}


@given(tallies, budgets)
def test_the_verdict_follows_from_the_violations(tally, budget):
    violations = judge(tally, budget)
    verdict = verdict_of(budget, violations)
    assert (verdict == "over") == any(each.over for each in violations)
    assert (verdict in ("within", "none")) == (violations == ())
    assert verdict != "none" or not budget.watches


@given(budgets, budgets)
def test_the_closer_limit_wins_limit_by_limit(close, wide):
    merged = close.over(wide)
    for name in LIMIT_NAMES:
        mine = getattr(close, name)
        assert getattr(merged, name) == (getattr(wide, name) if mine is None else mine)


@given(budgets, budgets, budgets)
def test_precedence_does_not_care_for_brackets(function, klass, module):
    assert function.over(klass).over(module) == function.over(klass.over(module))


@given(budgets)
def test_a_budget_survives_its_plain_form(budget):
    assert Budget.from_dict(budget.to_dict()) == budget


class Rude:
    def __repr__(self):
        raise RuntimeError


class Talkative:
    def __repr__(self):
        return "one\ntwo"


BAD_COUNTS = [
    True, False, -1, 1.0, 1.5, math.nan, math.inf, "", "5", None, [], Decimal(1), Fraction(1), 10**40, 10**5000, b"1",
    Rude(), Talkative(),
]  # fmt: skip
BAD_COSTS = [
    True, False, -1, -0.001, math.nan, math.inf, -math.inf, "", " ", "abc", "nan", "sNaN", "Infinity", "-1", "1,5",
    "$1", "0.001 USD", "1_0", "\u0663", None, [], 1j, Fraction(1, 2), Decimal("NaN"), Decimal(-1), Decimal("Infinity"),
    10**40, "1e999999999", "1e-999999999", 1e300, b"1", 10**5000, Rude(), Talkative(),
]  # fmt: skip
BAD_TOLERANCES = [
    True, 10, 0.1, Decimal("0.1"), "", "%", "10", "-1%", "nan%", "inf%", "ten%", None, "1e99999%", "10%%", Rude(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        *((name, value) for name in COUNTS for value in BAD_COUNTS),
        *(("max_cost", value) for value in BAD_COSTS),
        *(("tolerance", value) for value in BAD_TOLERANCES),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isidentifier() else type(value).__name__,
)
def test_a_bad_limit_is_refused_in_one_short_line(keyword, value):
    with pytest.raises(ConfigurationError) as caught:
        Budget.from_limits({keyword: value}, origin="test_x")
    message = str(caught.value)
    assert message.startswith(f"test_x: {keyword}=")
    assert "is not allowed; it must be" in message
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"), (1, "1"), (0.001, "0.001"), (0.1, "0.1"), ("0.001", "0.001"), (" 0.001 ", "0.001"), ("1e-3", "0.001"),
        (Decimal("0.0000001"), "0.0000001"), (1e-07, "0.0000001"), ("-0", "0"), ("+1", "1"), (".5", "0.5"),
    ],
)  # fmt: skip
def test_money_is_read_as_it_was_written(value, expected):
    assert parse_usd(value) == Decimal(expected)
    assert not parse_usd(value).is_signed()


@pytest.mark.parametrize(("typo", "meant"), [("max_cots", "max_cost"), ("max_token", "max_tokens"), ("maxcost", "max_cost"), ("tolerence", "tolerance"), ("max_request", "max_requests")])  # fmt: skip
def test_a_misspelt_keyword_is_refused_with_the_nearest(typo, meant):
    with pytest.raises(ConfigurationError, match=rf"unknown keyword {typo}=.*did you mean {meant}\?"):
        Budget.from_limits({typo: 1})


def test_all_offenders_stand_in_one_line_sorted():
    with pytest.raises(ConfigurationError) as caught:
        Budget.from_limits({"max_tokens": -1, "max_cost": "x", "bogus_word": 3})
    message = str(caught.value)
    assert (
        message.index("max_cost='x'") < message.index("max_tokens=-1") < message.index("unknown keyword bogus_word")
    )
    assert "\n" not in message


@pytest.mark.parametrize(("text", "fraction"), [("10%", "0.1"), ("0%", "0"), ("12.5%", "0.125"), (" 5 %", "0.05"), ("150%", "1.5")])  # fmt: skip
def test_a_tolerance_is_a_percentage(text, fraction):
    assert parse_tolerance(text) == Decimal(fraction)


def test_a_tolerance_does_not_depend_on_the_decimal_context():
    with decimal.localcontext(prec=2):
        assert parse_tolerance("12.345%") == Decimal("0.12345")


@pytest.mark.parametrize("text", ["", " ", "-1", "1.5", "1e3", "\u0663", "9" * 31, "0x10", "1_000"])
def test_a_count_in_text_is_its_digits(text):
    with pytest.raises(ValueError, match="a whole number >= 0"):
        parse_count(text)


def test_a_count_in_text_is_read():
    assert parse_count(" 500 ") == 500
