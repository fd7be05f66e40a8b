"""What a tracker tells, of calls made by hand; prices are OpenAI's published ones."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

import pytest_tokenbudget
from pytest_tokenbudget import (
    BudgetExceeded,
    ModelCall,
    TokenBudgetError,
    UnmeasuredUsageError,
    UnpricedModelError,
    Usage,
    track_usage,
)
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.ledger import Ledger, billing
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.tracking import UsageTracker

IN, CACHED, OUT = (Decimal(price) / 10**6 for price in ("0.15", "0.075", "0.60"))
"""USD per token of gpt-4o-mini."""


def make_call(into=1000, out=100, *, model="gpt-4o-mini", **options):
    usage = {key: options.pop(key) for key in tuple(options) if key in Usage.__dataclass_fields__}
    return ModelCall(
        model=model, provider="openai", usage=Usage(input_tokens=into, output_tokens=out, **usage), **options
    )


UNMEASURED = ModelCall(model="gpt-4o-mini", provider="openai", reason="the body is empty")


def use(*calls, cache_hits=0, incidents=()):
    bill = billing()
    for call in calls:
        bill.add(call)
    for _ in range(cache_hits):
        bill.add_cache_hit()
    for incident in incidents:
        bill.add_incident(incident)


@pytest.fixture
def tracker():
    with track_usage() as tracker:
        yield tracker


def test_nothing_yet(tracker):
    assert (tracker.requests, tracker.total_tokens, tracker.cache_hits) == (0, 0, 0)
    assert (tracker.cost, tracker.total_cost, tracker.calls, tracker.by_model) == (0, 0.0, (), {})
    assert isinstance(tracker.cost, Decimal)


def test_every_attribute(tracker):
    use(
        make_call(cached_input_tokens=200, reasoning_tokens=30),
        make_call(500, 50, model="gpt-4o", cache_write_tokens=40),
        make_call(7, 3, source="estimate"),
        UNMEASURED,
        cache_hits=2,
    )
    assert (tracker.input_tokens, tracker.output_tokens, tracker.total_tokens) == (1507, 153, 1660)
    assert (tracker.cached_input_tokens, tracker.cache_write_tokens, tracker.reasoning_tokens) == (200, 40, 30)
    assert (tracker.requests, tracker.estimated_requests, tracker.unmeasured_requests) == (4, 1, 1)
    assert tracker.cache_hits == 2
    assert (tracker.prompt_tokens, tracker.prompt_tokens_cached) == (1507, 200)
    assert (tracker.completion_tokens, tracker.successful_requests) == (153, 4)
    assert all(type(getattr(tracker, name)) is int for name in ("input_tokens", "requests", "cache_hits"))


def test_the_cost_is_exact(tracker):
    use(make_call(1000, 100, cached_input_tokens=200), make_call(1, 1))
    expected = 800 * IN + 200 * CACHED + 100 * OUT + IN + OUT
    assert tracker.cost == expected
    assert tracker.total_cost == float(expected)
    assert type(tracker.total_cost) is float
    assert sum(call.cost for call in tracker.calls) == expected


def test_it_is_live(tracker):
    use(make_call(1, 1))
    first = tracker.cost
    use(make_call(1, 1))
    assert (first, tracker.cost) == (IN + OUT, 2 * (IN + OUT))


def test_calls_keep_their_order_and_are_a_tuple(tracker):
    use(make_call(1), make_call(3), make_call(2))
    assert [call.usage.input_tokens for call in tracker.calls] == [1, 3, 2]
    assert type(tracker.calls) is tuple
    (first, *_) = tracker.calls
    assert (first.model, first.provider, first.source, first.replayed) == ("gpt-4o-mini", "openai", "response", False)


def test_by_model_adds_up(tracker):
    use(make_call(1, 2), make_call(10, 20, model="gpt-4o"), make_call(100, 200), UNMEASURED)
    assert tracker.by_model == {
        "gpt-4o-mini": Usage(requests=3, input_tokens=101, output_tokens=202, unmeasured_requests=1),
        "gpt-4o": Usage(requests=1, input_tokens=10, output_tokens=20),
    }
    assert list(tracker.by_model) == ["gpt-4o-mini", "gpt-4o"]


def test_an_unknown_cost_is_an_error_and_never_zero(tracker):
    use(make_call(model="nobody-knows-me"))
    for name in ("cost", "total_cost"):
        with pytest.raises(UnpricedModelError, match="no price for 'nobody-knows-me'") as caught:
            getattr(tracker, name)
    assert caught.value.models == ("nobody-knows-me",)
    use(UNMEASURED)
    with pytest.raises(UnmeasuredUsageError, match="the body is empty"):
        _ = tracker.cost
    assert tracker.input_tokens == 1000  # what is known is told


def test_a_fault_of_the_capture_makes_the_cost_unknown(tracker):
    use(make_call(), incidents=["the LangChain callback failed"])
    with pytest.raises(UnmeasuredUsageError, match="the LangChain callback failed"):
        _ = tracker.cost
    assert "unknown" in str(tracker)


def test_the_block_that_is_printed(tracker):
    use(make_call(4, 33))
    assert str(tracker) == (
        "Tokens Used: 37\n"
        "\tPrompt Tokens: 4\n"
        "\t\tPrompt Tokens Cached: 0\n"
        "\tCompletion Tokens: 33\n"
        "\t\tReasoning Tokens: 0\n"
        "Successful Requests: 1\n"
        f"Total Cost (USD): ${float(4 * IN + 33 * OUT)}"
    )
    assert repr(tracker) == str(tracker)


def test_the_block_that_is_printed_for_an_unpriced_model(tracker):
    use(make_call(4, 33, model="my-model"))
    assert str(tracker).endswith("Total Cost (USD): unknown (no price for 'my-model')")


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_cost": "0.0002"}, "cost"),
        ({"max_tokens": 1099}, "1,100"),
        ({"max_input_tokens": 999}, "1,000"),
        ({"max_output_tokens": 99}, "100"),
        ({"max_reasoning_tokens": 9}, "10"),
        ({"max_requests": 0}, "1"),
        ({"min_requests": 2}, "2"),
    ],
)
def test_over_a_limit(limits, named):
    with pytest.raises(BudgetExceeded, match=named) as caught, track_usage("the part", **limits) as tracker:
        use(make_call(reasoning_tokens=10))
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, TokenBudgetError)
    assert "the block 'the part'" in str(caught.value)
    assert tracker.requests == 1  # it can still be read


@pytest.mark.parametrize(
    "limits",
    [
        {"max_cost": 1000 * IN + 100 * OUT},
        {"max_tokens": 1100, "max_requests": 1, "min_requests": 1},
        {"max_reasoning_tokens": 10},
        {},
    ],
)
def test_at_a_limit(limits):
    with track_usage(**limits):
        use(make_call(reasoning_tokens=10))


def test_a_part_of_a_tracked_block(tracker):
    use(make_call(1, 1))
    with tracker.track(max_requests=1) as part:
        use(make_call(2, 2))
    with pytest.raises(BudgetExceeded), tracker.track("second", max_tokens=3):
        use(make_call(2, 2))
    assert (part.input_tokens, tracker.input_tokens) == (2, 5)


def test_limits_on_what_is_not_known():
    with pytest.raises(UnmeasuredUsageError, match="the body is empty"), track_usage(max_tokens=10**6):
        use(UNMEASURED)
    with pytest.raises(UnpricedModelError, match="my-model"), track_usage(max_cost=1):
        use(make_call(model="my-model"))
    with track_usage(max_tokens=10**6):
        use(make_call(model="my-model"))  # tokens need no price
    with pytest.raises(UnmeasuredUsageError, match="odd"), track_usage(max_tokens=10**6):
        use(make_call(), incidents=["odd"])
    with track_usage() as tracker:
        use(UNMEASURED, incidents=["odd"])
    assert tracker.unmeasured_requests == 1


def test_over_comes_before_unknown():
    with pytest.raises(BudgetExceeded), track_usage(max_requests=1):
        use(make_call(), UNMEASURED)


def test_an_empty_block_with_a_limit_is_no_failure():
    with track_usage(max_tokens=1):
        pass


@pytest.mark.parametrize("limits", [{"max_tokns": 1}, {"max_tokens": -1}, {"max_tokens": True}, {"max_cost": "nan"}])
def test_limits_that_are_none(limits):
    (keyword,) = limits
    with pytest.raises(ConfigurationError, match=re.escape(keyword)), track_usage("the part", **limits):
        pytest.fail("the block must not start")


def test_the_blocks_own_exception_stands():
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, track_usage(max_requests=0):
        use(make_call())
        raise error
    assert caught.value is error
    assert caught.value.__context__ is None


def test_a_tracker_of_a_ledger_that_is_someone_elses():
    ledger = Ledger("a test")
    assert UsageTracker(ledger, PriceBook()).cost == 0


def test_public_names():
    for name in pytest_tokenbudget.__all__:
        assert getattr(pytest_tokenbudget, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trak_usage'"):
        _ = pytest_tokenbudget.trak_usage
