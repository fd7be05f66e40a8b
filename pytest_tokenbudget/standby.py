"""What xdist's controller does where the user said nothing: a worker tells it of a test that asks.

It collects no tests itself, and until then loads nothing else of ours. What it does not see before, such as a worker
that crashed, is told in reports alone, which somebody has to ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_tokenbudget.collector import Collector

_ASKED = "token_budget_asked"


def tell_controller(report: pytest.TestReport) -> None:
    """Let a worker's report say that tests ask for their figures; each of them does, so that none is missed."""
    setattr(report, _ASKED, True)


class Standby:
    """Opens the collector at the first report of a worker whose tests ask.

    Args:
        opened: opens it.
        manager: pytest's, which forgets this one then.
    """

    def __init__(self, opened: Callable[[], Collector], manager: pytest.PytestPluginManager) -> None:
        self._opened = opened
        self._manager = manager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Pass on the report that opened it: pytest calls what is new from the next one on."""
        if hasattr(report, _ASKED):
            self._manager.unregister(self)
            self._opened().pytest_runtest_logreport(report)
