"""Look at a cassette file before vcrpy does: refuse, by path and reason, what no recorder writes.

The YAML is walked as a stream of events, which takes little memory and cannot be made to run, loop or explode; only
a document that passes is built.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body
from pytest_tokenbudget.errors import CassetteError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
INTERACTIONS_DEPTH = 2
VERSION = 1
CONFLICT_MARKS = ("<<<<<<< ", ">>>>>>> ")
BINARY = "tag:yaml.org,2002:binary"

_JSON_STRUCTURE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_document(path: str) -> str | None:
    """Read a cassette's text.

    Returns:
        The text; ``None`` where there is no file.

    Raises:
        CassetteError: the file is not one that a recorder writes; the message holds its path and the reason.
    """
    try:
        text = _read(Path(path))
        if text is None:
            return None
        _check_conflicts(text)
        if text.lstrip("\ufeff \t\r\n").startswith("{"):
            _check_json(text)
        else:
            _check_yaml(text)
    except _Refused as refused:
        raise CassetteError(
            f"cassette {path} is refused: {refused}; restore it, or delete it and record it again"
        ) from refused.__cause__
    return text.lstrip("\ufeff")


def check_exchanges(path: str, requests: Sequence[Any], responses: Sequence[Any]) -> None:
    """Check what vcrpy made of a cassette: each exchange must be whole, so that replaying it can't go astray.

    Raises:
        CassetteError: one is not.
    """
    for number, (request, response) in enumerate(zip(requests, responses, strict=True), start=1):
        fault = _request_fault(request) or _response_fault(response)
        if fault is not None:
            raise CassetteError(
                f"cassette {path} is refused: interaction {number}: {fault}; "
                "restore it, or delete it and record it again"
            )


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


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Refused(f"it can't be read ({errno.errorcode.get(error.errno or 0, error)})") from error
    if len(data) > MAX_BYTES:
        raise _Refused(f"it is larger than {MAX_BYTES // 2**20} MiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused(f"it is not UTF-8 (byte {error.start})") from error
    if not text.strip("\ufeff \t\r\n"):
        raise _Refused("it is empty")
    return text


def _check_conflicts(text: str) -> None:
    if any(line.startswith(CONFLICT_MARKS) for line in text.splitlines()):
        raise _Refused("it holds an unresolved merge conflict")


def _check_json(text: str) -> None:
    depth = 0
    for match in _JSON_STRUCTURE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels")
    try:
        document = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_unique)
    except ValueError as error:
        raise _Refused(f"it is cut short or not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _Refused("its top level is no mapping")
    _check_version(document.get("version"))
    if not isinstance(document.get("interactions"), list):
        raise _Refused("it has no list of interactions")
    for interaction in document["interactions"]:
        if not isinstance(interaction, dict) or not {"request", "response"} <= set(interaction):
            raise _Refused("an interaction lacks its request or its response")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Refused(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one mapping")
    return found


def _check_version(version: object) -> None:
    if version != VERSION or isinstance(version, bool):
        raise _Refused(f"its version is {version!r}, not {VERSION}")


class _Mapping:
    """A mapping being read: its keys so far, and the key whose value comes next."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.key: str | None = None


def _check_yaml(text: str) -> None:
    walk = _Walk()
    try:
        for event in yaml.parse(text, Loader=_Loader):
            walk.take(event)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _Refused(f"it is cut short or not YAML ({problem}{where})") from error
    walk.finish()


class _Walk:
    """The document's events, one by one, with as much memory as it is deep."""

    def __init__(self) -> None:
        self.documents = 0
        self.stack: list[_Mapping | None] = []  # None is a sequence
        self.top: dict[str, object] = {}
        self.section = ""

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise _Refused("it holds more than one document")
        elif isinstance(event, yaml.CollectionEndEvent):
            self.stack.pop()
        elif isinstance(event, yaml.NodeEvent):
            self._check(event)
            self._place(event)

    def finish(self) -> None:
        version = self.top.get("version")
        _check_version(int(version) if isinstance(version, str) and version.isdigit() else version)
        if self.top.get("interactions") is not yaml.SequenceStartEvent:
            raise _Refused("it has no list of interactions")

    def _check(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise _Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
        if event.tag not in (None, BINARY):
            raise _Refused(f"it uses the tag {event.tag}{_line(event)}")

    def _place(self, event: Any) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if not self.stack and not is_mapping:
            raise _Refused("its top level is no mapping")
        parent = self.stack[-1] if self.stack else None
        if parent is not None and parent.key is None:
            parent.key = _key(event, parent)
            return
        if parent is not None:
            if len(self.stack) == 1:
                self.section = str(parent.key)
                self.top[self.section] = event.value if isinstance(event, yaml.ScalarEvent) else type(event)
            parent.key = None
        elif len(self.stack) == INTERACTIONS_DEPTH and self.section == "interactions" and not is_mapping:
            raise _Refused(f"an interaction is no mapping{_line(event)}")
        if isinstance(event, yaml.CollectionStartEvent):
            self.stack.append(_Mapping() if is_mapping else None)
        if len(self.stack) > MAX_DEPTH:
            raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels{_line(event)}")


def _key(event: Any, parent: _Mapping) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise _Refused(f"a key is no text{_line(event)}")
    key = str(event.value)
    if key == "<<":
        raise _Refused(f"it uses a merge key{_line(event)}")
    if key in parent.keys:
        raise _Refused(f"the key {key!r} stands twice in one mapping{_line(event)}")
    parent.keys.add(key)
    return key


def _line(event: Any) -> str:
    return f" in line {event.start_mark.line + 1}"
