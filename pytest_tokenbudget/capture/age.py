"""How old recordings are: the ``date`` header of each answer says when it was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DAY = timedelta(days=1)
SKEW = DAY
"""How far a server's clock may be ahead of ours; a date beyond is wrong, and says nothing of an age."""


class Ages(NamedTuple):
    """Recordings whose age does not hold.

    Attributes:
        old: the dates of those that are too old, the oldest first.
        undated: how many have no date.
        ahead: the dates of those that are dated in the future, the latest last.
    """

    old: tuple[datetime, ...]
    undated: int
    ahead: tuple[datetime, ...]

    def __bool__(self) -> bool:
        return bool(self.old or self.undated or self.ahead)


def read_date(headers: Mapping[Any, Any] | None) -> datetime | None:
    """The date of an answer, in UTC; ``None`` where its headers hold none that can be read."""
    for name, values in (headers or {}).items():
        if str(name).lower() == "date":
            value = values[0] if isinstance(values, list | tuple) and values else values
            try:
                date = parsedate_to_datetime(value.decode("latin-1") if isinstance(value, bytes) else str(value))
                return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).astimezone(UTC)
            except (ValueError, OverflowError):
                return None
    return None


def days_since(date: datetime, now: datetime) -> int:
    """Whole days from a date until now; a date of today, or one that a clock is ahead by, is 0 days old."""
    return max(0, (now - date) // DAY)


def judge_ages(dates: Iterable[datetime | None], *, now: datetime, max_age: timedelta) -> Ages:
    """Hold recordings against the age that is allowed. One whose age is not known does not hold.

    Args:
        dates: of each recording.
        now: the time of the run, in UTC.
        max_age: whole days; a recording of exactly that age holds.
    """
    found = list(dates)
    known = sorted(date for date in found if date is not None)
    return Ages(
        old=tuple(date for date in known if days_since(date, now) > max_age // DAY),
        undated=len(found) - len(known),
        ahead=tuple(date for date in known if date - now > SKEW),
    )


def describe_ages(ages: Ages, now: datetime) -> str:
    """What is wrong with the ages, in a part of a sentence: ``a recording of 2026-01-02, 90 days old``."""
    parts = []
    if ages.old:
        oldest = f"of {ages.old[0].date()}, {count(days_since(ages.old[0], now), 'day')} old"
        parts.append(
            f"a recording {oldest}" if len(ages.old) == 1 else f"{len(ages.old)} old recordings, the oldest {oldest}"
        )
    if ages.undated:
        parts.append(f"{count(ages.undated, 'recording')} without a date, so that nobody knows how old")
    if ages.ahead:
        parts.append(f"{count(len(ages.ahead), 'recording')} dated in the future ({ages.ahead[-1].date()})")
    return " and ".join(parts)


def describe_played(
    headers: Iterable[Mapping[Any, Any] | None], *, subject: str, command: str, since: float, max_age: timedelta
) -> str | None:
    """One line about recordings that were played and are older than allowed; ``None`` where all are young enough.

    Args:
        headers: of each answer that was played.
        subject: who played them.
        command: what records them again.
        since: the time of the run, in seconds since the epoch.
        max_age: how old they may be.
    """
    now = datetime.fromtimestamp(since, UTC)
    ages = judge_ages(map(read_date, headers), now=now, max_age=max_age)
    if not ages:
        return None
    allowed = count(max_age // DAY, "day")
    return f"{subject} plays {describe_ages(ages, now)}; token_max_age allows {allowed}; re-record with: {command}"


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 day``, ``2 days``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
