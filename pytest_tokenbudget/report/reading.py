"""The way back: a JSON report's file or text as a ``Summary``, taken as a whole or refused.

A file is read line by line, as the plugin writes it; one that somebody else laid out, or in which anything is wrong,
is read as a whole, which can say what.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import check_regular
from pytest_tokenbudget.report.call_rows import read_calls
from pytest_tokenbudget.report.content import summary_of
from pytest_tokenbudget.report.document import limits_of
from pytest_tokenbudget.report.records import budget_of
from pytest_tokenbudget.report.rows import read_plain_test
from pytest_tokenbudget.report.text import printable
from pytest_tokenbudget.report.written_lines import WrittenLines
from pytest_tokenbudget.strict_json import Fault, parse, read_regular

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.budget import Budget
    from pytest_tokenbudget.report.rows import Entry
    from pytest_tokenbudget.summary import Summary
    from pytest_tokenbudget.usage import ModelCall
    from pytest_tokenbudget.written_call import WrittenCall

MAX_BYTES = 256 * 1024 * 1024
"""A report of 250,000 tests is smaller; a larger file is another file."""

_BUFFER = 16 * 1024
"""Of a report: tests are read again by name, which is nearly, but not quite, the order of their lines."""

# How a report is laid out: the lines around those of its tests.
_BEGIN, _END = b' "tests": [\n', b" ],\n"


def load(path: Path, baseline: Baseline | None = None, *, files: ExitStack | None = None) -> Summary:
    """Read a JSON report.

    Args:
        path: its file.
        baseline: what its tests will be held against. Where a test was held against the same entry, that one object
            serves both: of many tests they would be a quarter of what is in memory.
        files: keeps the file open, so that of a test's only call the figures alone need be in memory, and the rest
            is read where somebody asks for it (see ``WrittenCall``); ``None`` for a report that is read at once.

    Raises:
        ConfigurationError: it is missing, broken, of another or a newer schema, or contradicts itself; one line with
            the path and the reason.
    """
    entries: Mapping[str, Entry] = {} if baseline is None else baseline.tests
    try:
        return _read_by_lines(path, entries, files) or summary_of(parse(read_regular(path, max_bytes=MAX_BYTES)))
    except Fault as fault:
        raise ConfigurationError(f"report {printable(str(path))}: {printable(str(fault))}") from None


def from_json(text: str) -> Summary:
    """The inverse of ``to_json``, for what the document holds.

    Raises:
        ConfigurationError: see ``load``.
    """
    try:
        return summary_of(parse(text.encode("utf-8", "backslashreplace")))
    except Fault as fault:
        raise ConfigurationError(f"the report {printable(str(fault))}") from None


def _read_by_lines(path: Path, entries: Mapping[str, Entry], files: ExitStack | None) -> Summary | None:
    """Read a report as it is written, with a line for each test, of which only one is in memory at a time.

    Returns:
        ``None`` where somebody else laid it out, or anything is wrong with it: who reads it as a whole can say what.
    """
    try:
        check_regular(path)
        if path.stat().st_size > MAX_BYTES:
            return None
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb", buffering=_BUFFER))
            frame = list(_head(file))
            if frame[-1:] != [_BEGIN]:
                return None
            lines = None if files is None else WrittenLines(path, file)
            rows = list(_rows(file, entries, lines))
            frame += [_END, *file]
            summary = summary_of(parse(b"".join(frame)), rows)
            if files is not None and lines is not None:
                opened.callback(lines.forget)
                files.push(opened.pop_all())
            return summary
    except (OSError, ValueError, Fault):
        return None


def _head(file: BinaryIO) -> Iterator[bytes]:
    """The lines before those of the tests. No text in JSON holds a line break, so that no line is part of one."""
    while line := file.readline():
        yield line
        if line == _BEGIN:
            return


def _rows(file: BinaryIO, entries: Mapping[str, Entry], lines: WrittenLines | None) -> Iterator[object]:
    """Each test's record, or, where it is no plain one, what its line holds."""
    end = file.tell()

    def read_used(used: str, known: Entry | None) -> tuple[tuple[ModelCall, ...] | WrittenCall, int]:
        taken = None if lines is None else lines.take(row, used, end - behind, known)
        return read_calls(used) if taken is None else taken

    more, behind, row = True, 0, ""
    while more and (line := file.readline()):
        end += len(line)
        more = line.endswith(b",\n")
        behind = 2 if more else 1
        row = line[:-behind].removeprefix(b"  ").decode()
        yield read_plain_test(row, _plain_budget, entries, read_used) or parse(row.encode())
    if more or file.readline() != _END:
        raise Fault("is cut short")


@lru_cache(maxsize=1024)
def _plain_budget(text: str) -> tuple[Budget, bool]:
    """A budget, and whether the text is what we write of it. Many tests have the same one."""
    budget = budget_of(parse(text.encode()), "a test")
    return budget, text == limits_of(budget)
