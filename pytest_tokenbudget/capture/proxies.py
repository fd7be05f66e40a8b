"""That the environment names no proxy is found out at a glance.

Python decodes the whole environment twice to look for one. Clients ask at each start, and a replayed test's
environment holds two dozen dummy keys: that took as long as reading the test's recording.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

from pytest_tokenbudget.capture.wrapping import wrap
from pytest_tokenbudget.environment import raw_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def hook_proxies(module: ModuleType) -> None:
    """Let a module that asks ``urllib.request`` for proxies get its answer faster, if that is no.

    Where the system's own settings count too, as on macOS and Windows, the function is another one, and stays.
    """
    if getattr(module, "getproxies", None) is getproxies_environment:
        wrap(module, "getproxies", _unless_none)


def _unless_none(getproxies: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(getproxies)
    def asked() -> Any:
        if b"_proxy" not in b"\0".join(raw_environment()).lower():
            return {}
        return getproxies()

    return asked
