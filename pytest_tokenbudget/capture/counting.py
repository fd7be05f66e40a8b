"""From what was seen to one call in the ledger: HTTP is the truth, LangChain's callback adds what HTTP can't know.

A callback's run is *explained* by an exchange that was sent in the run's context (``generate`` of three prompts is
three runs and one request; a model around a model is two runs), that carries the run's response id, or that, while
the run lasted, went to the same model or, from a thread without context, used just what the run reports.
An explained run adds nothing, unless the exchange itself could not be measured. An unexplained run, of a model that
uses no HTTP, counts when it reports its usage.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_tokenbudget.capture import wire
from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.wire.exchange import Exchange
from pytest_tokenbudget.ledger import current_frame
from pytest_tokenbudget.usage import ModelCall, Usage, make_call

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pytest_tokenbudget.capture.tracked_request import TrackedRequest
    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.ledger import Billing, Ledger


@dataclass(slots=True, eq=False)
class Seen:
    """An exchange, kept to explain callbacks.

    Attributes:
        started: when it was sent, on the monotonic clock.
        models: the names that it goes by.
        call: its call in the ledger.
        has_run: whether it is known which run it was sent for.
        stood_in: whether the answer was recorded for another request, so that a callback reports that one's usage.
        ended: when its answer was counted, on the same clock.
    """

    started: float
    models: frozenset[str]
    call: ModelCall
    has_run: bool
    stood_in: bool = False
    ended: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Traces:
    """The exchanges of one account."""

    all: list[Seen] = field(default_factory=list)
    by_run: dict[UUID, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    by_id: dict[str, Seen] = field(default_factory=dict)
    background: set[str] = field(default_factory=set)

    def of(self, run_id: UUID, request_ids: Sequence[str]) -> list[Seen]:
        """The exchanges that were sent for a run, or that carry an id of its answer."""
        own = list(self.by_run.get(run_id, ())) if self.by_run else []
        if self.by_id:
            own += [self.by_id[each] for each in request_ids if each in self.by_id]
        return own


@dataclass(slots=True, eq=False)
class Run:
    """A LangChain model run that has started.

    Attributes:
        run_id: LangChain's id of it.
        bill: where its usage goes.
        model: the model's name as LangChain knows it.
        provider: the provider's name as LangChain knows it.
        started: when it started, on the monotonic clock.
        around: the runs that it started in, those of its batch before it included.
    """

    run_id: UUID
    bill: Billing
    model: str
    provider: str
    started: float
    around: tuple[UUID, ...] = ()


_runs: ContextVar[tuple[UUID, ...]] = ContextVar("pytest_tokenbudget_runs", default=())
_open_runs: dict[UUID, Run] = {}
_traces: WeakKeyDictionary[Ledger, Traces] = WeakKeyDictionary()


def current_runs() -> tuple[UUID, ...]:
    """The LangChain model runs that this context is in, outermost first, as far as it is known."""
    return tuple([each for each in _runs.get() if each in _open_runs]) if _open_runs else ()


def count_exchange(tracked: TrackedRequest, exchange: Exchange, bill: Billing) -> ModelCall | None:
    """Enter what an exchange used into the ledger; nothing, and ``None``, where it was no model request."""
    reading = wire.read(exchange)
    if reading is None or reading.pending:
        return None
    traces = _traces_of(bill)
    # Background work of the responses API is polled: the same answer comes with every GET after it is done.
    if reading.request_id is not None and "/responses" in reading.endpoint:
        if exchange.method == "GET" and reading.request_id in traces.background:
            return None
        traces.background.add(reading.request_id)
    call = _measure(reading, tracked)
    bill.add(call)
    names = frozenset({reading.model, reading.request_model} - {""})
    seen = Seen(
        tracked.started,
        names,
        call,
        has_run=bool(tracked.run_ids),
        stood_in=tracked.more_input_tokens is not None,
    )
    traces.all.append(seen)
    for run_id in tracked.run_ids:
        traces.by_run[run_id].append(seen)
    if reading.request_id is not None:
        traces.by_id[reading.request_id] = seen
    return call


def preview_exchange(tracked: TrackedRequest, exchange: Exchange, bill: Billing) -> None:
    """Enter what an exchange has used up to now into the ledger of a block that ends before it."""
    reading = wire.read(exchange)
    if reading is not None and not reading.pending:
        bill.add(_measure(reading, tracked))


def count_unanswered(tracked: TrackedRequest, bill: Billing, why: str) -> None:
    """Enter a request that was sent and not answered: the provider may bill it, so its usage is unknown."""
    reading = wire.read(
        Exchange(method=tracked.method, url=tracked.url, request_body=tracked.request_body, complete=False)
    )
    if reading is not None:
        bill.add(
            ModelCall(
                model=reading.model or reading.request_model,
                provider=reading.provider,
                endpoint=reading.endpoint,
                reason=f"the request was sent and no answer was read ({why})",
            )
        )


def count_run(  # noqa: PLR0913 - keyword-only, one per fact about the run
    run: Run,
    *,
    usage: Usage | None,
    cache_hit: bool,
    model: str,
    request_ids: Sequence[str],
    disbelieved: bool = False,
) -> None:
    """Enter what a LangChain run reports, unless an exchange explains it.

    Args:
        run: the run that has ended.
        usage: what it reports; ``None`` where it reports nothing.
        cache_hit: whether LangChain answered from its own cache.
        model: the model's name as its answer has it.
        request_ids: ids of the answer that an exchange may carry too, the provider's first.
        disbelieved: it reports something that can't be a usage, so it is unmeasured.
    """
    if cache_hit:
        run.bill.add_cache_hit()
        return
    traces = _traces_of(run.bill)
    if own := traces.of(run.run_id, request_ids):
        only = own[0]
        if (
            usage is not None
            and not only.stood_in
            and all(each is only for each in own)
            and (only.call.usage is None or only.call.estimated)
        ):
            better = replace(only.call, usage=usage, source="callback", reason=None)
            run.bill.replace(only.call, better)
            only.call = better
        return
    if (usage is None and not disbelieved) or (traces.all and _explained_by_time(run, model, usage, traces)):
        return
    playback = active_playback()
    call = make_call(
        model=model or run.model,
        provider=run.provider,
        usage=usage,
        source="callback",
        # A replayed test reaches nobody, so a model without HTTP costs nothing there either.
        replayed=playback is not None and not playback.live,
        reason="LangChain's callback reported a count that can't be believed" if disbelieved else None,
        request_id=request_ids[0] if request_ids else None,
    )
    run.bill.add(call)
    _charge(call)
    # A model around this one will report the same usage again.
    for run_id in run.around:
        traces.by_run[run_id].append(Seen(run.started, frozenset({call.model}), call, has_run=True))


def _explained_by_time(run: Run, model: str, usage: Usage | None, traces: Traces) -> bool:
    # They stand in the order in which they ended; one that began before may have ended later.
    since = takewhile(lambda seen: seen.ended >= run.started, reversed(traces.all))
    during = [seen for seen in since if seen.started >= run.started]
    names = {run.model, model} - {""}
    if any(names & seen.models for seen in during):
        return True
    # A thread without context may have asked for it: then one answer, or all of them, used what the run reports.
    stray = [seen.call.usage for seen in during if not seen.has_run and seen.call.usage is not None]
    if usage is None or not stray:
        return False
    return any(
        (each.input_tokens, each.output_tokens) == (usage.input_tokens, usage.output_tokens)
        for each in (*stray, Usage.sum(stray))
    )


def _charge(call: ModelCall) -> None:
    """Enter a live call without HTTP into the run's account: it is known too late to be refused."""
    frame = current_frame()
    if frame is None or frame.account is None or call.replayed:
        return
    if (cost := frame.book.cost(call)) is not None:
        frame.account.charge(cost)


