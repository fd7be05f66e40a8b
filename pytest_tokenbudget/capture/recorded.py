"""What a cassette's file holds, for one who only plays it: read without vcrpy, and once for its content."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pytest_tokenbudget.capture.cassette_reader import check_exchanges, read_document
from pytest_tokenbudget.capture.plain_request import PlainRequest, recorded_request

Exchanges = tuple[tuple[PlainRequest, dict[str, Any]], ...]
"""Requests with the responses to them, in the order in which they were recorded."""


@lru_cache(maxsize=8)
def recorded_exchanges(path: str, data: bytes) -> Exchanges | None:
    """The exchanges of a cassette's file, which nobody may change: many tests may play them.

    Args:
        path: where it is, for a message.
        data: what it holds.

    Returns:
        ``None`` where one is so odd that only vcrpy knows what it makes of it.

    Raises:
        CassetteError: the file is not one that a recorder writes; the message holds its path and the reason.
    """
    document = read_document(path, data) or {"interactions": []}
    interactions = document["interactions"]
    try:
        requests = [request for each in interactions if (request := recorded_request(each["request"])) is not None]
        responses = [each["response"] for each in interactions]
        if len(requests) < len(interactions) or not all(map(_has_bytes, responses)):
            return None
        check_exchanges(path, requests, responses)
    except (TypeError, ValueError):  # a number where there should be texts, half a character
        return None
    return tuple(zip(requests, responses, strict=True))


def _has_bytes(response: Any) -> bool:
    """Whether the body of a response, if it has one, is bytes, or a text: then it is bytes from now on.

    Raises:
        ValueError: the text holds half a character.
    """
    body = response.get("body") if isinstance(response, dict) else None
    if not isinstance(body, dict):
        return True
    content = body.get("string")
    if isinstance(content, str):
        body["string"] = content.encode()
    return isinstance(content, str | bytes | None)
