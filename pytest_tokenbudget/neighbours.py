"""What other plugins do to a test: those with cassettes of their own keep theirs, and xdist calls it otherwise."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.environment import forget_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

RECORDERS = ("recording", "pytest_recording.plugin", "vcr", "pytest_vcr")
"""pytest-recording and pytest-vcr, by the names of their entry points and of their modules."""

LANGSMITH = ("langsmith_plugin", "langsmith.pytest_plugin")
"""langsmith's plugin, likewise."""

TRACKING = "LANGSMITH_TEST_TRACKING"

NO_CONFIG = ("pytest_recording.plugin", "pytest_vcr")
"""Modules whose ``vcr_config`` fixture is an empty one, for users to override."""


def ungrouped_nodeid(item: pytest.Item) -> str:
    """A test's node id without the group that xdist puts behind it, which no baseline and no command line knows.

    Source: ``pytest_collection_modifyitems`` of ``xdist.remote``, for ``--dist=loadgroup``.
    """
    plain = f"{item.parent.nodeid}::{item.name}" if item.parent is not None else item.nodeid
    return plain if item.nodeid.startswith(f"{plain}@") else item.nodeid


def has_own_cassette(item: pytest.Item) -> bool:
    """Whether a test's cassette is run by pytest-recording, pytest-vcr or langsmith."""
    if _has_any(item, RECORDERS) and item.get_closest_marker("vcr") is not None:
        return True
    return _asks_for_vcr_cassette(item) or _has_langsmith_cache(item)


@contextmanager
def untracked(item: pytest.Item) -> Iterator[None]:
    """Keep langsmith from reporting a test of its own that replays from our cassette, or records to it.

    Without this, what it sends to LangSmith would be looked for in the cassette, or recorded with its key. The test
    runs all the same, and what it logs is dropped, as with ``LANGSMITH_TEST_TRACKING=false``.
    """
    if not _has_any(item, LANGSMITH) or item.get_closest_marker("langsmith") is None:
        yield
        return
    before = os.environ.get(TRACKING)
    os.environ[TRACKING] = "false"
    forget_settings()
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(TRACKING, None)
        else:
            os.environ[TRACKING] = before
        forget_settings()


def _asks_for_vcr_cassette(item: pytest.Item) -> bool:
    """Whether a test uses pytest-vcr's fixture, which needs no marker."""
    if "vcr_cassette" not in getattr(item, "fixturenames", ()):
        return False
    info: Any = getattr(item, "_fixtureinfo", None)
    definitions = () if info is None else info.name2fixturedefs.get("vcr_cassette", ())
    return any(each.func.__module__ == "pytest_vcr" for each in definitions)


def _has_langsmith_cache(item: pytest.Item) -> bool:
    """Whether langsmith will put its cache around a test: its marker, a folder, and tracking that is not off.

    Source: ``langsmith.testing`` and ``langsmith.utils.get_env_var``.
    """
    marker = item.get_closest_marker("langsmith") if _has_any(item, LANGSMITH) else None
    if marker is None or _read("TEST_TRACKING") == "false":
        return False
    cache = marker.kwargs.get("cache")
    return bool(_read("TEST_CACHE") if cache is None else cache)


def _read(name: str) -> str:
    """A setting of langsmith's; blank counts as unset."""
    values = (os.environ.get(f"{prefix}_{name}", "") for prefix in ("LANGSMITH", "LANGCHAIN"))
    return next((value for value in values if value.strip()), "")


def _has_any(item: pytest.Item, names: tuple[str, ...]) -> bool:
    return any(map(item.config.pluginmanager.hasplugin, names))
