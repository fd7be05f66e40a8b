"""Frozen dataclasses that are made, and made anew, as fast as ordinary ones.

A frozen dataclass fills each field through ``object.__setattr__``, which is ten times dearer than an assignment, and
every model call makes several objects of a dozen fields.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")


def quickly_made(frozen: type[T]) -> type[T]:
    """Let the objects of a dataclass, frozen with slots and by keyword only, freeze after they are filled.

    Until then they are of an ordinary class that has the same slots. The objects of a class that was made from the
    dataclass may have more than these, and are filled as ever.
    """
    names = [each.name for each in fields(frozen)]  # type: ignore[arg-type]
    filled = _compiled(
        frozen,
        "def function(self, *, {parameters}):",
        "    if type(self) is not frozen:",
        f"        return fill(self, {', '.join(f'{name}={name}' for name in names)})",
        "    thaw(self, '__class__', thawed)",
        *(f"    self.{name} = {name}" for name in names),
        "    self.__class__ = frozen",
    )
    frozen.__init__ = update_wrapper(filled, frozen.__init__)  # type: ignore[method-assign]
    _copiers[frozen] = _compiled(
        frozen,
        "def function(self):",
        "    copy = thawed()",
        *(f"    copy.{name} = self.{name}" for name in names),
        "    return copy",
    )
    return frozen


_copiers: dict[type, Callable[[Any], Any]] = {}


def remade(frozen: T, **changes: object) -> T:
    """``dataclasses.replace`` for an object of such a class, in a tenth of the time."""
    copier = _copiers.get(type(frozen))
    if copier is None:  # of a class that was made from such a dataclass
        return replace(frozen, **changes)  # type: ignore[type-var]
    copy: T = copier(frozen)
    for name, value in changes.items():
        setattr(copy, name, value)
    copy.__class__ = type(frozen)
    return copy


def maker_of(frozen: Callable[P, T]) -> Callable[P, T]:
    """What makes the same objects as such a dataclass, in less than half the time.

    A call of a class packs all keywords into a dictionary, and this is a function. It is for where an object is made
    for each test of a suite, and its class does nothing else when it is made.
    """
    maker: Callable[P, T] = _compiled(
        frozen,
        "def function(*, {parameters}):",
        "    self = thawed()",
        *(f"    self.{each.name} = {each.name}" for each in fields(frozen)),  # type: ignore[arg-type]
        "    self.__class__ = frozen",
        "    return self",
    )
    return maker


def adder_of(frozen: Callable[P, T]) -> Callable[[Iterable[T]], T]:
    """What adds up any number of objects of such a dataclass, whose fields are all whole numbers, field by field."""
    names = [each.name for each in fields(frozen)]  # type: ignore[arg-type]
    adder: Callable[[Iterable[T]], T] = _compiled(
        frozen,
        "def function(terms):",
        f"    {' = '.join(names)} = 0",
        "    for term in terms:",
        *(f"        {name} += term.{name}" for name in names),
        "    total = thawed()",
        *(f"    total.{name} = {name}" for name in names),
        "    total.__class__ = frozen",
        "    return total",
    )
    return adder


def _compiled(frozen: Any, head: str, *body: str) -> Any:
    """A function, written out and compiled as dataclasses does it: one that takes any keywords would pack them.

    Args:
        frozen: the dataclass whose fields it takes.
        head: its first line, with ``{parameters}`` for them.
        body: the others.
    """
    described = fields(frozen)
    values: dict[str, Any] = {
        "frozen": frozen,
        "unset": MISSING,
        "makers": {each.name: each.default_factory for each in described},
        "thawed": type(frozen.__name__, (), {"__slots__": [each.name for each in described]}),
        "thaw": object.__setattr__,
        "fill": frozen.__init__,
        "by_default": {each.name: each.default for each in described},
    }
    made = [each.name for each in described if each.default_factory is not MISSING]
    parameters = [
        each.name if each.default is MISSING and each.name not in made else f"{each.name}=by_default[{each.name!r}]"
        for each in described
    ]
    making = [f"    if {name} is unset: {name} = makers[{name!r}]()" for name in made if "{parameters}" in head]
    exec("\n".join((head.format(parameters=", ".join(parameters)), *making, *body)), values)  # noqa: S102
    return values["function"]
