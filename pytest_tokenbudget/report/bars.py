"""The bars of the HTML page as geometry: where each piece begins and ends, in thousandths of the bar's width."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget.report.figures import format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_tokenbudget.usage import ModelCall, Usage

# A context of its own: a test may leave behind any precision, rounding or trap.
_CONTEXT = Context(prec=200)

FULL = 1000
"""The width of a bar in its own units."""

_HISTORY = ("assistant", "tool")
KINDS = ("system", "tools", "history", "user", "other", "reasoning", "output")
"""What a token can be, in the order in which a bar shows it; ``other`` is input of which no role is known."""


class Piece(NamedTuple):
    """One piece of a bar.

    Attributes:
        kind: one of ``KINDS``, or ``cached``.
        label: the kind and how many tokens, for the reader.
        start: where it begins.
        width: how wide it is; at least 1 where there are tokens.
    """

    kind: str
    label: str
    start: int
    width: int


class Bar(NamedTuple):
    """What tokens went where.

    Attributes:
        pieces: one after the other, none of them empty.
        cached: the part of the input that came from the provider's cache, below it; ``None`` where nothing did.
        label: the same in words, for those who don't see it.
    """

    pieces: tuple[Piece, ...]
    cached: Piece | None
    label: str


class LimitBar(NamedTuple):
    """How far a usage is on its way to a limit.

    Attributes:
        used: how far the bar goes.
        limit: where the line of the limit stands: at the end, or before it where the usage went beyond.
        over: whether it did.
    """

    used: int
    limit: int
    over: bool


def call_bar(call: ModelCall, *, longest: int) -> Bar | None:
    """Where the tokens of one request went; ``None`` where nobody knows how many there were.

    Args:
        call: the request.
        longest: the tokens that a full bar stands for.
    """
    if call.usage is None:
        return None
    return _bar(_split(call.usage, call.parts), call.usage.cached_input_tokens, longest, estimated=call.estimated)


def sum_bar(calls: Iterable[ModelCall]) -> Bar | None:
    """Where the tokens of many requests went, over the full width; ``None`` where there are none that are known."""
    sums = dict.fromkeys(KINDS, 0)
    cached, estimated = 0, False
    for call in calls:
        if call.usage is None:
            continue
        estimated = estimated or call.estimated
        cached += call.usage.cached_input_tokens
        for kind, tokens in _split(call.usage, call.parts).items():
            sums[kind] += tokens
    whole = sum(sums.values())
    return _bar(sums, cached, whole, estimated=estimated) if whole else None


def limit_bar(used: Decimal | int, allowed: Decimal | int) -> LimitBar:
    """A usage against its limit, over the full width."""
    over = used > allowed
    return LimitBar(FULL, share(allowed, used), over) if over else LimitBar(share(used, allowed), FULL, over)


def share(part: Decimal | int, whole: Decimal | int) -> int:
    """A part of a whole as a width; more than ``FULL`` where it is more than the whole."""
    if not whole:
        return FULL if part else 0
    return round(_CONTEXT.divide(_CONTEXT.multiply(Decimal(part), Decimal(FULL)), Decimal(whole)))


def _split(usage: Usage, parts: Mapping[str, int] | None) -> dict[str, int]:
    """Tokens by kind, in the order of ``KINDS``."""
    split = dict.fromkeys(KINDS, 0)
    for role, tokens in (parts or {}).items():
        split["history" if role in _HISTORY else role] += tokens
    split["other"] = max(0, usage.input_tokens - sum(split.values()))
    split["reasoning"] = min(usage.reasoning_tokens, usage.output_tokens)
    split["output"] = usage.output_tokens - split["reasoning"]
    return split


def _bar(split: Mapping[str, int], cached: int, longest: int, *, estimated: bool) -> Bar:
    def label(name: str, tokens: int) -> str:
        return f"{name} {format_count(tokens, estimated=estimated)}"

    known = [(kind, tokens) for kind, tokens in split.items() if tokens]
    pieces, start, passed = [], 0, 0
    for after, (kind, tokens) in zip(reversed(range(len(known))), known, strict=True):
        passed += tokens
        # From the sum, so that what is rounded does not add up; each can be seen, and leaves room for those after it.
        end = min(max(start + 1, share(passed, longest)), FULL - after)
        pieces.append(Piece(kind, label("other input" if kind == "other" else kind, tokens), start, end - start))
        start = end
    below = None
    if cached:
        below = Piece("cached", label("cached input", cached), 0, max(1, share(cached, longest)))
    said = [piece.label for piece in (*pieces, below) if piece is not None]
    return Bar(tuple(pieces), below, ", ".join(said))
