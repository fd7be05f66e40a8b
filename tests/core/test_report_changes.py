from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.record import BaselineResult, ModelTokens, UsageRecord
from pytest_tokenbudget.report.changes import Change, describe_change, explain_change, format_change
from pytest_tokenbudget.usage import ModelCall, Usage


def call(tokens=100, cost="0.01", **more):
    return ModelCall(
        **{
            "model": "new",
            "usage": Usage(input_tokens=tokens),
            "cost": None if cost is None else Decimal(cost),
            **more,
        }
    )


def entry(**models):
    return {name: ModelTokens(**tokens) for name, tokens in models.items()}


def record(*calls, tokens=100, cost="0.01", models=None, **more):
    """A test beside an entry of another shape, so that its figures are compared."""
    before = entry(old={"requests": 1, "input": tokens}) if models is None else models
    baseline = BaselineResult(
        status="within", tokens=tokens, cost=None if cost is None else Decimal(cost), models=before
    )
    return UsageRecord(nodeid="t", calls=calls, baseline=baseline, **more)


@pytest.mark.parametrize(
    ("test", "shown"),
    [
        (record(call(112)), "+12%"),
        (record(call(95)), "-5%"),
        (record(call(95), cost="0.02"), "-5%"),
        (record(call(100)), "="),
        (record(call(100, "0.014")), "+40% cost"),
        (record(call(100, "0.009")), "-10% cost"),
        # Fewer tokens of a dearer model are no gain.
        (record(call(95, "0.014")), "+40% cost"),
        (record(call(112, "0.009")), "+12%"),
        (record(call(112, None)), "+12%"),
        (record(call(112), cost=None), "+12%"),
        (record(call(112, source="estimate")), "~+12%"),
        (record(call(5), tokens=0), "from 0"),
        (record(tokens=5, cost="0.1"), "-100%"),
        (UsageRecord(nodeid="t", calls=(call(),), baseline=BaselineResult(status="new")), "new"),
        (UsageRecord(nodeid="t", calls=(call(),)), ""),
    ],
)
def test_a_change_in_a_few_letters(test, shown):
    assert format_change(test, Change.of(test)) == shown


def test_equal_tokens_are_no_change_whatever_tiers_make_of_the_sum():
    test = record(call(100, "0.02"), models=entry(new={"requests": 1, "input": 100}))
    assert Change.of(test) is None
    assert Change.upwards(test) is None
    assert format_change(test, Change.of(test)) == "="


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (entry(old={"requests": 1, "input": 100}), "new instead of old"),
        (entry(new={"requests": 2, "input": 110}), "1 fewer request, input -10"),
        (entry(new={"requests": 0, "input": 1, "cached": 7, "cache_write": 1, "output": 2}),
         "1 more request, input +99, cached -7, cache write -1, output -2"),
        (entry(new={"requests": 1, "input": 100}, old={"requests": 1}), "no more old; 1 fewer request"),
        (entry(), "new; 1 more request, input +100"),
        ({"new": ModelTokens(requests=1), "a\nb": ModelTokens()}, "no more a\\nb; input +100"),
    ],
)  # fmt: skip
def test_why(before, why):
    change = Change.of(record(call(100), models=before))
    assert explain_change(change) == (f"why: {why}",)


def test_a_model_that_joins():
    test = record(call(), call(model="other", tokens=3), models=entry(new={"requests": 1, "input": 100}))
    assert explain_change(Change.of(test)) == ("why: other as well; 1 more request, input +3",)


def test_what_was_used_after_the_judgement_is_no_change():
    test = record(call(100), call(50), models=entry(new={"requests": 1, "input": 100}), late_calls=1)
    assert Change.of(test) is None
    assert describe_change(None) == ()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_sign_is_that_of_the_difference(now, before, cost_now, cost_before):
    test = record(call(now, str(cost_now)), tokens=before, cost=str(cost_before))
    shown = format_change(test, Change.of(test))
    up = now > before or cost_now > cost_before
    assert (Change.upwards(test) is not None) == up
    if now > before:
        assert shown.startswith("+")
        assert "cost" not in shown
    elif cost_now > cost_before:
        assert shown.endswith(" cost")
        assert shown.startswith(("+", "from 0"))
    elif now < before:
        assert shown.startswith("-")
    assert bool(describe_change(Change.of(test))) == ((now, cost_now) != (before, cost_before))


def test_what_one_model_has_more_and_another_less_is_told_of_each():
    """Their sum says nothing, and costs rise."""
    before = entry(cheap={"requests": 1, "input": 100}, dear={"requests": 1, "input": 50})
    test = record(call(50, "0.001", model="cheap"), call(100, "0.02", model="dear"), tokens=150, models=before)
    assert explain_change(Change.of(test)) == ("why: cheap: input -50; dear: input +50",)
