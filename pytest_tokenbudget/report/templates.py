"""The entries of a JSON report that come once per test, from values that are JSON already.

A suite can have a hundred thousand tests: their figures need no encoder. Who reads such a line back has its pattern
from the same functions.
"""

from __future__ import annotations

Figure = int | str
"""A whole number, or ``null``."""


def test_row(  # noqa: PLR0913, PLR0917 - by position, for speed
    nodeid: str,
    outcome: str,
    verdict: str,
    budget: str,
    violations: str,
    baseline: str,
    used: str,
) -> str:
    """A test, and what it used."""
    return (
        f'{{"nodeid": {nodeid}, "outcome": "{outcome}", "verdict": "{verdict}", "budget": {budget}, '
        f'"violations": {violations}, "baseline": {baseline}, {used}}}'
    )


def shared_row(fixture: str, scope: str, used: str) -> str:
    """A shared fixture, and what it used."""
    return f'{{"fixture": {fixture}, "scope": {scope}, {used}}}'


def used(usage: str, calls: str) -> str:
    """The sum of some calls, and the rows of their list."""
    return f'"usage": {usage}, "calls": [{calls}]'


def usage_object(  # noqa: PLR0913, PLR0917
    requests: Figure,
    figures: str,
    spent: str,
    cache_hits: Figure,
    estimated: Figure,
    unmeasured: Figure,
    unpriced: str,
) -> str:
    """The sum of some calls."""
    return (
        f'{{"requests": {requests}, {figures}, "spent_usd": {spent}, "cache_hits": {cache_hits}, '
        f'"estimated_requests": {estimated}, "unmeasured_requests": {unmeasured}, "unpriced_models": {unpriced}}}'
    )


def call_row(  # noqa: PLR0913, PLR0917
    model: str,
    provider: str,
    endpoint: str,
    source: str,
    replayed: str,
    request_id: str,
    figures: str,
    parts: str,
) -> str:
    """A call."""
    return (
        f'{{"model": {model}, "provider": {provider}, "endpoint": {endpoint}, "source": "{source}", '
        f'"replayed": {replayed}, "request_id": {request_id}, {figures}, "parts": {parts}}}'
    )


def figures(  # noqa: PLR0913, PLR0917
    given: Figure, cached: Figure, written: Figure, made: Figure, reasoning: Figure, total: Figure, cost: str
) -> str:
    """What a call and the sum of calls have in common: where a test makes one call, it is the same text."""
    return (
        f'"input_tokens": {given}, "cached_input_tokens": {cached}, "cache_write_tokens": {written}, '
        f'"output_tokens": {made}, "reasoning_tokens": {reasoning}, "total_tokens": {total}, "cost_usd": {cost}'
    )


def entry_object(status: str, tokens: Figure, cost: str, models: str) -> str:
    """How a test stands against its entry in the baseline."""
    return f'{{"status": "{status}", "total_tokens": {tokens}, "cost_usd": {cost}, "models": {models}}}'


def entry_model(  # noqa: PLR0913, PLR0917
    name: str, requests: Figure, given: Figure, cached: Figure, written: Figure, made: Figure
) -> str:
    """One model of an entry."""
    return (
        f'{name}: {{"requests": {requests}, "input": {given}, "cached": {cached}, "cache_write": {written}, '
        f'"output": {made}}}'
    )
