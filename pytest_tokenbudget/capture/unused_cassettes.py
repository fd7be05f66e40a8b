"""Guesses, from the test modules' source alone, which cassettes no test uses. It errs towards saying nothing.

A test that is made at run time, a parameter's id, or a plugin's fixture can't be seen here: only a run can tell.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath

from pytest_tokenbudget.capture.layout import FORBIDDEN, HASH_LENGTH, MAX_NAME_BYTES

FOLDER = "cassettes"

_HASH = re.compile(rf"-[0-9a-f]{{{HASH_LENGTH}}}\Z")
_SCOPE = re.compile(r"(?P<fixture>.+)@(?:class|module|package|session)\Z")
_TEST_MODULE = re.compile(r"test_.+|.+_test")
_LONG = MAX_NAME_BYTES - HASH_LENGTH - 8
"""Names from this length on may have been cut."""


@dataclass(slots=True)
class _Source:
    """What a Python file defines and says.

    Attributes:
        functions: names of functions of the module, of what it imports, and of what it assigns.
        classes: class name -> names of its functions.
        open_classes: classes that may have more tests than they show: they have bases, or decorators.
        texts: every text that it holds, such as a marker's name of a cassette.
        open: whether it may have more tests than it shows.
    """

    functions: set[str] = field(default_factory=set)
    classes: dict[str, set[str]] = field(default_factory=dict)
    open_classes: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    open: bool = False


def why_unused(cassette: Path) -> str | None:
    """Why no test seems to use a cassette; ``None`` where one does, or where that can't be told.

    Args:
        cassette: a file in pytest-recording's layout: ``cassettes/<test module>/<test>.yaml`` beside the test module.
    """
    module = _module_of(cassette)
    if module is None:
        return None
    if not module.exists():
        return f"there is no {module.name} beside {FOLDER}" if _TEST_MODULE.fullmatch(module.stem) else None
    source = _read(module)
    if source is None or source.open or _is_named(cassette, source):
        return None
    name = cassette.name.partition(".yaml")[0].partition(".yml")[0].partition(".json")[0]
    if scoped := _SCOPE.fullmatch(name):
        fixture = scoped["fixture"]
        known = any(fixture in each.functions | each.texts or each.open for each in (source, *_conftests(module)))
        return None if known else f"neither {module.name} nor a conftest.py above it has a fixture {fixture}"
    if any(_has_test(source, each) for each in (name, _HASH.sub("", name))):
        return None
    return f"{module.name} has no test {name.partition('[')[0]}"


def _module_of(cassette: Path) -> Path | None:
    """The test module whose folder of cassettes the file lies in; ``None`` where there can be none."""
    parts = cassette.absolute().parts
    at = max((index for index, part in enumerate(parts[:-1]) if part == FOLDER), default=None)
    if at is None or len(parts) - at < len((FOLDER, "module", "name")):
        return None
    inside = PurePath(*parts[at + 1 : -1])
    module = Path(*parts[:at], inside).with_name(inside.name + ".py")
    # Deeper down lies what a marker names "group/name", or what token_cassette_dir = cassettes holds.
    return module if len(inside.parts) == 1 or module.exists() else None


def _is_named(cassette: Path, source: _Source) -> bool:
    """Whether the module, or a conftest above it, holds a text that may name the file."""
    names = {cassette.name, cassette.stem, cassette.name.removesuffix(".partial")}
    return any(text in names or PurePath(text).name in names for text in source.texts)


def _has_test(source: _Source, name: str) -> bool:
    base = name.partition("[")[0]
    owner, dot, test = base.rpartition(".")
    functions = source.functions if not dot else source.classes.get(owner, set())
    if (dot and owner in source.open_classes) or test in functions:
        return True
    if len(base.encode()) >= _LONG:
        return any(each.startswith(test[: -2 * HASH_LENGTH]) for each in functions)
    # A name may hold what became a dash.
    return any(sign in test for sign in FORBIDDEN)


def _conftests(module: Path) -> list[_Source]:
    found = (_read(folder / "conftest.py") for folder in module.parents)
    return [each for each in found if each is not None]


@lru_cache(maxsize=256)
def _read(path: Path) -> _Source | None:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    source = _Source()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            source.texts.add(node.value)
        elif isinstance(node, ast.ClassDef):
            source.classes.setdefault(node.name, set()).update(_names_in(node.body))
            if node.bases or node.keywords or node.decorator_list:
                source.open_classes.add(node.name)
        elif (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("globals", "setattr", "vars")
        ):
            source.open = True
    source.functions = _names_in(tree.body)
    # An imported class is collected with the tests that it has elsewhere.
    source.open_classes |= source.functions - source.classes.keys()
    return source


def _names_in(body: list[ast.stmt]) -> set[str]:
    """What a module or a class defines, imports and assigns, within conditions and loops too."""
    names: set[str] = set()
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            pending += ast.iter_child_nodes(node)
    return names
