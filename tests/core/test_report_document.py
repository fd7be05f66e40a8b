from __future__ import annotations

import json
import sys
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, Tally, UsageRecord
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(Path(__file__).with_name("report_schema.json").read_text(encoding="utf-8"))
)
PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": ["my-org/tuned"]}
HEAD = {"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES}
MINI = ModelCall(
    model="gpt-4o-mini",
    provider="openai",
    endpoint="/v1/chat/completions",
    usage=Usage(
        input_tokens=1108, cached_input_tokens=512, output_tokens=96, reasoning_tokens=3, cache_write_tokens=2
    ),
    cost=Decimal("0.00018500"),
    request_id="chatcmpl-1",
    parts={"system": 812, "user": 76, "tools": 220},
)
MINI_USAGE = {
    "requests": 1,
    "input_tokens": 1108,
    "cached_input_tokens": 512,
    "cache_write_tokens": 2,
    "output_tokens": 96,
    "reasoning_tokens": 3,
    "total_tokens": 1204,
    "cost_usd": "0.000185",
    "spent_usd": "0.000185",
    "cache_hits": 0,
    "estimated_requests": 0,
    "unmeasured_requests": 0,
    "unpriced_models": [],
}
MINI_CALL = {
    "model": "gpt-4o-mini",
    "provider": "openai",
    "endpoint": "/v1/chat/completions",
    "source": "response",
    "replayed": False,
    "request_id": "chatcmpl-1",
    "input_tokens": 1108,
    "cached_input_tokens": 512,
    "cache_write_tokens": 2,
    "output_tokens": 96,
    "reasoning_tokens": 3,
    "total_tokens": 1204,
    "cost_usd": "0.000185",
    "parts": {"system": 812, "user": 76, "tools": 220},
}


def parse(summary):
    document = json.loads(to_json(summary))
    SCHEMA.validate(document)
    return document


def test_the_whole_document():
    record = UsageRecord(
        nodeid="test_chat.py::test_greet",
        outcome="failed",
        verdict="over",
        calls=(MINI,),
        budget=Budget(max_cost=Decimal("0.0001"), max_requests=3),
        violations=(Violation(limit="max_cost", allowed=Decimal("0.0001"), used=Decimal("0.000185")),),
        baseline=BaselineResult(
            status="over",
            tokens=700,
            cost=Decimal("0.0001"),
            models={"gpt-4o-mini": ModelTokens(requests=1, input=700)},
        ),
        drift=("system +312 tokens",),
        unplayed=("request 3",),
        blocked=("socket",),
    )
    summary = Summary.of(
        [record],
        [SharedRecord(fixture="index", scope="session", calls=(MINI,))],
        **HEAD,
        baseline=BaselineSummary(path="token-baseline.json", over=(record.nodeid,), stale=("gone",)),
        unused_cassettes=["cassettes/old.yaml"],
    )
    twice = {
        **{name: 2 * value for name, value in MINI_USAGE.items() if isinstance(value, int)},
        "cost_usd": "0.00037",
        "spent_usd": "0.00037",
        "unpriced_models": [],
    }
    document = parse(summary)
    assert document == {
        "schema": "pytest-tokenbudget/report/1",
        "plugin": {"name": "pytest-tokenbudget", "version": "0.1.0"},
        "created": "2026-11-22T10:00:00Z",
        "complete": True,
        "prices": PRICES,
        "total": twice,
        "shared": [{"fixture": "index", "scope": "session", "usage": MINI_USAGE, "calls": [MINI_CALL]}],
        "models": [{"provider": "openai", "model": "gpt-4o-mini", "usage": twice}],
        "tests": [
            {
                "nodeid": "test_chat.py::test_greet",
                "outcome": "failed",
                "verdict": "over",
                "budget": {"max_cost": "0.0001", "max_requests": 3},
                "violations": [{"limit": "max_cost", "allowed": "0.0001", "used": "0.000185"}],
                "baseline": {
                    "status": "over",
                    "total_tokens": 700,
                    "cost_usd": "0.0001",
                    "models": {
                        "gpt-4o-mini": {"requests": 1, "input": 700, "cached": 0, "cache_write": 0, "output": 0}
                    },
                },
                "usage": MINI_USAGE,
                "calls": [MINI_CALL],
            }
        ],
        "baseline": {
            "path": "token-baseline.json",
            "new": [],
            "over": ["test_chat.py::test_greet"],
            "improved": [],
            "stale": ["gone"],
        },
        "drift": [{"nodeid": "test_chat.py::test_greet", "message": "system +312 tokens"}],
        "unplayed": [{"nodeid": "test_chat.py::test_greet", "message": "request 3"}],
        "unused_cassettes": ["cassettes/old.yaml"],
        "blocked": [{"nodeid": "test_chat.py::test_greet", "message": "socket"}],
    }
    assert list(document) == [
        "schema", "plugin", "created", "complete", "prices", "total", "shared", "models", "tests",
        "baseline", "drift", "unplayed", "unused_cassettes", "blocked",
    ]  # fmt: skip


def test_what_is_unknown_is_null_never_zero():
    blind = ModelCall(model="llama", reason="no tokenizer", replayed=True)
    unpriced = ModelCall(model="mine", usage=Usage(input_tokens=5))
    document = parse(Summary.of([UsageRecord(nodeid="t", calls=(blind, unpriced))], **HEAD))
    counts = [name for name in MINI_CALL if name.endswith("_tokens")]
    assert [document["tests"][0]["calls"][0][name] for name in counts] == [None] * 6
    assert document["tests"][0]["calls"][0]["cost_usd"] is None
    assert document["tests"][0]["calls"][0]["parts"] is None
    assert document["total"]["cost_usd"] is None
    assert document["total"]["spent_usd"] is None
    assert document["total"]["unmeasured_requests"] == 1
    assert document["total"]["unpriced_models"] == ["mine"]
    assert document["total"]["input_tokens"] == 5


def test_money_is_in_full_and_nothing_is_0():
    tiny = ModelCall(model="m", usage=Usage(), cost=Decimal("1E-12"), replayed=True)
    free = ModelCall(model="m", usage=Usage(), cost=Decimal("0E-9"))
    document = parse(
        Summary.of([UsageRecord(nodeid="a", calls=(tiny,)), UsageRecord(nodeid="b", calls=(free,))], **HEAD)
    )
    assert document["tests"][0]["usage"]["cost_usd"] == "0.000000000001"
    assert document["tests"][0]["usage"]["spent_usd"] == "0"
    assert document["tests"][1]["calls"][0]["cost_usd"] == "0"


def test_the_stub_is_the_same_document_not_complete_and_empty():
    document = json.loads(to_json(Summary(**HEAD, complete=False)))
    SCHEMA.validate(document)
    assert document["complete"] is False
    assert document["tests"] == document["models"] == document["shared"] == []
    assert document["baseline"] is None
    assert document["total"]["cost_usd"] == "0"
    assert document["total"]["requests"] == 0


def test_one_test_is_one_line():
    records = [UsageRecord(nodeid=f"t{n}", calls=(MINI,)) for n in range(3)]
    lines = to_json(Summary.of(records, **HEAD)).splitlines()
    assert sum('"nodeid": "t' in line for line in lines) == 3
    assert to_json(Summary.of(records, **HEAD)).endswith("}\n")


@pytest.mark.parametrize("count", [*range(1, 4), *range(30, 36), 64, 65, 96, 97])
def test_many_tests_are_a_line_each_in_their_order(count):
    nodeids = [f"test_{number}" for number in range(count)]
    text = to_json(Summary.of([UsageRecord(nodeid=nodeid, calls=(MINI,)) for nodeid in nodeids], **HEAD))
    begin, end = text.index('"tests": [\n') + len('"tests": [\n'), text.index("\n ],\n", text.index('"tests"'))
    lines = text[begin:end].split(",\n")
    assert [json.loads(line)["nodeid"] for line in lines] == nodeids
    assert all(line.startswith("  {") for line in lines)


@pytest.mark.parametrize("parts", [{}, {"user": 5}, {"100%s": 1, "%": 2, 'a"b\\': 3, "\ud800": 4}])
def test_the_parts_of_an_input_are_written_whatever_their_names_are(parts):
    document = json.loads(to_json(Summary.of([UsageRecord(nodeid="a", calls=(replace(MINI, parts=parts),))], **HEAD)))
    assert document["tests"][0]["calls"][0]["parts"] == parts


names = st.text(alphabet=st.characters(), max_size=20) | st.sampled_from(["\ud800", '"}', "\n", "\\", "%s", "\u2028"])


@settings(deadline=None)
@given(names, names, names, st.none() | names, names)
def test_any_name_survives(nodeid, model, provider, request_id, endpoint):
    call = ModelCall(
        model=model,
        provider=provider,
        endpoint=endpoint,
        request_id=request_id,
        usage=Usage(),
        cost=Decimal(1),
        parts={"user": 0},
    )
    text = to_json(Summary.of([UsageRecord(nodeid=nodeid, calls=(call,), drift=(model,))], **HEAD))
    assert text.isascii()
    document = json.loads(text)
    assert document["tests"][0]["nodeid"] == nodeid
    assert document["tests"][0]["calls"][0]["request_id"] == request_id
    assert document["tests"][0]["calls"][0]["endpoint"] == endpoint
    assert (document["models"][0]["provider"], document["models"][0]["model"]) == (provider, model)


calls = st.builds(
    ModelCall,
    model=st.sampled_from(["a", "b"]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 99), output_tokens=st.integers(0, 99)),
    cost=st.none() | st.decimals(0, 10, places=9),
    source=st.sampled_from(["response", "callback", "estimate"]),
    replayed=st.booleans(),
) | st.builds(ModelCall, model=st.just("c"), replayed=st.booleans())


