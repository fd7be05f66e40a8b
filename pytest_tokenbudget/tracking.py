"""What a test or a block has used so far, live: the ``usage`` fixture and ``track_usage``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from pytest_tokenbudget.budget import Budget, judge
from pytest_tokenbudget.capture.attach import attached
from pytest_tokenbudget.errors import BudgetExceeded, UnmeasuredUsageError, UnpricedModelError
from pytest_tokenbudget.ledger import current_frame, open_block
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import Tally, UsageRecord
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal

    from pytest_tokenbudget.ledger import Ledger
    from pytest_tokenbudget.usage import ModelCall


class UsageTracker:
    """The usage of a test or a block. It is live: every attribute tells what was used up to now.

    Attributes whose names LangChain's OpenAI callback knows are there under its names too.
    """

    def __init__(self, ledger: Ledger, book: PriceBook) -> None:
        self._ledger = ledger
        self._book = book
        # By identity: a call is priced, and its input located, once. The call itself keeps its id from being reused.
        self._priced: dict[int, tuple[ModelCall, ModelCall]] = {}
        self._located: dict[int, tuple[ModelCall, ModelCall]] = {}

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The model requests so far, priced, in order of completion, each with where its input went."""
        return tuple(_once(self._located, call, locate_input) for call in self.priced_calls)

    @property
    def priced_calls(self) -> tuple[ModelCall, ...]:
        """Like ``calls``, without where the input went: that takes a tokenizer."""
        return tuple(_once(self._priced, call, self._book.priced) for call in self._ledger.calls)

    @property
    def by_model(self) -> dict[str, Usage]:
        """Tokens and requests per model, in the order in which the models were first used."""
        models: dict[str, Usage] = {}
        for call in self._ledger.calls:
            models[call.model] = models.get(call.model, Usage()) + call.tally
        return models

    @property
    def input_tokens(self) -> int:
        """All prompt tokens, cached ones included."""
        return self._usage.input_tokens

    @property
    def cached_input_tokens(self) -> int:
        """Prompt tokens that the provider read from its cache."""
        return self._usage.cached_input_tokens

    @property
    def cache_write_tokens(self) -> int:
        """Prompt tokens that the provider wrote to its cache."""
        return self._usage.cache_write_tokens

    @property
    def output_tokens(self) -> int:
        """Generated tokens, reasoning included."""
        return self._usage.output_tokens

    @property
    def reasoning_tokens(self) -> int:
        """Generated tokens that were hidden reasoning."""
        return self._usage.reasoning_tokens

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self._usage.total_tokens

    @property
    def requests(self) -> int:
        """Model requests that were answered."""
        return self._usage.requests

    @property
    def cache_hits(self) -> int:
        """Answers that LangChain took from its own cache; nothing was sent for them."""
        return self._usage.cache_hits

    @property
    def estimated_requests(self) -> int:
        """Requests whose tokens were counted locally, because the provider reported none."""
        return self._usage.estimated_requests

    @property
    def unmeasured_requests(self) -> int:
        """Requests whose tokens are not known."""
        return self._usage.unmeasured_requests

    @property
    def cost(self) -> Decimal:
        """USD list price of all requests, exact.

        Raises:
            UnmeasuredUsageError: the usage of a request is not known.
            UnpricedModelError: there is no price for a model.
        """
        tally = self.tally
        if reasons := (*tally.unmeasured_reasons, *self._ledger.incidents):
            raise UnmeasuredUsageError(f"the cost is not known: {'; '.join(reasons)}")
        if tally.unpriced_models:
            raise UnpricedModelError(tally.unpriced_models)
        return tally.known_cost

    @property
    def tally(self) -> Tally:
        """All of it as one value."""
        return Tally.of(self.priced_calls, cache_hits=self._ledger.cache_hits)

    @property
    def prompt_tokens(self) -> int:
        """``input_tokens``, by the name of LangChain's callback."""
        return self.input_tokens

    @property
    def prompt_tokens_cached(self) -> int:
        """``cached_input_tokens``, by the name of LangChain's callback."""
        return self.cached_input_tokens

    @property
    def completion_tokens(self) -> int:
        """``output_tokens``, by the name of LangChain's callback."""
        return self.output_tokens

    @property
    def successful_requests(self) -> int:
        """``requests``, by the name of LangChain's callback."""
        return self.requests

    @property
    def total_cost(self) -> float:
        """``cost`` as a float, by the name of LangChain's callback.

        Raises:
            UnmeasuredUsageError: the usage of a request is not known.
            UnpricedModelError: there is no price for a model.
        """
        return float(self.cost)

    @contextmanager
    def track(self, name: str | None = None, **limits: object) -> Iterator[UsageTracker]:
        """Count a block by itself, and hold it to limits of its own.

        Args:
            name: what to call the block in messages.
            **limits: the keywords of ``@pytest.mark.token_budget``.

        Raises:
            BudgetExceeded: at the block's end, it used more than a limit.
            UnmeasuredUsageError: at its end, what it used is not known.
            UnpricedModelError: at its end, it has a cost limit, and there is no price for a model.
            ConfigurationError: a limit is unknown or not allowed.
        """
        with _track(name, limits, self._book) as tracker:
            yield tracker

    def __str__(self) -> str:
        from pytest_tokenbudget.report.block import render_usage  # noqa: PLC0415 - only to print

        tally = self.tally
        unknown = tally.unmeasured_reasons or self._ledger.incidents
        return render_usage(tally.usage, None if unknown else tally.cost, unpriced_models=tally.unpriced_models)

    __repr__ = __str__

    @property
    def _usage(self) -> Usage:
        return Usage.sum(call.tally for call in self._ledger.calls) + Usage(cache_hits=self._ledger.cache_hits)


