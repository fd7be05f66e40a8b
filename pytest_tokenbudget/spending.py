"""The account of what a run spends on live requests: one for all its processes and threads, with a ceiling.

It is a small file in a folder of the run's own. Before a request is sent, what it could cost at worst is held; once
its answer has come, what it did cost takes that place. What is spent and what is held never pass the ceiling
together, so that no number of requests at once can. What nobody gives back (a worker that was killed, an answer that
could not be measured) stays held.
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tokenbudget.files import locked, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_tokenbudget.usage import ModelCall
    from pytest_tokenbudget.written_call import WrittenCall

TICKET = "token_budget_account"
"""The key of xdist's worker input that tells a worker where the run's account lies."""

_EXACT = Context(prec=100)
"""Sums are exact, and do not depend on the decimal context that a test may have left behind."""

_NOTHING = Decimal(0)


class AccountError(Exception):
    """The account can't be read or written here, so nothing may be spent; the message says why."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account says.

    Attributes:
        spent: USD that answered requests did cost.
        held: USD that requests on their way, and those whose cost nobody knows, could cost at most.
    """

    spent: Decimal = _NOTHING
    held: Decimal = _NOTHING

    def plus(self, spent: Decimal, held: Decimal) -> Balance:
        """The balance after a change of both."""
        return Balance(_EXACT.add(self.spent, spent), _EXACT.add(self.held, held))

    @property
    def total(self) -> Decimal:
        """What may be gone already, in USD."""
        return _EXACT.add(self.spent, self.held)


class CeilingReached(Exception):  # noqa: N818 - no mistake of anybody's: an answer
    """The account has no room for a request; ``balance`` is what it holds."""

    def __init__(self, balance: Balance) -> None:
        super().__init__(f"{balance.total} USD may be spent already")
        self.balance = balance


class Account:
    """The money of one run. Safe to use from any thread, and from every process that has the same file.

    Attributes:
        ceiling: USD that may be spent.
    """

    def __init__(self, ceiling: Decimal, path: Path, *, fault: str | None = None) -> None:
        self.ceiling = ceiling
        self._path = path
        self._fault = fault
        self._lock = threading.Lock()
        self._turn_of: int | None = None
        self._changes: deque[tuple[Decimal, Decimal]] = deque()

    @classmethod
    def open(cls, ceiling: Decimal) -> Account:
        """Open the account of a run that begins.

        Raises:
            OSError: there is no place for it.
        """
        account = cls(ceiling, Path(tempfile.mkdtemp(prefix="pytest-tokenbudget-"), "spent.json"))
        write_atomically(account._path, _write(Balance()))
        return account

    @classmethod
    def join(cls, ceiling: Decimal, ticket: Mapping[str, str] | None) -> Account:
        """Use the account of a run that another process began; where that can't be, one that lets nothing pass."""
        if ticket is None:
            return cls(ceiling, Path(), fault="this worker was not told where the run's account lies")
        path, here = Path(ticket["path"]), socket.gethostname()
        if ticket["machine"] != here or not path.is_file():
            fault = (
                f"this worker runs on {here} and can't use the account of the run, which lies on {ticket['machine']}"
            )
            return cls(ceiling, path, fault=fault)
        return cls(ceiling, path)

    @property
    def ticket(self) -> dict[str, str]:
        """What another process needs to join."""
        return {"path": str(self._path), "machine": socket.gethostname()}

    @property
    def balance(self) -> Balance:
        """What is spent and held now.

        Raises:
            AccountError: it can't be read.
        """
        with self._turn() as books:
            return books.balance

    def hold(self, amount: Decimal) -> Hold:
        """Set USD aside for a request that is about to be sent.

        Raises:
            CeilingReached: what is spent and held leaves no room for it.
            AccountError: nobody can tell.
        """
        try:
            with self._turn() as books:
                if _EXACT.add(books.balance.total, amount) > self.ceiling:
                    raise CeilingReached(books.balance)
                books.balance = books.balance.plus(_NOTHING, amount)
        finally:
            self._enter_changes()
        return Hold(self, amount)

    def charge(self, amount: Decimal) -> None:
        """Enter USD that were spent without being held before."""
        self._change(amount, _NOTHING)

    def close(self) -> None:
        """Remove the file, when the run that opened it is over."""
        shutil.rmtree(self._path.parent, ignore_errors=True)

    def _change(self, spent: Decimal, held: Decimal) -> None:
        """Enter a change, now or, where the file can't be written, before the next request is let through.

        It never fails: it runs where the code under test reads its answers. Until it is entered, more is held than
        need be, and never less.
        """
        self._changes.append((spent, held))
        self._enter_changes()

    def _enter_changes(self) -> None:
        # A finalizer may end an answer in the middle of this very thread's turn, which then enters that too.
        while self._changes and self._turn_of != threading.get_ident():
            try:
                with self._turn():
                    pass
            except AccountError:
                return

    @contextmanager
    def _turn(self) -> Iterator[_Books]:
        """Read the balance, and write what waiting changes and the block make of it, while nobody else does."""
        if self._fault is not None:
            raise AccountError(self._fault)
        if self._turn_of == threading.get_ident():
            raise AccountError("it is being written")
        with self._lock:
            self._turn_of = threading.get_ident()
            try:
                # The lock lies beside the file: who finds the one finds the other, whatever a test makes of TMPDIR.
                with locked(self._path, folder=self._path.parent):
                    before = _read(self._path)
                    changes = [self._changes.popleft() for _ in range(len(self._changes))]
                    books = _Books(before)
                    for spent, held in changes:
                        books.balance = books.balance.plus(spent, held)
                    try:
                        yield books
                    finally:
                        self._save(before, books.balance, changes)
            except OSError as error:
                raise AccountError(f"the account of the run can't be used: {error}") from error
            finally:
                self._turn_of = None

    def _save(self, before: Balance, after: Balance, changes: list[tuple[Decimal, Decimal]]) -> None:
        if after == before:
            return
        try:
            write_atomically(self._path, _write(after))
        except OSError:
            self._changes.extendleft(reversed(changes))
            raise


