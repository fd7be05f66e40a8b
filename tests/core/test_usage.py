from __future__ import annotations

import copy
import dis
import inspect
import pickle
from dataclasses import MISSING, FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.frozen import maker_of
from pytest_tokenbudget.record import BaselineResult, UsageRecord
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
    with pytest.raises(FrozenInstanceError):
        del Usage().input_tokens


@pytest.mark.parametrize("made", [Usage(input_tokens=4), ModelCall(model="m", usage=Usage(output_tokens=2))])
def test_what_is_made_quickly_is_what_dataclasses_make(made):
    given = {each.name: getattr(made, each.name) for each in fields(made)}
    assert type(made) is type(replace(made))
    assert made == replace(made) == copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == type(made)(**given)
    assert list(inspect.signature(type(made)).parameters) == list(given)
    assert not hasattr(made, "__dict__")


def test_what_is_made_quickly_takes_only_what_there_is():
    with pytest.raises(TypeError, match=r"ModelCall.__init__\(\) missing .* 'model'"):
        ModelCall()
    with pytest.raises(TypeError, match="unexpected keyword argument 'tokens'"):
        Usage(tokens=1)
    with pytest.raises(TypeError, match="positional"):
        Usage(1)


def test_a_class_can_be_made_from_a_usage():
    class Noted(Usage):
        """One with a dictionary."""

    assert Noted(input_tokens=3).input_tokens == Noted(input_tokens=3).total_tokens == 3
    assert type(Noted()) is Noted
    with pytest.raises(FrozenInstanceError):
        Noted().input_tokens = 1


@pytest.mark.parametrize("kind", [Usage, ModelCall, BaselineResult, UsageRecord])
def test_a_maker_makes_what_the_class_makes(kind):
    required = {each.name: each.name for each in fields(kind) if each.default is MISSING}
    by_class, made = kind(**required), maker_of(kind)(**required)
    assert type(made) is kind
    assert made == by_class == pickle.loads(pickle.dumps(made))
    assert all(getattr(made, each.name) == getattr(by_class, each.name) for each in fields(kind))
    last = [each.name for each in fields(kind) if each.compare][-1]
    assert replace(made, **{last: "x"}) == maker_of(kind)(**required, **{last: "x"}) != made
    with pytest.raises(FrozenInstanceError):
        setattr(made, last, "x")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        maker_of(kind)(**required, nothing=1)


@pytest.mark.parametrize("kind", [Usage, ModelCall])
def test_fields_are_assigned(kind):
    """``object.__setattr__`` of each would be half of what it takes to count a call."""
    assigned = [each.argval for each in dis.get_instructions(kind.__init__) if each.opname == "STORE_ATTR"]
    assert assigned == [*(each.name for each in fields(kind)), "__class__"]


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
