"""While a test replays, the user's own tiktoken finds its vocabularies here instead of on the network."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

_waiting: list[list[Callable[[], None]]] = []


@contextmanager
def tiktoken_offline() -> Iterator[None]:
    """Serve tiktoken for the length of a block; imports it not, but waits for the test to."""
    undo: list[Callable[[], None]] = []
    _waiting.append(undo)
    try:
        if (registry := sys.modules.get("tiktoken.registry")) is not None:
            serve_imported(registry)
        yield
    finally:
        # By identity: two tests that have nothing to undo are equal, and not the same.
        _waiting[:] = [each for each in _waiting if each is not undo]
        for each in undo:
            each()


def serve_imported(registry: ModuleType) -> None:
    """Tiktoken is there now: serve it if a replayed test runs."""
    if _waiting and not _waiting[-1]:
        from pytest_tokenbudget.capture.vocabulary import serve_offline  # noqa: PLC0415 - only where tiktoken is used

        _waiting[-1].append(serve_offline(registry))
