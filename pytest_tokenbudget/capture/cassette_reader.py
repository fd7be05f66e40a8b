"""Read a cassette file strictly: refuse, by path and reason, what no recorder writes.

What a dumper wrote is read line by line. All else is taken as a stream of events, and the document is built from
them in the same pass. That takes little memory, cannot be made to run, loop or explode, and is several times faster
than a loader that makes a graph of nodes first.
"""

from __future__ import annotations

import binascii
import codecs
import errno
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import yaml
from yaml.constructor import SafeConstructor

from pytest_tokenbudget.capture.dumped_yaml import read_dumped
from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body
from pytest_tokenbudget.errors import CassetteError
from pytest_tokenbudget.files import contents_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
VERSION = 1
CONFLICT_MARKS = ("<<<<<<< ", ">>>>>>> ")
BINARY = "tag:yaml.org,2002:binary"

_JSON_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_bytes(path: str) -> bytes | None:
    """What a cassette file holds, at most one byte more than it may; ``None`` where there is no file.

    Raises:
        CassetteError: it can't be read.
    """
    try:
        return _read(path)
    except _Refused as refused:
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
    except _Refused as refused:
        raise _refusal(path, refused) from refused.__cause__


def parse_document(data: bytes) -> dict[str, Any] | None:
    """What a cassette file's bytes hold; ``None`` where they are not a cassette's."""
    try:
        return _document(_decoded(data))
    except _Refused:
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


class _Refused(Exception):  # noqa: N818 - an inner signal
    """The reason, without the path."""


def _read(path: str) -> bytes | None:
    try:
        return contents_of(path, MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = error.strerror if error.errno == errno.EINVAL else errno.errorcode.get(error.errno or 0, error)
        raise _Refused(f"it can't be read ({why})") from error


def _decoded(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise _Refused(f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        raise _Refused(f"it is not UTF-8 (byte {error.start})") from error
    if not text.strip("\ufeff \t\r\n"):
        raise _Refused("it is empty")
    return text


def _document(text: str) -> dict[str, Any]:
    if any(mark in text for mark in CONFLICT_MARKS) and any(
        line.startswith(CONFLICT_MARKS) for line in text.splitlines()
    ):
        raise _Refused("it holds an unresolved merge conflict")
    document = _read_json(text) if text.lstrip().startswith("{") else _read_yaml(text)
    if not isinstance(document, dict):
        raise _Refused("its top level is no mapping")
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise _Refused(f"its version is {version!r}, not {VERSION}")
    if not isinstance(document.get("interactions"), list):
        raise _Refused("it has no list of interactions")
    for interaction in document["interactions"]:
        if not isinstance(interaction, dict):
            raise _Refused("an interaction is no mapping")
        if not {"request", "response"} <= interaction.keys():
            raise _Refused("an interaction lacks its request or its response")
    return document


def _read_json(text: str) -> Any:
    depth = 0
    for match in _JSON_STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise _Refused(f"it is cut short or not JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Refused(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one mapping")
    return found


def _read_yaml(text: str) -> Any:
    dumped = read_dumped(text, _meaning, max_depth=MAX_DEPTH)
    return _read_events(text) if dumped is None else dumped


def _read_events(text: str) -> Any:
    parser = _Loader(text)
    try:
        return _build(parser.get_event)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        mark = getattr(error, "problem_mark", None)
        if "nesting depth" in problem:  # newer ones of libyaml have a limit of their own, and look ahead
            problem = f"it is nested deeper than {MAX_DEPTH} levels"
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _Refused(f"it is cut short or not YAML ({problem}{where})") from error
    finally:
        parser.dispose()


def _build(next_event: Callable[[], Any]) -> Any:  # noqa: C901, PLR0912 - one loop over events, kept flat for its speed
    """Build the one document that the events describe: mappings with text as keys, sequences and scalars."""
    document: Any = None
    documents = 0
    around: list[tuple[Any, str | None]] = []  # the collections around the open one, with the key that waits in each
    open_: Any = None
    key: str | None = None
    while True:
        event = next_event()
        kind = type(event)
        if kind is yaml.ScalarEvent:
            if open_.__class__ is dict and key is None:
                key = _key(event, open_)
                continue
            value = _scalar(event)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            _check_plain(event)
            if open_.__class__ is dict and key is None:
                raise _Refused(f"a key is no text{_line(event)}")
            value = {} if kind is yaml.MappingStartEvent else []
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            open_, key = around.pop()
            continue
        elif kind is yaml.AliasEvent:
            raise _Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
        elif kind is yaml.StreamEndEvent:
            return document
        else:
            documents += kind is yaml.DocumentStartEvent
            if documents > 1:
                raise _Refused("it holds more than one document")
            continue
        if open_ is None:
            if value.__class__ is not dict:
                raise _Refused("its top level is no mapping")
            document = value
        elif key is None:
            open_.append(value)
        else:
            open_[key] = value
            key = None
        if kind is not yaml.ScalarEvent:
            around.append((open_, key))
            open_, key = value, None
            if len(around) > MAX_DEPTH:
                raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels{_line(event)}")


def _key(event: Any, mapping: dict[str, Any]) -> str:
    _check_plain(event)
    key: str = event.value
    if key == "<<":
        raise _Refused(f"it uses a merge key{_line(event)}")
    if key in mapping:
        raise _Refused(f"the key {key!r} stands twice in one mapping{_line(event)}")
    return key


def _scalar(event: Any) -> Any:
    if event.tag == BINARY and event.anchor is None:
        try:
            return binascii.a2b_base64("".join(event.value.split()), strict_mode=True)
        except ValueError as error:
            raise _Refused(f"it holds broken base64{_line(event)}") from error
    _check_plain(event)
    if not event.implicit[0]:  # it is quoted, or a block
        return event.value
    try:
        return _meaning(event.value)
    except (ValueError, OverflowError) as error:
        raise _Refused(f"{event.value[:40]!r} can't be read{_line(event)}") from error


def _check_plain(event: Any) -> None:
    if event.anchor is not None:
        raise _Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
    if event.tag is not None:
        raise _Refused(f"it uses the tag {event.tag}{_line(event)}")


@lru_cache(maxsize=1024)
def _meaning(text: str) -> Any:
    """What a scalar without quotes says: a number, a truth value, nothing, a day, or just its text."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            construct = SafeConstructor.yaml_constructors.get(tag)
            return text if construct is None else construct(SafeConstructor(), yaml.ScalarNode(tag, text))
    return text


def _line(event: Any) -> str:
    return f" in line {event.start_mark.line + 1}"
