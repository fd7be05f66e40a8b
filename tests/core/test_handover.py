from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import budgets, calls, is_plain, lines, records, shared, texts

from pytest_tokenbudget.handover import Handover, as_arrived, hand_over, handed_over
from pytest_tokenbudget.record import UsageRecord
from pytest_tokenbudget.usage import ModelCall, Prompt, Usage

# Of a kind that is not made anew on its way, or for its prompts alone.
prompts = st.sampled_from([None, None, Prompt(chat=True)])
simple_records = st.builds(
    UsageRecord,
    nodeid=texts,
    calls=st.lists(st.builds(lambda call, prompt: replace(call, prompt=prompt), calls, prompts), max_size=2).map(
        tuple
    ),
    budget=st.none() | budgets.map(lambda budget: replace(budget, origins={"max_cost": "here"})),
    cassettes=lines,
)
notes = st.lists(st.builds(lambda nodeid, message: {"nodeid": nodeid, "message": message}, texts, texts), max_size=2)
handovers = st.builds(Handover, st.none() | records | simple_records, st.lists(shared, max_size=2), notes)


def carried(handover, *, far):
    report = SimpleNamespace()
    hand_over(report, handover, far=far)
    return report


@given(handovers)
def test_it_is_the_same_from_this_process_and_from_another(handover):
    near, far = (handed_over(carried(handover, far=each)) for each in (False, True))
    assert [list(each) if isinstance(each, tuple | list) else each for each in near[1:]] == [*map(list, far[1:])]
    assert near.record == far.record
    assert repr(near.record) == repr(far.record)


@given(handovers)
def test_what_goes_to_another_process_is_plain(handover):
    assert all(map(is_plain, vars(carried(handover, far=True)).values()))


@pytest.mark.parametrize("far", [False, True])
def test_a_report_without_anything_to_carry_is_left_alone(far):
    report = carried(Handover(), far=far)
    assert vars(report) == {}
    assert handed_over(report) == (None, (), ())


@given(simple_records)
def test_prompts_stay_behind(record):
    arrived = as_arrived(record)
    assert arrived == UsageRecord.from_dict(record.to_dict())
    assert [call.prompt for call in arrived.calls] == [None] * len(record.calls)


def test_a_record_that_is_plain_already_is_not_made_anew(monkeypatch):
    record = UsageRecord(nodeid="test_a", calls=(ModelCall(model="gpt-4o-mini", usage=Usage(input_tokens=1)),))
    monkeypatch.setattr(UsageRecord, "to_dict", None)
    assert as_arrived(record) == record
    with pytest.raises(TypeError):
        as_arrived(replace(record, nodeid="test_\ud800"))
