from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Headroom, find_headroom
from pytest_tokenbudget.record import Tally, UsageRecord
from pytest_tokenbudget.report.headroom import draw_bar, format_share, headroom_of
from pytest_tokenbudget.usage import ModelCall, Usage


def of(used, allowed, limit="max_tokens"):
    return Headroom(limit=limit, allowed=allowed, used=used)


@pytest.mark.parametrize(
    ("used", "allowed", "share", "bar"),
    [
        (0, 100, "0%", "------"),
        (1, 1000, "<1%", "------"),
        (10, 1000, "1%", "------"),
        (50, 100, "50%", "###---"),
        (9999, 10000, "99%", "#####-"),
        (100, 100, "100%", "######"),
        (10001, 10000, "101%", "######"),
        (10**9, 1, ">999%", "######"),
        (Decimal("0.00062"), Decimal("0.001"), "62%", "###---"),
    ],
)
def test_a_share_and_its_bar(used, allowed, share, bar):
    assert format_share(of(used, allowed)) == share
    assert draw_bar(of(used, allowed), ascii_only=True) == bar
    assert draw_bar(of(used, allowed)) == bar.replace("#", "\u2588").replace("-", "\u2591")


def test_an_estimate_is_marked():
    assert format_share(of(50, 100), estimated=True) == "~50%"
    assert format_share(of(1, 1000), estimated=True) == "<~1%"


@given(st.integers(0, 10**12), st.integers(1, 10**12), st.integers(1, 30))
def test_only_the_limit_itself_reads_as_the_whole(used, allowed, width):
    assert (format_share(of(used, allowed)) == "100%") == (used == allowed)
    bar = draw_bar(of(used, allowed), width=width)
    assert len(bar) == width
    assert (bar == "\u2588" * width) == (used >= allowed)


def test_the_nearest_limit_is_the_one_that_counts():
    tally = Tally(usage=Usage(requests=2, input_tokens=60, output_tokens=20), known_cost=Decimal("0.0009"))
    budget = Budget(max_tokens=100, max_cost=Decimal("0.001"), max_requests=3, max_reasoning_tokens=0, min_requests=1)
    assert find_headroom(tally, budget) == of(Decimal("0.0009"), Decimal("0.001"), "max_cost")
    assert find_headroom(tally, Budget(max_reasoning_tokens=0, min_requests=1)) is None
    assert find_headroom(tally, None) is None


def test_a_number_of_requests_that_is_reached_hides_no_room():
    tally = Tally(usage=Usage(requests=2, input_tokens=60, output_tokens=20), known_cost=Decimal("0.0005"))
    cost = of(Decimal("0.0005"), Decimal("0.001"), "max_cost")
    assert find_headroom(tally, Budget(max_cost=Decimal("0.001"), max_requests=2)) == cost
    assert find_headroom(tally, Budget(max_cost=Decimal("0.001"), max_requests=1)) == of(2, 1, "max_requests")
    assert find_headroom(tally, Budget(max_requests=2)) == of(2, 2, "max_requests")


def test_what_was_used_after_the_judgement_is_not_held_against_it():
    calls = tuple(ModelCall(model="m", usage=Usage(input_tokens=tokens)) for tokens in (10, 90))
    record = UsageRecord(nodeid="t", verdict="within", calls=calls, late_calls=1, budget=Budget(max_tokens=100))
    assert headroom_of(record) == of(10, 100)


@pytest.mark.parametrize(
    ("verdict", "limit", "expected"),
    [
        ("within", 100, of(90, 100)),
        ("over", 80, of(90, 80)),
        # Over its baseline, or a limit of 0, far below this one.
        ("over", 100, None),
        ("unmeasured", 100, None),
        ("none", 100, None),
    ],
)
def test_a_test_is_near_to_a_limit_where_that_fits_its_verdict(verdict, limit, expected):
    calls = (ModelCall(model="m", usage=Usage(input_tokens=90)),)
    record = UsageRecord(nodeid="t", verdict=verdict, calls=calls, budget=Budget(max_tokens=limit))
    assert headroom_of(record) == expected


def test_a_limit_of_zero_has_no_parts():
    assert format_share(of(5, 0)) == "over"
    assert format_share(of(0, 0)) == "0%"