@settings(deadline=None)
@given(st.lists(calls, max_size=3).map(tuple), st.integers(0, 2))
def test_a_tests_usage_is_its_tally(some_calls, cache_hits):
    record = UsageRecord(nodeid="t", calls=some_calls, cache_hits=cache_hits, budget=Budget())
    shown = parse(Summary.of([record], **HEAD))["tests"][0]["usage"]
    tally = Tally.of(some_calls, cache_hits=cache_hits)
    for name in ("requests", "input_tokens", "output_tokens", "total_tokens", "cache_hits"):
        assert shown[name] == getattr(tally.usage, name)
    assert shown["estimated_requests"] == tally.usage.estimated_requests
    assert shown["unmeasured_requests"] == tally.usage.unmeasured_requests
    assert shown["unpriced_models"] == list(tally.unpriced_models)
    assert (None if shown["cost_usd"] is None else Decimal(shown["cost_usd"])) == tally.cost
    assert (None if shown["spent_usd"] is None else Decimal(shown["spent_usd"])) == tally.spent


def test_what_a_test_costs_does_not_grow_with_the_suite():
    record = UsageRecord(
        nodeid="tests/test_chat.py::test_greet[x]", calls=(MINI,), budget=Budget(max_cost=Decimal(1))
    )
    small, large = (calls_of(partial(to_json, Summary.of([record] * size, **HEAD))) for size in (100, 1000))
    assert large < 10 * small
    assert (large - small) / 900 < CALLS_PER_TEST


CALLS_PER_TEST = 25
"""Calls of Python functions that one test of one request may take in the report."""


def calls_of(work):
    count = 0

    def note(_frame, event, _argument):
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("broken", ["total", "tests", "blocked"])
def test_the_schema_can_fail(broken):
    document = json.loads(to_json(Summary.of([], **HEAD)))
    del document[broken]
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(document)
