"""Plugins of others that the development environment holds: inner runs say which of them they want."""

from __future__ import annotations

OTHERS = (
    "langsmith_plugin", "anyio", "hypothesispytest", "asyncio", "pytest_cov", "recording", "vcr", "rerunfailures",
    "respx", "pytest_httpx", "socket", "randomly", "repeat", "html", "metadata",
)  # fmt: skip
"""By the names of their entry points; pytest-xdist is always wanted."""

ASYNCIO = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
"""What an ini file tells pytest-asyncio, so that it says nothing about it."""


def without_all_but(*wanted: str) -> tuple[str, ...]:
    """The arguments that keep every other plugin out; their imports take longer than most scenarios."""
    unknown = set(wanted) - set(OTHERS)
    assert not unknown, unknown
    return tuple(word for name in OTHERS if name not in wanted for word in ("-p", f"no:{name}"))
