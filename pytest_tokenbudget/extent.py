"""How much of the suite a run covers: only a whole one can say that a test no longer exists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
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
    "noconftest": "--noconftest",
}

_COLLECTORS = ("no:python", "no:unittest", "no:doctest")
"""Plugins of pytest's own without which tests are not found."""

_CONFIGURATIONS = {
    "pytest.toml": b"",
    ".pytest.toml": b"",
    "pytest.ini": b"",
    ".pytest.ini": b"",
    "pyproject.toml": b"[tool.pytest",
    "tox.ini": b"[pytest]",
    "setup.cfg": b"[tool:pytest]",
}
"""Where pytest looks for its configuration by itself, in this order, and what stands there if it is one."""

_OVERRIDES = (
    "python_files",
    "python_classes",
    "python_functions",
    "testpaths",
    "norecursedirs",
    "collect_imported_tests",
)
"""What the ini file says of where tests are; said on the command line, it is of this run alone."""


class Extent:
    """What a run leaves out, gathered while it collects.

    Attributes:
        deselected: whether a plugin or an option left tests out.
        failed: whether something could not be collected, so that nobody knows its tests.
    """

    def __init__(self) -> None:
        self.deselected = False
        self.failed = False
        self._collected: list[pytest.Item] = []
        self._skipped: set[str] = set()

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """Tests that were collected and left out."""
        self.deselected = self.deselected or any(True for _ in items)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """A test, before any plugin could leave it out."""
        self._collected.append(item)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tests that are left out without a word, as pytest-shard does it.

        By the names that they have now, for plugins reorder, rename and replace tests too.
        """
        left = {item.nodeid for item in session.items}
        self.deselected = self.deselected or any(item.nodeid not in left for item in self._collected)
        self._collected.clear()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that is skipped, or broken, still has its tests."""
        if report.skipped:
            self._skipped.add(report.nodeid)
        self.failed = self.failed or report.failed

    def gone(
        self, nodeids: Collection[str], seen: Collection[str], rootdir: Path, *, doctests: bool
    ) -> tuple[str, ...]:
        """Those tests that no longer exist, as far as a whole run can tell, sorted.

        A file that exists and of which no test was seen may have been ignored, by a conftest say: nobody knows its
        tests.

        Args:
            nodeids: the tests that once existed.
            seen: the tests of this run.
            rootdir: what node ids are relative to.
            doctests: whether modules were searched for theirs.
        """
        visited = {_file(nodeid) for nodeid in seen}
        unknown = {file for file in {*map(_file, nodeids)} - visited if (rootdir / file).exists()}
        return tuple(
            sorted(
                nodeid
                for nodeid in nodeids
                if nodeid not in seen
                and _file(nodeid) not in unknown
                and (doctests or not _may_be_doctest(nodeid, rootdir))
                and not self._lies_in_skipped(nodeid)
            )
        )

    def _lies_in_skipped(self, nodeid: str) -> bool:
        return any(each in ("", ".") or nodeid.startswith((f"{each}::", f"{each}/")) for each in self._skipped)


def narrowed_by(config: pytest.Config) -> str | None:
    """The part of the command line that leaves tests out, whatever there are; ``None`` where nothing does."""
    if chosen := next((argument for argument in config.args if "::" in argument), None):
        return chosen
    for override in config.option.override_ini or ():
        if (key := override.partition("=")[0].strip()) in _OVERRIDES:
            return f"-o {key}"
    always = config.getini("addopts")  # the whole suite, as its owner sees it
    for each in _COLLECTORS:
        if each in config.option.plugins and not {each, f"-p{each}"} & {*always}:
            return f"-p {each}"
    repeats = any(map(config.pluginmanager.hasplugin, ("repeat", "pytest_repeat")))
    if repeats and (getattr(config.option, "count", None) or 1) > 1:
        return "--count"  # every test has another id
    if getattr(config.option, "inifilename", None) and _has_other_configuration(config):
        return "-c"
    return next((flag for name, flag in _NARROWING.items() if getattr(config.option, name, None)), None)


def outside(config: pytest.Config, nodeids: Iterable[str]) -> tuple[str, ...]:
    """Those tests that lie in none of the files and folders that the run was told to collect, sorted."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return ()  # the whole suite, as its owner sees it
    roots = [_real(config.invocation_params.dir / argument) for argument in config.args]
    return tuple(sorted(nodeid for nodeid in nodeids if not _lies_in(roots, config.rootpath, nodeid)))


def _has_other_configuration(config: pytest.Config) -> bool:
    """Whether a run without ``-c`` would find its tests by another file of the rootdir."""
    places = ((config.rootpath / name, head) for name, head in _CONFIGURATIONS.items())
    found = next((path for path, head in places if _holds(path, head)), None)
    return found is not None and config.inipath is not None and _real(found) != _real(config.inipath)


def _holds(path: Path, head: bytes) -> bool:
    try:
        return head in path.read_bytes()
    except OSError:  # in most places there is none
        return False


def _lies_in(roots: list[str], rootdir: Path, nodeid: str) -> bool:
    file = _real(rootdir / _file(nodeid))
    return any(file == root or file.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _may_be_doctest(nodeid: str, rootdir: Path) -> bool:
    """Whether it is one of a module that is still there, named as ``package.module.function``."""
    file, _, name = nodeid.partition("::")
    stem, suffix = os.path.splitext(os.path.basename(file))  # noqa: PTH119, PTH122 - it is no path of this system
    return suffix == ".py" and f".{stem}." in f".{name}" and (rootdir / file).exists()


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def _real(path: Path) -> str:
    return os.path.realpath(path)
