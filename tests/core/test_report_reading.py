from __future__ import annotations

import copy
import json
import os
from decimal import Decimal

import pytest
from hypothesis import given, settings
from report_strategies import summaries

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.record import BaselineResult, ModelTokens
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.report.reading import from_json, load
from pytest_tokenbudget.usage import ModelCall, Usage


def usage(**more):
    return {
        "requests": 1, "input_tokens": 1108, "cached_input_tokens": 512, "cache_write_tokens": 0, "output_tokens": 96,
        "reasoning_tokens": 0, "total_tokens": 1204, "cost_usd": "0.000185", "spent_usd": "0", "cache_hits": 0,
        "estimated_requests": 0, "unmeasured_requests": 0, "unpriced_models": [], **more,
    }  # fmt: skip


CALL = {
    "model": "gpt-4o-mini", "provider": "openai", "endpoint": "/v1/chat/completions", "source": "response",
    "replayed": True, "request_id": "chatcmpl-1", "input_tokens": 1108, "cached_input_tokens": 512,
    "cache_write_tokens": 0, "output_tokens": 96, "reasoning_tokens": 0, "total_tokens": 1204,
    "cost_usd": "0.000185", "parts": {"system": 812, "tools": 220, "user": 76},
}  # fmt: skip
BLIND = {
    **CALL,
    **dict.fromkeys([name for name in CALL if name.endswith("_tokens")]),
    "cost_usd": None,
    "parts": None,
}
REPORT = {
    "schema": "pytest-tokenbudget/report/1",
    "plugin": {"name": "pytest-tokenbudget", "version": "0.1.0"},
    "created": "2026-11-22T10:00:00Z",
    "complete": True,
    "prices": {"source": "genai-prices", "version": "0.0.71", "date": "2026-11-18", "overrides": ["my/own"]},
    "total": usage(),
    "shared": [],
    "models": [{"provider": "openai", "model": "gpt-4o-mini", "usage": usage()}],
    "tests": [
        {
            "nodeid": "test_chat.py::test_greet",
            "outcome": "failed",
            "verdict": "over",
            "budget": {"max_cost": "0.0001", "min_requests": 1, "tolerance": "0.1"},
            "violations": [{"limit": "max_cost", "allowed": "0.0001", "used": "0.000185"}],
            "baseline": {
                "status": "over",
                "total_tokens": 700,
                "cost_usd": None,
                "models": {"gpt-4o": {"requests": 1, "input": 600, "cached": 0, "cache_write": 0, "output": 100}},
            },
            "usage": usage(),
            "calls": [CALL],
        }
    ],
    "baseline": {"path": "b.json", "new": [], "over": ["test_chat.py::test_greet"], "improved": [], "stale": ["x"]},
    "drift": [{"nodeid": "test_chat.py::test_greet", "message": "system +312 tokens"}],
    "unplayed": [],
    "unused_cassettes": ["cassettes/old.yaml"],
    "blocked": [],
}


def changed(*path, value):
    report = copy.deepcopy(REPORT)
    place = report
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return report


def test_every_field_of_a_report():
    summary = from_json(json.dumps(REPORT))
    assert summary.plugin_version == "0.1.0"
    assert (summary.created, summary.complete) == ("2026-11-22T10:00:00Z", True)
    assert summary.prices == REPORT["prices"]
    (test,) = summary.tests
    assert (test.nodeid, test.outcome, test.verdict) == ("test_chat.py::test_greet", "failed", "over")
    assert test.calls == (
        ModelCall(
            model="gpt-4o-mini",
            provider="openai",
            endpoint="/v1/chat/completions",
            usage=Usage(input_tokens=1108, cached_input_tokens=512, output_tokens=96),
            cost=Decimal("0.000185"),
            replayed=True,
            request_id="chatcmpl-1",
            parts={"system": 812, "tools": 220, "user": 76},
        ),
    )
    assert test.budget == Budget(max_cost=Decimal("0.0001"), min_requests=1, tolerance=Decimal("0.1"))
    assert test.violations == (Violation(limit="max_cost", allowed=Decimal("0.0001"), used=Decimal("0.000185")),)
    assert test.baseline == BaselineResult(
        status="over", tokens=700, models={"gpt-4o": ModelTokens(requests=1, input=600, output=100)}
    )
    assert test.drift == ("system +312 tokens",)
    assert summary.baseline is not None
    assert (summary.baseline.path, summary.baseline.over, summary.baseline.stale) == (
        "b.json",
        (test.nodeid,),
        ("x",),
    )
    assert summary.unused_cassettes == ("cassettes/old.yaml",)


def test_what_is_unknown_stays_unknown():
    report = copy.deepcopy(REPORT)
    unpriced = {**CALL, "model": "mine", "cost_usd": None}
    report["tests"][0]["calls"] = [BLIND, unpriced]
    sums = usage(requests=2, cost_usd=None, unmeasured_requests=1, unpriced_models=["mine"])
    report["tests"][0]["usage"] = report["total"] = sums
    report["models"] = [
        {"provider": "openai", "model": "gpt-4o-mini", "usage": usage(
            input_tokens=0, cached_input_tokens=0, output_tokens=0, total_tokens=0, cost_usd=None, unmeasured_requests=1
        )},
        {"provider": "openai", "model": "mine", "usage": usage(cost_usd=None, unpriced_models=["mine"])},
    ]  # fmt: skip
    summary = from_json(json.dumps(report))
    assert [call.usage is None for call in summary.tests[0].calls] == [True, False]
    assert [call.cost for call in summary.tests[0].calls] == [None, None]
    assert summary.total.cost is None


@settings(deadline=None)
@given(summaries())
def test_what_was_written_is_read(summary):
    assert from_json(to_json(summary)) == summary
    assert to_json(from_json(to_json(summary))) == to_json(summary)


