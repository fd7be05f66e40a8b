"""What pytest says of each test, once all its phases ran: reports tell it phase by phase, and subtests apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from pytest_tokenbudget.record import Outcome


class Outcomes:
    """The outcomes of tests that are on their way."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Outcome] = {}
        self._failed_subtests: set[str] = set()

    def note(self, report: pytest.TestReport) -> None:
        """Take a report: of a phase, or of a subtest."""
        if hasattr(report, "context"):
            # A subtest's. The test itself reports too, and pytest makes a failure of that only where it is shown.
            if report.failed:
                self._failed_subtests.add(report.nodeid)
            return
        before = self._outcomes.get(report.nodeid)
        if report.outcome == "rerun" or report.when == "setup":  # type: ignore[comparison-overlap]
            self._outcomes.pop(report.nodeid, None)
            self._failed_subtests.discard(report.nodeid)
            before = None
        outcome = _outcome_of(report)
        if outcome is not None and not (before == "failed" and outcome == "error"):
            self._outcomes[report.nodeid] = outcome

    def take(self, nodeid: str) -> Outcome:
        """A test's outcome, when its last phase was noted."""
        outcome = self._outcomes.pop(nodeid, "passed")
        return "failed" if outcome == "passed" and nodeid in self._failed_subtests else outcome


def _outcome_of(report: pytest.TestReport) -> Outcome | None:
    """What one phase makes of its test; ``None`` for a set-up or a teardown that did its work."""
    expected = hasattr(report, "wasxfail")
    if report.outcome == "skipped":
        return "xfailed" if expected else "skipped"
    if report.outcome == "failed":
        return "failed" if report.when == "call" else "error"
    if report.when == "call":
        return "xpassed" if expected else "passed"
    return None
