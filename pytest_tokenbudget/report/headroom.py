"""How near a usage is to its limit: in percent, and as a bar of characters."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import TYPE_CHECKING

from pytest_tokenbudget.budget import find_headroom
from pytest_tokenbudget.report.figures import mark
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from pytest_tokenbudget.budget import Headroom
    from pytest_tokenbudget.record import UsageRecord

BAR_WIDTH = 6
MOST_PERCENT = 999

# A context of its own: a test may leave behind any precision, rounding or trap.
_CONTEXT = Context(prec=200)


def draw_bar(headroom: Headroom, *, width: int = BAR_WIDTH, ascii_only: bool = False) -> str:
    """A bar that is full where the limit is reached, and not before: ``████░░``, or ``####--``."""
    full, empty = ("#", "-") if ascii_only else ("\N{FULL BLOCK}", "\N{LIGHT SHADE}")
    done = min(width, int(_CONTEXT.multiply(_ratio(headroom), Decimal(width))))
    return full * done + empty * (width - done)


def format_share(headroom: Headroom, *, estimated: bool = False) -> str:
    """What was used of a limit: ``62%``, ``~62%`` where it is an estimate.

    ``100%`` is exactly the limit: what is below it never reads so, nor does what is above. A limit of 0 has no parts:
    what is above it is ``over``.
    """
    if not headroom.allowed:
        return "over" if headroom.used else "0%"
    percent = _CONTEXT.multiply(_ratio(headroom), Decimal(100))
    if 0 < percent < 1:
        return f"<{mark('1%', estimated=estimated)}"
    if percent > MOST_PERCENT:
        return f">{mark(f'{MOST_PERCENT}%', estimated=estimated)}"
    whole = percent.to_integral_value(ROUND_CEILING if percent > 100 else ROUND_FLOOR, _CONTEXT)  # noqa: PLR2004
    return mark(f"{whole:f}%", estimated=estimated)


def is_estimate(record: UsageRecord, headroom: Headroom) -> bool:
    """Whether what a test used of a limit was counted locally; how often it asked is always known."""
    return headroom.limit != "max_requests" and any(call.estimated for call in record.judged_calls)


def headroom_of(record: UsageRecord) -> Headroom | None:
    """How near a test came to the limit that it is nearest to.

    ``None`` where that would not fit its verdict: what is not known is near to no limit and far from none; what is
    over its baseline, or above a limit of 0, may be far from all others.
    """
    if record.verdict not in ("within", "over"):
        return None
    headroom = find_headroom(tally_of(record.judged_calls), record.budget)
    if headroom is None or (headroom.used > headroom.allowed) != (record.verdict == "over"):
        return None
    return headroom


def _ratio(headroom: Headroom) -> Decimal:
    return _CONTEXT.divide(Decimal(headroom.used), Decimal(headroom.allowed))