def _once(
    known: dict[int, tuple[ModelCall, ModelCall]], call: ModelCall, make: Callable[[ModelCall], ModelCall]
) -> ModelCall:
    key = id(call)
    found = known.get(key)
    if found is None:
        found = known[key] = call, make(call)
    return found[1]


def locate_input(call: ModelCall) -> ModelCall:
    """The same call with where its input went, if that can be told."""
    if call.parts is not None or call.prompt is None or call.usage is None:
        return call
    from pytest_tokenbudget.capture.estimate import split_prompt  # noqa: PLC0415 - imports tiktoken

    return replace(call, parts=split_prompt(call.prompt, call.model, call.usage.input_tokens))


@contextmanager
def track_usage(name: str | None = None, **limits: object) -> Iterator[UsageTracker]:
    """Count the model requests of a block, anywhere: in a test, a script or a notebook.

    A drop-in for LangChain's ``get_openai_callback()``. Blocks may be nested and may run at the same time.

    Args:
        name: what to call the block in messages.
        **limits: the keywords of ``@pytest.mark.token_budget``; by default there are none.

    Raises:
        BudgetExceeded: at the block's end, it used more than a limit.
        UnmeasuredUsageError: at its end, it has limits, and what it used is not known.
        UnpricedModelError: at its end, it has a cost limit, and there is no price for a model.
        ConfigurationError: a limit is unknown or not allowed.
    """
    frame = current_frame()
    with attached(), _track(name, limits, _default_book() if frame is None else frame.book) as tracker:
        yield tracker


@cache
def _default_book() -> PriceBook:
    return PriceBook()


@contextmanager
def _track(name: str | None, limits: dict[str, object], book: PriceBook) -> Iterator[UsageTracker]:
    subject = f"the block {name!r}" if name else "the block"
    budget = Budget.from_limits(limits, origin=subject)
    with open_block(subject) as ledger:
        tracker = UsageTracker(ledger, book)
        yield tracker
    _enforce(subject, tracker, budget, ledger.incidents)


def _enforce(subject: str, tracker: UsageTracker, budget: Budget, incidents: tuple[str, ...]) -> None:
    tally = tracker.tally
    violations = judge(tally, budget)
    if not violations and not (incidents and budget.watches):
        return
    from pytest_tokenbudget.report.message import render_verdict  # noqa: PLC0415 - only when it fails

    record = UsageRecord(
        nodeid=subject,
        calls=tracker.calls,
        cache_hits=tally.usage.cache_hits,
        budget=budget,
        violations=violations,
        incidents=incidents,
    )
    message = render_verdict(record, remedy="If this is intended, raise the limits of the block.")
    if any(violation.over or violation.limit == "min_requests" for violation in violations):
        raise BudgetExceeded(message)
    if tally.unpriced_models and not tally.unmeasured_reasons:
        raise UnpricedModelError(tally.unpriced_models, message)
    raise UnmeasuredUsageError(message or f"{subject} could not be measured: {'; '.join(incidents)}")
