"""One model request on its way: whose it is, and its answer as far as it was read."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_tokenbudget.capture import counting, wire
from pytest_tokenbudget.capture.ward import is_left_behind
from pytest_tokenbudget.capture.wire.exchange import Exchange
from pytest_tokenbudget.errors import ReplayMiss
from pytest_tokenbudget.ledger import billing, current_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.ledger import Billing
    from pytest_tokenbudget.spending import Hold
    from pytest_tokenbudget.usage import ModelCall

MAX_BODY_BYTES = 64 * 1024 * 1024
"""More than this of one answer is not kept; its usage is then unmeasured."""

NOT_SENT = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "UnsupportedProtocol",
        "InvalidURL",
        "ProxyError",
        "LocalProtocolError",
    }
)
"""Errors of httpx that say that the request never reached a server."""

current: ContextVar[TrackedRequest | None] = ContextVar("pytest_tokenbudget_tracked", default=None)
"""The request that this context is sending, so that playback can say that it answered it."""

_live: ContextVar[TrackedRequest | None] = ContextVar("pytest_tokenbudget_live", default=None)
"""The last request of this context that a tap below vcrpy saw."""


class TrackedRequest:
    """One model request on its way: where it is billed, and its answer as far as it was read."""

    # sent: it left for a real server. refused: the server's last word on it was no 2xx. claimed: see ``claim_live``.
    # more_input_tokens: the answer is a recording of another request, which has so many less; ``None`` for its own.
    # hold: what it could cost, set aside in the run's account where there is a ceiling.

    def __init__(self, bill: Billing, method: str, url: str, body: bytes) -> None:
        self.bill = bill
        self.method = method
        self.url = url
        self.request_body = body
        self.run_ids = counting.current_runs()
        self.started = time.monotonic()
        self.replayed = False
        self.more_input_tokens: int | None = None
        self.sent = False
        self.refused = False
        self.claimed = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._body = bytearray()
        self._overflow = False
        self._done = False
        self._hold: Hold | None = None
        self._unseen = False
        bill.begin(self)

    def admit(self, *, unseen: bool = False) -> None:
        """Set aside what it could cost, before it leaves for a real server; nothing where there is no ceiling.

        Each sending asks anew: a redirect, or a retry below the client, is a request of its own.

        Args:
            unseen: whether nobody will see it leave.

        Raises:
            SpendingRefused: it could bring the run above its ceiling.
        """
        frame = current_frame()
        if frame is None or frame.account is None or (self._hold is not None and not self.sent):
            return
        from pytest_tokenbudget.capture.allowance import hold  # noqa: PLC0415 - only where there is a ceiling

        self._unseen = unseen
        # What an earlier sending holds that got no answer stays held: it may be billed.
        self._hold = hold(self, frame.account, frame.book)

    def leave(self) -> None:
        """Note that it leaves for a real server now.

        Raises:
            SpendingRefused: see ``admit``.
        """
        self.admit()
        self.depart()

    def depart(self) -> None:
        """Note that what was admitted before is now being written to a server."""
        self.sent, self.refused, self._unseen = True, False, False

    def hear(self, status: int) -> None:
        """Note the status before anybody may raise because of it: who is refused is not billed."""
        self.refused = not 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers
        if self.refused:
            self._release()

    def answer(self, status: int, headers: Mapping[str, str]) -> None:
        """Note the head of the answer."""
        self.status = status
        self.headers = headers
        self.hear(status)

    def feed(self, chunk: bytes) -> None:
        """Note a piece of the body as it passes."""
        if self._done:
            return
        if len(self._body) + len(chunk) > MAX_BODY_BYTES:
            self._overflow = True
        else:
            self._body += chunk

    def finish(self, *, complete: bool) -> None:
        """Count the answer: its body has ended, or nobody will read on. Only the first time counts."""
        if self._done:
            return
        self._done = True
        self.bill.end(self)
        call = self._count(counting.count_exchange, self.bill, complete=complete)
        self._pay(call, complete=complete)

    def break_off(self, error: BaseException) -> None:  # noqa: ARG002 - that it broke off is all that counts
        """Count what came before the connection failed."""
        self.finish(complete=False)

    def fail(self, error: BaseException) -> None:
        """Note that the request got no answer. One that was sent may have been billed."""
        if self._done:
            return
        self._done = True
        self.bill.end(self)
        stayed = self.refused or isinstance(error, ReplayMiss) or type(error).__name__ in NOT_SENT
        if self.sent and not stayed:
            counting.count_unanswered(self, self.bill, type(error).__name__)
        elif stayed or not self._unseen:
            self._release()

    def settle(self) -> None:
        """The test has ended: count what came so far."""
        if self.status:
            self.finish(complete=False)
        else:
            self._done = True
            self.bill.end(self)
            if self.sent:
                counting.count_unanswered(self, self.bill, "the test ended first")

    def preview(self, bill: Billing) -> None:
        """A block has ended, and the answer goes on for the test: count for the block what came so far."""
        if self._done:
            return
        if self.status:
            self._count(counting.preview_exchange, bill, complete=False)
        elif self.sent:
            counting.count_unanswered(self, bill, "the block ended first")

    def _pay(self, call: ModelCall | None, *, complete: bool) -> None:
        """Put the cost of the answer in the place of what is held for it. What nobody knows stays held."""
        frame = current_frame()
        account = None if frame is None else frame.account
        if frame is None or (account is None and self._hold is None):
            return
        if self.replayed:
            self._release()
            return
        # Of an answer that was left in the middle, a local count knows what was read, not what was written.
        cost = None if call is None or (call.estimated and not complete) else frame.book.cost(call)
        if cost is None:
            return
        if self._hold is not None:
            self._hold.settle(cost)
        elif account is not None and self.sent and self.method.upper() == "POST":
            account.charge(cost)  # its answer says what its request did not: that a model was asked

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _count(
        self, count: Callable[[TrackedRequest, Exchange, Billing], ModelCall | None], bill: Billing, *, complete: bool
    ) -> ModelCall | None:
        if not 200 <= self.status < 300:  # noqa: PLR2004 - HTTP's own numbers
            return None
        exchange = Exchange(
            method=self.method,
            url=self.url,
            request_body=self.request_body,
            status=self.status,
            headers=self.headers,
            body=bytes(self._body),
            complete=complete and not self._overflow,
        )
        try:
            return count(self, exchange, bill)
        except Exception as error:  # noqa: BLE001 - capture must not break the test; the ledger says what happened
            from pytest_tokenbudget.capture.scrub import scrub_url  # noqa: PLC0415 - slow, and needed only here

            bill.add_incident(f"the answer of {scrub_url(self.url).partition('?')[0]} was not counted: {error!r}")
            return None


def begin(method: str, url: str, body: bytes) -> TrackedRequest | None:
    """Start to watch a request, if somebody counts and it looks like one for a model."""
    if not wire.recognise(method, url):
        return None
    # What outlived its test is not the running test's.
    bill = billing(outside=is_left_behind())
    return None if bill is None else TrackedRequest(bill, method, url, body)


def begin_live(method: str, url: str, body: bytes = b"") -> TrackedRequest | None:
    """Start to watch a request below vcrpy, unless a tap above, which it is the transport of, watches it already."""
    if (above := current.get()) is not None:
        above.sent = above.sent or urlsplit(above.url).path == urlsplit(url).path
        return None
    tracked = begin(method, url, body)
    if tracked is not None:
        _live.set(tracked)
    return tracked


def has_ceiling() -> bool:
    """Whether what is spent now has a ceiling, so that nothing may leave before it is known what it could cost."""
    frame = current_frame()
    return frame is not None and frame.account is not None


def claim_live(method: str, url: str) -> bool:
    """Whether the exchange that vcrpy has just recorded is one that was watched below it."""
    tracked = _live.get()
    if tracked is None or tracked.claimed or tracked.method.upper() != method.upper():
        return False
    tracked.claimed = urlsplit(tracked.url).path == urlsplit(url).path
    return tracked.claimed
