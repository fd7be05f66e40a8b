"""What one test or shared fixture used: the record that crosses from worker to controller."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_tokenbudget.frozen import maker_of, quickly_made, remade
from pytest_tokenbudget.usage import ModelCall, Usage
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_tokenbudget.budget import Budget, Verdict, Violation

Outcome = Literal["passed", "failed", "error", "skipped", "xfailed", "xpassed"]
BaselineStatus = Literal["new", "within", "over", "improved"]

ESTIMATED = "estimated from the nearest recording"
RERECORD = "; re-record with: "
"""What a line of a record's ``drift`` says of a request that was answered all the same, and before its command."""


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The sum of some calls.

    Attributes:
        usage: all tokens and counts.
        known_cost: USD of the calls whose price is known.
        known_spent: USD of the live ones among them.
        unpriced_models: models that were used and have no price, sorted.
        spent_unknown: whether a live call's cost is not known.
        unmeasured_reasons: why calls are unmeasured, sorted, each once.
    """

    usage: Usage
    known_cost: Decimal = Decimal(0)
    known_spent: Decimal = Decimal(0)
    unpriced_models: tuple[str, ...] = ()
    spent_unknown: bool = False
    unmeasured_reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, calls: Iterable[ModelCall], *, cache_hits: int = 0) -> Tally:
        """Add up priced calls."""
        calls = tuple(calls)
        costs = [(call.cost, call.replayed) for call in calls if call.cost is not None]
        return cls(
            usage=Usage.sum([*(call.tally for call in calls), Usage(cache_hits=cache_hits)]),
            known_cost=_add_up(cost for cost, _ in costs),
            known_spent=_add_up(cost for cost, replayed in costs if not replayed),
            unpriced_models=tuple(
                sorted({call.model for call in calls if call.cost is None and call.usage is not None})
            ),
            spent_unknown=any(call.cost is None and not call.replayed for call in calls),
            unmeasured_reasons=tuple(
                sorted({call.reason or "no usage was reported" for call in calls if call.usage is None})
            ),
        )

    @classmethod
    def sum(cls, tallies: Iterable[Tally]) -> Tally:
        """Join the sums of any number of groups of calls."""
        tallies = tuple(tallies)
        return cls(
            usage=Usage.sum(each.usage for each in tallies),
            known_cost=_add_up(each.known_cost for each in tallies),
            known_spent=_add_up(each.known_spent for each in tallies),
            unpriced_models=tuple(sorted({model for each in tallies for model in each.unpriced_models})),
            spent_unknown=any(each.spent_unknown for each in tallies),
            unmeasured_reasons=tuple(sorted({reason for each in tallies for reason in each.unmeasured_reasons})),
        )

    @property
    def cost(self) -> Decimal | None:
        """USD of all calls; ``None`` where a call is unpriced or unmeasured."""
        return None if self.unpriced_models or self.usage.unmeasured_requests else self.known_cost

    @property
    def spent(self) -> Decimal | None:
        """USD that live calls cost; ``None`` where one of them is unpriced or unmeasured."""
        return None if self.spent_unknown else self.known_spent


class ModelTokens(NamedTuple):
    """What a baseline remembers of one model in one test.

    A tuple, since there is one for each test of a suite and for each entry, and all of them are compared.

    Attributes:
        requests: model requests.
        input: all input tokens, cached ones included.
        cached: input tokens read from the provider's cache.
        cache_write: input tokens written to it.
        output: output tokens, reasoning included.
    """

    requests: int = 0
    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0

    def plus(self, other: ModelTokens) -> ModelTokens:
        """The sum of both."""
        return ModelTokens(*map(add, self, other))


Counts = tuple[int, int, int, int, int]
"""The same figures without their names; each ``ModelTokens`` is one too."""

model_tokens: Callable[[Counts], ModelTokens] = partial(tuple.__new__, ModelTokens)
"""Makes the same from a tuple of all figures, in half the time: there is one for each test of a suite, and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineResult:
    """How a test stands against its baseline entry.

    Attributes:
        status: ``new`` (no entry), ``within``, ``over`` or ``improved``.
        tokens: total tokens of the entry.
        cost: USD of the entry at today's prices; ``None`` where not known.
        models: the entry, per model.
    """

    status: BaselineStatus
    tokens: int | None = None
    cost: Decimal | None = None
    models: Mapping[str, ModelTokens] | None = None


