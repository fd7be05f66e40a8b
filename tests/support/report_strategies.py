"""Hypothesis strategies for what a JSON report can hold, so that reading one back can be the same value."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []}

names = st.text(max_size=12) | st.sampled_from(
    ["\ud800", '"}', "\n", "| `x` |", "<!-- -->", "</script>", '"><b>', "total"]
)
counts = st.integers(0, 10**9)
money = st.decimals(0, 1000, places=12).map(lambda amount: Decimal(format(amount.normalize(), "f")))
usages = st.builds(
    Usage,
    input_tokens=counts,
    cached_input_tokens=counts,
    cache_write_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
)
calls = st.builds(
    ModelCall,
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini"]) | names,
    provider=st.sampled_from(["openai", "azure", ""]),
    endpoint=names,
    usage=usages,
    cost=st.none() | money,
    source=st.sampled_from(["response", "callback", "estimate"]),
    replayed=st.booleans(),
    request_id=st.none() | names,
    parts=st.none() | st.dictionaries(st.sampled_from(["system", "user", "assistant", "tool", "tools"]), counts),
) | st.builds(ModelCall, model=names, replayed=st.booleans())
several = st.lists(calls, max_size=3).map(tuple)
figures = st.none() | counts | money
tokens = st.builds(ModelTokens, requests=counts, input=counts, cached=counts, cache_write=counts, output=counts)
texts = st.lists(names, max_size=2).map(tuple)


def records(nodeids=names):
    return st.builds(
        UsageRecord,
        nodeid=nodeids,
        outcome=st.sampled_from(["passed", "failed", "error", "skipped", "xfailed", "xpassed"]),
        verdict=st.sampled_from(["within", "over", "unmeasured", "none"]),
        calls=several,
        cache_hits=st.integers(0, 3),
        budget=st.none() | st.builds(Budget, max_cost=st.none() | money, max_tokens=st.none() | counts),
        violations=st.lists(
            st.builds(Violation, limit=st.sampled_from(["max_cost", "unmeasured"]), allowed=figures, used=figures),
            max_size=2,
        ).map(tuple),
        baseline=st.none()
        | st.builds(
            BaselineResult,
            status=st.sampled_from(["new", "within", "over", "improved"]),
            tokens=st.none() | counts,
            cost=st.none() | money,
            models=st.none() | st.dictionaries(names, tokens, max_size=2),
        ),
        drift=texts,
        blocked=texts,
        unplayed=texts,
    )


fixtures = st.builds(
    # What belongs to no fixture is the session's.
    lambda fixture, scope, **used: SharedRecord(fixture=fixture, scope=scope if fixture else "session", **used),
    fixture=names,
    scope=st.sampled_from(["module", "session"]),
    calls=several,
    cache_hits=counts,
    blocked=texts,
)


def summaries(nodeids=names):
    return st.builds(
        lambda tests, shared, created, complete, baseline, unused, overrides: Summary.of(
            tests,
            shared,
            plugin_version="0.1.0",
            created=f"2026-11-22T10:00:0{created}Z",
            prices={**PRICES, "overrides": overrides},
            complete=complete,
            baseline=baseline,
            unused_cassettes=unused,
        ),
        st.lists(records(nodeids), max_size=4, unique_by=lambda record: record.nodeid),
        st.lists(fixtures, max_size=2),
        st.integers(0, 9),
        st.booleans(),
        st.none() | st.builds(BaselineSummary, path=names, stale=texts.map(lambda each: tuple(sorted(set(each))))),
        texts,
        st.lists(names, max_size=2, unique=True).map(sorted),
    )
