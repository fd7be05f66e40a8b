"""The block that ``print(usage)`` prints, line for line that of LangChain's OpenAI callback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import mark, plural
from pytest_tokenbudget.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from pytest_tokenbudget.usage import Usage


def render_usage(
    usage: Usage,
    cost: Decimal | None,
    *,
    unpriced_models: Iterable[str] = (),
) -> str:
    """Say what was used, in the words of LangChain's OpenAI callback.

    That prints both lines of details whatever they say, so a script that reads the block finds them.

    Args:
        usage: the tokens; estimates among them put a ``~`` before every figure they are part of.
        cost: USD; ``None`` where it is not known.
        unpriced_models: the models whose price is missing.
    """
    estimated = usage.estimated_requests > 0
    return "\n".join(
        [
            f"Tokens Used: {mark(str(usage.total_tokens), estimated=estimated)}",
            f"\tPrompt Tokens: {mark(str(usage.input_tokens), estimated=estimated)}",
            f"\t\tPrompt Tokens Cached: {mark(str(usage.cached_input_tokens), estimated=estimated)}",
            f"\tCompletion Tokens: {mark(str(usage.output_tokens), estimated=estimated)}",
            f"\t\tReasoning Tokens: {mark(str(usage.reasoning_tokens), estimated=estimated)}",
            f"Successful Requests: {usage.requests}",
            f"Total Cost (USD): {_cost(usage, cost, tuple(unpriced_models))}",
        ]
    )


def _cost(usage: Usage, cost: Decimal | None, unpriced_models: tuple[str, ...]) -> str:
    if cost is not None:
        return mark(f"${float(cost)}", estimated=usage.estimated_requests > 0)
    reasons = []
    if unpriced_models:
        reasons.append("no price for " + ", ".join(f"'{printable(model)}'" for model in sorted(set(unpriced_models))))
    if usage.unmeasured_requests:
        reasons.append(f"the usage of {plural(usage.unmeasured_requests, 'request')} is not known")
    return f"unknown ({'; '.join(reasons)})" if reasons else "unknown"
