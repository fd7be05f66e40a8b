"""What changed between two runs: the tests and fixtures whose figures moved, and the totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tokenbudget.record import Tally, UsageRecord
from pytest_tokenbudget.summary import CUT_SHORT, EXACT, fixture_title, tally_of
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from pytest_tokenbudget.record import ModelTokens, SharedRecord
    from pytest_tokenbudget.summary import PriceTable, Summary

NOTHING = Tally(usage=Usage())
_CUT_SHORT = (*CUT_SHORT, "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One test or fixture in one of the two runs.

    Attributes:
        tally: what it used.
        models: its tokens by model.
        verdict: what its budget said; empty for a fixture.
        over_baseline: whether it was over the baseline; that it was within, new or not compared is no news.
        cut_short: how it ended, where it may not have come to all of its calls; else empty. A test that fails for
            its budget or baseline did.
    """

    tally: Tally
    models: Mapping[str, ModelTokens]
    verdict: str = ""
    over_baseline: bool = False
    cut_short: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One test or fixture that is not what it was.

    Attributes:
        subject: the test's node id, or the fixture with its scope.
        before: what it was; ``None`` where it is new.
        after: what it is; ``None`` where it is gone.
    """

    subject: str
    before: Side | None
    after: Side | None

    @property
    def was(self) -> Tally:
        """What it used before; nothing where it is new."""
        return NOTHING if self.before is None else self.before.tally

    @property
    def now(self) -> Tally:
        """What it uses now; nothing where it is gone."""
        return NOTHING if self.after is None else self.after.tally

    @property
    def moved(self) -> bool:
        """Whether a figure differs, and not its verdict alone."""
        return figures(self.was) != figures(self.now) or (
            self.before is not None and self.after is not None and self.before.models != self.after.models
        )

    @property
    def cut_short(self) -> bool:
        """Whether one of its runs, and not the other, may not have come to all of its calls."""
        return (
            self.before is not None
            and self.after is not None
            and bool(self.before.cut_short) != bool(self.after.cut_short)
        )

    @property
    def rejudged(self) -> bool:
        """Whether a test that both runs know has another verdict."""
        return (
            self.before is not None
            and self.after is not None
            and (self.before.verdict, self.before.over_baseline) != (self.after.verdict, self.after.over_baseline)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two runs beside each other; the biggest change in cost comes first, then in tokens, then by name.

    Attributes:
        before: what the old run used in all.
        after: what the new run used in all.
        changed: tests and fixtures in both runs whose figures moved.
        rejudged: tests in both runs whose verdict is another one.
        new: tests and fixtures of the new run alone.
        gone: tests and fixtures of the old run alone.
        unpriced: tests and fixtures of the new run with a model that has no price.
        unmeasured: tests and fixtures of the new run with requests whose usage nobody knows.
        prices: the two price tables, where they differ.
        cut_short: tests in both runs that may have come to all of their calls in one of them alone.
        incomplete: which of the runs did not come to its end.
    """

    before: Tally
    after: Tally
    changed: tuple[Change, ...]
    rejudged: tuple[Change, ...]
    new: tuple[Change, ...]
    gone: tuple[Change, ...]
    unpriced: tuple[Change, ...]
    unmeasured: tuple[Change, ...]
    prices: tuple[PriceTable, PriceTable] | None
    cut_short: tuple[Change, ...]
    incomplete: tuple[str, ...]

    @property
    def silent(self) -> bool:
        """Whether there is nothing to tell."""
        return not (
            self.changed or self.rejudged or self.new or self.gone or self.prices is not None or self.incomplete
        )


def compare(old: Summary, new: Summary) -> Difference:
    """Put two runs beside each other.

    Whether a request was replayed or live makes no difference, nor does the order in which tests ran.
    """
    was, now = _sides(old), _sides(new)
    changes = sorted(
        (
            Change(subject=key[1], before=was.get(key), after=now.get(key))
            for key in dict.fromkeys((*was, *now))
        ),
        key=_size,
    )  # fmt: skip
    both = [each for each in changes if each.before is not None and each.after is not None]
    return Difference(
        before=old.total,
        after=new.total,
        changed=tuple(each for each in both if each.moved),
        rejudged=tuple(each for each in both if each.rejudged),
        new=tuple(each for each in changes if each.before is None),
        gone=tuple(each for each in changes if each.after is None),
        unpriced=tuple(each for each in changes if each.now.unpriced_models),
        unmeasured=tuple(each for each in changes if each.now.usage.unmeasured_requests),
        prices=None if old.prices == new.prices else (old.prices, new.prices),
        cut_short=tuple(each for each in both if each.cut_short and each.moved),
        incomplete=tuple(name for name, run in (("old", old), ("new", new)) if not run.complete),
    )


def cost_change(before: Tally, after: Tally) -> Decimal:
    """By how many USD the known cost moved, exact."""
    return EXACT.subtract(after.known_cost, before.known_cost)


def figures(tally: Tally) -> tuple[object, ...]:
    """All of a tally that a reader can see move; what was spent is not among it."""
    return tally.usage, tally.cost, tally.known_cost, tally.unpriced_models


def _sides(summary: Summary) -> dict[tuple[str, str], Side]:
    """Tests and fixtures by kind and name; a fixture may bear a test's name."""
    sides = {("test", record.nodeid): _side(record) for record in summary.tests}
    sides |= {("fixture", fixture_title(each)): _shared_side(each) for each in summary.shared}
    return sides


def _side(record: UsageRecord) -> Side:
    over_baseline = record.baseline is not None and record.baseline.status == "over"
    judged = record.verdict == "over" or over_baseline
    return Side(
        tally=tally_of(record.figures, cache_hits=record.cache_hits),
        models=record.models,
        verdict=record.verdict,
        over_baseline=over_baseline,
        cut_short=record.outcome if record.outcome in _CUT_SHORT and not judged else "",
    )


def _shared_side(record: SharedRecord) -> Side:
    return Side(
        tally=tally_of(record.figures, cache_hits=record.cache_hits),
        models=UsageRecord(nodeid="", calls=record.calls).models,
    )


def _size(change: Change) -> tuple[Decimal, int, str]:
    tokens = change.now.usage.total_tokens - change.was.usage.total_tokens
    return cost_change(change.was, change.now).copy_abs().copy_negate(), -abs(tokens), change.subject
