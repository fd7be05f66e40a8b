"""What is handed over, with the last report of a test, from whoever ran the test to whoever reports.

Within one process it goes beside the report: other plugins write reports to JSON. From a worker of xdist the report
carries it, as plain data, since execnet takes nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_tokenbudget.plain_record import plain_record, plain_shared, record_of, shared_of, survives_as_it_is
from pytest_tokenbudget.standby import tell_controller

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_tokenbudget.record import SharedRecord, UsageRecord
    from pytest_tokenbudget.summary import Note

FIGURES_ATTRIBUTE = "token_budget_figures"
"""The attribute of a test's report that carries its figures for the line in which pytest tells of it, as text."""

LEFTOVER = "token_budget_shared"
"""The key of xdist's worker output that carries what was used after the last test."""

LATE = "token_budget_late"
"""The key of xdist's worker output that carries what replayed tests tried after the last test."""

_ATTRIBUTE = "token_budget"


class Handover(NamedTuple):
    """What is handed over when a test is done.

    Attributes:
        record: the test's; ``None`` where nobody asked for its figures.
        shared: what shared fixtures have used since the test before.
        late: what replayed tests have tried after their end, since then.
    """

    record: UsageRecord | None = None
    shared: Sequence[SharedRecord] = ()
    late: Sequence[Note] = ()


class Post:
    """The way from who runs the tests to who reports.

    Args:
        to_controller: whether this is a worker of xdist, whose controller reports.
    """

    def __init__(self, *, to_controller: bool) -> None:
        self._to_controller = to_controller
        self._last: tuple[pytest.TestReport, Handover] | None = None

    def announce(self, report: pytest.TestReport) -> None:
        """Let any report of a worker tell that there is something to hand over in this run."""
        if self._to_controller:
            tell_controller(report)

    def send(self, report: pytest.TestReport, handover: Handover) -> None:
        """Hand something over with the report of a test's teardown, if there is anything."""
        record, shared, late = handover
        if record is None and not shared and not late:
            return
        if self._to_controller:
            plain = None if record is None else plain_record(record)
            carried = {"record": plain, "shared": [plain_shared(each) for each in shared], "late": late}
            setattr(report, _ATTRIBUTE, carried)
        else:
            arrived = None if record is None else as_arrived(record)
            others = [shared_of(plain_shared(each)) for each in shared]
            self._last = report, Handover(arrived, others, late)

    def receive(self, report: pytest.TestReport) -> Handover:
        """What was handed over with the report, if anything; several may ask."""
        if self._last is None or self._last[0] is not report:
            carried = getattr(report, _ATTRIBUTE, None)
            if not isinstance(carried, dict):
                return _NOTHING
            self._last = report, _read(carried)
        return self._last[1]


def as_arrived(record: UsageRecord) -> UsageRecord:
    """A record as another process would get it: without its prompts, and with texts that any process takes.

    Where that changes nothing, it is the record itself, which still knows where its limits were set.
    """
    return record if survives_as_it_is(record) else record_of(plain_record(record))


def _read(carried: dict[str, Any]) -> Handover:
    record = carried["record"]
    return Handover(
        None if record is None else record_of(record),
        [shared_of(each) for each in carried["shared"]],
        carried["late"],
    )


_NOTHING = Handover()
