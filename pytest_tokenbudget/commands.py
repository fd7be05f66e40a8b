"""What the command line's words do: files in, text out. Nothing is written before everything was read and judged."""

from __future__ import annotations

import gc
import os
import shutil
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.budget import parse_count, parse_tolerance, parse_usd
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import real_path, write_atomically
from pytest_tokenbudget.pricing import PriceBook, PriceOverrides, load_price_file, parse_price_date
from pytest_tokenbudget.report.reading import load
from pytest_tokenbudget.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_tokenbudget.inspection import ReportedUse
    from pytest_tokenbudget.summary import Summary

Value = TypeVar("Value")
_STDOUT = "-"
MOST_OPEN = 128
"""Reports that ``combine`` keeps open at most; of others it holds every call in memory."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let the garbage collector rest: millions of small objects that all live would be walked again and again.

    It decorates a function where it can, so that they are gone when it wakes up.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Combined(NamedTuple):
    """What ``combine`` made.

    Attributes:
        printed: the report, where it goes to standard output.
        said: the summary for people.
        failed: whether the run is not within.
    """

    printed: str
    said: str
    failed: bool


class Scanned(NamedTuple):
    """What ``scan`` found.

    Attributes:
        printed: the findings, for people.
        failed: whether there is something that must not stay so.
    """

    printed: str
    failed: bool


def prices_of(model: str | None, *, prices: str | None, day: str | None) -> str:
    """The rates of one model, or where the prices come from.

    Raises:
        ConfigurationError: the price file or the day can't be used.
        UnpricedModelError: the model has no price.
    """
    from pytest_tokenbudget.report.price_list import render_prices  # noqa: PLC0415 - one command's own

    return render_prices(_book(prices, day), model)


@_no_collection()
def combine(  # noqa: PLR0913 - the options of a command, all by keyword
    reports: Sequence[str],
    *,
    output: str | None = None,
    markdown: str | None = None,
    html: str | None = None,
    baseline: str | None = None,
    tolerance: str | None = None,
    total_max_cost: str | None = None,
    total_max_tokens: str | None = None,
    prices: str | None = None,
    verbosity: int = 0,
) -> Combined:
    """Join the reports of shards, judge the whole run, and write it.

    Raises:
        ConfigurationError: a file or an option can't be used, or the reports don't fit together; nothing is written.
    """
    from pytest_tokenbudget.failures import failures  # noqa: PLC0415 - likewise
    from pytest_tokenbudget.report.document import json_chunks, to_json  # noqa: PLC0415 - one command's own
    from pytest_tokenbudget.shards import Gate, compare_tests, join, judge, newest_prices  # noqa: PLC0415 - likewise

    gate = Gate(
        path="" if baseline is None else Path(baseline).as_posix(),
        tolerance=_option("--tolerance", tolerance, parse_tolerance),
        total_max_cost=_option("--total-max-cost", total_max_cost, parse_usd),
        total_max_tokens=_option("--total-max-tokens", total_max_tokens, parse_count),
    )
    _check_places(
        {"-o": output, "--markdown": markdown, "--html": html}, {"--baseline": baseline, "--prices": prices}
    )
    overrides = _overrides(prices)
    with ExitStack() as files:
        if baseline is not None:
            gate = replace(gate, baseline=baselines.load(Path(baseline)))
        paths, said = _each_once(reports)
        # A page shows every call, and what goes to a pipe can't be taken back: then they are read at once.
        at_once = html is not None or not _is_written_aside(output)
        kept = set(() if at_once else _lasting(paths, output, markdown)[: _most_open()])
        loaded = [(str(path), load(path, gate.baseline, files=files if path in kept else None)) for path in paths]
        day = newest_prices(loaded)["date"]
        # Both sides of the baseline at the prices of the day that the reports name.
        book = PriceBook(overrides, None if day is None else parse_price_date(day))
        said += [f"{name} did not come to its end" for name, summary in loaded if not summary.complete]
        joined = join([(name, compare_tests(summary, gate, book)) for name, summary in loaded])
        summary = judge(joined.summary, gate)
        if (
            summary.baseline is not None
            and summary.baseline.stale
            and any(each.baseline is None for _, each in loaded)
        ):
            said.append(
                "without a baseline a report does not list tests that used no model: they may look stale here"
            )
        page = _markdown(summary) if markdown is not None else ""
        why = failures(summary)
        said += [*joined.notices, *why]
        shown = _terminal(summary, verbosity)
        if html is not None:
            _save(html, [_html(summary, book).encode("utf-8", "backslashreplace")])
        text = ""
        # Before the summary, since reports that stayed open are read once more, and one may have changed meanwhile.
        if output is None or output == _STDOUT:
            text = to_json(summary)
        else:
            _save(output, json_chunks(summary))
        if markdown is not None:
            _save(markdown, [page.encode("utf-8", "backslashreplace")])
    lines = [*shown, *(f"tokenbudget: {printable(line)}" for line in said)]
    return Combined(text, "".join(f"{line}\n" for line in lines), bool(why))


@_no_collection()
def difference_of(old: str, new: str, *, markdown: bool) -> str:
    """What changed between two reports.

    Raises:
        ConfigurationError: one of them can't be used.
    """
    from pytest_tokenbudget.report.difference import compare  # noqa: PLC0415 - one command's own
    from pytest_tokenbudget.report.difference_text import render_markdown, render_text  # noqa: PLC0415 - likewise

    difference = compare(load(Path(old)), load(Path(new)))
    return render_markdown(difference) if markdown else render_text(difference)


@_no_collection()
def repriced(report: str, model: str, *, prices: str | None, day: str | None) -> str:
    """What a run would cost on another model.

    Raises:
        ConfigurationError: the report, the price file or the day can't be used.
        UnpricedModelError: there is no price for that model.
    """
    from pytest_tokenbudget.report.repricing import render_repriced  # noqa: PLC0415 - one command's own
    from pytest_tokenbudget.repricing import reprice  # noqa: PLC0415 - likewise

    book = _book(prices, day)
    summary = load(Path(report))
    total, rows = reprice(summary, model, book)
    table = book.describe()
    source = f"{table['source']} {table['version']}, list prices of {table['date']}"
    return render_repriced(total, rows, model=model, source=source, complete=summary.complete)


def scan(paths: Sequence[str], *, max_age: str | None, report: str | None, strict: bool) -> Scanned:
    """Look through cassettes for secrets, and for what is broken, too old or unused.

    Args:
        paths: files and folders; without any, each folder ``cassettes`` below the current one.
        max_age: how old a recording may be, as the option says it.
        report: the JSON report of a whole run, which knows what no test used.
        strict: whether what lies about unused fails too.

    Raises:
        ConfigurationError: an option or a path can't be used, or there is no cassette at all.
    """
    from pytest_tokenbudget.capture.age import DAY  # noqa: PLC0415 - one command's own
    from pytest_tokenbudget.capture.scan import inspect_file  # noqa: PLC0415 - likewise
    from pytest_tokenbudget.inspection import Inspection  # noqa: PLC0415 - likewise
    from pytest_tokenbudget.report.scan_text import render_scan  # noqa: PLC0415 - likewise
    from pytest_tokenbudget.settings import parse_age  # noqa: PLC0415 - likewise

    allowed = _option("--max-age", max_age, parse_age)
    use = None if report is None else _reported_use(report)
    files = _cassettes(paths)
    now = datetime.now(UTC)
    with _no_collection():
        inspected = tuple(inspect_file(file, now=now, max_age=allowed) for file in files)
    inspection = Inspection(files=inspected, max_age_days=None if allowed is None else allowed // DAY, use=use)
    return Scanned(render_scan(inspection), inspection.unusable or (strict and inspection.untidy))


def _cassettes(paths: Sequence[str]) -> list[Path]:
    from pytest_tokenbudget.capture.scan import find_cassettes  # noqa: PLC0415 - one command's own

    found: dict[Path, None] = {}
    for path in map(Path, paths or ["."]):
        if path.is_dir():
            found |= dict.fromkeys(find_cassettes(path, anywhere=bool(paths)))
        elif _exists(path):
            found[path] = None
        else:
            raise ConfigurationError(f"{path} does not exist")
    if not found:
        where = " and ".join(paths) or "any folder cassettes below this one"
        raise ConfigurationError(f"there is no cassette in {where}; name a file or a folder that has one")
    return list(found)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


@_no_collection()
def _reported_use(report: str) -> ReportedUse:
    from pytest_tokenbudget.capture.redaction import redact  # noqa: PLC0415 - one command's own
    from pytest_tokenbudget.inspection import ReportedUse  # noqa: PLC0415 - likewise

    summary = load(Path(report))
    return ReportedUse(
        report=report,
        complete=summary.complete,
        unused=tuple(map(redact, summary.unused_cassettes)),
        unplayed=tuple(redact(f"{note['nodeid']}: {note['message']}") for note in summary.unplayed),
    )


def _book(prices: str | None, day: str | None) -> PriceBook:
    return PriceBook(_overrides(prices), None if day is None else parse_price_date(day))


def _overrides(prices: str | None) -> PriceOverrides:
    return PriceOverrides() if prices is None else load_price_file(Path(prices))


def _option(name: str, text: str | None, parse: Callable[[str], Value]) -> Value | None:
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}={printable(text)} is not allowed; it must be {error}") from None


def _each_once(reports: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The files, each once: two patterns of a shell may name the same one, whose usage must not count twice."""
    paths: dict[Path, Path] = {}
    said = []
    for report in reports:
        file = _resolved(report)
        if file in paths:
            said.append(f"{report} is named twice, and taken once")
        else:
            paths[file] = Path(report)
    return list(paths.values()), sorted(said)


