"""Whose call it is: the ledgers of the running test, of shared fixtures and of blocks, for any thread.

A test runs where a process-wide *running ledger* says so, not where a context variable does: threads, pools and
event loops that were made before the test carry no context of its own. Blocks (``track_usage``) are told apart by
context, because two of them may be open at once; a thread without any context counts for the one block that can be
meant, and for none where several could.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.spending import Account
    from pytest_tokenbudget.usage import ModelCall


class InFlight(Protocol):
    """A request whose answer is not read to its end yet."""

    def settle(self) -> None:
        """Count what came so far: nothing more will be looked at."""

    def preview(self, bill: Billing) -> None:
        """Count what came so far in other ledgers: those of its own wait for the rest."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ledger:
    """The model calls of one test, fixture, block or of the rest of a session. Safe to use from any thread.

    Attributes:
        name: for messages.
        enclosing: the block around this one, for blocks.
        is_open: whether it still takes calls.
    """

    name: str
    enclosing: Ledger | None = None
    is_open: bool = True
    _calls: list[ModelCall] = field(default_factory=list)
    _cache_hits: int = 0
    _incidents: list[str] = field(default_factory=list)
    _refusals: list[str] = field(default_factory=list)
    _in_flight: list[InFlight] = field(default_factory=list)

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The calls so far, in order of completion."""
        with _LOCK:
            return tuple(self._calls)

    @property
    def cache_hits(self) -> int:
        """Answers that LangChain took from its own cache."""
        return self._cache_hits

    @property
    def incidents(self) -> tuple[str, ...]:
        """What went wrong while capturing, each one line; any makes the usage unmeasured."""
        with _LOCK:
            return tuple(self._incidents)

    def settle(self) -> None:
        """Count what is in flight as far as it came: nobody waits for the rest."""
        with _LOCK:
            waiting, self._in_flight = self._in_flight, []
        for each in waiting:
            each.settle()

    def preview(self) -> None:
        """Count what is in flight as far as it came, in this ledger alone."""
        with _LOCK:
            waiting, self._in_flight = self._in_flight, []
        for each in waiting:
            each.preview(Billing((self,)))

    @property
    def refused(self) -> bool:
        """Whether a request was refused before it was sent, and nobody has taken that yet."""
        return bool(self._refusals)

    def take_refusals(self) -> list[str]:
        """Take out why requests were refused before they were sent, each one line: whoever takes it fails for it."""
        with _LOCK:
            taken, self._refusals = self._refusals, []
        return taken

    def close(self) -> None:
        """Take no more calls."""
        with _LOCK:
            self.is_open = False

    def drain(self) -> tuple[tuple[ModelCall, ...], int, tuple[str, ...]]:
        """Take out the calls, cache hits and incidents so far, so that each is reported once."""
        with _LOCK:
            taken = tuple(self._calls), self._cache_hits, tuple(self._incidents)
            self._calls, self._cache_hits, self._incidents = [], 0, []
        return taken


@dataclass(slots=True, eq=False)
class Billing:
    """Where one call goes: fixed when it starts, so that an answer which comes late is not the next test's.

    Attributes:
        ledgers: the running test, fixture or session, and the open blocks around the call; the widest comes first.
    """

    ledgers: tuple[Ledger, ...]

    def add(self, call: ModelCall) -> None:
        """Enter a finished call."""
        with _LOCK:
            for ledger in self._targets():
                ledger._calls.append(call)  # noqa: SLF001 - a ledger's own module

    def replace(self, old: ModelCall, new: ModelCall) -> None:
        """Correct a call that was entered with less knowledge."""
        with _LOCK:
            for ledger in self._targets():
                calls = ledger._calls  # noqa: SLF001
                for index, call in enumerate(calls):
                    if call is old:
                        calls[index] = new

    def add_cache_hit(self) -> None:
        """Count an answer from LangChain's own cache."""
        with _LOCK:
            for ledger in self._targets():
                ledger._cache_hits += 1  # noqa: SLF001

    def add_incident(self, what: str) -> None:
        """Enter something that went wrong while capturing."""
        with _LOCK:
            for ledger in self._targets():
                ledger._incidents.append(what)  # noqa: SLF001

    def refuse(self, why: str) -> None:
        """Enter that a request was refused before it was sent, where it would have been billed."""
        with _LOCK:
            account = self.ledgers[0]
            if not account.is_open and _frames:
                account = _frames[-1].rest
            account._refusals.append(why)  # noqa: SLF001

    def begin(self, request: InFlight) -> None:
        """Enter a request whose answer is being read."""
        with _LOCK:
            for ledger in self.ledgers:
                ledger._in_flight.append(request)  # noqa: SLF001

    def end(self, request: InFlight) -> None:
        """Forget a request whose answer was read."""
        with _LOCK:
            for ledger in self.ledgers:
                if request in ledger._in_flight:  # noqa: SLF001
                    ledger._in_flight.remove(request)  # noqa: SLF001

    def _targets(self) -> list[Ledger]:
        targets = [ledger for ledger in self.ledgers if ledger.is_open]
        if len(targets) == len(self.ledgers):
            return targets
        account = self.ledgers[0]
        # The test has been judged and reported: what comes now is the session's.
        if not account.is_open and _frames and _frames[-1].rest is not account:
            targets.append(_frames[-1].rest)
        return targets


