"""A budget is a value: the limits of one test or block, validated once, and the judgement of a usage by them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.frozen import quickly_made

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_tokenbudget.record import Tally

Verdict = Literal["within", "over", "unmeasured", "none"]

MAX_DIGITS = 30
"""Longer numbers than this are typing errors, and would only cost time."""

UNANSWERED = "a request had no recording"
REFUSED = "a request was refused"
"""Why a test is unmeasured that drift, a closed network or a ceiling kept from being measured."""

_EXACT = Context(prec=100)


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits for one test or one block; every limit is inclusive, and ``None`` is no limit.

    Attributes:
        max_cost: USD.
        max_tokens: input and output tokens together.
        max_input_tokens: prompt tokens, cached ones included.
        max_output_tokens: generated tokens, reasoning included.
        max_reasoning_tokens: hidden reasoning tokens.
        max_requests: model requests that were answered.
        min_requests: model requests and cache hits that must have been seen, so that the budget watches something.
        tolerance: how far above its baseline the test may go, as a fraction (``Decimal("0.1")`` is 10%).
        origins: where each limit was set, for messages.
    """

    max_cost: Decimal | None = None
    max_tokens: int | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_reasoning_tokens: int | None = None
    max_requests: int | None = None
    min_requests: int | None = None
    tolerance: Decimal | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_limits(cls, limits: Mapping[str, object], *, origin: str = "") -> Budget:
        """Check the limits as a user wrote them.

        Args:
            limits: the keywords of the marker, of ``track`` or of the ini defaults.
            origin: where they were written, for messages, for example ``@pytest.mark.token_budget on test_x``.

        Raises:
            ConfigurationError: an unknown keyword, or a value that is not allowed; one line that names all offenders.
        """
        values: dict[str, int | Decimal] = {}
        faults = []
        for name, value in limits.items():
            try:
                values[name] = _convert(name, value)
            except ValueError as error:
                faults.append(_fault(name, value, error))
        if faults:
            prefix = f"{origin}: " if origin else ""
            raise ConfigurationError(prefix + "; ".join(sorted(faults)))
        return cls(**values, origins=dict.fromkeys(values, origin))  # type: ignore[arg-type]

    def over(self, wider: Budget) -> Budget:
        """This budget, each limit that it leaves open taken from a wider one (class, module, ini)."""
        if wider == _UNLIMITED:  # as most of them are
            return self
        if self == _UNLIMITED:
            return wider
        merged = {
            name: mine if (mine := getattr(self, name)) is not None else getattr(wider, name) for name in LIMIT_NAMES
        }
        return Budget(**merged, origins={**wider.origins, **self.origins})

    @property
    def watches(self) -> bool:
        """Whether any limit on usage is set (a tolerance alone is none)."""
        return _limits_of(self) != _NO_LIMITS

    def to_dict(self) -> dict[str, str | int]:
        """The limits that are set; money and tolerance as decimal strings."""
        return {
            name: format(value, "f") if isinstance(value, Decimal) else value
            for name in LIMIT_NAMES
            if (value := getattr(self, name)) is not None
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, str | int]) -> Budget:
        """The inverse of ``to_dict``."""
        return cls(
            **{  # type: ignore[arg-type]
                name: Decimal(value) if name in _MONEY or name == "tolerance" else value
                for name, value in data.items()
            }
        )


