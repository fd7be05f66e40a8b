"""Columns for each test's tokens and cost in the page that pytest-html makes."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget.report.html_cells import HEADER, NO_CELLS, html_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.handover import Post

PLACE = 3
"""Behind pytest-html's own result, test and duration."""


FIRST_VERSION = (4, 1)
"""From here on pytest-html makes a test's rows when all of the test is over, and its figures are known."""


def fits() -> bool:
    """Whether the pytest-html that is installed can be given columns."""
    try:
        major, minor, *_ = version("pytest-html").split(".")
        return (int(major), int(minor)) >= FIRST_VERSION
    except (PackageNotFoundError, ValueError):
        return False


class HtmlColumns:
    """pytest-html's hooks, in the process that reports."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._cells: Sequence[str] = NO_CELLS
        self._page: Any = None
        self._used = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures off a test's last report, on which pytest-html makes all of its rows."""
        if report.when == "teardown":
            record = self._post.receive(report).record
            self._cells = NO_CELLS if record is None else html_cells(record)
            self._used = self._used or self._cells is not NO_CELLS

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Keep the page: at the end, columns that are empty leave it."""
        self._page = report

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Name the columns."""
        cells[PLACE:PLACE] = HEADER

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: pytest.TestReport, cells: list[str]) -> None:
        """Fill them in the row of the test; its earlier tries, subtests, an error after it have none of their own."""
        own = report.when in ("setup", "call") and str(report.outcome) != "rerun" and not hasattr(report, "context")
        cells[PLACE:PLACE] = self._cells if own else NO_CELLS

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self) -> None:
        """Take the columns out where no test used a model."""
        if self._used or self._page is None:
            return
        self._page.table_header = [cell for cell in self._page.table_header if cell not in HEADER]
        for rows in self._page.data["tests"].values():
            for row in rows:
                row["resultsTableRow"] = [cell for cell in row["resultsTableRow"] if cell not in NO_CELLS]
