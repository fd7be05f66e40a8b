from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.usage import ModelCall, Usage

counts = st.integers(0, 10**12)
usages = st.builds(Usage, **{each.name: counts for each in fields(Usage)})


@given(usages, usages)
def test_addition_commutes(one, other):
    assert one + other == other + one


@given(usages, usages, usages)
def test_addition_does_not_care_for_brackets(one, two, three):
    assert (one + two) + three == one + (two + three)


@given(usages)
def test_nothing_added_changes_nothing(usage):
    assert usage + Usage() == usage


@given(usages, usages)
def test_addition_adds_every_field(one, other):
    total = one + other
    for each in fields(Usage):
        assert getattr(total, each.name) == getattr(one, each.name) + getattr(other, each.name)


@given(st.lists(usages, max_size=5))
def test_sum_is_repeated_addition(usages):
    total = Usage()
    for usage in usages:
        total += usage
    assert Usage.sum(usages) == total


@given(usages)
def test_total_is_input_and_output_alone(usage):
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_sum_of_nothing_is_all_zeros():
    assert Usage.sum([]) == Usage()


def test_a_usage_does_not_change():
    with pytest.raises(FrozenInstanceError):
        Usage().input_tokens = 1


@pytest.mark.parametrize(
    ("call", "tally"),
    [
        (ModelCall(model="m", usage=Usage(input_tokens=4, output_tokens=33)), Usage(requests=1, input_tokens=4, output_tokens=33)),
        (ModelCall(model="m", usage=Usage(input_tokens=4), source="estimate"), Usage(requests=1, input_tokens=4, estimated_requests=1)),
        (ModelCall(model="m", usage=Usage(input_tokens=4), source="callback"), Usage(requests=1, input_tokens=4)),
        (ModelCall(model="m"), Usage(requests=1, unmeasured_requests=1)),
    ],
    ids=["measured", "estimated", "callback", "unmeasured"],
)  # fmt: skip
def test_a_call_is_one_request_known_or_not(call, tally):
    assert call.tally == tally
