"""Wait for the libraries that carry model requests, and hook into each when it is first imported.

Importing them here would cost a second; a run that calls no model must pay nothing. So a finder on ``sys.meta_path``
waits for their names, lets the ordinary finders do their work, and runs the hook right after the module did.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

HOOKS: Mapping[str, tuple[str, str]] = {
    "httpx": ("pytest_tokenbudget.capture.transport", "hook_client_library"),
    "httpx2": ("pytest_tokenbudget.capture.transport", "hook_client_library"),
    "httpcore": ("pytest_tokenbudget.capture.mocks", "hook_pools"),
    "httpcore2": ("pytest_tokenbudget.capture.mocks", "hook_pools"),
    "langchain_core.tracers.context": ("pytest_tokenbudget.capture.langchain", "register_handler"),
    "langchain_core.language_models.chat_models": ("pytest_tokenbudget.capture.langchain", "spare_detours"),
    "langchain_core.language_models.llms": ("pytest_tokenbudget.capture.langchain", "watch_cache"),
    "urllib.request": ("pytest_tokenbudget.capture.proxies", "hook_proxies"),
    "http.client": ("pytest_tokenbudget.capture.http_client", "hook_http_client"),
    "aiohttp.client_reqrep": ("pytest_tokenbudget.capture.aiohttp_client", "hook_aiohttp"),
    "vcr.cassette": ("pytest_tokenbudget.capture.cassette_tap", "hook_cassette"),
    "vcr.stubs.aiohttp_stubs": ("pytest_tokenbudget.capture.aiohttp_replay", "hook_stub"),
    "aiohttp.client": ("pytest_tokenbudget.capture.aiohttp_replay", "hook_client"),
    "concurrent.futures.thread": ("pytest_tokenbudget.capture.ward", "hook_futures"),
    "multiprocessing.pool": ("pytest_tokenbudget.capture.ward", "hook_thread_pool"),
    "tiktoken.registry": ("pytest_tokenbudget.capture.offline", "serve_imported"),
}
"""Module -> the function that hooks into it, named so that it too is imported only when needed."""


class _Watcher:
    """A finder that finds nothing itself, and runs a hook after a watched module was executed."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the import system's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name not in HOOKS or name in _searching.names:
            return None
        _searching.names.add(name)  # the search below comes through here again
        try:
            spec = find_spec(name)
        finally:
            _searching.names.discard(name)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _run_hook(name, module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _Searching(threading.local):
    def __init__(self) -> None:
        self.names: set[str] = set()


_searching = _Searching()
_watcher = _Watcher()
_lock = threading.Lock()
_users = 0


def attach() -> None:
    """Start to see model requests in this process. Counted: each call needs its ``detach``."""
    global _users  # noqa: PLW0603 - process-wide on purpose: import hooks are
    with _lock:
        _users += 1
        first = _users == 1
        if first:
            sys.meta_path.insert(0, _watcher)
    if first:
        for name in HOOKS:
            if (module := sys.modules.get(name)) is not None:
                _run_hook(name, module)


def detach() -> None:
    """Stop to watch imports, when nobody else needs it. What is hooked stays so, and passes everything through."""
    global _users  # noqa: PLW0603
    with _lock:
        _users -= 1
        if _users == 0 and _watcher in sys.meta_path:
            sys.meta_path.remove(_watcher)


@contextmanager
def attached() -> Iterator[None]:
    """See model requests for the length of a block."""
    attach()
    try:
        yield
    finally:
        detach()


def _run_hook(name: str, module: ModuleType) -> None:
    home, function = HOOKS[name]
    hook: Callable[[ModuleType], None] = getattr(import_module(home), function)
    hook(module)
