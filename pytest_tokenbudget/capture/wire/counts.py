"""Token counts, read strictly: what can't be a count is an error, never a zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_COUNT = 10**9
"""No single request holds this many tokens; a count at or above it is a defect of the answer."""


class UncountableError(ValueError):
    """A reported usage that can't be believed; the message says why in a few words."""


class ImpossibleError(UncountableError):
    """There is a count, and it is wrong: to be noticed, and not to be papered over by an estimate."""


def read_count(counts: Mapping[str, Any], *names: str) -> int | None:
    """Return the count under the first of ``names`` that is there; ``None`` where all are absent or null.

    Raises:
        ImpossibleError: it is not a whole number from 0 to below ``MAX_COUNT``.
    """
    for name in names:
        value = counts.get(name)
        if value is None:
            continue
        if type(value) is not int:
            raise ImpossibleError(f"{name} is not a whole number")
        if value < 0:
            raise ImpossibleError(f"{name} is negative")
        if value >= MAX_COUNT:
            raise ImpossibleError(f"{name} is absurdly large")
        return value
    return None


def read_details(counts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the first object under one of ``names``; empty where there is none."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, dict):
            return value
    return {}


def settle_output(*, input_tokens: int | None, output_tokens: int | None, total_tokens: int | None) -> int:
    """Return the output that input, output and total imply together.

    A total above its parts holds hidden thinking that the output leaves out; a total below them is not
    believed against two counts that agree with what was priced.

    Raises:
        UncountableError: only a total was reported, or nothing says how much was generated.
    """
    if input_tokens is None:
        if total_tokens is not None and output_tokens is None:
            raise UncountableError("only a total was reported")
        raise UncountableError("no input count was reported")
    if output_tokens is None:
        if total_tokens is None or total_tokens < input_tokens:
            raise UncountableError("no output count was reported")
        return total_tokens - input_tokens
    if total_tokens is not None:
        return max(output_tokens, total_tokens - input_tokens)
    return output_tokens


def build_usage(**counts: int | None) -> Usage:
    """Make a usage of counts of one request; absent ones are zero.

    Raises:
        UncountableError: all are zero beside an answer.
        ImpossibleError: a part is larger than its whole.
    """
    usage = Usage(**{name: count or 0 for name, count in counts.items()})
    if usage.total_tokens == 0:
        raise UncountableError("the reported usage is all zero")
    if usage.cached_input_tokens + usage.cache_write_tokens > usage.input_tokens:
        raise ImpossibleError("more cached input than input was reported")
    if usage.cache_write_1h_tokens > usage.cache_write_tokens:
        raise ImpossibleError("more was cached for an hour than was cached")
    return usage
