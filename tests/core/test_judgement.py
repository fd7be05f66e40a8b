"""A test whose only call is its entry exactly is compared in a shorter way, which must say what the long one says."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.judgement import hold_against, price_like
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import ModelTokens, UsageRecord
from pytest_tokenbudget.usage import ModelCall, Usage

BOOK = PriceBook()
USAGE = Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=50, reasoning_tokens=20)
MINI = ModelCall(model="gpt-4o-mini", provider="openai", usage=USAGE, cost=Decimal("0.00015"), replayed=True)
ENTRY = {"gpt-4o-mini": ModelTokens(requests=1, input=1000, cached=400, output=50)}
LONG = replace(MINI, model="gemini-1.5-pro", provider="google", usage=Usage(input_tokens=300_000, output_tokens=5))


def record_of(*calls, **more):
    return UsageRecord(nodeid="test", calls=calls, **more)


@pytest.mark.parametrize(
    "record",
    [
        record_of(MINI),
        record_of(replace(MINI, provider="")),
        record_of(replace(MINI, model="nobody's", cost=None)),
        record_of(replace(MINI, source="estimate", replayed=False)),
        record_of(LONG),
        record_of(MINI, MINI),
        record_of(MINI, MINI, late_calls=1),
        record_of(MINI, replace(MINI, model="gpt-4o")),
        record_of(),
    ],
)
def test_what_uses_what_its_entry_says_is_within(record):
    entry = record.models
    result, found = hold_against(record, entry, Decimal(0), BOOK, beside=())
    assert result == baselines.compare(
        record.models, dict(entry), tolerance=Decimal(0), price=price_like(record, BOOK)
    )
    assert (result.status, result.models is entry, found) == ("within", True, ())


@pytest.mark.parametrize("counted", ["requests", "input", "cached", "cache_write", "output"])
def test_one_token_more_is_no_longer_what_the_entry_says(counted):
    entry = {"gpt-4o-mini": ENTRY["gpt-4o-mini"].plus(ModelTokens(**{counted: 1}))}
    result, _ = hold_against(record_of(MINI), entry, Decimal(0), BOOK, beside=())
    assert result == baselines.compare(
        ENTRY, entry, tolerance=Decimal(0), price=price_like(record_of(MINI), BOOK)
    )  # fmt: skip
    assert result.tokens == 1050 + (counted in ("input", "output"))


@pytest.mark.parametrize(
    ("record", "entry", "said"),
    [
        (record_of(MINI, incidents=("lost a chunk",)), ENTRY, "lost a chunk; its baseline can't be compared"),
        (record_of(ModelCall(model="gpt-4o-mini")), {}, "1 of 1 requests could not be measured"),
        (record_of(MINI, ModelCall(model="gpt-4o-mini")), ENTRY, "1 of 2 requests could not be measured"),
    ],
)
def test_what_is_not_known_is_within_nothing(record, entry, said):
    result, (violation,) = hold_against(record, entry, Decimal(0), BOOK, beside=())
    assert result is None
    assert (violation.limit, violation.reason[: len(said)]) == ("unmeasured", said)


SWITCHES = {  # USD per million tokens, of input and output: list prices of 2026-11-03
    "groq": ("llama-3.1-8b-instant", "llama-3.3-70b-versatile"),  # 0.05 and 0.08; 0.59 and 0.79
    "openai": ("gpt-4o-mini", "gpt-4o"),  # 0.15 and 0.6; 2.5 and 10
}


@pytest.mark.parametrize("provider", SWITCHES)
def test_a_switch_to_a_dearer_model_of_any_provider_is_over_by_its_cost(provider):
    """The entry does not say who billed it, and most models have a price at their own provider alone."""
    old, new = SWITCHES[provider]
    usage = Usage(input_tokens=1000, output_tokens=1000)
    record = UsageRecord(nodeid="t", calls=(ModelCall(model=new, provider=provider, usage=usage, cost=Decimal(1)),))
    entry = {old: ModelTokens(requests=1, input=1000, output=1000)}
    result, violations = hold_against(record, entry, Decimal(0), BOOK, beside=())
    assert [each.limit for each in violations] == ["baseline_cost"]
    assert result.cost == {"groq": Decimal("0.00013"), "openai": Decimal("0.00075")}[provider]
    assert violations[0].used == {"groq": Decimal("0.00138"), "openai": Decimal("0.0125")}[provider]