TEST = ("tests", 0)
ONE_CALL = (*TEST, "calls", 0)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ([], "an array"),
        ({}, "no schema"),
        (changed("schema", value="pytest-tokenbudget/report/2"), "newer"),
        (changed("schema", value="pytest-tokenbudget/baseline/1"), "baseline/1"),
        (changed("schema", value=1), "is expected"),
        (changed("plugin", "name", value="other"), "other"),
        (changed("created", value="yesterday"), "created"),
        (changed("complete", value=1), "complete"),
        (changed("prices", "date", value="2026-13-01"), "prices.date"),
        (changed("prices", "overrides", value="x"), "overrides"),
        (changed("extra", value=1), "extra"),
        ({name: value for name, value in REPORT.items() if name != "blocked"}, "blocked"),
        (changed("tests", value={}), "tests"),
        (changed("tests", value=[None]), "tests"),
        (changed(*TEST, "nodeid", value=3), "nodeid"),
        (changed(*TEST, "outcome", value="rerun"), "outcome"),
        (changed(*TEST, "verdict", value="fine"), "verdict"),
        (changed(*TEST, "budget", value={"max_money": "1"}), "max_money"),
        (changed(*TEST, "budget", value={"max_cost": 0.1}), "max_cost"),
        (changed(*TEST, "budget", value={"max_tokens": "5"}), "max_tokens"),
        (changed(*TEST, "violations", value=[{"limit": "x", "allowed": 1}]), "used"),
        (changed(*TEST, "violations", 0, "used", value="-1"), "used"),
        (changed(*TEST, "violations", 0, "used", value=True), "used"),
        (changed(*TEST, "baseline", "status", value="stale"), "status"),
        (changed(*TEST, "baseline", "models", "gpt-4o", "input", value=-1), "input"),
        (changed(*TEST, "usage", "requests", value=2), "requests is 2, and its calls make 1"),
        (changed(*TEST, "usage", "cost_usd", value="0.0001"), "cost_usd"),
        (changed(*TEST, "usage", "cost_usd", value=None), "cost_usd"),
        (changed(*TEST, "usage", "unpriced_models", value=["a"]), "unpriced_models"),
        (changed(*TEST, "usage", "cache_hits", value=2), "cache_hits"),  # the total says 0
        (changed(*TEST, "usage", "cache_hits", value=-1), "cache_hits"),
        (changed(*TEST, "usage", "requests", value=True), "requests"),
        (changed(*TEST, "usage", "requests", value=1.0), "requests"),
        (changed(*TEST, "usage", value=[]), "usage"),
        (changed(*TEST, "usage", "spent_usd", value="0.000185"), "spent_usd"),
        (changed("total", "cost_usd", value="0.1"), "cost_usd"),
        (changed("total", "total_tokens", value=0), "total_tokens"),
        (changed("models", value=[]), "gpt-4o-mini"),
        (changed("models", value=REPORT["models"] * 2), "twice"),
        (changed(*ONE_CALL, "cost_usd", value="1e-3"), "cost_usd"),
        (changed(*ONE_CALL, "cost_usd", value="NaN"), "cost_usd"),
        (changed(*ONE_CALL, "cost_usd", value=0.000185), "cost_usd"),
        (changed(*ONE_CALL, "cost_usd", value="٣"), "cost_usd"),
        (changed(*ONE_CALL, "cost_usd", value="0." + "1" * 200), "cost_usd"),
        (changed(*ONE_CALL, "input_tokens", value=1108.0), "input_tokens"),
        (changed(*ONE_CALL, "input_tokens", value=True), "input_tokens"),
        (changed(*ONE_CALL, "input_tokens", value=None), "input_tokens"),
        (changed(*ONE_CALL, "input_tokens", value=10**20), "input_tokens"),
        (changed(*ONE_CALL, "total_tokens", value=1205), "total_tokens"),
        (changed(*ONE_CALL, "source", value="guess"), "source"),
        (changed(*ONE_CALL, "replayed", value=0), "replayed"),
        (changed(*ONE_CALL, "request_id", value=1), "request_id"),
        (changed(*ONE_CALL, "parts", value={"god": 1}), "god"),
        (changed(*ONE_CALL, "parts", value={"user": "1"}), "user"),
        (changed(*TEST, "calls", value=[{**BLIND, "cost_usd": "0"}]), "no usage"),
        (changed("tests", value=REPORT["tests"] * 2), "twice"),
        (changed("drift", value=[{"nodeid": "other", "message": "x"}]), "other"),
        (changed("baseline", "stale", value=[1]), "stale"),
    ],
)
def test_a_report_that_is_none_is_refused_in_one_line(tmp_path, report, said):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"report {path}: ")
    assert said in message
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe{\x00", "UTF-8"),
        (json.dumps(REPORT).encode()[:-40], "cut short"),
        (json.dumps(REPORT).encode()[:5], "cut short"),
        (b"not json", "no JSON"),
        (b"{}\n{}", "no JSON"),
        (b"<<<<<<< HEAD\n{}\n=======\n{}\n>>>>>>> x\n", "merge conflict"),
        (json.dumps(REPORT).encode().replace(b'"complete": true', b'"complete": true, "complete": false'), "twice"),
        (json.dumps(REPORT).encode().replace(b"1108", b"NaN"), "NaN"),
        (json.dumps(REPORT).encode().replace(b"1108", b"1" * 5000), "too long"),
        (b"[" * 200_000, "deep"),
    ],
)
def test_bytes_that_are_no_report_are_refused(tmp_path, data, said):
    path = tmp_path / "report.json"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(tmp_path / "none.json")
    with pytest.raises(ConfigurationError, match="directory"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        load(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="null"):
        load(tmp_path / "a\0b")
