"""Summaries whose figures are written down by hand, so that a report can be held against them."""

from __future__ import annotations

from decimal import Decimal

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.2.3", "date": "2026-11-03", "overrides": []}


def call(given, made, cost, *, model="gpt-4o-mini", cached=0, reasoning=0, **more):
    usage = Usage(input_tokens=given, cached_input_tokens=cached, output_tokens=made, reasoning_tokens=reasoning)
    money = None if cost is None else Decimal(cost)
    known = {"provider": "openai", "endpoint": "/v1/chat/completions", "replayed": True, **more}
    return ModelCall(model=model, usage=usage, cost=money, **known)


def entry(status, *, given=0, made=0, cost=None, model="gpt-4o-mini", requests=1):
    if status == "new":
        return BaselineResult(status="new")
    tokens = ModelTokens(requests=requests, input=given, output=made)
    money = None if cost is None else Decimal(cost)
    return BaselineResult(status=status, tokens=given + made, cost=money, models={model: tokens})


def summarise(*records, **more):
    more.setdefault("prices", PRICES)
    return Summary.of(records, plugin_version="0.1.0", created="2026-11-26T10:00:00Z", **more)


def varied():
    """Five tests, each of another kind, and a shared fixture."""
    records = (
        UsageRecord(
            nodeid="tests/test_agent.py::test_weather",
            outcome="failed",
            verdict="over",
            calls=(
                call(1000, 100, "0.0035", model="gpt-4o", cached=400,
                     parts={"system": 600, "tools": 200, "assistant": 60, "tool": 40, "user": 100}),
                call(500, 50, "0.00175", model="gpt-4o", parts={"system": 400, "user": 100}),
            ),
            budget=Budget(max_cost=Decimal("0.0035"), max_requests=4),
            violations=(Violation(limit="max_cost", allowed=Decimal("0.0035"), used=Decimal("0.00525")),),
            baseline=entry("over", given=1200, made=150, cost="0.0045", model="gpt-4o", requests=2),
        ),
        UsageRecord(
            nodeid="tests/test_chat.py::test_hello",
            verdict="within",
            calls=(call(80, 20, "0.000024", replayed=False),),
            budget=Budget(max_tokens=400),
            baseline=entry("improved", given=180, made=20, cost="0.000039"),
        ),
        UsageRecord(nodeid="tests/test_chat.py::test_thinks",
                    calls=(call(30, 300, "0.000605", model="gpt-5-mini", reasoning=256),), baseline=entry("new")),
        UsageRecord(
            nodeid="tests/test_stream.py::test_cut_off",
            outcome="failed",
            verdict="unmeasured",
            calls=(ModelCall(model="gpt-4o-mini", provider="openai", replayed=True, reason="the stream was cut"),),
            budget=Budget(max_cost=Decimal("0.01")),
            violations=(Violation(limit="unmeasured", reason="the stream was cut"),),
        ),
        UsageRecord(nodeid="tests/test_stream.py::test_guessed",
                    calls=(call(10, 5, "0.0000045", source="estimate"),)),
    )  # fmt: skip
    return summarise(
        *records,
        shared=(SharedRecord(fixture="index", scope="session", calls=(call(7, 0, "0.00000014"),)),),
        baseline=BaselineSummary.of(records, path="token-baseline.json", stale=("tests/test_old.py::test_gone",)),
    )
