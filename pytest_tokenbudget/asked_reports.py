"""Which reports the user asked for, and where: no two in one place, and none over what the run reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget.files import real_path
from pytest_tokenbudget.said import ini_origin, ini_value, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

REPORT_FILES = {"term": None, "json": "token-report.json", "markdown": "token-report.md", "html": "token-report.html"}
"""The kinds of report and the file that each is written to when the user names none."""

JOB_PAGE = "GITHUB_STEP_SUMMARY"
"""The variable that names the file whose Markdown a GitHub job shows."""

REPORT_USAGE = "write --token-report=term, or one of " + ", ".join(REPORT_FILES) + " with an optional :DEST"


class Report(NamedTuple):
    """One report that was asked for.

    Attributes:
        kind: a key of ``REPORT_FILES``.
        dest: the file, ``-`` for standard output, ``None`` for the terminal's summary.
    """

    kind: str
    dest: str | None


def read_reports(config: pytest.Config) -> tuple[tuple[Report, ...], list[str]]:
    """The reports that the command line, or else the ini file, asks for, and what can't be meant, each one line."""
    asked: object = config.getoption("token_report")
    origin = "--token-report"
    if asked is None:
        asked, origin = ini_value("token_report", config), ini_origin("token_report", config)
    texts = asked.splitlines() if isinstance(asked, str) else asked
    if not isinstance(texts, list):
        return (), [f"{origin} = {shown(asked)} is not allowed; it must be a list of reports: {REPORT_USAGE}"]
    faults = []
    reports: list[Report] = []
    for text in texts:
        if not isinstance(text, str):
            faults.append(f"{origin} {shown(text)} is no kind of report; {REPORT_USAGE}")
            continue
        if not text.strip() and origin != "--token-report":
            continue  # "token_report =" asks for none
        kind, colon, dest = text.strip().partition(":")
        if kind not in REPORT_FILES:
            faults.append(f"{origin} {shown(text)} is no kind of report; {REPORT_USAGE}")
        elif (colon and not dest) or "\0" in dest:
            faults.append(f"{origin}={text} names no file after the colon; {REPORT_USAGE}")
        elif (report := Report(kind, _at_home(dest) or REPORT_FILES[kind])) not in reports:
            reports.append(report)
    return tuple(reports), faults


def _at_home(dest: str) -> str:
    # A shell expands no ~ behind a colon. That of an unknown user stays as it is, which Path would refuse.
    return os.path.expanduser(dest)  # noqa: PTH111


def pages_of_others(config: pytest.Config) -> dict[str, Path | None]:
    """Where pytest and pytest-html write reports of their own."""
    names = {"JUnit XML": "xmlpath", "pytest-html's page": "htmlpath"}
    asked = {what: config.getoption(name, None) for what, name in names.items()}
    return {what: config.invocation_params.dir / path if path else None for what, path in asked.items()}


def clashes(reports: tuple[Report, ...], config: pytest.Config, files: Mapping[str, Path | None]) -> Iterator[str]:
    """Reports that would overwrite each other, or a file that the run reads, each one line.

    Args:
        reports: what was asked for.
        config: relative places start where pytest was called.
        files: what else has a place in the run, by what messages call it.
    """
    taken = {real_path(path): what for what, path in files.items() if path is not None}
    for report in reports:
        if report.dest is None:
            continue
        place = Path("-") if report.dest == "-" else real_path(config.invocation_params.dir / report.dest)
        other = taken.get(place)
        if other is None and place.suffix == ".py" and os.path.exists(place):  # noqa: PTH110 - Path's raises
            other = "a Python module"
        if other is not None:
            yield f"the {report.kind} report and {other} have one place, {report.dest}; give each its own"
        taken.setdefault(place, f"the {report.kind} report")
    page = os.environ.get(JOB_PAGE)
    if page and any(report.kind == "markdown" for report in reports):
        other = taken.get(real_path(config.invocation_params.dir / page), "the markdown report")
        if other != "the markdown report":
            yield f"{other} and the page that {JOB_PAGE} names have one place, {page}; give each its own"
