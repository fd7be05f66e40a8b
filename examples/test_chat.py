from __future__ import annotations

import asyncio
from decimal import Decimal

import chat
import pytest

# gpt-4o-mini: 11 tokens at $0.15 and 12 at $0.60 a million
ONE_CALL = Decimal("0.00000885")


@pytest.mark.token_budget(max_cost="0.00111", max_requests=1)
def test_gpt_4(usage):
    assert "atoms" in chat.ask(model="gpt-4")
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 13, 24)
    assert usage.requests == 1
    assert usage.cost == Decimal("0.00111")


@pytest.mark.token_budget(max_tokens=23, max_requests=1)
def test_one_call(usage):
    assert "atoms" in chat.ask()
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 12, 23)
    assert usage.requests == 1
    assert usage.cost == ONE_CALL


@pytest.mark.token_budget(max_tokens=46, max_requests=2)
def test_the_same_call_twice(usage):
    assert chat.ask() == chat.ask()
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (22, 24, 46)
    assert usage.requests == 2
    assert usage.cost == 2 * ONE_CALL


@pytest.mark.token_budget(max_tokens=69, max_requests=3)
def test_three_calls_at_once(usage):
    assert len(asyncio.run(chat.ask_at_once(3))) == 3
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (33, 36, 69)
    assert usage.requests == 3
    assert usage.cost == 3 * ONE_CALL


@pytest.mark.token_budget(max_tokens=23, max_requests=1)
def test_streamed_chat(usage):
    pieces = list(chat.listen())
    assert len(pieces) > 2
    assert "atoms" in "".join(pieces)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 12, 23)
    assert usage.requests == 1
    assert usage.estimated_requests == 0  # LangChain asks OpenAI for the usage of a chat stream
    assert usage.cost == ONE_CALL
