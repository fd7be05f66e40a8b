"""JSON files that are taken as a whole or refused with one reason: nothing cut short, no key twice, no guesses."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

_CONFLICT = re.compile(rb"^(?:<<<<<<<|\|\|\|\|\|\|\||=======|>>>>>>>)", re.MULTILINE)
_SHOWN = 80


class Fault(Exception):  # noqa: N818 - it is caught where the file's path is known, and never reaches a user as itself
    """Why a file is refused, as the end of a sentence that begins with its path."""


def read_regular(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file.

    Raises:
        Fault: there is none, it can't be read, or it is larger than ``max_bytes``.
    """
    try:
        # Asked first: opening a pipe waits for somebody to write to it.
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.stat is this and an import of nothing new
        if stat.S_ISDIR(mode):
            raise Fault("is a directory, not a file")
        if not stat.S_ISREG(mode):
            raise Fault("is not a regular file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise Fault("does not exist") from None
    except OSError as error:
        raise Fault(f"can't be read: {error.strerror or error}") from None
    except ValueError as error:  # a name with a null byte
        raise Fault(f"can't be read: {error}") from None
    if len(data) > max_bytes:
        raise Fault(f"is larger than {max_bytes // 1024**2} MiB")
    return data


def parse(data: bytes) -> Any:
    """The value that UTF-8 JSON text holds.

    Raises:
        Fault: it holds none, or one that two readers could take for different things.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault(f"is not UTF-8 (byte {error.start + 1})") from None
    if not text.strip():
        raise Fault("is empty")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, Fault) as error:
        raise Fault(_explain(data, text, error)) from None


def show(value: object) -> str:
    """A value as JSON writes it, shortened; of an object or array only what it is, however large or deep."""
    if isinstance(value, dict | list):
        return kind(value)
    shown = json.dumps(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def kind(value: object) -> str:
    """What a value is, in the words of JSON."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = min(name for name in found if names.count(name) > 1)
        raise Fault(f"holds the key {show(twice)} twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Fault(f"holds {name}, which is no JSON")


def _explain(data: bytes, text: str, error: Exception) -> str:
    """What to say of a text that is no JSON; a merge in progress explains any other fault."""
    if conflict := _CONFLICT.search(data):
        line = data.count(b"\n", 0, conflict.start()) + 1
        return f"holds an unresolved merge conflict (line {line})"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    if not isinstance(error, json.JSONDecodeError):
        # Ours, or an integer that is longer than Python reads.
        return str(error) if isinstance(error, Fault) else "holds a number that is too long"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"is cut short (line {error.lineno})"
    return f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})"
