"""No TLS context for clients that will only ever see replays, or one for all of them.

httpx builds one for each client, which takes tens of milliseconds: it reads every certificate there is. A client that
outlives its test connects as safely as any other: with a real context that it shares, or with the default one, which
httpx2 builds when a connection is made without.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.playback import active_playback
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def named_certificates() -> tuple[str | None, str | None]:
    """The file and the folder that the environment names, where httpx looks when it builds a context."""
    return os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")


def hook_contexts(library: ModuleType) -> None:
    """Let the transports of httpx or httpx2 share a context, or do without, while a test replays."""
    home = getattr(getattr(library, "_transports", None), "default", None)
    if home is not None and hasattr(home, "create_ssl_context"):
        wrap(home, "create_ssl_context", _shared)


def _shared(create: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[object, ...], Any] = {}
    # httpx2 leaves the choice of certificates to httpcore2, which makes the same one for a connection that has none,
    # and looks at the environment for it.
    asks_for_default = "default_ssl_context" in getattr(create, "__code__", _shared.__code__).co_names

    @functools.wraps(create)
    def shared(verify: Any = True, cert: Any = None, trust_env: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - httpx's signature
        playback = active_playback()
        if playback is None or playback.live or verify is not True or cert is not None or options:
            return create(verify=verify, cert=cert, trust_env=trust_env, **options)
        named = named_certificates()
        if asks_for_default and trust_env and not any(named):
            return None
        key = (trust_env, *named)
        if key not in known:
            known[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return known[key]

    return shared
