"""A request of which nothing is worked out before somebody asks for it; has what its readers ask of vcrpy's.

Where a recording is found by its bytes, nobody looks at the parts of its URL, and at its headers.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

_PARTS = {"method", "uri", "body", "headers"}
_PORTS = {"https": 443, "http": 80}


class PlainRequest:
    """A request whose body is no iterator and no file, and which nobody changes any more.

    Attributes:
        method: its method.
        uri: its URL.
        body: what it sends, as bytes; ``None`` where it sends nothing.
    """

    def __init__(self, method: str, uri: str, body: str | bytes | None, headers: Mapping[str, Any]) -> None:
        self.method = method
        self.uri = uri
        self.body = self._body = body.encode() if isinstance(body, str) else body
        self._given_headers = headers

    @cached_property
    def headers(self) -> dict[str, Any]:
        """Its headers; of several values of one, the first."""
        return {
            name: values[0] if isinstance(values, tuple | list) else values
            for name, values in self._given_headers.items()
        }

    @cached_property
    def _url(self) -> SplitResult:
        return urlsplit(self.uri)

    @property
    def scheme(self) -> str:
        """How it is sent: ``https`` or ``http``."""
        return self._url.scheme

    @property
    def host(self) -> str | None:
        """Whom it is sent to."""
        return self._url.hostname

    @property
    def port(self) -> int | None:
        """The port there, also where the URL does not name it."""
        return _PORTS.get(self.scheme) if self._url.port is None else self._url.port


def recorded_request(recorded: Any) -> PlainRequest | None:
    """The request that a cassette's file holds; ``None`` for one that is odd, which vcrpy refuses or mends."""
    return PlainRequest(**recorded) if _is_plain(recorded) else None


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
