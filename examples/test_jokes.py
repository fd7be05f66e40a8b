from __future__ import annotations

from decimal import Decimal

import jokes
import pytest


@pytest.mark.token_budget(max_cost="0.000072", max_input_tokens=4, max_output_tokens=33, max_requests=1)
def test_two_jokes_in_one_request(usage):
    assert len(jokes.tell_two()) == 2
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 33, 37)
    assert usage.requests == 1
    assert usage.cost == Decimal("0.000072")


@pytest.mark.token_budget(max_cost="0.000140", max_tokens=72, max_requests=2)
def test_the_same_twice(usage):
    first, second = jokes.tell_two(), jokes.tell_two()
    assert first != second
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (8, 64, 72)
    assert usage.requests == 2
    assert usage.cost == Decimal("0.000140")


@pytest.mark.token_budget(max_cost="0.00084", max_requests=1)
def test_two_jokes_of_an_older_model(usage):
    assert len(jokes.tell_two(model="text-davinci-002")) == 2
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 38, 42)
    assert usage.requests == 1
    assert usage.cost == Decimal("0.00084")


@pytest.mark.token_budget(max_cost="0.000034", max_requests=1)
def test_one_joke(usage):
    assert "atoms" in jokes.tell()
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 14, 18)
    assert usage.requests == 1
    assert usage.estimated_requests == 0
    assert usage.cost == Decimal("0.000034")


@pytest.mark.token_budget(max_cost="0.000034", max_requests=1)
def test_one_joke_streamed(usage):
    pieces = list(jokes.tell_slowly())
    assert len(pieces) > 2
    assert "".join(pieces) == "\n\nWhy don't scientists trust atoms?\n\nBecause they make up everything."
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (4, 14, 18)
    assert usage.requests == usage.estimated_requests == 1  # such a stream says nothing of its usage
    assert [call.source for call in usage.calls] == ["estimate"]
    assert usage.cost == Decimal("0.000034")
