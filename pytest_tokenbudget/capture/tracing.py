"""LangSmith's tracing, which is no part of a test: told apart from what a test sends, never recorded."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import FrameType

DOMAIN = "smith.langchain.com"
"""LangSmith's own hosts lie below it."""

ENDPOINTS = ("LANGSMITH_ENDPOINT", "LANGCHAIN_ENDPOINT")

_SENDERS = ("langsmith.client", "langsmith.async_client", "langsmith._internal._background_thread")


def is_tracing_host(host: str, port: int | None) -> bool:
    """Whether requests to it are LangSmith's: its own hosts, and the endpoint that the environment names."""
    if "langsmith" not in sys.modules:
        return False
    return host.endswith(f".{DOMAIN}") or any(
        (parts.hostname, parts.port or port) == (host, port)
        for name in ENDPOINTS
        if (endpoint := os.environ.get(name)) and (parts := urlsplit(endpoint))
    )


def sends_traces() -> bool:
    """Whether the code that runs now is LangSmith's own, in a thread of its own, with a trace on its way out."""
    if "langsmith" not in sys.modules or threading.current_thread() is threading.main_thread():
        return False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to the stack
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.startswith("langsmith."):
            return module in _SENDERS  # else it wraps the user's own code
        frame = frame.f_back
    return False
