"""Brings the reports of a run to where the user wants them: files, standard output, the terminal, a job's page."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.asked_reports import JOB_PAGE
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import real_path, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pytest

    from pytest_tokenbudget.asked_reports import Report
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.report.terminal import Line
    from pytest_tokenbudget.summary import Summary

FILE_WIDTH = 100
"""Columns of a terminal report that goes to a file."""


class Delivery:
    """The reports that were asked for, and the ways out of the process that reports."""

    def __init__(self, config: pytest.Config, reports: tuple[Report, ...], book: PriceBook) -> None:
        self._config = config
        self._reports = reports
        self._book = book

    @property
    def shows_summary(self) -> bool:
        """Whether the terminal's summary carries the report."""
        return any(report.kind == "term" and report.dest is None for report in self._reports)

    @property
    def writes_files(self) -> bool:
        """Whether a report goes to a file."""
        return bool(self._files()) or self._job_page() is not None

    @property
    def is_quiet(self) -> bool:
        """Whether the user wants to see less than pytest shows by itself."""
        shown = self._config.pluginmanager.hasplugin("terminalreporter")
        return not shown or getattr(self._config.option, "verbose", 0) < 0

    def begin(self, stub: Summary) -> None:
        """Put the unfinished report in each file, so that a killed run can't pass for a cheap one.

        Raises:
            ConfigurationError: a file can't be written; better told before the tests run than after.
        """
        if (page := self._job_page()) is not None:
            try:
                with page.open("ab"):
                    pass
            except OSError as error:
                raise ConfigurationError(_page_fault(error)) from error
        for report in self._files():
            # Both can say that the run is not complete; of the others an empty file does.
            text = self._render(report.kind, stub) if report.kind in ("json", "html") else ""
            try:
                write_atomically(self._path(report), text.encode())
            except OSError as error:
                raise ConfigurationError(_fault(report, error)) from error

    def deliver(self, summary: Summary) -> list[str]:
        """Write every report but the terminal's own; returns what can't be written."""
        faults = self.deliver_again(summary)
        for report in self._reports:
            if report.dest == "-":
                try:
                    ascii_only = not _takes_unicode(sys.stdout)
                    self._print(report.kind, self._render(report.kind, summary, ascii_only=ascii_only))
                except OSError as error:
                    faults.append(_fault(report, error))
        return faults

    def deliver_again(self, summary: Summary) -> list[str]:
        """Write the reports that last, in place of those before; returns what can't be written.

        A job's page keeps the report before it, and gets another one: it is only added to.
        """
        faults = []
        if (page := self._job_page()) is not None:
            try:
                with page.open("ab") as file:
                    file.write(self._render("markdown", summary).encode("utf-8", "replace"))
            except OSError as error:
                faults.append(_page_fault(error))
        for report in self._files():
            try:
                write_atomically(self._path(report), self._encoded(report.kind, summary))
            except OSError as error:
                faults.append(_fault(report, error))
        return faults

    def show(self, terminalreporter: Any, summary: Summary) -> None:
        """Show the report in the terminal's summary."""
        writer = terminalreporter._tw  # noqa: SLF001 - pytest's own way to the terminal's width and encoding
        from pytest_tokenbudget.report.terminal import MARKUP  # noqa: PLC0415 - only when it is shown

        lines = self._terminal_lines(
            summary,
            width=writer.fullwidth,
            ascii_only=not _takes_unicode(writer._file),  # noqa: SLF001 - likewise
        )
        if lines:
            terminalreporter.write_sep("=", "token budget")
            for line in lines:
                terminalreporter.write_line(line.text, **MARKUP[line.style])

    def say(self, lines: Iterable[str]) -> None:
        """Tell the user, before the terminal's summary."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        for line in lines:
            if reporter is None:
                print(line, file=sys.stderr)  # noqa: T201 - there is no terminal reporter to say it
            else:
                _start_line(reporter)
                reporter.write_line(line)

    def note(self, line: str) -> None:
        """Put a line between those of the tests, where the terminal shows how far they are."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or (reporter.verbosity <= 0 and self._config.pluginmanager.hasplugin("dsession")):
            self.say([line])  # dots of tests that run at once come with no file's name that would start a line
        else:
            reporter.write_ensure_prefix(line)  # as it shows a test's name: whatever follows starts a new line

    def _job_page(self) -> Path | None:
        """The page that the Markdown report is added to."""
        named = os.environ.get(JOB_PAGE)
        asked = any(report.kind == "markdown" for report in self._reports)
        return self._config.invocation_params.dir / named if named and asked else None

    def _files(self) -> list[Report]:
        """The reports that have a file of their own; the job's page, named as one, keeps what others put there."""
        page = self._job_page()
        files = [report for report in self._reports if report.dest not in (None, "-")]
        if page is None:
            return files
        return [each for each in files if each.kind != "markdown" or real_path(self._path(each)) != real_path(page)]

    def _path(self, report: Report) -> Path:
        return self._config.invocation_params.dir / str(report.dest)

    def _encoded(self, kind: str, summary: Summary) -> Iterable[bytes]:
        if kind == "json":
            from pytest_tokenbudget.report.document import json_chunks  # noqa: PLC0415 - only when asked for

            return json_chunks(summary)
        return (self._render(kind, summary).encode("utf-8", "replace"),)

    def _render(self, kind: str, summary: Summary, *, ascii_only: bool = False) -> str:
        if kind == "json":
            from pytest_tokenbudget.report.document import to_json  # noqa: PLC0415 - only when asked for

            return to_json(summary)
        if kind == "markdown":
            from pytest_tokenbudget.report.markdown import render_markdown  # noqa: PLC0415 - only when asked for

            return render_markdown(summary)
        if kind == "html":
            from pytest_tokenbudget.report.html import render_html  # noqa: PLC0415 - likewise
            from pytest_tokenbudget.repricing import reprice_elsewhere  # noqa: PLC0415 - likewise

            return render_html(summary, reprice_elsewhere(summary, self._book))
        lines = self._terminal_lines(summary, width=FILE_WIDTH, ascii_only=ascii_only)
        return "\n".join(line.text for line in lines) + "\n"

    def _terminal_lines(self, summary: Summary, *, width: int, ascii_only: bool = False) -> list[Line]:
        from pytest_tokenbudget.report.terminal import render_terminal  # noqa: PLC0415 - only when asked for

        # Without pytest's terminal reporter there is no such option.
        verbosity = getattr(self._config.option, "verbose", 0)
        return render_terminal(summary, width=width, verbosity=verbosity, ascii_only=ascii_only)

    def _print(self, kind: str, text: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            _start_line(reporter)
            reporter.flush()
        # Of what the output can't encode, an escape is better than no report.
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        escaped = text.encode(encoding, "xmlcharrefreplace" if kind == "html" else "backslashreplace")
        sys.stdout.write(escaped.decode(encoding) + "\n" * (not text.endswith("\n")))
        sys.stdout.flush()


def _takes_unicode(file: Any) -> bool:
    encoding = getattr(file, "encoding", None) or "ascii"
    return bool(encoding.lower().replace("-", "").startswith("utf"))


def _start_line(reporter: Any) -> None:
    """End the line of progress that the terminal stands in; pytest's own way knows only of a plain run's."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:  # noqa: SLF001 - pytest has no public way to it
        reporter._tw.line()  # noqa: SLF001


def _page_fault(error: OSError) -> str:
    return f"the report can't be added to {JOB_PAGE}: {error.strerror or error}"


def _fault(report: Report, error: OSError) -> str:
    return f"the report {report.dest} can't be written: {error.strerror or error}"
