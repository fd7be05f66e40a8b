"""One model request on its way: whose it is, and its answer as far as it was read."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pytest_tokenbudget.capture import counting, wire
from pytest_tokenbudget.capture.wire.exchange import Exchange
from pytest_tokenbudget.ledger import billing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.ledger import Billing

MAX_BODY_BYTES = 64 * 1024 * 1024
"""More than this of one answer is not kept; its usage is then unmeasured."""

NOT_SENT = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "InvalidURL", "ProxyError"}
)
"""Errors of httpx that say that the request never reached a server."""

current: ContextVar[Passage | None] = ContextVar("pytest_tokenbudget_passage", default=None)
"""The request that this context is sending, so that playback can say that it answered it."""


class Passage:
    """One model request on its way: where it is billed, and its answer as far as it was read."""

    def __init__(self, bill: Billing, method: str, url: str, body: bytes) -> None:
        self.bill = bill
        self.method = method
        self.url = url
        self.request_body = body
        self.run_id = counting.current_run()
        self.started = time.monotonic()
        self.replayed = False
        self.sent = False
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
            counting.count_exchange(self, exchange)
        except Exception as error:  # noqa: BLE001 - capture must not break the test; the ledger says what happened
            self.bill.add_incident(f"the answer of {self.url.partition('?')[0]} was not counted: {error!r}")

    def fail(self, error: BaseException) -> None:
        """Note that the request got no answer. One that was sent may have been billed."""
        if self._done:
            return
        self._done = True
        self.bill.end(self)
        if self.sent and type(error).__name__ not in NOT_SENT:
            counting.count_unanswered(self, type(error).__name__)

    def settle(self) -> None:
        """The test has ended: count what came so far."""
        if self.status:
            self.finish(complete=False)
        else:
            self._done = True
            self.bill.end(self)
            if self.sent:
                counting.count_unanswered(self, "the test ended first")


def begin(method: str, url: str, body: bytes) -> Passage | None:
    """Start to watch a request, if somebody counts and it looks like one for a model."""
    if not wire.recognise(method, url):
        return None
    bill = billing()
    return None if bill is None else Passage(bill, method, url, body)
