"""Read YAML as dumpers write it: a line for each entry, in block style, with scalars that are plain or quoted.

It is read with a regular expression for each line, which takes a fifth of the time that a stream of events takes.
What is written in any other way, or should be refused, is left to who reads all of YAML.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_WRITTEN = bytes(byte if byte in (*b"\n", *range(ord(" "), ord("~") + 1)) else 0 for byte in range(256))
"""Dumpers escape all characters that become zeros here."""

MOST = 2**20
"""Characters of a text that is read here; a larger one is read in less memory as events."""

_ENTRY = re.compile(
    r"""
    ([ ]*)
    (-[ ])?
    (?: ([A-Za-z][A-Za-z0-9_.-]{0,99}):(?:[ ]|(?=\n)) )?
    (?:
        (['"])
      | ([A-Za-z0-9/](?: [^\n\#:]++ | :(?![ \n]) )*+)(?<![ ])\n
      | (\{\}|\[\])\n
      | \n
    )
    """,
    re.VERBOSE,
)
"""Where a line starts, whether it is an entry of a list, its key, and a quote, a plain scalar, or what is empty."""


_CUT_ESCAPE = re.compile(r"\\(?:\\|u[0-9A-Fa-f]{0,3}\\?)\n")
"""A line that ends within an escaped character, or with an escaped backslash."""


_ESCAPED_BACKSLASH = r"\\"
_FOREIGN_ESCAPE = re.compile(r"\\(?:\\|u[Dd]|/)")
"""One that JSON knows and not every reader of YAML, half a character or a slash; or an escaped backslash."""


def read_dumped(text: str, meaning: Callable[[str], Any], *, max_depth: int) -> dict[str, Any] | None:  # noqa: C901, PLR0911, PLR0912 - one loop over lines, kept flat for its speed
    """Build the mapping that a text holds; ``None`` where it is not written like a dumper's, or not to be believed.

    Args:
        text: the whole document.
        meaning: what a scalar without quotes says; raises ``ValueError`` or ``OverflowError`` where it says nothing.
        max_depth: how deep mappings and lists may be nested.
    """
    if len(text) > MOST or not text.isascii() or 0 in text.encode().translate(_WRITTEN):
        return None
    document: dict[str, Any] = {}
    # The innermost collection and where its entries start; those around it.
    column, open_, around = 0, cast("Any", document), list[tuple[int, Any]]()
    waiting: str | None = None  # the key whose collection begins in the next line
    at, end = 0, len(text)
    while at < end:
        if (entry := _ENTRY.match(text, at)) is None:
            return None
        at = entry.end()
        indent, dash, key, quote, plain, empty = entry.groups()
        start = len(indent)
        if waiting is not None:
            if (start < column) if dash else (start <= column):
                return None
            around.append((column, open_))
            if len(around) >= max_depth - 1:  # an entry of a list may open one more
                return None
            open_[waiting] = inner = list[Any]() if dash else dict[str, Any]()
            column, open_, waiting = start, inner, None
        else:
            while start < column or (start == column and not dash and open_.__class__ is list):
                if not around:
                    return None
                column, open_ = around.pop()
            if start != column:
                return None
        if (open_.__class__ is list) is not bool(dash):
            return None
        if dash and key is not None:
            around.append((column, open_))
            open_.append(inner := {})
            column, open_ = column + 2, inner
        value: Any
        if quote is not None:
            if (closing := _closing(text, at, quote)) < 0:
                return None
            value = (_unescaped if quote == '"' else _unquoted)(text[at:closing])
            at = closing + 2
            if value is None:
                return None
        elif plain is not None:
            try:
                value = meaning(plain)
            except (ValueError, OverflowError):
                return None
        elif empty is not None:
            value = {} if empty == "{}" else []
        elif key is None or key in open_:
            return None
        else:
            waiting = key
            continue
        if key is None:
            if not dash:
                return None
            open_.append(value)
        elif key in open_:
            return None
        else:
            open_[key] = value
    return document if waiting is None else None


def _closing(text: str, at: int, quote: str) -> int:
    """Where the quote is that ends a scalar, and its line; negative where none does."""
    escape = "\\" if quote == '"' else quote
    end = at - 1
    while (end := text.find(f"{quote}\n", end + 1)) >= 0:
        first = end
        while first > at and text[first - 1] == escape:
            first -= 1
        if (end - first) % 2 == 0:
            break
    return end


def _unquoted(single: str) -> str | None:
    """The text between single quotes: a line break is a blank, and several are one less."""
    if "\n" in single:
        fold = _fold_of(single)
        unfolded = single.replace(fold, " ")
        if "\n" in unfolded or _is_uneven(single, fold):
            if " \n" in single or single.count("\n ") != len(re.findall("\n+", single)):
                return None
            unfolded = re.sub("(\n+) +", lambda match: "\n" * (len(match[1]) - 1) or " ", single)
        single = unfolded
    if "'" in single:
        if single.count("'") != 2 * single.count("''"):
            return None
        single = single.replace("''", "'")
    return single


def _unescaped(double: str) -> str | None:
    """The text between double quotes: a line break is a blank, or nothing behind a backslash; the rest is JSON."""
    if "\n" in double:
        fold = _fold_of(double)
        if "\n\n" in double or _is_uneven(double, fold) or _CUT_ESCAPE.search(double):
            return None
        double = double.replace(f"\\{fold}\\ ", " ").replace(f"\\{fold}", "")
        double = double.replace(f"{fold}\\ ", "  ").replace(fold, " ")  # what breaks are left, JSON refuses
    if not all(each == _ESCAPED_BACKSLASH for each in _FOREIGN_ESCAPE.findall(double)):
        return None
    try:
        text = json.loads(f'"{double}"')
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def _fold_of(quoted: str) -> str:
    """The first line break of a scalar, and the blanks that the next line starts with."""
    first = quoted.index("\n")
    return "\n" + " " * (len(quoted) - first - 1 - len(quoted[first + 1 :].lstrip(" ")))


def _is_uneven(quoted: str, fold: str) -> bool:
    """Whether a line starts deeper than the others, or not at all, or ends with blanks: no dumper writes that."""
    return fold == "\n" or f"{fold} " in quoted or f" {fold}" in quoted
