"""One TLS context for all clients that will only ever see replays.

httpx builds one for each client, which takes tens of milliseconds: it reads every certificate there is. The context
that is handed out instead is a real one, so a client that outlives its test connects as safely as any other.
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

_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What httpx looks at in the environment when it builds a context."""


def hook_contexts(library: ModuleType) -> None:
    """Let the transports of httpx or httpx2 share a context while a test replays."""
    home = getattr(getattr(library, "_transports", None), "default", None)
    if home is not None and hasattr(home, "create_ssl_context"):
        wrap(home, "create_ssl_context", _shared)


def _shared(create: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[tuple[object, ...], Any] = {}

    @functools.wraps(create)
    def shared(verify: Any = True, cert: Any = None, trust_env: bool = True, **options: Any) -> Any:  # noqa: FBT001, FBT002 - httpx's signature
        playback = active_playback()
        if playback is None or playback.live or verify is not True or cert is not None or options:
            return create(verify=verify, cert=cert, trust_env=trust_env, **options)
        key = (trust_env, *(os.environ.get(name) for name in _CERTIFICATES))
        if key not in known:
            known[key] = create(verify=verify, cert=cert, trust_env=trust_env)
        return known[key]

    return shared
