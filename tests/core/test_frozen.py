"""An object that is made anew is what ``dataclasses.replace`` makes of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.record import UsageRecord
from pytest_tokenbudget.usage import Usage

counts = st.dictionaries(st.sampled_from(["requests", "input_tokens", "cache_hits"]), st.integers(0, 99))


@given(counts, counts)
def test_it_has_what_was_changed_and_the_rest(first, changes):
    before = Usage(**first)
    made = remade(before, **changes)
    assert made == replace(before, **changes)
    assert type(made) is Usage
    assert before == Usage(**first)
    assert made is not before


def test_it_is_frozen():
    made = remade(UsageRecord(nodeid="test_a"), outcome="failed")
    assert made.outcome == "failed"
    with pytest.raises(FrozenInstanceError):
        made.outcome = "passed"


def test_what_it_does_not_have_can_t_be_changed():
    with pytest.raises(AttributeError):
        remade(Usage(), tokens=1)


def test_an_object_of_a_class_made_from_it_is_remade_as_what_it_is():
    class Own(Usage):
        pass

    assert remade(Own(input_tokens=1), output_tokens=2) == Own(input_tokens=1, output_tokens=2)
    assert type(remade(Own(), output_tokens=2)) is Own
