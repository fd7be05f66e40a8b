"""Hold what was measured against the loopback server's ledger."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model_server import ModelServer

    from pytest_tokenbudget.tracking import UsageTracker

CHAT = "/chat/completions"
GREETING = [{"role": "user", "content": "say hello to me"}]


def assert_billed(
    usage: UsageTracker, server: ModelServer, *, requests: int, estimated: int = 0, unmeasured: int = 0
):
    """Each request that was billed was seen once, and what was reported to the client is what was measured.

    Args:
        usage: what was measured.
        server: what was billed.
        requests: how many requests the scenario makes, so that a scenario that sends nothing can't pass.
        estimated: how many of them reported nothing and can be counted locally.
        unmeasured: how many of them reported nothing and can't.
    """
    bills = server.bills
    assert len(bills) == requests, f"the scenario itself is wrong: {bills}"
    reported = Counter(
        (bill.model, bill.input_tokens, bill.output_tokens, bill.cached_tokens, bill.reasoning_tokens)
        for bill in bills
        if bill.reported
    )
    measured = Counter(
        (
            call.model,
            call.usage.input_tokens,
            call.usage.output_tokens,
            call.usage.cached_input_tokens,
            call.usage.reasoning_tokens,
        )
        for call in usage.calls
        if call.usage is not None and call.source == "response"
    )
    assert measured == reported, usage.calls
    assert (usage.requests, usage.estimated_requests, usage.unmeasured_requests) == (
        requests,
        estimated,
        unmeasured,
    ), usage.calls
    if not estimated and not unmeasured:
        assert (usage.input_tokens, usage.output_tokens) == (server.input_tokens, server.output_tokens)


def assert_measured(usage: UsageTracker, server: ModelServer, *, requests: int):
    """The totals are the ledger's, and nothing is estimated.

    For clients that hang up at the stream's last event: the server may still be about to write, and take that for a
    broken stream.
    """
    assert (usage.requests, usage.estimated_requests, usage.unmeasured_requests) == (requests, 0, 0), usage.calls
    assert (usage.input_tokens, usage.output_tokens) == (server.input_tokens, server.output_tokens)


def chat_request(**options: Any) -> dict[str, Any]:
    """A chat request's JSON."""
    return {"model": "gpt-4o-mini", "messages": GREETING, **options}


def chat_bytes(**options: Any) -> bytes:
    """The same, as it goes over the wire."""
    return json.dumps(chat_request(**options)).encode()


def streamed() -> dict[str, Any]:
    """What asks for a stream that reports its usage."""
    return {"stream": True, "stream_options": {"include_usage": True}}
