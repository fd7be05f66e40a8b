"""Put a wrapper around a method of somebody else's class, once per process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = "__tokenbudget__"
"""The attribute of a function of ours, and of a module that was hooked: it is not to be wrapped again."""


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a method by ``make(method)``; does nothing where that was done before, or where there is none."""
    original = getattr(owner, name, None)
    if original is None or MARK in getattr(original, "__dict__", {}):
        return
    wrapped = make(original)
    setattr(wrapped, MARK, True)
    setattr(owner, name, wrapped)
    _tell_vcrpy(original, wrapped)


def _tell_vcrpy(original: Callable[..., Any], wrapped: Callable[..., Any]) -> None:
    """Let vcrpy send by the wrapper too.

    When it is imported it keeps the methods that clients send by, and its cassettes call those. Where a conftest
    imports it before anything of ours is there, what they record would be sent past any ceiling.
    """
    patch = sys.modules.get("vcr.patch")
    for name, kept in list(vars(patch).items()) if patch is not None else ():
        if kept is original:
            setattr(patch, name, wrapped)