class Hold:
    """USD set aside for one request. Whoever does neither ``settle`` nor ``release`` leaves them held."""

    def __init__(self, account: Account, amount: Decimal) -> None:
        self._account = account
        self._amount = amount
        self._open = True

    def settle(self, cost: Decimal) -> None:
        """Put what the request did cost in the place of what it could."""
        if self._open:
            self._open = False
            self._account._change(cost, self._amount.copy_negate())  # noqa: SLF001 - the account's other half

    def release(self) -> None:
        """Give it back: nothing was spent."""
        self.settle(_NOTHING)


@dataclass(slots=True)
class _Books:
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What live requests have used and cost, as the reports tell it.

    Attributes:
        requests: how many there were.
        tokens: input and output together, of those that could be measured.
        usd: what those cost whose cost is known.
        unmeasured_requests: how many could not be measured.
        unknown_costs: of how many nobody knows the cost.
        estimated: whether any was counted locally.
    """

    requests: int = 0
    tokens: int = 0
    usd: Decimal = _NOTHING
    unmeasured_requests: int = 0
    unknown_costs: int = 0
    estimated: bool = False

    def plus(self, calls: Iterable[ModelCall | WrittenCall]) -> Spending:
        """The same with more calls; those that were replayed spend nothing."""
        live = [call for call in calls if not call.replayed]
        if not live:
            return self
        usd = self.usd
        for call in live:
            usd = usd if call.cost is None else _EXACT.add(usd, call.cost)
        return Spending(
            requests=self.requests + len(live),
            tokens=self.tokens + sum(call.usage.total_tokens for call in live if call.usage is not None),
            usd=usd,
            unmeasured_requests=self.unmeasured_requests + sum(call.usage is None for call in live),
            unknown_costs=self.unknown_costs + sum(call.cost is None for call in live),
            estimated=self.estimated or any(call.estimated for call in live),
        )


def _read(path: Path) -> Balance:
    try:
        data = json.loads(path.read_bytes())
        balance = Balance(Decimal(data["spent"]), Decimal(data["held"]))
    except (ValueError, TypeError, KeyError, InvalidOperation):
        balance = Balance(Decimal("NaN"))
    if not balance.spent.is_finite() or not balance.held.is_finite():
        raise OSError(f"{path} does not hold what was written there")
    return balance


def _write(balance: Balance) -> bytes:
    return json.dumps({"spent": format(balance.spent, "f"), "held": format(balance.held, "f")}).encode()
