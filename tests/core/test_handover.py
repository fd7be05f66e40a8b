from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_strategies import budgets, calls, is_plain, lines, records, shared, texts

from pytest_tokenbudget import handover
from pytest_tokenbudget.handover import Handover, Post, as_arrived
from pytest_tokenbudget.plain_record import plain_record, record_of
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


class Report:
    """What a test's report is to the post: an object with attributes."""


def way(handover, *, to_controller):
    """What arrives, and the report that it went with."""
    report = Report()
    sender = Post(to_controller=to_controller)
    sender.send(report, handover)
    receiver = Post(to_controller=False) if to_controller else sender
    return receiver.receive(report), report


@given(handovers)
def test_it_is_the_same_from_this_process_and_from_another(handover):
    near, far = (way(handover, to_controller=each)[0] for each in (False, True))
    assert [*map(list, near[1:])] == [*map(list, far[1:])]
    assert near.record == far.record
    assert repr(near.record) == repr(far.record)


@given(handovers)
def test_what_goes_to_another_process_is_plain(handover):
    assert is_plain(vars(way(handover, to_controller=True)[1]))


@given(handovers)
def test_within_one_process_the_report_carries_nothing_that_could_not_be_json(handover):
    assert vars(way(handover, to_controller=False)[1]) == {}


@pytest.mark.parametrize("to_controller", [False, True])
def test_a_report_without_anything_to_carry_is_left_alone(to_controller):
    arrived, report = way(Handover(), to_controller=to_controller)
    assert vars(report) == {}
    assert arrived == (None, (), ())


@pytest.mark.parametrize("to_controller", [False, True])
def test_several_may_ask_and_each_report_has_its_own(to_controller):
    sender = Post(to_controller=to_controller)
    receiver = Post(to_controller=False) if to_controller else sender
    for name in ("test_a", "test_b"):
        report = Report()
        sender.send(report, Handover(UsageRecord(nodeid=name)))
        assert [receiver.receive(report).record.nodeid for _ in range(2)] == [name] * 2
    assert receiver.receive(Report()).record is None


def test_what_others_put_there_is_nothing():
    report = Report()
    report.token_budget = "Handover(...)"  # as a log of reports may have it
    assert Post(to_controller=False).receive(report).record is None


@given(simple_records)
def test_prompts_stay_behind(record):
    arrived = as_arrived(record)
    assert arrived == record_of(plain_record(record))
    assert [call.prompt for call in arrived.calls] == [None] * len(record.calls)


def test_a_record_that_is_plain_already_is_not_made_anew(monkeypatch):
    record = UsageRecord(nodeid="test_a", calls=(ModelCall(model="gpt-4o-mini", usage=Usage(input_tokens=1)),))
    monkeypatch.setattr(handover, "record_of", None)
    assert as_arrived(record) == record
    with pytest.raises(TypeError):
        as_arrived(replace(record, nodeid="test_\ud800"))