def _check_places(written: dict[str, str | None], read: dict[str, str | None]) -> None:
    """Refuse to write two things to one file, or one over what is only read."""
    taken = {_resolved(path): option for option, path in read.items() if path is not None}
    for option, path in written.items():
        if path is None or path == _STDOUT or not _is_written_aside(path):  # a device, a pipe
            continue
        place = _resolved(path)
        if (other := taken.setdefault(place, option)) != option:
            raise ConfigurationError(f"{other} and {option} have one place, {printable(path)}; give each its own")


def _is_written_aside(output: str | None) -> bool:
    """Whether a file takes its place only when it is whole; what goes to standard output is made as a whole too."""
    if output is None or output == _STDOUT:
        return True
    path = _resolved(output)
    return path.is_file() or not path.exists()


def _most_open() -> int:
    """How many reports may stay open: half of the files that this process may still open."""
    try:
        import resource  # noqa: PLC0415 - not on Windows, which allows more than enough
    except ImportError:
        return MOST_OPEN
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return MOST_OPEN
    free = sum(not _is_open(number) for number in range(min(allowed, 4 * MOST_OPEN)))
    return min(MOST_OPEN, free // 2)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _lasting(paths: Sequence[Path], *outputs: str | None) -> list[Path]:
    """The reports that none of the outputs replaces: Windows replaces no file that is open."""
    replaced = {_resolved(output) for output in outputs if output is not None}
    return [path for path in paths if _resolved(path) not in replaced]


def _resolved(path: str | Path) -> Path:
    try:
        return real_path(Path(path))
    except (OSError, ValueError):
        return Path(path)  # reading or writing it will say why


def _markdown(summary: Summary) -> str:
    from pytest_tokenbudget.report.markdown import render_markdown  # noqa: PLC0415 - only when asked for

    return render_markdown(summary)


def _html(summary: Summary, book: PriceBook) -> str:
    from pytest_tokenbudget.report.html import render_html  # noqa: PLC0415 - only when asked for
    from pytest_tokenbudget.repricing import reprice_elsewhere  # noqa: PLC0415 - likewise

    return render_html(summary, reprice_elsewhere(summary, book))


def _terminal(summary: Summary, verbosity: int) -> list[str]:
    from pytest_tokenbudget.report.terminal import render_terminal  # noqa: PLC0415 - one command's own

    width = shutil.get_terminal_size().columns
    return [line.text for line in render_terminal(summary, width=width, verbosity=verbosity)]


def _save(path: str, data: Iterable[bytes]) -> None:
    try:
        write_atomically(Path(path), data)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigurationError(f"{path} can't be written: {reason}") from error