_UNLIMITED = Budget()
LIMIT_NAMES = tuple(each.name for each in fields(Budget) if each.name != "origins")
_limits_of: Callable[[Budget], tuple[int | Decimal | None, ...]] = attrgetter(
    *(name for name in LIMIT_NAMES if name != "tolerance")
)
_NO_LIMITS = (None,) * (len(LIMIT_NAMES) - 1)
_MONEY = ("max_cost",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One limit that does not hold.

    Attributes:
        limit: the limit's name, or ``baseline`` / ``unmeasured``.
        allowed: the limit.
        used: what was used; ``None`` where that is not known.
        reason: a sentence for the reader, where the two figures do not say it.
    """

    limit: str
    allowed: int | Decimal | None = None
    used: int | Decimal | None = None
    reason: str | None = None

    @property
    def over(self) -> bool:
        """Whether the known usage is above the limit (otherwise: not known, or too little to judge)."""
        return self.used is not None and self.allowed is not None and self.used > self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """How far a usage is on its way to a limit.

    Attributes:
        limit: the limit's name.
        allowed: the limit.
        used: what was used; a lower bound where a part of it is not known.
    """

    limit: str
    allowed: int | Decimal
    used: int | Decimal


def headrooms(tally: Tally, budget: Budget | None) -> tuple[Headroom, ...]:
    """How far a test or block is on its way to each of its limits.

    A limit of 0 is kept or broken, and nothing on the way to it; and the fewest requests are no limit from above.
    """
    if budget is None:
        return ()
    return tuple(
        Headroom(limit=name, allowed=allowed, used=used)
        for name, used in _used(tally).items()
        if (allowed := getattr(budget, name))
    )


def find_headroom(tally: Tally, budget: Budget | None) -> Headroom | None:
    """The limit that a test or block is nearest to, or furthest above; ``None`` where no limit leaves any room.

    A number of requests is meant to be reached. Beside other limits it tells nothing of the room that is left, until
    it is exceeded.
    """
    found = headrooms(tally, budget)
    telling = [each for each in found if each.limit != "max_requests" or each.used > each.allowed]
    return max(
        telling or found, key=lambda each: _EXACT.divide(Decimal(each.used), Decimal(each.allowed)), default=None
    )


def judge(tally: Tally, budget: Budget | None, *, estimates_count: bool = True) -> tuple[Violation, ...]:
    """Hold what a test or block used against its budget.

    Args:
        tally: what was used and what it cost.
        budget: its limits; ``None`` or an empty budget allows everything.
        estimates_count: whether estimated usage is as good as measured usage (ini ``token_estimates``).

    Returns:
        The limits that do not hold, in the order of the budget's fields; empty when all is within.
    """
    if budget is None or not budget.watches:
        return ()
    usage = tally.usage
    found = [
        Violation(limit=name, allowed=allowed, used=figure)
        for name, figure in _used(tally).items()
        if (allowed := getattr(budget, name)) is not None and figure > allowed
    ]
    if budget.max_cost is not None and tally.unpriced_models and not any(v.limit == "max_cost" for v in found):
        found.append(Violation(limit="max_cost", allowed=budget.max_cost, reason=_unpriced(tally.unpriced_models)))
    seen = usage.requests + usage.cache_hits
    if budget.min_requests is not None and seen < budget.min_requests:
        found.append(
            Violation(limit="min_requests", allowed=budget.min_requests, used=seen, reason=_too_few(seen, budget))
        )
    if usage.unmeasured_requests:
        found.append(Violation(limit="unmeasured", reason=_unmeasured(tally)))
    elif usage.estimated_requests and not estimates_count:
        found.append(
            Violation(
                limit="unmeasured",
                reason=f"{usage.estimated_requests} of {usage.requests} requests are estimates, "
                "and token_estimates = fail",
            )
        )
    return tuple(found)


def judge_total(tally: Tally, max_cost: Decimal | None, max_tokens: int | None) -> tuple[Violation, ...]:
    """Hold the total of a run against its limits; a total that is not known holds none."""
    found = []
    limit = "token_total_max_cost"
    if max_cost is not None and tally.known_cost > max_cost:
        found.append(Violation(limit=limit, allowed=max_cost, used=tally.known_cost))
    elif max_cost is not None and tally.cost is None:
        unknown = ", ".join(tally.unpriced_models) or "; ".join(tally.unmeasured_reasons)
        found.append(Violation(limit=limit, allowed=max_cost, reason=f"the run's cost is not known: {unknown}"))
    limit = "token_total_max_tokens"
    if max_tokens is not None and tally.usage.total_tokens > max_tokens:
        found.append(Violation(limit=limit, allowed=max_tokens, used=tally.usage.total_tokens))
    elif max_tokens is not None and tally.usage.unmeasured_requests:
        unknown = "; ".join(tally.unmeasured_reasons)
        found.append(Violation(limit=limit, allowed=max_tokens, reason=f"the run's tokens are not known: {unknown}"))
    return tuple(found)


def verdict_of(budget: Budget | None, violations: Iterable[Violation]) -> Verdict:
    """The one word for a judgement: ``over`` outweighs ``unmeasured``; ``none`` where no budget applies."""
    violations = tuple(violations)
    if any(violation.over for violation in violations):
        return "over"
    if violations:
        return "unmeasured"
    return "within" if budget is not None and budget.watches else "none"


def parse_usd(text: object) -> Decimal:
    """Read an amount of USD: int, float, str or Decimal, finite, >= 0.

    Raises:
        ValueError: it is none; the message says what is allowed.
    """
    allowed = "an amount of USD >= 0 as int, float, str or Decimal"
    if isinstance(text, bool) or not isinstance(text, int | float | str | Decimal):
        raise ValueError(allowed)  # noqa: TRY004 - callers report one kind of fault
    try:
        # str() first: the float 0.001 means the digits that the user wrote.
        amount = _read_amount(str(text).strip())
    except ValueError:  # an int of thousands of digits has no text
        raise ValueError(allowed) from None
    if amount is None:
        raise ValueError(allowed)
    return amount


@lru_cache(maxsize=256)
def _read_amount(written: str) -> Decimal | None:
    """What the digits say; ``None`` where they say no amount. Many tests have the same limit."""
    try:
        amount = Decimal(written)
    except InvalidOperation:
        return None
    digits = amount.as_tuple()
    if not amount.is_finite() or amount < 0 or len(digits.digits) + abs(int(digits.exponent)) > MAX_DIGITS:
        return None
    if not written.isascii() or "_" in written:
        return None
    return amount.copy_abs()  # abs() would round to the decimal context that some code has left behind


def parse_count(value: object) -> int:
    """Read a number of tokens or requests: an int >= 0; from the command line and ini files, its digits.

    Raises:
        ValueError: it is none; the message says what is allowed.
    """
    allowed = "a whole number >= 0"
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) <= MAX_DIGITS:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**MAX_DIGITS:
        raise ValueError(allowed)
    return value


def parse_tolerance(value: object) -> Decimal:
    """Read a tolerance in percent (``"10%"``) and return it as a fraction.

    Raises:
        ValueError: it is none; the message says what is allowed.
    """
    allowed = 'a percentage >= 0 such as "10%"'
    if not isinstance(value, str) or not value.strip().endswith("%"):
        raise ValueError(allowed)
    try:
        return parse_usd(value.strip()[:-1]).scaleb(-2, _EXACT)
    except ValueError:
        raise ValueError(allowed) from None


def _convert(name: str, value: object) -> int | Decimal:
    if name not in LIMIT_NAMES:
        raise ValueError("one of the limits")
    if name in _MONEY:
        return parse_usd(value)
    if name == "tolerance":
        return parse_tolerance(value)
    if isinstance(value, str):
        raise ValueError("an int >= 0")  # noqa: TRY004 - callers report one kind of fault
    return parse_count(value)


def _fault(name: str, value: object, error: ValueError) -> str:
    if name not in LIMIT_NAMES:
        near = difflib.get_close_matches(name, LIMIT_NAMES, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return f"unknown keyword {name}={_show(value)}; allowed are {', '.join(LIMIT_NAMES)}{meant}"
    return f"{name}={_show(value)} is not allowed; it must be {error}"


def _show(value: object) -> str:
    try:
        shown = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - whatever a stranger's repr raises, the message must say which keyword it is
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= MAX_DIGITS * 2 else shown[: MAX_DIGITS * 2] + "..."


def _used(tally: Tally) -> dict[str, int | Decimal]:
    """What was used, by the name of the limit that it must not exceed."""
    usage = tally.usage
    return {
        "max_cost": tally.known_cost,
        "max_tokens": usage.total_tokens,
        "max_input_tokens": usage.input_tokens,
        "max_output_tokens": usage.output_tokens,
        "max_reasoning_tokens": usage.reasoning_tokens,
        "max_requests": usage.requests,
    }


def _unpriced(models: tuple[str, ...]) -> str:
    named = ", ".join(repr(model) for model in models)
    return f"no price for {named}; give it one in the file that the ini option token_prices names"


def _too_few(seen: int, budget: Budget) -> str:
    if seen == 0:
        return (
            "no model request and no cache hit was seen, so nothing was measured; "
            "if that is right, say min_requests=0"
        )
    return f"only {seen} of at least {budget.min_requests} requests were seen"


def _unmeasured(tally: Tally) -> str:
    reasons = "; ".join(tally.unmeasured_reasons) or "the provider reported no usage"
    return (
        f"the usage of {tally.usage.unmeasured_requests} of {tally.usage.requests} requests is not known: {reasons}"
    )
