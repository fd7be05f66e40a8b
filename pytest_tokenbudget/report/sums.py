"""The sums that a JSON report states, held against its calls.

They are not taken from the document but made anew, and one that says something else is refused: a report in which a
total was edited must not pass for the run's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.report.shapes import MAX_COUNT, as_amount, as_array, as_count, as_object, as_text, as_texts
from pytest_tokenbudget.strict_json import Fault, show
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from pytest_tokenbudget.record import Tally
    from pytest_tokenbudget.summary import Summary
    from pytest_tokenbudget.usage import ModelCall

TOKENS = ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_COUNTS = ("requests", *TOKENS, "total_tokens", "cache_hits", "estimated_requests", "unmeasured_requests")
_USAGE = frozenset({*_COUNTS, "cost_usd", "spent_usd", "unpriced_models"})
_PLAIN_TYPES = [*[int] * 7, str, str, int, int, int, list]
"""Of a usage as ``to_json`` writes it; True and 1.0 are equal to 1, and no counts."""


def check_sums(data: dict[str, Any], summary: Summary) -> None:
    """The document's own sums must be those of its calls."""
    _same(data["total"], summary.total, "total", hits=True)
    tallies = {(row.provider, row.model): row.tally for row in summary.models}
    named = set()
    for row in as_array(data["models"], "models"):
        as_object(row, frozenset({"provider", "model", "usage"}), "models")
        key = (as_text(row["provider"], "models.provider"), as_text(row["model"], "models.model"))
        if key in named or key not in tallies:
            raise Fault(f"lists the model {show(key[1])} {'twice' if key in named else 'and no call of it'}")
        named.add(key)
        _same(row["usage"], tallies[key], f"the model {show(key[1])}", hits=True)
    if missing := sorted(tallies.keys() - named):
        raise Fault(f"holds calls of the model {show(missing[0][1])} and does not list it")


def cache_hits_of(data: dict[str, Any], own: tuple[ModelCall, ...], place: str) -> int:
    """The cache hits of a test or fixture, whose usage must be the sum of its calls."""
    usage = data["usage"]
    if len(own) == 1 and own[0].cost is not None and type(usage) is dict and _is_that_call(usage, data["calls"][0]):
        return int(usage["cache_hits"])
    return _same(usage, tally_of(own), place)


def _is_that_call(usage: dict[str, Any], call: dict[str, Any]) -> bool:
    """Whether the sum is plainly its only call: most tests make one, and adding it up would take as long as all else.

    A ``False`` means no more than that it has to be added up.
    """
    cost, hits = call["cost_usd"], usage.get("cache_hits")
    return usage == {
        "requests": 1,
        **{name: call[name] for name in TOKENS},
        "total_tokens": call["total_tokens"],
        "cost_usd": cost,
        "spent_usd": "0" if call["replayed"] else cost,
        "cache_hits": hits,
        "estimated_requests": int(call["source"] == "estimate"),
        "unmeasured_requests": 0,
        "unpriced_models": [],
    } and [*map(type, usage.values())] == _PLAIN_TYPES and 0 <= usage["cache_hits"] <= MAX_COUNT  # fmt: skip


def _same(found: Any, tally: Tally, place: str, *, hits: bool = False) -> int:
    """Hold a usage against the sum of its calls; returns its cache hits, which no call of a test tells."""
    usage = as_object(found, _USAGE, f"{place}: usage")
    summed = tally.usage
    for name in _COUNTS:
        count = as_count(usage[name], f"{place}: {name}")
        if count != getattr(summed, name) and (hits or name != "cache_hits"):
            expected = getattr(summed, name)
            raise Fault(f"contradicts itself: {place}: {name} is {count}, and its calls make {expected}")
    for name, expected_usd in (("cost_usd", tally.cost), ("spent_usd", tally.spent)):
        amount = as_amount(usage[name], f"{place}: {name}")
        if amount != expected_usd:
            raise Fault(
                f"contradicts itself: {place}: {name} is {show(usage[name])}, and its calls make "
                f"{'null' if expected_usd is None else format(expected_usd, 'f')}"
            )
    if as_texts(usage["unpriced_models"], f"{place}: unpriced_models") != tally.unpriced_models:
        raise Fault(f"contradicts itself: {place}: unpriced_models are not those of its calls")
    return int(usage["cache_hits"])
