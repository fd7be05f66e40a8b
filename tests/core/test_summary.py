from __future__ import annotations

import decimal
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.merging import merge
from pytest_tokenbudget.record import BaselineResult, SharedRecord, Tally, UsageRecord
from pytest_tokenbudget.summary import BaselineSummary, Summary, tally_of
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []}

counts = st.integers(0, 10**9)
usages = st.builds(
    Usage,
    input_tokens=counts,
    cached_input_tokens=counts,
    cache_write_tokens=counts,
    output_tokens=counts,
    reasoning_tokens=counts,
    input_audio_tokens=counts,
)
costs = st.decimals(min_value=0, max_value=1000, places=12)
calls = st.builds(
    ModelCall,
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini", "my-org/tuned", "\ud800"]),
    provider=st.sampled_from(["openai", "azure", ""]),
    usage=st.none() | usages,
    cost=st.none() | costs,
    source=st.sampled_from(["response", "callback", "estimate"]),
    replayed=st.booleans(),
    reason=st.none() | st.sampled_from(["no tokenizer", "cut short"]),
).map(lambda call: call if call.usage is not None else ModelCall(model=call.model, reason=call.reason))
several = st.lists(calls, max_size=4).map(tuple)
records = st.builds(UsageRecord, nodeid=st.sampled_from("abcde"), calls=several, cache_hits=st.integers(0, 2))
fixtures = st.builds(
    SharedRecord, fixture=st.sampled_from("xy"), scope=st.sampled_from(["module", "session"]), calls=several
)