@dataclass(slots=True, eq=False)
class Frame:
    """One pytest session in this process; a test that runs pytest inside itself has two, and the inner one counts.

    Attributes:
        book: the prices that hold in it.
        account: what it may spend on live requests; ``None`` where there is no ceiling.
        rest: what no test and no fixture can be blamed for.
        running: the test or fixture that runs now.
    """

    book: PriceBook
    account: Account | None = None
    rest: Ledger = field(default_factory=lambda: Ledger("outside of any test"))
    running: Ledger | None = None

    @contextmanager
    def charge(self, ledger: Ledger | None) -> Iterator[None]:
        """Let calls go to another ledger for a while."""
        before, self.running = self.running, ledger
        try:
            yield
        finally:
            self.running = before


_LOCK = threading.RLock()
_frames: list[Frame] = []
_blocks: list[Ledger] = []
_block: ContextVar[Ledger | None] = ContextVar("pytest_tokenbudget_block", default=None)
_has_context: ContextVar[bool] = ContextVar("pytest_tokenbudget_has_context", default=False)
# Contexts that are copied from the main one, by tasks or ``asyncio.to_thread``, carry it; bare threads do not.
_has_context.set(True)


def push_frame(frame: Frame) -> None:
    """Let a session's ledgers take the calls from now on."""
    with _LOCK:
        _frames.append(frame)


def pop_frame(frame: Frame) -> None:
    """Give the calls back to the session around, if there is one."""
    with _LOCK:
        if frame in _frames:
            _frames.remove(frame)


def current_frame() -> Frame | None:
    """The session that runs now; ``None`` outside of pytest."""
    return _frames[-1] if _frames else None


def billing(*, outside: bool = False) -> Billing | None:
    """Where a call that starts now, in this thread and context, goes; ``None`` where nobody counts.

    Args:
        outside: it is known to belong to no test that runs now.
    """
    if not _frames and not _blocks:
        return None
    with _LOCK:
        frame = _frames[-1] if _frames else None
        ledgers = [] if frame is None else [(not outside and frame.running) or frame.rest]
        if _blocks:
            ledgers += reversed(_open_blocks())
    return Billing(tuple(ledgers)) if ledgers else None


@contextmanager
def open_block(name: str) -> Iterator[Ledger]:
    """Count the calls of a block, besides wherever else they are counted."""
    ledger = Ledger(name, enclosing=_innermost(_block.get()))
    token = _block.set(ledger)
    with _LOCK:
        _blocks.append(ledger)
    try:
        yield ledger
    finally:
        ledger.preview()
        ledger.close()
        with _LOCK:
            _blocks.remove(ledger)
        try:
            _block.reset(token)
        except ValueError:
            # A generator fixture may be finished in another context than it was started in.
            _block.set(ledger.enclosing)


def _innermost(block: Ledger | None) -> Ledger | None:
    while block is not None and not block.is_open:
        block = block.enclosing
    return block


def _around(block: Ledger | None) -> list[Ledger]:
    chain = []
    while block is not None:
        if block.is_open:
            chain.append(block)
        block = block.enclosing
    return chain


def _open_blocks() -> list[Ledger]:
    """Where there are blocks: the open ones around a call in this context, else those that it must belong to."""
    if chain := _around(_block.get()):
        return chain
    if _has_context.get() or threading.current_thread() is threading.main_thread():
        return []  # it knows where it comes from, and that is no block
    inner = [block for block in _blocks if not any(other.enclosing is block for other in _blocks)]
    chains = [_around(block) for block in inner]
    return [block for block in chains[0] if all(block in chain for chain in chains)]
