"""One model request on its way: whose it is, and its answer as far as it was read."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_tokenbudget.capture import counting, wire
from pytest_tokenbudget.capture.wire.exchange import Exchange
from pytest_tokenbudget.ledger import billing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.ledger import Billing

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

    def __init__(self, bill: Billing, method: str, url: str, body: bytes) -> None:
        self.bill = bill
        self.method = method
        self.url = url
        self.request_body = body
        self.run_ids = counting.current_runs()
        self.started = time.monotonic()
        self.replayed = False
        self.sent = False
        self.refused = False
        self.claimed = False
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._body = bytearray()
        self._overflow = False
        self._done = False
        bill.begin(self)

    def answer(self, status: int, headers: Mapping[str, str]) -> None:
        """Note the head of the answer."""
        self.status = status
        self.headers = headers

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
        self._count(counting.count_exchange, self.bill, complete=complete)

    def fail(self, error: BaseException) -> None:
        """Note that the request got no answer. One that was sent may have been billed."""
        if self._done:
            return
        self._done = True
        self.bill.end(self)
        if self.sent and not self.refused and type(error).__name__ not in NOT_SENT:
            counting.count_unanswered(self, self.bill, type(error).__name__)

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

    def _count(
        self, count: Callable[[TrackedRequest, Exchange, Billing], None], bill: Billing, *, complete: bool
    ) -> None:
        if not 200 <= self.status < 300:  # noqa: PLR2004 - HTTP's own numbers
            return
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
            count(self, exchange, bill)
        except Exception as error:  # noqa: BLE001 - capture must not break the test; the ledger says what happened
            bill.add_incident(f"the answer of {self.url.partition('?')[0]} was not counted: {error!r}")


def begin(method: str, url: str, body: bytes) -> TrackedRequest | None:
    """Start to watch a request, if somebody counts and it looks like one for a model."""
    if not wire.recognise(method, url):
        return None
    bill = billing()
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


def claim_live(method: str, url: str) -> bool:
    """Whether the exchange that vcrpy has just recorded is one that was watched below it."""
    tracked = _live.get()
    if tracked is None or tracked.claimed or tracked.method.upper() != method.upper():
        return False
    tracked.claimed = urlsplit(tracked.url).path == urlsplit(url).path
    return tracked.claimed
