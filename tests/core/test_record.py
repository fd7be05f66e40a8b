from __future__ import annotations

import decimal
import json
from dataclasses import fields, replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from record_strategies import calls, is_plain, records, shared

from pytest_tokenbudget.budget import Violation
from pytest_tokenbudget.plain_record import plain_record, plain_shared, record_of, shared_of
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, Tally, UsageRecord
from pytest_tokenbudget.usage import ModelCall, Usage


@given(records)
def test_a_record_survives_its_plain_form(record):
    assert record_of(plain_record(record)) == record


@given(records)
def test_a_record_survives_json(record):
    assert record_of(json.loads(json.dumps(plain_record(record)))) == record


@given(shared)
def test_a_shared_record_survives_its_plain_form(record):
    assert shared_of(json.loads(json.dumps(plain_shared(record)))) == record


@given(records, shared)
def test_the_plain_form_is_plain(record, fixture):
    assert is_plain(plain_record(record))
    assert is_plain(plain_shared(fixture))


def test_lone_surrogates_do_not_reach_the_wire():
    call = ModelCall(model="m\ud800", endpoint="/\udfff", request_id="\ud800", reason="\ud800", service_tier="\ud800")
    record = UsageRecord(
        nodeid="t\ud800",
        calls=(call,),
        incidents=("\ud800",),
        violations=(Violation(limit="unmeasured", reason="\ud800"),),
        baseline=BaselineResult(status="within", models={"m\ud800": ModelTokens()}),
    )
    assert is_plain(plain_record(record))
    fixture = SharedRecord(fixture="\ud800", scope="session", calls=(call,), incidents=("\ud800",))
    assert is_plain(plain_shared(fixture))
    assert record_of(plain_record(record)).calls[0].model == "m\\ud800"


def test_the_field_list_of_the_wire_is_complete():
    carried = set(plain_record(UsageRecord(nodeid="t")))
    assert carried == {each.name for each in fields(UsageRecord)}


@given(st.lists(calls, max_size=4), st.randoms(use_true_random=False))
def test_a_tally_ignores_the_order(calls, random):
    shuffled = random.sample(calls, len(calls))
    assert Tally.of(shuffled) == Tally.of(calls)


@given(st.lists(calls, max_size=3), st.lists(calls, max_size=3))
def test_a_tally_of_both_is_both_tallies(one, other):
    both, first, second = Tally.of(one + other), Tally.of(one), Tally.of(other)
    assert both.usage == first.usage + second.usage
    assert both.known_cost == first.known_cost + second.known_cost
    assert set(both.unpriced_models) == {*first.unpriced_models, *second.unpriced_models}


@given(st.lists(calls, max_size=4))
def test_a_cost_is_known_exactly_when_every_call_is_priced(calls):
    calls = [call if call.usage is not None else replace(call, cost=None) for call in calls]
    assert (Tally.of(calls).cost is not None) == all(call.cost is not None for call in calls)


def test_a_sum_of_money_does_not_depend_on_the_decimal_context():
    calls = [ModelCall(model="m", usage=Usage(), cost=Decimal(cost)) for cost in ("0.0012345", "0.0000001", "100")]
    with decimal.localcontext(prec=2):
        tally = Tally.of(calls)
    assert tally.known_cost == tally.known_spent == Decimal("100.0012346")


def test_what_was_spent_is_the_live_part():
    live = ModelCall(model="m", usage=Usage(), cost=Decimal("0.3"))
    replayed = ModelCall(model="m", usage=Usage(), cost=Decimal("0.2"), replayed=True)
    tally = Tally.of([live, replayed])
    assert (tally.cost, tally.spent) == (Decimal("0.5"), Decimal("0.3"))
    assert Tally.of([live, ModelCall(model="x", usage=Usage())]).spent is None
    assert Tally.of([live, ModelCall(model="x", usage=Usage(), replayed=True)]).spent == Decimal("0.3")


def test_a_baseline_remembers_tokens_per_model_and_no_call_that_is_unknown():
    record = UsageRecord(
        nodeid="t",
        calls=(
            ModelCall(model="b", usage=Usage(input_tokens=4, cached_input_tokens=1, output_tokens=2)),
            ModelCall(model="a", usage=Usage(input_tokens=1, cache_write_tokens=1)),
            ModelCall(model="b", usage=Usage(input_tokens=6, output_tokens=3)),
            ModelCall(model="c"),
        ),
    )
    assert record.models == {
        "a": ModelTokens(requests=1, input=1, cache_write=1),
        "b": ModelTokens(requests=2, input=10, cached=1, output=5),
    }
    assert list(record.models) == ["a", "b"]