baseline_result = maker_of(BaselineResult)
"""Makes the same: there is one for each test of a suite."""


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """One test's usage and how it was judged.

    Attributes:
        nodeid: the test.
        outcome: what pytest says of it, once all its phases ran.
        verdict: what the budget says of it.
        calls: its model requests, priced, in order of completion; in a tuple, or in the report that holds them.
        late_calls: how many of them, the last ones, its fixtures made while they were torn down: not judged.
        cache_hits: answers from LangChain's own cache.
        budget: its limits, or ``None``.
        violations: the limits that do not hold.
        baseline: how it stands against the baseline, or ``None`` where there is none.
        incidents: errors while capturing; any of them makes the test unmeasured.
        drift: requests that no recording answered, each one line; with ``ESTIMATED``, another one's recording did.
        blocked: attempts to reach the network from a replayed test, each one line.
        unplayed: recordings that were not asked for, each one line.
        unfit: why its recordings fail it, too old or, where that fails, left unplayed, each one line; in no document.
        cassettes: the cassette files that it used.
    """

    nodeid: str
    outcome: Outcome = "passed"
    verdict: Verdict = "none"
    calls: tuple[ModelCall, ...] | WrittenCall = ()
    late_calls: int = 0
    cache_hits: int = 0
    budget: Budget | None = None
    violations: tuple[Violation, ...] = ()
    baseline: BaselineResult | None = None
    incidents: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    unplayed: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    cassettes: tuple[str, ...] = ()

    @property
    def tally(self) -> Tally:
        """The sum of its calls."""
        return Tally.of(self.calls, cache_hits=self.cache_hits)

    @property
    def figures(self) -> Sequence[ModelCall | WrittenCall]:
        """What its calls used and cost, of those too that are not in memory as a whole."""
        calls = self.calls
        return (calls,) if isinstance(calls, WrittenCall) else calls

    @property
    def judged_calls(self) -> Sequence[ModelCall | WrittenCall]:
        """The figures that were held against its budget and its baseline: all but those of its late calls."""
        return self.figures[: len(self.calls) - self.late_calls] if self.late_calls else self.figures

    @property
    def is_known(self) -> bool:
        """Whether all that it used is known, so that a baseline can remember it."""
        if self.incidents:
            return False
        calls = self.calls
        return isinstance(calls, WrittenCall) or None not in [call.usage for call in calls]

    @property
    def models(self) -> dict[str, ModelTokens]:
        """What a baseline remembers of this test: its measured and estimated tokens per model, sorted by name.

        Without its late calls: nobody can hold them against a baseline any more.
        """
        calls = self.calls
        if isinstance(calls, WrittenCall):
            return {} if self.late_calls else {calls.model: calls.tokens}
        models: dict[str, ModelTokens] = {}
        for call in calls[: len(calls) - self.late_calls] if self.late_calls else calls:
            if (used := call.tokens) is None:
                continue
            tokens = model_tokens(used)
            known = models.get(call.model)
            models[call.model] = tokens if known is None else known.plus(tokens)
        return models if len(models) <= 1 else dict(sorted(models.items()))

    def with_outcome(self, outcome: Outcome) -> UsageRecord:
        """The same record with another outcome."""
        return self if outcome == self.outcome else remade(self, outcome=outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRecord:
    """What a fixture of class, module, package or session scope used; charged to no test.

    Attributes:
        fixture: its name; empty for usage outside of any test and fixture.
        scope: its scope.
        calls: its model requests, priced.
        cache_hits: answers from LangChain's own cache.
        incidents: errors while capturing.
        blocked: requests that were refused for what they could cost, and that no test could fail for, each one line.
    """

    fixture: str
    scope: str
    calls: tuple[ModelCall, ...] = ()
    cache_hits: int = 0
    incidents: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def figures(self) -> tuple[ModelCall, ...]:
        """What its calls used and cost."""
        return self.calls

    @property
    def tally(self) -> Tally:
        """The sum of its calls."""
        return Tally.of(self.calls, cache_hits=self.cache_hits)


_EXACT = Context(prec=100)


def _add_up(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum, whatever decimal context the test has left behind."""
    return reduce(_EXACT.add, amounts, Decimal(0))
