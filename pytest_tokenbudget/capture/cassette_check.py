"""Look at a cassette file before vcrpy does: refuse, by path and reason, what no recorder writes.

The YAML is walked as a stream of events, which takes little memory and cannot be made to run, loop or explode; only
a document that passes is built.
"""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import yaml

from pytest_tokenbudget.errors import CassetteError

MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
VERSION = 1
CONFLICT_MARKS = ("<<<<<<< ", ">>>>>>> ")
BINARY = "tag:yaml.org,2002:binary"

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
        if any(line.startswith(CONFLICT_MARKS) for line in text.splitlines()):
            raise _Refused("it holds an unresolved merge conflict")
        if text.lstrip("\ufeff \t\r\n").startswith("{"):
            _check_json(text)
        else:
            _check_yaml(text)
    except _Refused as refused:
        raise CassetteError(
            f"cassette {path} is refused: {refused}; restore it, or delete it and record it again"
        ) from refused.__cause__
    return text


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


def _check_json(text: str) -> None:
    try:
        document = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_unique)
    except RecursionError as error:
        raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels") from error
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
    """A mapping being read: its keys so far, and whether a key comes next."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.awaits_key = True


def _check_yaml(text: str) -> None:
    try:
        _walk(yaml.parse(text, Loader=_Loader))
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise _Refused(f"it is cut short or not YAML ({problem}{where})") from error


def _walk(events: Any) -> None:
    stack: list[_Mapping | None] = []
    top: dict[str, object] = {}
    pending_key: str | None = None
    documents = interactions = 0
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Refused("it holds more than one document")
            continue
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused(f"it uses an anchor or alias{_line(event)}; save it again without")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != BINARY:
            raise _Refused(f"it uses the tag {tag}{_line(event)}")
        if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            stack.pop()
            continue
        is_node = isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent)
        if not is_node:
            continue
        parent = stack[-1] if stack else None
        if isinstance(parent, _Mapping):
            if parent.awaits_key:
                pending_key = _key(event, parent)
                parent.awaits_key = False
                continue
            parent.awaits_key = True
            if len(stack) == 1 and pending_key is not None:
                top[pending_key] = event.value if isinstance(event, yaml.ScalarEvent) else type(event)
        if len(stack) == 2 and not isinstance(stack[1], _Mapping):  # noqa: PLR2004 - directly in the list of interactions
            interactions += 1
            if not isinstance(event, yaml.MappingStartEvent):
                raise _Refused(f"an interaction is no mapping{_line(event)}")
        if not stack and not isinstance(event, yaml.MappingStartEvent):
            raise _Refused("its top level is no mapping")
        if isinstance(event, yaml.MappingStartEvent):
            stack.append(_Mapping())
        elif isinstance(event, yaml.SequenceStartEvent):
            stack.append(None)
        if len(stack) > MAX_DEPTH:
            raise _Refused(f"it is nested deeper than {MAX_DEPTH} levels{_line(event)}")
    version = top.get("version")
    _check_version(int(version) if isinstance(version, str) and version.isdigit() else version)
    if top.get("interactions") is not yaml.SequenceStartEvent:
        raise _Refused("it has no list of interactions")


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
