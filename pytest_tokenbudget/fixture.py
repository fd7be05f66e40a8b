"""Whether a fixture that is called ``usage`` is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.options import HOME

if TYPE_CHECKING:
    import pytest


def wants_usage(item: pytest.Item) -> bool:
    """Whether a test asks for our fixture; a parameter or a fixture of its own may have the same name."""
    info: Any = getattr(item, "_fixtureinfo", None)
    definitions: Any = None if info is None else info.name2fixturedefs.get("usage")
    return bool(definitions) and definitions[-1].func.__module__ == HOME
