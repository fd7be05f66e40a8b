from __future__ import annotations

import copy
import json
import os
import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_strategies import summaries

from pytest_tokenbudget.baseline import Baseline
from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.record import BaselineResult, ModelTokens
from pytest_tokenbudget.report.document import json_chunks, to_json
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


def laid_out(report):
    """The report as the plugin lays it out, whatever it holds, and its tests as plain as they can be."""
    if not isinstance(report, dict):
        return json.dumps(report)
    plain = {"violations": [], "budget": None}
    tests = report.get("tests")
    if isinstance(tests, list) and tests and isinstance(tests[0], dict):
        same = {name for name in plain if tests[0].get(name) == REPORT["tests"][0][name]}
        report = {**report, "tests": [tests[0] | {name: plain[name] for name in same}, *tests[1:]]}
    fields = []
    for name, value in report.items():
        rows = isinstance(value, list) and value
        shown = ",\n  ".join(map(json.dumps, value)) if rows else json.dumps(value)
        fields.append(f'"{name}": [\n  {shown}\n ]' if rows else f'"{name}": {shown}')
    return "{" + ",\n ".join(fields) + "}\n"


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


def _read(read, source):
    try:
        return read(source)
    except ConfigurationError:
        return "refused"


PIECES = [
    "",
    " ",
    "0",
    "1",
    "-",
    ".5",
    '"',
    "{",
    "}",
    "[",
    "]",
    ", ",
    "null",
    "true",
    "\\",
    "\n",
    "é",
    '"input": 1, ',
    " ],\n",
]


@settings(deadline=None, max_examples=400)
@given(summaries(), st.data())
def test_a_file_is_read_by_lines_as_it_is_as_a_whole(tmp_path_factory, summary, data):
    text = to_json(summary)
    for _ in range(data.draw(st.integers(0, 2))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 3)))
        piece = data.draw(st.sampled_from(PIECES) | st.just(text[begin : begin + 40]))
        text = text[:begin] + piece + text[end:]
    path = tmp_path_factory.getbasetemp() / "edited.json"
    path.write_text(text, "utf-8", newline="\n")
    assert _read(load, path) == _read(from_json, text)


@pytest.mark.parametrize("row", [
    '"outcome": "passed", "outcome": "failed"',
    '"requests": 1, "requests": 1',
    '"system": 812, "system": 812',
    ", ".join(['"gpt-4o": {"requests": 1, "input": 600, "cached": 0, "cache_write": 0, "output": 100}'] * 2),
])  # fmt: skip
def test_a_key_that_stands_twice_in_a_plain_line_is_refused(tmp_path, row):
    report = changed(*TEST, "violations", value=[])
    report |= {"drift": []}
    path = tmp_path / "report.json"
    good = to_json(from_json(json.dumps(report))).replace('"failed"', '"passed"')
    path.write_text(good)
    assert load(path).tests[0].outcome == "passed"
    once = row[: len(row) // 2 - 1]
    assert good.count(once.replace("failed", "passed"))
    path.write_text(good.replace(once, row, 1))
    with pytest.raises(ConfigurationError, match="twice"):
        load(path)


def test_a_large_report_is_never_in_memory_as_a_whole(tmp_path):
    path = tmp_path / "report.json"
    tests = [copy.deepcopy(REPORT["tests"][0]) | {"nodeid": f"test_{n}", "violations": []} for n in range(2000)]
    sums = usage(requests=2000, input_tokens=2_216_000, cached_input_tokens=1_024_000, output_tokens=192_000,
                 total_tokens=2_408_000, cost_usd="0.37")  # fmt: skip
    report = {**REPORT, "tests": tests, "total": sums, "drift": []}
    report["models"] = [{**REPORT["models"][0], "usage": sums}]
    path.write_bytes(b"".join(json_chunks(from_json(json.dumps(report)))))
    load(path)
    tracemalloc.start()
    try:
        summary = load(path)
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(summary.tests) == 2000
    assert most - kept < path.stat().st_size / 4


def test_an_entry_that_both_remember_is_in_memory_once(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(to_json(from_json(json.dumps(changed("tests", 0, "violations", value=[])))))
    (test,) = load(path).tests
    assert test.baseline is not None
    same = Baseline(tests={test.nodeid: dict(test.baseline.models)})
    other = Baseline(tests={test.nodeid: {"gpt-4o": ModelTokens(requests=2)}})
    for baseline, shared in ((same, True), (other, False), (Baseline(), False)):
        (read,) = load(path, baseline).tests
        assert read == test
        assert (read.baseline.models is baseline.tests.get(test.nodeid)) == shared


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
@pytest.mark.parametrize("dump", [json.dumps, laid_out], ids=["in one line", "as it is written"])
def test_a_report_that_is_none_is_refused_in_one_line(tmp_path, report, said, dump):
    path = tmp_path / "report.json"
    path.write_text(dump(report))
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
