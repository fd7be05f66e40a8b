"""A run as one value: the records of its tests and shared fixtures, with rows and totals made from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal
from functools import cached_property, reduce
from heapq import nlargest
from operator import attrgetter
from typing import TYPE_CHECKING, TypedDict

from pytest_tokenbudget.record import SharedRecord, Tally
from pytest_tokenbudget.usage import Usage
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.record import BaselineStatus, UsageRecord
    from pytest_tokenbudget.usage import ModelCall

EXACT = Context(prec=100)
"""Sums of money are exact, and do not depend on the decimal context that a test may have left behind."""


class PriceTable(TypedDict):
    """The price table that costs were worked out with.

    ``source`` and ``version`` name the package, ``date`` is the day of the prices, and ``overrides`` are the
    user's own prices: the file's name, and digits that are others where the prices are.
    """

    source: str
    version: str
    date: str | None
    overrides: list[str]


class Note(TypedDict):
    """One line about one test."""

    nodeid: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSummary:
    """How the run stands against the baseline file; node ids are sorted.

    Attributes:
        path: the file, as the user would name it.
        new: tests without an entry that an update of the baseline would give one.
        over: tests above their entry by more than the tolerance.
        improved: tests below their entry; not those that failed, which may have used less for that alone.
        stale: entries whose tests no longer exist.
    """

    path: str
    new: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    improved: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Iterable[UsageRecord], *, path: str, stale: tuple[str, ...]) -> BaselineSummary:
        """How these tests stand against it."""
        named: dict[str, list[str]] = {"new": [], "over": [], "improved": []}
        for record in records:
            status = None if record.baseline is None else record.baseline.status
            if status is not None and _is_listed(record, status):
                named[status].append(record.nodeid)
        return cls(path=path, **{name: tuple(sorted(nodeids)) for name, nodeids in named.items()}, stale=stale)


CUT_SHORT = ("failed", "error", "xfailed")
"""Outcomes of tests that may not have come to all of their calls."""


def _is_listed(record: UsageRecord, status: BaselineStatus) -> bool:
    if status == "improved":
        return record.outcome not in CUT_SHORT
    return status == "over" or (status == "new" and _is_written(record))


def _is_written(record: UsageRecord) -> bool:
    """Whether an update writes the test: all is known of it, and it fails for nothing but its missing entry."""
    if not (record.calls and record.is_known):
        return False
    if record.outcome == "failed":
        return {each.limit for each in record.violations} == {"baseline"}
    return record.outcome == "passed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """What one model of one provider was used for.

    Attributes:
        provider: who bills; empty where not known.
        model: the model's name.
        tally: the sum of its calls, over tests and shared fixtures.
    """

    provider: str
    model: str
    tally: Tally


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that the reports of one run say.

    Its sums are worked out when they are first asked for, and kept: several reports show them.

    Attributes:
        plugin_version: the version of pytest-tokenbudget that made it.
        created: when, in UTC, for example ``2026-11-22T10:00:00Z``.
        complete: whether the run came to its end; ``False`` in the file written at its start and after an interrupt.
        prices: the price table.
        tests: the tests worth listing, in the order in which they ran.
        shared: fixtures of wider scope, one record for each name and scope, sorted.
        baseline: how the run stands against the baseline; ``None`` where there is none.
        run_violations: limits on the whole run that do not hold.
        price_change: a sentence where today's price table differs from the one of the last report; else ``None``.
        unused_cassettes: cassette files that no test asked for, sorted.
        max_spend: USD that live requests may cost; ``None`` for no ceiling. No document keeps it.
        total_max_cost: USD that the whole run may cost; ``None`` for no limit. No document keeps it.
        total_max_tokens: tokens that it may use; likewise.
        enforced: whether a limit that does not hold fails what it is for, and not only warns. No document keeps it.
    """

    plugin_version: str
    created: str
    complete: bool = True
    prices: PriceTable
    tests: tuple[UsageRecord, ...] = ()
    shared: tuple[SharedRecord, ...] = ()
    baseline: BaselineSummary | None = None
    run_violations: tuple[Violation, ...] = ()
    price_change: str | None = None
    unused_cassettes: tuple[str, ...] = ()
    max_spend: Decimal | None = None
    total_max_cost: Decimal | None = None
    total_max_tokens: int | None = None
    enforced: bool = True

    @classmethod
    def of(  # noqa: PLR0913 - the parts of one document, all by keyword
        cls,
        records: Iterable[UsageRecord],
        shared: Iterable[SharedRecord] = (),
        *,
        plugin_version: str,
        created: str,
        prices: PriceTable,
        complete: bool = True,
        baseline: BaselineSummary | None = None,
        run_violations: Iterable[Violation] = (),
        price_change: str | None = None,
        unused_cassettes: Iterable[str] = (),
        max_spend: Decimal | None = None,
        total_max_cost: Decimal | None = None,
        total_max_tokens: int | None = None,
        enforced: bool = True,
    ) -> Summary:
        """Gather a run: keep the tests worth listing, join the records of one fixture that several workers set up.

        Args:
            records: one for each test (of a test that ran again, the last), in the order in which they ran.
            shared: what fixtures of wider scope used; several records of one fixture are joined.
            plugin_version: see the class.
            created: see the class.
            prices: see the class.
            complete: see the class.
            baseline: see the class.
            run_violations: see the class.
            price_change: see the class.
            unused_cassettes: see the class.
            max_spend: see the class.
            total_max_cost: see the class.
            total_max_tokens: see the class.
            enforced: see the class.
        """
        return cls(
            plugin_version=plugin_version,
            created=created,
            complete=complete,
            prices=prices,
            tests=tuple(record for record in records if _worth_listing(record)),
            shared=join_shared(shared),
            baseline=baseline,
            run_violations=tuple(run_violations),
            price_change=price_change,
            unused_cassettes=tuple(sorted(set(unused_cassettes))),
            max_spend=max_spend,
            total_max_cost=total_max_cost,
            total_max_tokens=total_max_tokens,
            enforced=enforced,
        )

    @cached_property
    def total(self) -> Tally:
        """The sum over tests and shared fixtures."""
        hits = tally_of((), cache_hits=sum(part.cache_hits for part in self.parts))
        return Tally.sum([*(row.tally for row in self.models), hits])

    @cached_property
    def models(self) -> tuple[ModelRow, ...]:
        """One row for each provider and model, the dearest first, then by name."""
        groups: dict[tuple[str, str], list[ModelCall]] = {}
        written: dict[tuple[str, str], list[WrittenCall]] = {}
        for part in self.parts:
            calls = part.calls
            if isinstance(calls, WrittenCall):
                written.setdefault((calls.provider, calls.model), []).append(calls)
                continue
            for call in calls:
                groups.setdefault((call.provider, call.model), []).append(call)
        tallies = {key: [tally_of(calls)] for key, calls in groups.items()}
        for key, single in written.items():
            tallies.setdefault(key, []).append(_tally_of_written(single))
        rows = [
            ModelRow(provider=provider, model=model, tally=Tally.sum(each))
            for (provider, model), each in tallies.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.tally.known_cost.copy_negate(), row.provider, row.model)))

    @cached_property
    def users(self) -> tuple[UsageRecord, ...]:
        """The tests that called a model or its cache, by node id."""
        used = (record for record in self.tests if record.calls or record.cache_hits)
        return tuple(sorted(used, key=attrgetter("nodeid")))

    @cached_property
    def costliest(self) -> tuple[UsageRecord, ...]:
        """The same tests: by known cost, then tokens, then node id."""
        # One order after the other: keys of all three at once are a tuple and two numbers more for each test.
        used = sorted(self.users, key=_tokens, reverse=True)
        used.sort(key=_known_cost, reverse=True)
        return tuple(used)

    def costliest_of(self, most: int) -> tuple[UsageRecord, ...]:
        """The first of ``costliest``, and no more than so many, without putting all others in order."""
        return tuple(nlargest(most, self.users, key=lambda record: (_known_cost(record), _tokens(record))))

    @property
    def parts(self) -> tuple[UsageRecord | SharedRecord, ...]:
        """All that the run consists of: its tests, and then its shared fixtures."""
        return (*self.tests, *self.shared)

    @property
    def drift(self) -> tuple[Note, ...]:
        """Requests that no recording answered."""
        return _notes_of(self.tests, attrgetter("drift"))

    @property
    def unplayed(self) -> tuple[Note, ...]:
        """Recordings that a test did not ask for."""
        return _notes_of(self.tests, attrgetter("unplayed"))

    @property
    def blocked(self) -> tuple[Note, ...]:
        """What was not let through to the network, from replayed tests and, for its cost, from shared fixtures."""
        return _notes_of(self.parts, attrgetter("blocked"))

    @property
    def incidents(self) -> tuple[Note, ...]:
        """Errors while capturing, in tests and in shared fixtures."""
        return _notes_of(self.parts, attrgetter("incidents"))


