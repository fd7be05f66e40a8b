"""What changed in a test since its baseline: by how much, with its sign, and why."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import reduce
from typing import TYPE_CHECKING

from pytest_tokenbudget.record import ModelTokens
from pytest_tokenbudget.report.figures import format_pair, format_percent, mark, plural
from pytest_tokenbudget.report.text import printable
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.record import UsageRecord

UNCHANGED = "="

# A context of its own: a test may leave behind any precision, rounding or trap.
_CONTEXT = Context(prec=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A test beside its entry in the baseline.

    Attributes:
        before: the entry's tokens per model; ``None`` where a report tells only their sum.
        now: what the test would be remembered by.
        tokens: all tokens now and before; ``None`` where they are the same.
        cost: USD now and before; ``None`` where they are the same, or one of them is not known.
        estimated: whether the figures of now are estimates.
    """

    before: Mapping[str, ModelTokens] | None
    now: Mapping[str, ModelTokens]
    tokens: tuple[int, int] | None
    cost: tuple[Decimal, Decimal] | None
    estimated: bool

    @classmethod
    def of(cls, record: UsageRecord) -> Change | None:
        """What changed; ``None`` for a test that nothing is known to have changed in."""
        result = record.baseline
        # Equal sums are no change: their price can be another than that of the single calls, which tiers make dearer.
        if result is None or result.status == "new" or result.models == (now := record.models):
            return None
        tally = tally_of(record.judged_calls)
        tokens = (tally.usage.total_tokens, result.tokens) if result.tokens is not None else None
        cost = (tally.cost, result.cost) if tally.cost is not None and result.cost is not None else None
        return cls(
            before=result.models,
            now=now,
            tokens=tokens if tokens is not None and tokens[0] != tokens[1] else None,
            cost=cost if cost is not None and cost[0] != cost[1] else None,
            estimated=tally.usage.estimated_requests > 0,
        )

    @classmethod
    def upwards(cls, record: UsageRecord) -> Change | None:
        """What changed, if the test uses more tokens or more money than before; asked of every test of a run."""
        change = cls.of(record)
        return change if change is not None and change.rises else None

    @property
    def rises(self) -> bool:
        """Whether the test uses more tokens, or more money, than before."""
        return any(pair is not None and pair[0] > pair[1] for pair in (self.tokens, self.cost))

    @property
    def dearer(self) -> bool:
        """Whether the test costs more than before; where no cost tells, whether it uses more tokens."""
        now, before = self.cost or self.tokens or (0, 0)
        return now > before

    @property
    def telling(self) -> tuple[Decimal | int, Decimal | int] | None:
        """Now and before, of tokens or of USD.

        Tokens tell, as long as the cost does not go up while they don't: with a dearer model, cost tells.
        """
        tokens, cost = self.tokens, self.cost
        if tokens is None or (cost is not None and cost[0] > cost[1] and tokens[0] < tokens[1]):
            return cost
        return tokens

    @property
    def relative(self) -> Decimal:
        """By which part of what it was the telling figure has risen; below 0 where it has fallen."""
        if self.telling is None:
            return Decimal(0)
        now, before = map(Decimal, self.telling)
        return _CONTEXT.divide(_CONTEXT.subtract(now, before), before) if before else Decimal("Infinity")

    def percent(self, now: Decimal | int, before: Decimal | int) -> str:
        """How far one of its figures has moved: ``+12%``."""
        percent = format_percent(now, before)
        return mark(percent, estimated=self.estimated) if percent else "from 0"


def format_change(record: UsageRecord, change: Change | None) -> str:
    """A change in a few letters: ``+12%`` of the tokens, ``-5%``, ``+40% cost``, ``=``, ``new``; or nothing."""
    if record.baseline is None:
        return ""
    if record.baseline.status == "new":
        return "new"
    if change is None or change.telling is None:
        return UNCHANGED
    return change.percent(*change.telling) + ("" if change.telling is change.tokens else " cost")


def describe_change(change: Change | None) -> tuple[str, ...]:
    """What a test used before and uses now, and why; no line where nothing changed."""
    if change is None:
        return ()
    said = []
    if change.tokens is not None:
        now, before, _ = format_pair(*change.tokens)
        said.append(f"{before} -> {mark(now, estimated=change.estimated)} tokens ({change.percent(*change.tokens)})")
    if change.cost is not None:
        now, before, _ = format_pair(*change.cost)
        said.append(f"{before} -> {mark(now, estimated=change.estimated)} ({change.percent(*change.cost)})")
    return (", ".join(said), *explain_change(change)) if said else ()


def explain_change(change: Change) -> tuple[str, ...]:
    """Why a test's figures are not those of its baseline, in one line: ``why: 1 more request, input +120``."""
    if change.before is None:
        return ()
    parts = (_models(change.before, change.now), _counts(change.before, change.now))
    if said := "; ".join(filter(None, parts)):
        return (f"why: {said}",)
    # What one model has more, another has less.
    each = [
        f"{printable(model) or '?'}: {moved}"
        for model in sorted(change.before.keys() & change.now.keys())
        if (moved := _counts({model: change.before[model]}, {model: change.now[model]}))
    ]
    return (f"why: {'; '.join(each)}",) if each else ()


def _models(before: Mapping[str, ModelTokens], now: Mapping[str, ModelTokens]) -> str:
    come, gone = _names(now.keys() - before.keys()), _names(before.keys() - now.keys())
    if come and gone:
        return f"{come} instead of {gone}"
    return f"{come} as well" if come and before else come or (f"no more {gone}" if gone else "")


def _counts(before: Mapping[str, ModelTokens], now: Mapping[str, ModelTokens]) -> str:
    """The counts that moved, over all models."""
    old, new = _sum(before), _sum(now)
    said = []
    if (requests := new.requests - old.requests) != 0:
        said.append(plural(abs(requests), "more request" if requests > 0 else "fewer request"))
    moved = {
        "input": new.input - old.input,
        "cached": new.cached - old.cached,
        "cache write": new.cache_write - old.cache_write,
        "output": new.output - old.output,
    }
    said += [f"{name} {count:+,}" for name, count in moved.items() if count]
    return ", ".join(said)


def _sum(models: Mapping[str, ModelTokens]) -> ModelTokens:
    return reduce(ModelTokens.plus, models.values(), ModelTokens())


def _names(models: set[str]) -> str:
    return ", ".join(printable(model) or "?" for model in sorted(models))
