"""Shows each test's tokens and cost behind its name while the run goes on, where pytest shows the names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.handover import FIGURES_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Generator


class Progress:
    """The hooks that add to the word that pytest has for a test: ``PASSED (18 tokens, $0.000034)``."""

    def __init__(self) -> None:
        self._told: pytest.TestReport | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """Note which test the terminal is telling of: in its summary at the end, the word stands alone."""
        self._told = report
        try:
            return (yield)
        finally:
            self._told = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Put the figures behind the word, whosever it is."""
        status = yield
        figures = getattr(report, FIGURES_ATTRIBUTE, "")
        # A subtest's report is made of the test's, and its figures are not the subtest's.
        if not figures or report is not self._told or hasattr(report, "context"):
            return status
        category, letter, word = status
        if not word:
            return status
        told = f"{word} ({figures})" if isinstance(word, str) else (f"{word[0]} ({figures})", word[1])
        return category, letter, told