def _notes_of(
    parts: Iterable[UsageRecord | SharedRecord], lines_of: Callable[[UsageRecord | SharedRecord], Iterable[str]]
) -> tuple[Note, ...]:
    """What tests and shared fixtures have to say, each line with who says it."""
    return tuple(
        Note(nodeid=fixture_title(part) if isinstance(part, SharedRecord) else part.nodeid, message=line)
        for part in filter(lines_of, parts)
        for line in lines_of(part)
    )


def tally_of(calls: Sequence[ModelCall | WrittenCall], *, cache_hits: int = 0) -> Tally:
    """Add up priced calls: the same figures as ``Tally.of``, several times faster for a whole run."""
    usages, costs, spent = [], [], []
    estimated = 0
    without_cost = []
    for call in calls:  # once: those of a whole run are more than a processor's cache holds
        usage, cost = call.usage, call.cost
        if usage is not None:
            usages.append(usage)
            estimated += call.source == "estimate"
        if cost is None:
            without_cost.append(call)
        else:
            costs.append(cost)
            if not call.replayed:
                spent.append(cost)
    unmeasured = len(calls) - len(usages)
    return Tally(
        usage=Usage.sum(usages)
        + Usage(
            requests=len(calls),
            unmeasured_requests=unmeasured,
            estimated_requests=estimated,
            cache_hits=cache_hits,
        ),
        known_cost=add_usd(costs),
        known_spent=add_usd(spent),
        unpriced_models=tuple(sorted({call.model for call in without_cost if call.usage is not None})),
        spent_unknown=not all(call.replayed for call in without_cost),
        unmeasured_reasons=tuple(
            sorted({call.reason or "no usage was reported" for call in calls if call.usage is None})
        )
        if unmeasured
        else (),
    )


