from __future__ import annotations

import asyncio
from decimal import Decimal

import plain_sdk
import pytest

pytestmark = pytest.mark.token_budget(max_cost="0.0001")

# gpt-4o-mini: 11 tokens at $0.15 and 12 at $0.60 a million
ONE_CALL = Decimal("0.00000885")


def test_chat(usage):
    assert "atoms" in plain_sdk.chat()
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (11, 12, 1)
    assert usage.cost == ONE_CALL


def test_embeddings(usage):
    assert len(plain_sdk.embed("Tell me a joke", "Tell me a joke about fish")) == 2
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (4 + 6, 0, 1)
    assert usage.cost == Decimal("0.0000002")  # at $0.02 a million


def test_responses(usage):
    assert "atoms" in plain_sdk.respond()
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (11, 12, 1)
    assert usage.cost == ONE_CALL


def test_responses_streamed(usage):
    assert "atoms" in plain_sdk.respond_slowly()
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (11, 12, 1)
    assert usage.estimated_requests == 0
    assert usage.cost == ONE_CALL


def test_three_at_once_with_the_async_client(usage):
    assert len(asyncio.run(plain_sdk.chat_at_once(3))) == 3
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (33, 36, 3)
    assert usage.cost == 3 * ONE_CALL
