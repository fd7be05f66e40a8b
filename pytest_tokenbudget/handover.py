"""What the last report of a test carries from whoever ran the test to whoever reports.

Within one process these are the values themselves. From a worker of xdist it is plain data, since execnet takes
nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_tokenbudget.record import SharedRecord, UsageRecord, is_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

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


def hand_over(report: pytest.TestReport, handover: Handover, *, far: bool) -> None:
    """Put it on the report.

    Args:
        report: of the test's teardown.
        handover: what it carries; nothing is put on a report that has nothing to carry.
        far: whether the report goes to another process.
    """
    record, shared, late = handover
    if record is None and not shared and not late:
        return
    if far:
        plain = None if record is None else record.to_dict()
        setattr(report, _ATTRIBUTE, {"record": plain, "shared": [each.to_dict() for each in shared], "late": late})
    else:
        arrived = None if record is None else as_arrived(record)
        others = [SharedRecord.from_dict(each.to_dict()) for each in shared]
        setattr(report, _ATTRIBUTE, Handover(arrived, others, late))


def handed_over(report: pytest.TestReport) -> Handover:
    """What the report carries, if anything."""
    carried: Handover | dict[str, Any] = getattr(report, _ATTRIBUTE, _NOTHING)
    if isinstance(carried, Handover):
        return carried
    record = carried["record"]
    return Handover(
        None if record is None else UsageRecord.from_dict(record),
        [SharedRecord.from_dict(each) for each in carried["shared"]],
        carried["late"],
    )


def as_arrived(record: UsageRecord) -> UsageRecord:
    """A record as it is when it has been plain data: without its prompts, and with texts that any process takes."""
    return record if is_plain(record) else UsageRecord.from_dict(record.to_dict())


_NOTHING = Handover()
