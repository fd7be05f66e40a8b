"""A pytest gate on the tokens and the money that tests spend on language models."""

from __future__ import annotations

import atexit
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from pytest_tokenbudget.budget import Budget
    from pytest_tokenbudget.errors import (
        BudgetExceeded,
        TokenBudgetError,
        UnmeasuredUsageError,
        UnpricedModelError,
    )
    from pytest_tokenbudget.tracking import track_usage
    from pytest_tokenbudget.usage import ModelCall, Usage
    from pytest_tokenbudget.version import __version__

__all__ = [
    "Budget",
    "BudgetExceeded",
    "ModelCall",
    "TokenBudgetError",
    "UnmeasuredUsageError",
    "UnpricedModelError",
    "Usage",
    "__version__",
    "track_usage",
]

# Loaded on first use, so that importing the package (which every pytest run with the plugin does) stays free.
_HOME = {
    "Budget": "pytest_tokenbudget.budget",
    "BudgetExceeded": "pytest_tokenbudget.errors",
    "TokenBudgetError": "pytest_tokenbudget.errors",
    "UnmeasuredUsageError": "pytest_tokenbudget.errors",
    "UnpricedModelError": "pytest_tokenbudget.errors",
    "ModelCall": "pytest_tokenbudget.usage",
    "Usage": "pytest_tokenbudget.usage",
    "__version__": "pytest_tokenbudget.version",
    "track_usage": "pytest_tokenbudget.tracking",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _PlainFinder:
    """Finds the modules of this package as Python does, before pytest can rewrite their assertions.

    It does so with all plugins, and here there are none. Such a module is read three times slower than any other, and
    rewritten first where pytest has not done that before, which takes most of a second: in an environment that was
    just made, as in most CI jobs, and each time in one that it may not write to.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, path, target) if name.startswith(f"{__name__}.") else None

    @classmethod
    def leave(cls) -> None:
        """Stand in nobody's way when Python ends: what does is taken apart last, and all that it knows with it."""
        if cls in sys.meta_path:
            sys.meta_path.remove(cls)


if "_pytest" in sys.modules:
    sys.meta_path.insert(0, _PlainFinder)
    atexit.register(_PlainFinder.leave)
