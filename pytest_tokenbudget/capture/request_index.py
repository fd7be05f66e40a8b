"""What two requests must have in common to be the same, and where the recordings of each stand in a cassette.

The requests are plain ones, or vcrpy's.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from pytest_tokenbudget.capture.scrub import scrub_body, scrub_url, unpack
from pytest_tokenbudget.capture.secret_shapes import secret_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from pytest_tokenbudget.capture.plain_request import PlainRequest


class Index:
    """Where the recordings of each request stand in a cassette; brought up to date when it is asked.

    What it costs to find one does not grow with the cassette.
    """

    def __init__(self, key_of: Callable[[PlainRequest], Hashable]) -> None:
        self._key_of = key_of
        self._entered = 0
        self._waiting: dict[Hashable, deque[int]] = defaultdict(deque)

    def first(self, request: PlainRequest, data: list[tuple[Any, Any]], played: Mapping[int, int]) -> int | None:
        """The first recording of a request that was not played; where all were, the last; where none is, none."""
        for index in range(self._entered, len(data)):
            self._waiting[self._key_of(data[index][0])].append(index)
        self._entered = len(data)
        waiting = self._waiting.get(self._key_of(request))
        if not waiting:
            return None
        while len(waiting) > 1 and played[waiting[0]]:
            waiting.popleft()
        return waiting[0]


def exact_key(request: PlainRequest) -> tuple[Any, ...]:
    """What two requests have in common that are the same to the byte."""
    body = request._body  # noqa: SLF001 - vcrpy's public body may be an iterator, which can be read once
    return request.method, request.uri, body if isinstance(body, bytes) else canonical_body(request)


def request_key(request: PlainRequest) -> tuple[Any, ...]:
    """What two requests must have in common to be the same: method, URL and body as JSON, all without secrets."""
    parts = urlsplit(scrub_url(request.uri))
    query = tuple(sorted(pair for pair in parse_qsl(parts.query) if not secret_parameter(pair[0])))
    return (
        request.method,
        request.scheme,
        request.host,
        request.port,
        parts.path or "/",
        query,
        canonical_body(request),
    )


def canonical_body(request: Any) -> bytes:
    """The body in the one form that equal JSON has: sorted keys, no blanks, whole numbers as such, no secrets."""
    body = request._body if isinstance(request._body, dict | list) else body_bytes(request)  # noqa: SLF001
    body = scrub_body(unpack(body, request.headers).body)
    if isinstance(body, bytes):
        if body.lstrip()[:1] not in (b"{", b"["):
            return _without_boundary(body)
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return bytes(body)
    try:
        return json.dumps(_whole(body), sort_keys=True, separators=(",", ":"), default=str).encode()
    except RecursionError:
        return body_bytes(request)


def body_bytes(request: Any) -> bytes:
    """The request's body as bytes, whatever form the client gave it."""
    body = request.body
    if body is None:
        return b""
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if hasattr(body, "read"):
        return bytes(body.read())
    if isinstance(body, dict):
        return json.dumps(body, sort_keys=True, default=str).encode()
    return b"".join(part if isinstance(part, bytes) else str(part).encode() for part in body)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return value


def _without_boundary(body: bytes) -> bytes:
    # Each client draws a new multipart boundary for each request; it stands at the body's start.
    if not body.startswith(b"--"):
        return body
    boundary = body.split(b"\r\n", 1)[0][2:]
    return body.replace(boundary, b"boundary") if boundary else body