def summarize(tests=(), shared=(), **more):
    return Summary.of(
        tests, shared, **{"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES, **more}
    )


summaries = st.builds(
    lambda tests, shared, complete, created, stale, unused, allowed: summarize(
        tests,
        shared,
        complete=complete,
        created=f"2026-11-22T10:00:0{created}Z",
        baseline=None if stale is None else BaselineSummary(path="b.json", stale=tuple(sorted(stale)), new=("n",)),
        unused_cassettes=unused,
        run_violations=()
        if allowed is None
        else (Violation(limit="token_total_max_cost", allowed=allowed, used=allowed + 1),),
    ),
    st.lists(records, max_size=4),
    st.lists(fixtures, max_size=3),
    st.booleans(),
    st.integers(0, 9),
    st.none() | st.sets(st.sampled_from("pqr")),
    st.sets(st.sampled_from("uvw")),
    st.none() | costs,
)


@settings(deadline=None)
@given(several, st.integers(0, 5))
def test_the_fast_sum_is_the_records_own_sum(some_calls, cache_hits):
    assert tally_of(some_calls, cache_hits=cache_hits) == Tally.of(some_calls, cache_hits=cache_hits)


@settings(deadline=None)
@given(st.lists(records, max_size=5), st.lists(fixtures, max_size=4))
def test_the_total_is_the_sum_of_its_tests_and_fixtures(tests, shared):
    summary = summarize(tests, shared)
    everything = [call for part in (*tests, *shared) for call in part.calls]
    assert summary.total == Tally.of(everything, cache_hits=sum(record.cache_hits for record in tests))


@settings(deadline=None)
@given(st.lists(records, max_size=5), st.lists(fixtures, max_size=4))
def test_the_models_rows_add_up_to_the_total(tests, shared):
    summary = summarize(tests, shared)
    rows = summary.models
    assert sum(row.tally.known_cost for row in rows) == summary.total.known_cost
    assert sum(row.tally.usage.total_tokens for row in rows) == summary.total.usage.total_tokens
    assert sum(row.tally.usage.requests for row in rows) == summary.total.usage.requests
    assert [row.tally.known_cost for row in rows] == sorted((row.tally.known_cost for row in rows), reverse=True)


@settings(deadline=None)
@given(st.lists(summaries, min_size=1, max_size=3))
def test_merging_ignores_order(shards):
    merged = [merge(order) for order in permutations(shards)]
    assert all(other == merged[0] for other in merged)


@settings(deadline=None)
@given(summaries, summaries, summaries)
def test_merging_ignores_grouping(one, two, three):
    assert merge([merge([one, two]), three]) == merge([one, merge([two, three])]) == merge([one, two, three])


@settings(deadline=None)
@given(st.lists(summaries, min_size=1, max_size=3))
def test_merging_loses_no_usage(shards):
    merged = merge(shards).total
    assert merged.known_cost == sum(each.total.known_cost for each in shards)
    assert merged.usage == Usage.sum(each.total.usage for each in shards)


def call(cost="0.001", model="gpt-4o", provider="openai"):
    return ModelCall(
        model=model, provider=provider, usage=Usage(input_tokens=10, output_tokens=5), cost=Decimal(cost)
    )


def test_only_tests_worth_listing_are_kept_in_the_order_they_ran():
    listed = [
        UsageRecord(nodeid="z_called", calls=(call(),)),
        UsageRecord(nodeid="y_hit", cache_hits=1),
        UsageRecord(nodeid="x_budget", budget=Budget(max_tokens=5)),
        UsageRecord(nodeid="w_baseline", baseline=BaselineResult(status="within")),
        UsageRecord(nodeid="v_drift", drift=("request 1 changed",)),
        UsageRecord(nodeid="u_blocked", blocked=("socket to api.example",)),
    ]
    summary = summarize([UsageRecord(nodeid="idle"), *listed, UsageRecord(nodeid="idle too")])
    assert summary.tests == tuple(listed)
    assert summary.drift == ({"nodeid": "v_drift", "message": "request 1 changed"},)
    assert summary.blocked == ({"nodeid": "u_blocked", "message": "socket to api.example"},)


def test_a_fixture_that_two_workers_set_up_is_one_row():
    summary = summarize(
        shared=[
            SharedRecord(fixture="index", scope="session", calls=(call("0.001"),)),
            SharedRecord(fixture="index", scope="module", calls=(call("0.01"),)),
            SharedRecord(fixture="index", scope="session", calls=(call("0.002"),), cache_hits=1),
            SharedRecord(fixture="silent", scope="session"),
        ]
    )
    assert [(each.fixture, each.scope, len(each.calls), each.cache_hits) for each in summary.shared] == [
        ("index", "module", 1, 0),
        ("index", "session", 2, 1),
    ]
    assert summary.total.known_cost == Decimal("0.013")


def test_models_and_tests_stand_dearest_first_then_by_name():
    summary = summarize(
        [
            UsageRecord(nodeid="b", calls=(call("0.001", "m1"),)),
            UsageRecord(nodeid="a", calls=(call("0.001", "m2"),)),
            UsageRecord(nodeid="c", calls=(call("0.5", "m3", "azure"),)),
        ]
    )
    assert [row.model for row in summary.models] == ["m3", "m1", "m2"]
    assert [record.nodeid for record in summary.costliest] == ["c", "a", "b"]


@pytest.mark.parametrize("most", [0, 1, 2, 5, 59, 60, 61])
def test_the_first_of_the_costliest_are_the_first_of_all(most):
    """With many equals: the same cost written in two ways, the same tokens, and none known."""
    amounts = (Decimal("0.001"), Decimal("0.0010"), Decimal("0.5"), Decimal(0), None)
    records = [
        UsageRecord(
            nodeid=f"test_{number * 37 % 60}",
            calls=(ModelCall(model="m", usage=Usage(input_tokens=number % 3), cost=amounts[number % 5]),),
        )
        for number in range(60)
    ]
    summary = summarize([*records, UsageRecord(nodeid="idle", cache_hits=0)])
    assert summary.costliest_of(most) == summary.costliest[:most]
    assert len(summary.users) == 60


def test_a_decimal_context_left_behind_by_a_test_changes_nothing():
    summary = summarize([UsageRecord(nodeid=str(n), calls=(call("0.123456789"),)) for n in range(3)])
    with decimal.localcontext(decimal.Context(prec=2)):
        assert summary.total.known_cost == Decimal("0.370370367")


def test_what_another_shard_used_is_neither_stale_nor_unused():
    def shard(stale, unused):
        return summarize(baseline=BaselineSummary(path="b.json", stale=stale), unused_cassettes=unused)

    merged = merge([shard(("a", "gone"), ("x.yaml", "y.yaml")), shard(("b", "gone"), ("y.yaml",))])
    assert merged.baseline.stale == ("gone",)
    assert merged.unused_cassettes == ("y.yaml",)


def test_shards_priced_with_different_tables_are_refused():
    with pytest.raises(ConfigurationError, match="priced with different tables"):
        merge([summarize(), summarize(prices={**PRICES, "date": "2026-11-19"})])
    with pytest.raises(ValueError, match="no summaries"):
        merge([])


def test_a_run_limit_is_held_against_the_joined_total():
    def shard(name, allowed):
        limit = Violation(limit="token_total_max_cost", allowed=Decimal(allowed), used=Decimal("0.3"))
        return summarize([UsageRecord(nodeid=name, calls=(call("0.3"),))], run_violations=[limit])

    merged = merge([shard("a", "0.2"), shard("b", "0.1")])
    assert merged.run_violations == (
        Violation(limit="token_total_max_cost", allowed=Decimal("0.1"), used=Decimal("0.6")),
    )


def test_a_run_is_complete_only_if_every_shard_is():
    assert merge([summarize(), summarize(complete=False)]).complete is False


def test_a_test_that_failed_has_not_improved():
    below = BaselineResult(status="improved", tokens=100)
    records = [
        UsageRecord(nodeid=outcome, outcome=outcome, baseline=below)
        for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
    ]
    assert BaselineSummary.of(records, path="b", stale=()).improved == ("passed", "skipped", "xpassed")
