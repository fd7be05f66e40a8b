"""Frozen dataclasses that are made as fast as ordinary ones.

A frozen dataclass fills each field through ``object.__setattr__``, which is ten times dearer than an assignment, and
every model call makes several objects of a dozen fields.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import update_wrapper
from typing import Any, TypeVar

T = TypeVar("T")


def quickly_made(frozen: type[T]) -> type[T]:
    """Let the objects of a dataclass, frozen with slots and by keyword only, freeze after they are filled.

    Until then they are of an ordinary class that has the same slots. The objects of a class that was made from the
    dataclass may have more than these, and are filled as ever.
    """
    described = fields(frozen)  # type: ignore[arg-type]
    names = [each.name for each in described]
    values: dict[str, Any] = {
        "frozen": frozen,
        "thawed": type(frozen.__name__, (), {"__slots__": names}),
        "thaw": object.__setattr__,
        "fill": frozen.__init__,
        "by_default": {each.name: each.default for each in described},
    }
    parameters = [
        each.name if each.default is MISSING else f"{each.name}=by_default[{each.name!r}]" for each in described
    ]
    lines = [
        f"def __init__(self, *, {', '.join(parameters)}):",
        "    if type(self) is not frozen:",
        f"        return fill(self, {', '.join(f'{name}={name}' for name in names)})",
        "    thaw(self, '__class__', thawed)",
        *(f"    self.{name} = {name}" for name in names),
        "    self.__class__ = frozen",
    ]
    # Written out and compiled, as dataclasses does it: what takes any keywords would pack and unpack them each time.
    exec("\n".join(lines), values)  # noqa: S102
    frozen.__init__ = update_wrapper(values["__init__"], frozen.__init__)  # type: ignore[method-assign]
    return frozen
