"""What changed in a test since its baseline: by how much, with its sign, and why."""

from __future__ import annotations

from decimal import Context, Decimal
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


def has_risen(record: UsageRecord) -> bool:
    """Whether a test uses more tokens, or more money, than its baseline remembers."""
    tokens, cost = _tokens(record), _cost(record)
    return any(pair is not None and pair[0] > pair[1] for pair in (tokens, cost))


def format_change(record: UsageRecord) -> str:
    """The change in a few letters: ``+12%`` of the tokens, ``-5%``, ``+40% cost``, ``=``, ``new``; empty for none.

    Tokens tell, as long as the cost does not go up while they don't: with a dearer model, cost tells.
    """
    result = record.baseline
    if result is None or result.status == "new":
        return "" if result is None else "new"
    moved = _moved(record)
    if moved is None:
        return UNCHANGED
    return _percent(record, *moved) + ("" if isinstance(moved[0], int) else " cost")


def relative_change(record: UsageRecord) -> Decimal:
    """By which part of its baseline a test is dearer, by the figure that ``format_change`` shows; 0 for no change."""
    moved = _moved(record)
    if moved is None:
        return Decimal(0)
    now, before = map(Decimal, moved)
    return _CONTEXT.divide(_CONTEXT.subtract(now, before), before) if before else Decimal("Infinity")


def describe_change(record: UsageRecord) -> tuple[str, ...]:
    """What a test used before and uses now, and why; no line where nothing changed."""
    said = []
    estimated = _estimated(record)
    if (tokens := _tokens(record)) is not None:
        now, before, _ = format_pair(*tokens)
        said.append(f"{before} -> {mark(now, estimated=estimated)} tokens ({_percent(record, *tokens)})")
    if (cost := _cost(record)) is not None:
        now, before, _ = format_pair(*cost)
        said.append(f"{before} -> {mark(now, estimated=estimated)} ({_percent(record, *cost)})")
    return (", ".join(said), *explain_change(record)) if said else ()


def explain_change(record: UsageRecord) -> tuple[str, ...]:
    """Why a test's figures are not those of its baseline, in one line: ``why: input +120, 1 more request``."""
    before = None if record.baseline is None else record.baseline.models
    now = record.models
    if before is None or before == now:
        return ()
    return ("why: " + "; ".join(part for part in (_models(before, now), _counts(before, now)) if part),)


def _models(before: Mapping[str, ModelTokens], now: Mapping[str, ModelTokens]) -> str:
    come, gone = _names(now.keys() - before.keys()), _names(before.keys() - now.keys())
    if come and gone:
        return f"{come} instead of {gone}"
    return f"{come} besides" if come and before else come or (f"no more {gone}" if gone else "")


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
    return ModelTokens(
        requests=sum(each.requests for each in models.values()),
        input=sum(each.input for each in models.values()),
        cached=sum(each.cached for each in models.values()),
        cache_write=sum(each.cache_write for each in models.values()),
        output=sum(each.output for each in models.values()),
    )


def _names(models: set[str]) -> str:
    return ", ".join(printable(model) or "?" for model in sorted(models))


def _moved(record: UsageRecord) -> tuple[Decimal | int, Decimal | int] | None:
    """Now and before, of tokens or of USD, whichever tells more; ``None`` where nothing changed."""
    tokens, cost = _tokens(record), _cost(record)
    if tokens is None or (cost is not None and cost[0] > cost[1] and tokens[0] <= tokens[1]):
        return cost
    return tokens


def _tokens(record: UsageRecord) -> tuple[int, int] | None:
    """Tokens now and before; ``None`` where they are the same, or there is nothing to compare."""
    result = record.baseline
    if result is None or result.tokens is None:
        return None
    now = tally_of(record.judged_calls).usage.total_tokens
    return None if now == result.tokens else (now, result.tokens)


def _cost(record: UsageRecord) -> tuple[Decimal, Decimal] | None:
    """USD now and before; ``None`` where they are the same, or one of them is not known."""
    result = record.baseline
    # The entry knows sums, whose price can be another than that of the single calls.
    if result is None or result.cost is None or result.models == record.models:
        return None
    now = tally_of(record.judged_calls).cost
    return None if now is None or now == result.cost else (now, result.cost)


def _percent(record: UsageRecord, now: Decimal | int, before: Decimal | int) -> str:
    return mark(format_percent(now, before) or "from 0", estimated=_estimated(record))


def _estimated(record: UsageRecord) -> bool:
    return any(call.estimated for call in record.judged_calls)
