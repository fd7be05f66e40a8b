"""Gathers the records of all tests, from this process or from xdist's workers, and tells the run as a whole."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tokenbudget import __version__
from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.admission import LEFTOVER, RECORD_ATTRIBUTE
from pytest_tokenbudget.budget import Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import write_atomically
from pytest_tokenbudget.record import SharedRecord, UsageRecord

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.record import Outcome
    from pytest_tokenbudget.settings import Settings
    from pytest_tokenbudget.summary import BaselineSummary, Summary

FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Collector:
    """The hooks of the process that reports: the only one, or xdist's controller."""

    def __init__(self, config: pytest.Config, settings: Settings, book: PriceBook, baseline: Baseline | None) -> None:
        self.config = config
        self.settings = settings
        self.book = book
        self.baseline = baseline
        self.created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._records: dict[str, UsageRecord] = {}
        self._shared: list[SharedRecord] = []
        self._outcomes: dict[str, Outcome] = {}
        self._seen: set[str] = set()
        self._partial = False
        self._crashed = False
        self._failed_run: tuple[Violation, ...] = ()
        self._summary: Summary | None = None

    # -- the run

    def start(self) -> None:
        """Write what a killed run leaves behind, and find out now whether a report can be written at all."""
        if self.config.option.collectonly:
            return
        for report in self.settings.reports:
            if report.dest in (None, "-"):
                continue
            text = ""
            if report.kind == "json":
                from pytest_tokenbudget.report.document import stub_json  # noqa: PLC0415 - not on the start-up path

                text = stub_json(
                    plugin_version=__version__,
                    created=self.created,
                    prices=self._prices(),  # type: ignore[arg-type]
                )
            try:
                write_atomically(self._path(report.dest), text.encode())
            except OSError as error:
                raise pytest.UsageError(
                    f"token budget: the report {report.dest} can't be written: {error.strerror or error}"
                ) from error

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        """A run that leaves tests out says nothing about what no longer exists."""
        self._partial = self._partial or any(True for _ in items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's record off its teardown report."""
        if hasattr(report, "context"):
            return  # a subtest's; the test itself reports too
        self._note_outcome(report)
        if report.when != "teardown":
            return
        carried = getattr(report, RECORD_ATTRIBUTE, None)
        outcome = self._outcomes.pop(report.nodeid, "passed")
        self._seen.add(report.nodeid)
        if carried is None:
            return
        if carried["record"] is not None:
            self._records.pop(report.nodeid, None)  # a rerun takes the place of the first try
            self._records[report.nodeid] = UsageRecord.from_dict(carried["record"]).with_outcome(outcome)
        self._shared += [SharedRecord.from_dict(each) for each in carried["shared"]]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker used after its last test; a worker that crashed makes the run incomplete."""
        self._crashed = self._crashed or bool(error)
        for each in getattr(node, "workeroutput", {}).get(LEFTOVER, ()):
            self._shared.append(SharedRecord.from_dict(each))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge the run as a whole while pytest still decides how it ends."""
        result = yield
        if not self.config.option.collectonly:
            self._failed_run = self._judge_run()
            if self._failed_run and self.settings.enforcement == "enforce":
                session.testsfailed += 1
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write the baseline and the reports."""
        if self.config.option.collectonly:
            return
        complete = exitstatus in FINISHED and not self._crashed and not session.shouldstop and not session.shouldfail
        faults: list[str] = []
        if self.settings.baseline_update is not None:
            faults += self._update_baseline(session, complete=complete)
        self._summary = self._summarise(session, complete=complete)
        faults += self._write_reports(self._summary)
        if faults:
            self._say([f"token budget: {fault}" for fault in faults])
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the report, and what fails the run."""
        summary = self._summary
        if summary is None:
            return
        asked = any(report.kind == "term" and report.dest is None for report in self.settings.reports)
        if asked:
            self._show(terminalreporter, summary)
        elif self._failed_run or self._warned():
            from pytest_tokenbudget.report.message import limit_lines  # noqa: PLC0415 - only when it is shown

            terminalreporter.section("token budget")
            for record in self._warned():
                terminalreporter.write_line(f"{record.nodeid} (warning only)")
                for line in limit_lines(record.violations, record.tally, record):
                    terminalreporter.write_line(f"  {line}")
            for line in limit_lines(self._failed_run, summary.total):
                terminalreporter.write_line(f"the run: {line.strip()}")

    def take_shared(self, records: list[SharedRecord]) -> None:
        """Take what was used after the last test of this process."""
        self._shared += records

    # -- the steps

    def _note_outcome(self, report: pytest.TestReport) -> None:
        before = self._outcomes.get(report.nodeid)
        if report.outcome == "rerun" or report.when == "setup":  # type: ignore[comparison-overlap]
            self._outcomes.pop(report.nodeid, None)
            before = None
        expected = hasattr(report, "wasxfail")
        outcome: Outcome | None = None
        if report.outcome == "skipped":
            outcome = "xfailed" if expected else "skipped"
        elif report.outcome == "failed":
            outcome = "failed" if report.when == "call" else "error"
        elif report.when == "call":
            outcome = "xpassed" if expected else "passed"
        if outcome is not None and not (before == "failed" and outcome == "error"):
            self._outcomes[report.nodeid] = outcome

    def _judge_run(self) -> tuple[Violation, ...]:
        from pytest_tokenbudget.summary import tally_of  # noqa: PLC0415 - not on the start-up path

        limit_cost, limit_tokens = self.settings.total_max_cost, self.settings.total_max_tokens
        if limit_cost is None and limit_tokens is None:
            return ()
        parts: tuple[UsageRecord | SharedRecord, ...] = (*self._records.values(), *self._shared)
        tally = tally_of(
            [call for part in parts for call in part.calls], cache_hits=sum(part.cache_hits for part in parts)
        )
        found = []
        if limit_cost is not None and tally.known_cost > limit_cost:
            found.append(Violation(limit="token_total_max_cost", allowed=limit_cost, used=tally.known_cost))
        elif limit_cost is not None and tally.cost is None:
            unknown = ", ".join(tally.unpriced_models) or "; ".join(tally.unmeasured_reasons)
            found.append(
                Violation(
                    limit="token_total_max_cost",
                    allowed=limit_cost,
                    reason=f"the run's cost is not known: {unknown}",
                )
            )
        if limit_tokens is not None and tally.usage.total_tokens > limit_tokens:
            found.append(
                Violation(limit="token_total_max_tokens", allowed=limit_tokens, used=tally.usage.total_tokens)
            )
        elif limit_tokens is not None and tally.usage.unmeasured_requests:
            found.append(
                Violation(
                    limit="token_total_max_tokens",
                    allowed=limit_tokens,
                    reason=f"the run's tokens are not known: {'; '.join(tally.unmeasured_reasons)}",
                )
            )
        return tuple(found)

    def _update_baseline(self, session: pytest.Session, *, complete: bool) -> list[str]:
        passed = {
            nodeid: record.models
            for nodeid, record in self._records.items()
            if record.outcome == "passed" and record.calls and not record.tally.usage.unmeasured_requests
        }
        prune_to = None
        if self.settings.baseline_update == "prune":
            if not complete or self._is_partial():
                return ["--token-update-baseline=prune needs a whole run; nothing was written"]
            prune_to = self._seen
        if not passed and prune_to is None and not self.settings.baseline.exists():
            return []
        try:
            self.baseline = baselines.update(self.settings.baseline, passed, prune_to=prune_to)
        except ConfigurationError as error:
            return [str(error)]
        del session
        self._say([f"token budget: wrote {len(passed)} test(s) to {self._shown(self.settings.baseline)}"])
        return []

    def _summarise(self, session: pytest.Session, *, complete: bool) -> Summary:
        from pytest_tokenbudget.summary import Summary  # noqa: PLC0415 - not on the start-up path

        records = self._records.values()
        counted = bool(records) or bool(self._shared)
        asked = any(report.kind != "term" for report in self.settings.reports)
        return Summary.of(
            records,
            self._shared,
            plugin_version=__version__,
            created=self.created,
            # Reading the price table takes a while; a run that used no model, and writes no file, needs none.
            prices=self._prices() if counted or asked else {},  # type: ignore[arg-type, typeddict-item]
            complete=complete,
            baseline=self._baseline_summary(complete=complete),
            run_violations=self._failed_run,
            unused_cassettes=self._unused_cassettes(session) if complete and not self._is_partial() else (),
        )

    def _prices(self) -> dict[str, Any]:
        """Where the prices come from; a file of the user's own is named as the user would."""
        described = self.book.describe()
        own = self.settings.prices
        return described if own is None else {**described, "overrides": [self._shown(own)]}

    def _baseline_summary(self, *, complete: bool) -> BaselineSummary | None:
        if self.baseline is None:
            return None
        from pytest_tokenbudget.summary import BaselineSummary  # noqa: PLC0415 - not on the start-up path

        status: dict[str, list[str]] = {"new": [], "over": [], "improved": []}
        for record in self._records.values():
            if record.baseline is not None and record.baseline.status in status:
                status[record.baseline.status].append(record.nodeid)
        whole = complete and not self._is_partial()
        return BaselineSummary(
            path=self._shown(self.settings.baseline),
            **{name: tuple(sorted(nodeids)) for name, nodeids in status.items()},
            stale=baselines.stale(self.baseline, self._seen) if whole else (),
        )

    def _unused_cassettes(self, session: pytest.Session) -> tuple[str, ...]:
        """Cassettes in the folders that this run used that no test of it asked for."""
        del session
        used = {Path(path).resolve() for record in self._records.values() for path in record.cassettes}
        folders = {path.parent for path in used}
        return tuple(
            self._shown(path)
            for folder in sorted(folders)
            for path in sorted(folder.glob("*.yaml"))
            if path.resolve() not in used and "@" not in path.stem
        )

    def _is_partial(self) -> bool:
        """Whether the command line leaves tests out."""
        option = self.config.option
        chosen = any("::" in argument for argument in self.config.args)
        return bool(
            self._partial
            or chosen
            or option.keyword
            or option.markexpr
            or getattr(option, "lf", False)
            or getattr(option, "stepwise", False)
        )

    def _write_reports(self, summary: Summary) -> list[str]:
        faults = []
        for report in self.settings.reports:
            if report.kind == "term" and report.dest is None:
                continue
            text = self._render(report.kind, summary)
            if report.dest == "-":
                self._print(text)
                continue
            try:
                write_atomically(self._path(str(report.dest)), text.encode("utf-8", "replace"))
            except OSError as error:
                faults.append(f"the report {report.dest} can't be written: {error.strerror or error}")
        return faults

    def _render(self, kind: str, summary: Summary) -> str:
        if kind == "json":
            from pytest_tokenbudget.report.document import to_json  # noqa: PLC0415 - only when asked for

            return to_json(summary)
        if kind == "markdown":
            from pytest_tokenbudget.report.markdown import render_markdown  # noqa: PLC0415 - only when asked for

            return render_markdown(summary)
        from pytest_tokenbudget.report.terminal import render_terminal  # noqa: PLC0415 - only when asked for

        lines = render_terminal(summary, width=100, verbosity=self.config.option.verbose)
        return "\n".join(_text_of(line) for line in lines) + "\n"

    def _show(self, terminalreporter: Any, summary: Summary) -> None:
        from pytest_tokenbudget.report.terminal import render_terminal  # noqa: PLC0415 - only when asked for

        writer = terminalreporter._tw  # noqa: SLF001 - pytest's own way to the terminal's width and encoding
        encoding = getattr(writer._file, "encoding", None) or "ascii"  # noqa: SLF001
        lines = render_terminal(
            summary,
            width=writer.fullwidth,
            verbosity=self.config.option.verbose,
            ascii_only=not encoding.lower().replace("-", "").startswith("utf"),
        )
        if lines:
            terminalreporter.section("token budget")
            for line in lines:
                terminalreporter.write_line(_text_of(line))

    def _warned(self) -> list[UsageRecord]:
        if self.settings.enforcement != "warn":
            return []
        return [record for record in self._records.values() if record.violations]

    def _say(self, lines: list[str]) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        for line in lines:
            if reporter is None:
                print(line, file=sys.stderr)  # noqa: T201 - there is no terminal reporter to say it
            else:
                reporter.ensure_newline()
                reporter.write_line(line)

    def _print(self, text: str) -> None:
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.flush()
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()

    def _path(self, dest: str) -> Path:
        return self.config.invocation_params.dir / dest

    def _shown(self, path: Path) -> str:
        try:
            return path.relative_to(self.settings.rootdir).as_posix()
        except ValueError:
            return str(path)


def _text_of(line: object) -> str:
    return line if isinstance(line, str) else str(getattr(line, "text", line))