def _tally_of_written(calls: Sequence[WrittenCall]) -> Tally:
    """The same for calls whose figures alone are in memory: all of them are known."""
    tokens = [call.tokens for call in calls]
    requests, given, cached, written, made = (sum([each[place] for each in tokens]) for place in range(5))
    return Tally(
        usage=Usage(
            requests=requests,
            input_tokens=given,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=made,
            reasoning_tokens=sum([call.reasoning_tokens for call in calls]),
            estimated_requests=sum([call.source == "estimate" for call in calls]),
        ),
        known_cost=add_usd([call.cost for call in calls]),
        known_spent=add_usd([call.cost for call in calls if not call.replayed]),
    )


def add_usd(amounts: Sequence[Decimal]) -> Decimal:
    """The exact sum of amounts of USD; of none it is 0."""
    return amounts[0] if len(amounts) == 1 else reduce(EXACT.add, amounts, Decimal(0))


def fixture_title(record: SharedRecord) -> str:
    """A shared fixture as reports name it."""
    return (
        f"{record.fixture} ({record.scope})"
        if record.fixture
        else "outside of tests, and first tries of tests that ran again"
    )


def _worth_listing(record: UsageRecord) -> bool:
    return bool(
        record.calls
        or record.cache_hits
        or record.budget is not None
        or record.baseline is not None
        or record.drift
        or record.blocked
        or record.unplayed
        or record.unfit
        or record.incidents
        or record.violations
    )


def _known_cost(record: UsageRecord) -> Decimal:
    calls = record.calls
    if isinstance(calls, WrittenCall):
        return calls.cost
    return add_usd([call.cost for call in calls if call.cost is not None])


def _tokens(record: UsageRecord) -> int:
    calls = record.calls
    if isinstance(calls, WrittenCall):
        return calls.total_tokens
    return sum([call.usage.input_tokens + call.usage.output_tokens for call in calls if call.usage is not None])


def join_shared(records: Iterable[SharedRecord]) -> tuple[SharedRecord, ...]:
    """One record for each fixture and scope, sorted; without those that say nothing."""
    joined: dict[tuple[str, str], SharedRecord] = {}
    for record in records:
        if not (record.calls or record.cache_hits or record.incidents or record.blocked):
            continue
        key = (record.fixture, record.scope)
        known = joined.get(key)
        joined[key] = (
            record
            if known is None
            else replace(
                known,
                calls=known.calls + record.calls,
                cache_hits=known.cache_hits + record.cache_hits,
                incidents=known.incidents + record.incidents,
                blocked=known.blocked + record.blocked,
            )
        )
    return tuple(joined[key] for key in sorted(joined))