def _traces_of(bill: Billing) -> Traces:
    ledger = bill.ledgers[0]
    traces = _traces.get(ledger)
    return _traces.setdefault(ledger, Traces()) if traces is None else traces


def _measure(reading: Reading, tracked: TrackedRequest) -> ModelCall:
    call = make_call(
        model=reading.model or reading.request_model,
        provider=reading.provider,
        endpoint=reading.endpoint,
        usage=reading.usage,
        replayed=tracked.replayed,
        request_id=reading.request_id,
        service_tier=reading.service_tier,
        request_model=reading.request_model,
        reason=reading.reason if reading.usage is None else None,
        prompt=reading.prompt,
    )
    if reading.usage is not None and tracked.more_input_tokens is not None:
        return replace(call, usage=_adjusted(reading.usage, tracked.more_input_tokens), source="estimate")
    if reading.usage is not None or reading.impossible:
        return call
    from pytest_tokenbudget.capture.estimate import estimate_usage  # noqa: PLC0415 - tiktoken, only where needed

    estimate = estimate_usage(reading)
    return call if estimate is None else replace(call, usage=estimate, source="estimate", reason=None)


def _adjusted(usage: Usage, more_input_tokens: int) -> Usage:
    """A recorded usage for a request whose input is longer, or shorter; its cache served what it can still hold."""
    input_tokens = max(usage.input_tokens + more_input_tokens, 0)
    cached = min(usage.cached_input_tokens, input_tokens)
    written = min(usage.cache_write_tokens, input_tokens - cached)
    return replace(
        usage,
        input_tokens=input_tokens,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(usage.cache_write_1h_tokens, written),
    )


def start_run(run_id: UUID, bill: Billing, model: str, provider: str) -> None:
    """Note that a LangChain model run starts here and now: what this context sends until its end is sent for it."""
    around = current_runs()
    _open_runs[run_id] = Run(run_id, bill, model, provider, time.monotonic(), around)
    _runs.set((*around, run_id))


def end_run(run_id: UUID) -> Run | None:
    """Note that a run has ended, or has failed; ``None`` where nobody counted when it started."""
    return _open_runs.pop(run_id, None)
