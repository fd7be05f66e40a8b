"""A test on its way through the gate, and what is known of it up to now."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.budget import REFUSED, UNANSWERED
from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.record import UsageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

    from pytest_tokenbudget.capture.playback import Playback
    from pytest_tokenbudget.ledger import Ledger
    from pytest_tokenbudget.markers import MarkerSettings
    from pytest_tokenbudget.playbacks import Missed
    from pytest_tokenbudget.record import Tally
    from pytest_tokenbudget.tracking import UsageTracker


@dataclass(slots=True, eq=False, kw_only=True)
class RunningTest:
    """A test on its way through the gate.

    Attributes:
        nodeid: its node id, as a baseline and a command line have it.
        marker_settings: what its markers say.
        ledger: its model calls.
        playback: where it replays from; ``None`` where it does not replay.
        record: its record, once it was judged.
        tally: the sum of what it had used when it was judged.
        message: what fails it, once it was judged.
        judged: whether it was judged.
        failed: whether its own code, or a fixture, failed.
        sound: whether its call passed, and played the recordings that it should.
        plays_on: whether its fixtures may play some while they are torn down.
        teardown: undone at its end.
    """

    nodeid: str
    marker_settings: MarkerSettings
    ledger: Ledger
    tracker: UsageTracker
    playback: Playback | None
    record: UsageRecord | None = None
    tally: Tally | None = None
    message: str = ""
    judged: bool = False
    failed: bool = False
    sound: bool = False
    plays_on: bool = False
    teardown: ExitStack = field(default_factory=ExitStack)

    @property
    def used(self) -> UsageRecord:
        """What it has used up to now, before anybody judged it."""
        return UsageRecord(
            nodeid=self.nodeid,
            calls=self.tracker.priced_calls,
            cache_hits=self.ledger.cache_hits,
            incidents=self.ledger.incidents,
        )

    @property
    def brief_figures(self) -> str:
        """What it has used up to now, in a few words; empty where it used no model."""
        if not self.ledger.calls:
            return ""
        from pytest_tokenbudget.report.figures import describe_briefly  # noqa: PLC0415 - only when it is shown
        from pytest_tokenbudget.summary import tally_of  # noqa: PLC0415 - likewise

        return describe_briefly(tally_of(self.tracker.priced_calls))

    @property
    def why_unanswered(self) -> str:
        """Why a request of it got no answer; empty where all did."""
        if (self.playback is not None and self.playback.failed) or (self.record and self.record.drift):
            return UNANSWERED
        if self.ledger.refused or (self.record and self.record.blocked):
            return REFUSED
        return ""

    def note_misses(self, missed: Missed) -> None:
        """Keep what it asked for and did not get, or should not have got, in its record."""
        if not missed.lines:
            return
        record = self.record or UsageRecord(nodeid=self.nodeid, calls=self.tracker.priced_calls)
        self.record = remade(
            record,
            drift=(*record.drift, *missed.drift),
            blocked=(*record.blocked, *missed.blocked),
            unfit=(*record.unfit, *missed.unfit),
        )
        self.failed = True


def plays_at_its_end(item: pytest.Item) -> bool:
    """Whether a fixture of the user's may yet ask for a recording while it is torn down.

    Not of a test that is expected to fail: what fails it in its teardown would be an error, and no expected failure.
    """
    definitions = getattr(getattr(item, "_request", None), "_fixture_defs", {}).values()
    fixtures = [each for each in definitions if each.scope == "function"]
    yields = any(_generates(each.func) and _is_own(each.func, item) for each in fixtures)
    return (yields or any(_is_own(each, item) for each in _finalizers(item, fixtures))) and not any(
        item.iter_markers("xfail")
    )


def _finalizers(item: pytest.Item, fixtures: Iterable[pytest.FixtureDef[Any]]) -> Iterator[object]:
    """What is to be called at the end of a test and of its fixtures; pytest has no public way to ask."""
    for fixture in fixtures:
        yield from getattr(fixture, "_finalizers", ())
    finalizers, _ = getattr(getattr(item.session, "_setupstate", None), "stack", {}).get(item, ((), None))
    yield from finalizers


def _generates(function: object) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _is_own(function: object, item: pytest.Item) -> bool:
    """Whether a function is the suite's own, and not pytest's or a plugin's."""
    while isinstance(function, partial):
        function = function.func
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    own = file.startswith(str(item.config.rootpath)) and "site-packages" not in file
    # Those of unittest and xunit are pytest's, and call methods of the suite's.
    return own or getattr(function, "__name__", "").startswith(("xunit_", "unittest_"))
