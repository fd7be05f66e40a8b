"""How much of the suite a run covers: only a whole one can say that a test no longer exists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DESELECTED = "token_budget_deselected"
"""The key of xdist's worker output that says whether a plugin left tests out; only workers collect."""

_NARROWING = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "lf": "--last-failed",
    "stepwise": "--stepwise",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
    "setuponly": "--setup-only",
    "pyargs": "--pyargs",
}


class Extent:
    """What a run leaves out, gathered while it collects.

    Attributes:
        deselected: whether a plugin or an option left tests out.
        failed: whether something could not be collected, so that nobody knows its tests.
    """

    def __init__(self) -> None:
        self.deselected = False
        self.failed = False
        self._skipped: set[str] = set()

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Tests that were collected and left out."""
        self.deselected = self.deselected or any(True for _ in items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that is skipped, or broken, still has its tests."""
        if report.skipped:
            self._skipped.add(report.nodeid)
        self.failed = self.failed or report.failed

    def knows(self, nodeid: str) -> bool:
        """Whether the test, if it existed, would have been collected: it lies in nothing that was skipped."""
        return not any(each in ("", ".") or nodeid.startswith((f"{each}::", f"{each}/")) for each in self._skipped)


def narrowed_by(config: pytest.Config) -> str | None:
    """The part of the command line that leaves tests out, whatever there are; ``None`` where nothing does."""
    if chosen := next((argument for argument in config.args if "::" in argument), None):
        return chosen
    return next((flag for name, flag in _NARROWING.items() if getattr(config.option, name, None)), None)


def outside(config: pytest.Config, nodeids: Iterable[str]) -> tuple[str, ...]:
    """Those tests that lie in none of the files and folders that the run was told to collect, sorted."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return ()  # the whole suite, as its owner sees it
    roots = [_real(config.invocation_params.dir / argument) for argument in config.args]
    return tuple(sorted(nodeid for nodeid in nodeids if not _lies_in(roots, config.rootpath, nodeid)))


def _lies_in(roots: list[str], rootdir: Path, nodeid: str) -> bool:
    file = _real(rootdir / nodeid.partition("::")[0])
    return any(file == root or file.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _real(path: Path) -> str:
    return os.path.realpath(path)
