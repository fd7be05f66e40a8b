"""Figures as a reader sees them: money, tokens, how far above a limit."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tokenbudget.record import Tally
    from pytest_tokenbudget.summary import PriceTable

MIN_DECIMALS = 4
SIGNIFICANT_DIGITS = 3
MIN_PERCENT = Decimal("0.01")
UNKNOWN = "unknown"

# A context of its own: a test may leave behind any precision, rounding or trap.
_CONTEXT = Context(prec=200, rounding=ROUND_HALF_UP)
_to_text = _CONTEXT.to_sci_string


def plain_usd(amount: Decimal) -> str:
    """USD in full for machines: no exponent, no rounding, no trailing zeros; ``0`` for nothing."""
    text = _to_text(amount)
    if "E" in text:  # for the few that are so small or so large: the format takes several times as long
        text = f"{amount:f}"
    if text[-1] == "0" and "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def format_usd(amount: Decimal | None, *, estimated: bool = False) -> str:
    """USD for people: ``$0.0023``, ``$0.000185``, ``~$0.0023`` where it is an estimate, ``unknown``, ``$0``."""
    if amount is None:
        return UNKNOWN
    return mark(_usd(amount, _decimals(amount)), estimated=estimated)


def format_cost(cost: Decimal | None, known: Decimal, *, estimated: bool) -> str:
    """A cost, or what is known of it: ``$0.0023``, ``unknown, at least $0.0023``, ``unknown``."""
    if cost is None and known:
        return f"{UNKNOWN}, at least {format_usd(known, estimated=estimated)}"
    return format_usd(cost, estimated=estimated)


def format_count(count: Decimal | int, *, estimated: bool = False) -> str:
    """A number of tokens or requests: ``1,204``, or ``~1,204`` where it is an estimate."""
    return mark(f"{count:,f}" if isinstance(count, Decimal) else f"{count:,}", estimated=estimated)


def mark(text: str, *, estimated: bool) -> str:
    """Put the ``~`` of an estimate before a figure."""
    return f"~{text}" if estimated else text


def format_pair(used: Decimal | int, allowed: Decimal | int) -> tuple[str, str, str]:
    """What was used, what was allowed and their difference, with as many digits as it takes to tell them apart.

    Money is a ``Decimal``; two ints are counts. The first two texts are equal only if the figures are, and the
    difference is shown as nothing only if it is.

    Returns:
        For example ``("$0.0023", "$0.0010", "+$0.0013")`` or ``("1,204", "500", "+704")``.
    """
    if isinstance(used, int):
        # A limit on tokens can have a fraction: a baseline with its tolerance.
        excess = _CONTEXT.subtract(Decimal(used), Decimal(allowed))
        limit = format_count(allowed) if isinstance(allowed, int) else _plain_count(allowed)
        return format_count(used), limit, _signed("", _plain_count(excess.copy_abs()), excess)
    allowed = Decimal(allowed)
    excess = _CONTEXT.subtract(used, allowed)
    decimals = max(_decimals(used), _decimals(allowed), _decimals(excess, significant=1))
    while used != allowed and _usd(used, decimals) == _usd(allowed, decimals):
        decimals += 1
    shown = _usd(excess.copy_abs(), decimals)
    return _usd(used, decimals), _usd(allowed, decimals), _signed("", shown, excess)


def format_percent(used: Decimal | int, allowed: Decimal | int) -> str:
    """How far ``used`` is from ``allowed``, for example ``+130%``; empty where the limit is 0."""
    if allowed == 0:
        return ""
    ratio = _CONTEXT.divide(_CONTEXT.subtract(Decimal(used), Decimal(allowed)), Decimal(allowed))
    percent = _CONTEXT.multiply(ratio, Decimal(100))
    if percent == 0:
        return "+0%"
    if percent.copy_abs() < MIN_PERCENT:
        return f"less than {'-' if percent < 0 else '+'}{MIN_PERCENT}%"
    # Two digits are enough to act on, and a difference never reads as none.
    decimals = max(0, 1 - percent.adjusted())
    text = _strip(format(_round(percent.copy_abs(), decimals), ",f"), keep=0)
    return _signed("", text + "%", percent)


def format_excess(difference: str, percent: str) -> str:
    """Difference and percent together: ``+$0.0013 (+130%)``."""
    return f"{difference} ({percent})" if percent else difference


def tally_figures(tally: Tally) -> tuple[str, str]:
    """Cost and total tokens of a tally, marked where they are estimates, ``unknown`` where nobody knows."""
    estimated = tally.usage.estimated_requests > 0
    return format_usd(tally.cost, estimated=estimated), count_of(tally, tally.usage.total_tokens)


def describe_briefly(tally: Tally) -> str:
    """Tokens and cost in a few words: ``18 tokens, $0.000034``; empty where nothing was asked."""
    if not tally.usage.requests:
        return ""
    cost, tokens = tally_figures(tally)
    noun = "token" if tokens.lstrip("~") == "1" else "tokens"
    return f"{tokens} {noun}, {'cost unknown' if cost == UNKNOWN else cost}"


def count_of(tally: Tally, tokens: int) -> str:
    """One of a tally's token counts; with a ``+`` where unmeasured requests come on top, ``?`` where all are."""
    usage = tally.usage
    if usage.requests and usage.unmeasured_requests == usage.requests:
        return "?"
    shown = format_count(tokens, estimated=usage.estimated_requests > 0)
    return f"{shown}+" if usage.unmeasured_requests else shown


def plural(count: int, noun: str) -> str:
    """``1 request``, ``2 requests``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _decimals(amount: Decimal, *, significant: int = SIGNIFICANT_DIGITS) -> int:
    """Digits after the point that show the amount: at least four, at most as many as it has."""
    if amount == 0:
        return MIN_DECIMALS
    wanted = max(MIN_DECIMALS, significant - 1 - amount.adjusted())
    shown = format(_round(amount, wanted), "f")
    return max(MIN_DECIMALS, len(_strip(shown, keep=MIN_DECIMALS).partition(".")[2]))


def _usd(amount: Decimal, decimals: int) -> str:
    if amount == 0:
        return "$0"
    return _signed("$", format(_round(amount.copy_abs(), decimals), ",f"), amount, plus="")


def _round(amount: Decimal, decimals: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-decimals, _CONTEXT), context=_CONTEXT)


def _strip(text: str, *, keep: int) -> str:
    """Take trailing zeros off, but leave ``keep`` digits after the point."""
    whole, point, digits = text.partition(".")
    if not point:
        return text
    digits = digits[:keep] + digits[keep:].rstrip("0")
    return f"{whole}.{digits}" if digits else whole


def _plain_count(count: Decimal) -> str:
    return _strip(f"{count:,f}", keep=0)


def _signed(unit: str, text: str, amount: Decimal, *, plus: str = "+") -> str:
    return f"{'-' if amount < 0 else plus}{unit}{text}"


def describe_prices(prices: PriceTable) -> str:
    """A price table in a few words: ``genai-prices 0.2.3 of 2026-11-03``, and whose prices go before its own."""
    day = f" of {prices['date']}" if prices["date"] else ""
    own = f", with your own for {', '.join(prices['overrides'])}" if prices["overrides"] else ""
    return f"{prices['source']} {prices['version']}{day}{own}"
