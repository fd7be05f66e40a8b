"""vcrpy's request, of which nothing is worked out before somebody asks for it.

Where a recording is found by its bytes, nobody looks at the parts of its URL, and at its headers.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from vcr.request import HeadersDict, Request

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import ParseResult


_PARTS = {"method", "uri", "body", "headers"}


class PlainRequest(Request):  # type: ignore[misc]
    """A request whose body is no iterator and no file.

    Args:
        method: its method.
        uri: its URL.
        body: what it sends.
        headers: its headers, which nobody changes any more.
    """

    def __init__(self, method: str, uri: str, body: str | bytes | None, headers: Mapping[str, Any]) -> None:
        # The attributes of the class above, all but two.
        self.method = method
        self._uri = uri
        self._was_file = self._was_iter = False
        self.body = body
        self._given_headers = headers

    @cached_property
    def parsed_uri(self) -> ParseResult:
        """The parts of its URL."""
        return urlparse(self._uri)

    @cached_property
    def _headers(self) -> HeadersDict:
        return HeadersDict(self._given_headers)


def recorded_request(recorded: Any) -> Request:
    """The request that a cassette's file holds.

    Raises:
        Exception: vcrpy can't make one of it.
    """
    if _is_plain(recorded):
        return PlainRequest(**recorded)
    return Request._from_dict(recorded)  # noqa: SLF001 - vcrpy's own way back, which refuses or mends what is odd


def _is_plain(recorded: Any) -> bool:
    """Whether vcrpy would take a request, and find each part of it, when it looks."""
    if not isinstance(recorded, dict) or recorded.keys() != _PARTS:
        return False
    uri, body, headers = recorded["uri"], recorded["body"], recorded["headers"]
    return (
        isinstance(uri, str)
        and uri.isascii()
        and "[" not in uri  # where an address of six parts would stand
        and "]" not in uri
        and isinstance(body, str | bytes | None)
        and isinstance(headers, dict)
        and all(headers.values())
    )
