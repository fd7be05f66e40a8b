"""Read a cassette file strictly: refuse, by path and reason, what no recorder writes.

What a dumper wrote is read line by line, and PyYAML is not even imported. All else is taken as a stream of events,
which is several times faster than a loader that makes a graph of nodes first.
"""

from __future__ import annotations

import codecs
import errno
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.dumped_yaml import read_dumped
from pytest_tokenbudget.capture.refused import MAX_DEPTH, Refused
from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body
from pytest_tokenbudget.errors import CassetteError
from pytest_tokenbudget.files import contents_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 32 * 1024 * 1024
VERSION = 1
CONFLICT_MARKS = ("<<<<<<< ", ">>>>>>> ")

_JSON_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)

_WORDS = frozenset({"yes", "no", "true", "false", "on", "off", "null"})
"""Those that YAML takes for something else than a text, in some of their spellings."""


def read_bytes(path: str) -> bytes | None:
    """What a cassette file holds, at most one byte more than it may; ``None`` where there is no file.

    Raises:
        CassetteError: it can't be read.
    """
    try:
        return _read(path)
    except Refused as refused:
        raise _refusal(path, refused) from refused.__cause__


def read_document(path: str, data: bytes | None = None) -> dict[str, Any] | None:
    """Read a cassette file.

    Args:
        path: where it is.
        data: what it holds, where that was read already: at most one byte more than it may.

    Returns:
        What it holds: ``version``, ``interactions``, and whatever else stands at its top; ``None`` where there is no
        file.

    Raises:
        CassetteError: the file is not one that a recorder writes; the message holds its path and the reason.
    """
    try:
        data = _read(path) if data is None else data
        return None if data is None else _document(_decoded(data))
    except Refused as refused:
        raise _refusal(path, refused) from refused.__cause__


def parse_document(data: bytes) -> dict[str, Any] | None:
    """What a cassette file's bytes hold; ``None`` where they are not a cassette's."""
    try:
        return _document(_decoded(data))
    except Refused:
        return None


def check_exchanges(path: str, requests: Sequence[Any], responses: Sequence[Any]) -> None:
    """Check what vcrpy made of a cassette: each exchange must be whole, so that replaying it can't go astray.

    Raises:
        CassetteError: one is not.
    """
    for number, (request, response) in enumerate(zip(requests, responses, strict=True), start=1):
        fault = _request_fault(request) or _response_fault(response)
        if fault is not None:
            raise _refusal(path, f"interaction {number}: {fault}")


def _refusal(path: str, reason: object) -> CassetteError:
    return CassetteError(f"cassette {path} is refused: {reason}; restore it, or delete it and record it again")


def _request_fault(request: Any) -> str | None:
    if not isinstance(request.method, str) or not isinstance(request.uri, str) or "://" not in request.uri:
        return "its request has no method or no URL"
    return None


def _response_fault(response: Any) -> str | None:
    if not isinstance(response, dict) or not isinstance(response.get("headers") or {}, dict):
        return "its response has no headers"
    if "status_code" in response:  # as older versions of vcrpy recorded httpx
        whole = _is_status(response["status_code"]) and isinstance(response.get("content"), str | bytes)
        return None if whole else "its response has no status or no content"
    status, body = response.get("status"), response.get("body")
    if not isinstance(status, dict) or not _is_status(status.get("code")):
        return "its response has no status code"
    status.setdefault("message", None)
    if not isinstance(body, dict) or not isinstance(body.get("string", b""), str | bytes | None):
        return "its response has no body"
    if body.get("string") is None:
        body["string"] = b""
    return _packing_fault(body["string"], response.get("headers") or {})


def _packing_fault(body: str | bytes, headers: dict[str, Any]) -> str | None:
    named = {
        str(name).lower(): values if isinstance(values, str) else ", ".join(map(str, values or ()))
        for name, values in headers.items()
    }
    if named.get("content-encoding") and isinstance(body, bytes):
        try:
            decode_body(body, named, complete=False)
        except UnreadableError as error:
            # What its client can't unpack it says itself; what would fill the memory must not get there.
            return f"{error} when it is unpacked" if "larger" in str(error) else None
    return None


def _is_status(code: object) -> bool:
    return isinstance(code, int) and not isinstance(code, bool)


def _read(path: str) -> bytes | None:
    try:
        return contents_of(path, MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = error.strerror if error.errno == errno.EINVAL else errno.errorcode.get(error.errno or 0, error)
        raise Refused(f"it can't be read ({why})") from error


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise Refused(f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise Refused(f"it is not UTF-8 (byte {error.start})") from error
    if not text.strip("\ufeff \t\r\n"):
        raise Refused("it is empty")
    return text


def _document(text: str) -> dict[str, Any]:
    if any(mark in text for mark in CONFLICT_MARKS) and any(
        line.startswith(CONFLICT_MARKS) for line in text.splitlines()
    ):
        raise Refused("it holds an unresolved merge conflict")
    document = _read_json(text) if text.lstrip().startswith("{") else _read_yaml(text)
    if not isinstance(document, dict):
        raise Refused("its top level is no mapping")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise Refused(f"its version is {version!r}, not {VERSION}")
    if not isinstance(document.get("interactions"), list):
        raise Refused("it has no list of interactions")
    for interaction in document["interactions"]:
        if not isinstance(interaction, dict):
            raise Refused("an interaction is no mapping")
        if not {"request", "response"} <= interaction.keys():
            raise Refused("an interaction lacks its request or its response")
    return document


def _read_json(text: str) -> Any:
    depth = 0
    for match in _JSON_STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise Refused(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise Refused(f"it is cut short or not JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise Refused(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one mapping")
    return found


def _read_yaml(text: str) -> Any:
    dumped = read_dumped(text, _meaning, max_depth=MAX_DEPTH)
    if dumped is not None:
        return dumped
    from pytest_tokenbudget.capture.yaml_events import read_events  # noqa: PLC0415 - imports PyYAML

    return read_events(text)


@lru_cache(maxsize=1024)
def _meaning(text: str) -> Any:
    """As ``yaml_events.meaning_of``, which is asked where it is not plain to see."""
    if text == "null":
        return None
    if text[:1].isalpha() and text.lower() not in _WORDS:
        return text
    if text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        return int(text)
    from pytest_tokenbudget.capture.yaml_events import meaning_of  # noqa: PLC0415 - imports PyYAML

    return meaning_of(text)
