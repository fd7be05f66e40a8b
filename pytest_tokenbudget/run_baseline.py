"""The baseline as one run has it: whether the run covers what it knows, how it stands against it, and its update."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.extent import narrowed_by, outside
from pytest_tokenbudget.files import shown_from

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    import pytest

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.extent import Extent
    from pytest_tokenbudget.record import ModelTokens, UsageRecord
    from pytest_tokenbudget.settings import Settings
    from pytest_tokenbudget.summary import BaselineSummary


class RunBaseline:
    """The baseline that a run is held against, or that it updates."""

    def __init__(self, config: pytest.Config, settings: Settings, baseline: Baseline | None, extent: Extent) -> None:
        self._config = config
        self._settings = settings
        self._baseline = baseline
        self._extent = extent

    @property
    def entries(self) -> Mapping[str, Mapping[str, ModelTokens]]:
        """What the tests were held against; nothing in a run that updates it."""
        return {} if self._baseline is None or self._settings.baseline_update else self._baseline.tests

    @property
    def partial(self) -> str | None:
        """Why the run covers a part of the suite only; ``None`` where it covers all that the baseline knows."""
        if (flag := narrowed_by(self._config)) is not None:
            if flag in self._config.getini("addopts") and flag not in self._config.invocation_params.args:
                return f"{flag} of addopts leaves tests out; -o addopts= takes it off for one run"
            return f"{flag} leaves tests out"
        if self._extent.deselected:
            return "tests were deselected"
        path = self._settings.baseline
        known = baselines.load(path).tests if self._settings.baseline_update and _exists(path) else ()
        if elsewhere := outside(self._config, known):
            return f"{elsewhere[0]} lies outside of what it collects"
        return None

    def why_no_prune(self, *, complete: bool = True) -> str | None:
        """Why this run must not drop entries, as it was asked to; ``None`` where it may, or was not asked."""
        if self._settings.baseline_update != "prune":
            return None
        reason = self.partial if complete else "it did not come to its end"
        if reason is None:
            return None
        return f"--token-update-baseline=prune needs a whole run, and this is none: {reason}; nothing was written"

    def update(self, records: Mapping[str, UsageRecord], seen: Collection[str]) -> str:
        """Write what the tests that passed have used; returns a line about it.

        Args:
            records: the tests that were counted.
            seen: all tests that ran; where entries are dropped, what others are gone is told by them.

        Raises:
            ConfigurationError: the file can't be read or written.
        """
        path, prunes = self._settings.baseline, self._settings.baseline_update == "prune"
        before = baselines.load(path).tests if _exists(path) else {}
        passed = {
            nodeid: record.models
            for nodeid, record in records.items()
            if record.outcome == "passed"
            # A test that stopped to use a model is remembered as such; one that never did is not.
            and (record.calls or (nodeid in before and not record.cache_hits))
            and record.is_known
        }
        if not passed and not prunes:
            return "no test that passed used a model; the baseline is as it was"
        prune_to = {*seen, *before} - {*self._gone(before, seen)} if prunes else None
        self._baseline = baselines.update(path, passed, prune_to=prune_to)
        dropped = len(before.keys() - self._baseline.tests.keys())
        said = f"wrote {len(passed)} test(s) to {shown_from(self._settings.rootdir, path)}"
        return f"{said}, dropped {dropped}" if dropped else said

    def summarise(
        self, records: Mapping[str, UsageRecord], seen: Collection[str], *, complete: bool
    ) -> BaselineSummary | None:
        """How the run stands against it; ``None`` where there is no baseline.

        Args:
            records: the tests that were counted.
            seen: all tests that ran.
            complete: whether the run came to its end: only such a one knows which entries are stale.
        """
        if self._baseline is None:
            return None
        from pytest_tokenbudget.summary import BaselineSummary  # noqa: PLC0415 - not on the start-up path

        stale: tuple[str, ...] = ()
        if complete and not self._extent.deselected and narrowed_by(self._config) is None:
            gone = self._gone(self._baseline.tests, seen)
            elsewhere = set(outside(self._config, gone))
            stale = tuple(nodeid for nodeid in gone if nodeid not in elsewhere)
        path = shown_from(self._settings.rootdir, self._settings.baseline)
        return BaselineSummary.of(records.values(), path=path, stale=stale)

    def _gone(self, entries: Collection[str], seen: Collection[str]) -> tuple[str, ...]:
        doctests = bool(getattr(self._config.option, "doctestmodules", False))
        return self._extent.gone(entries, seen, self._config.rootpath, doctests=doctests)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path's raises
