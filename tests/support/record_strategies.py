"""Records of any kind, for hypothesis, and what of them may cross to another process."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import strategies as st

from pytest_tokenbudget.budget import LIMIT_NAMES, Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.usage import ModelCall, Usage

counts = st.integers(0, 10**12)
texts = st.text(st.characters(codec="utf-8"), max_size=10)
costs = st.decimals(min_value=0, max_value=10**6, places=15)
usages = st.builds(Usage, **{each.name: counts for each in fields(Usage) if each.name.endswith("_tokens")})
calls = st.builds(
    ModelCall,
    model=texts,
    provider=texts,
    endpoint=texts,
    usage=st.none() | usages,
    cost=st.none() | costs,
    source=st.sampled_from(["response", "callback", "estimate"]),
    replayed=st.booleans(),
    request_id=st.none() | texts,
    parts=st.none() | st.dictionaries(st.sampled_from(["system", "user", "tools"]), counts),
    service_tier=st.none() | texts,
    request_model=texts,
    reason=st.none() | texts,
)
budgets = st.builds(
    Budget,
    max_cost=st.none() | costs,
    tolerance=st.none() | costs,
    **{name: st.none() | counts for name in LIMIT_NAMES if name not in ("max_cost", "tolerance")},
)
figures = st.none() | counts | costs
violations = st.builds(Violation, limit=st.sampled_from([*LIMIT_NAMES, "baseline"]), allowed=figures, used=figures, reason=st.none() | texts)  # fmt: skip
tokens = st.builds(ModelTokens, **dict.fromkeys(ModelTokens._fields, counts))
baselines = st.builds(
    BaselineResult,
    status=st.sampled_from(["new", "within", "over", "improved"]),
    tokens=st.none() | counts,
    cost=st.none() | costs,
    models=st.none() | st.dictionaries(texts, tokens, max_size=2),
)
lines = st.lists(texts, max_size=2).map(tuple)
records = st.builds(
    UsageRecord,
    nodeid=texts,
    outcome=st.sampled_from(["passed", "failed", "error", "skipped", "xfailed", "xpassed"]),
    verdict=st.sampled_from(["within", "over", "unmeasured", "none"]),
    calls=st.lists(calls, max_size=2).map(tuple),
    late_calls=counts,
    cache_hits=counts,
    budget=st.none() | budgets,
    violations=st.lists(violations, max_size=2).map(tuple),
    baseline=st.none() | baselines,
    incidents=lines,
    drift=lines,
    blocked=lines,
    unplayed=lines,
    cassettes=lines,
)
shared = st.builds(SharedRecord, fixture=texts, scope=texts, calls=st.lists(calls, max_size=2).map(tuple), cache_hits=counts, incidents=lines)  # fmt: skip


def is_plain(data):
    """Whether execnet can carry it: these very types, and texts that UTF-8 knows."""
    if isinstance(data, dict):
        return type(data) is dict and all(type(key) is str and is_plain(each) for key, each in data.items())
    if isinstance(data, list):
        return type(data) is list and all(map(is_plain, data))
    if type(data) is str:
        return data.encode("utf-8", "replace").decode() == data
    return data is None or type(data) in (int, bool)
