"""What the user asked for, on the command line and in the ini file: checked once, then frozen."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import pytest

from pytest_tokenbudget.budget import Budget, parse_count, parse_tolerance, parse_usd
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.options import DEFAULT_BASELINE, INI_KEYS, OPTIONS, ini_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal
    from pathlib import Path

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.options import Option
    from pytest_tokenbudget.pricing import PriceBook

RecordMode = Literal["none", "once", "new_episodes", "all", "rewrite"]
REPORT_FILES = {"term": None, "json": "token-report.json", "markdown": "token-report.md"}
"""The kinds of report and the file that each is written to when the user names none."""

REPORT_USAGE = "write --token-report=term, or one of " + ", ".join(REPORT_FILES) + " with an optional :DEST"


class Report(NamedTuple):
    """One report that was asked for.

    Attributes:
        kind: a key of ``REPORT_FILES``.
        dest: the file, ``-`` for standard output, ``None`` for the terminal's summary.
    """

    kind: str
    dest: str | None


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return text

    return parse


def _boolean(text: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if text.lower() not in known:
        raise ValueError("true or false")
    return known[text.lower()]


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a path")
    return text


def _day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day such as 2026-11-18") from None
    return day


_PARSERS: dict[str, Callable[[str], Any]] = {
    "path": _path,
    "usd": parse_usd,
    "count": parse_count,
    "percent": parse_tolerance,
    "day": _day,
    "boolean": _boolean,
}


def _parse(option: Option, text: str) -> Any:
    """Read an option's text; raises ``ValueError`` with what is allowed."""
    return _PARSERS.get(option.kind, _choice(*option.kind.split()))(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a run was told, checked.

    Attributes:
        rootdir: relative paths start here.
        reports: the reports to make.
        record: how cassettes are recorded.
        record_forced: whether the command line says so, which no marker overrides.
        replay: which tests replay.
        cassette_dir: the folder for cassettes; ``None`` for one beside each test file.
        unplayed_fails: whether an unplayed recording fails a passing test.
        baseline: the baseline file.
        baseline_named: whether the user named it, so that it must exist.
        baseline_update: whether to write the baseline: ``None``, ``merge`` or ``prune``.
        baseline_missing_fails: whether a test without an entry fails.
        tolerance: allowed growth over the baseline, as a fraction.
        enforcement: what a verdict does.
        estimates_count: whether an estimate is judged like a measurement.
        prices: the user's price file.
        price_date: the day whose prices hold; ``None`` for the table's own.
        test_budget: the limits for tests without a marker of their own.
        total_max_cost: USD for the whole run.
        total_max_tokens: tokens for the whole run.
        offline_tiktoken: whether replayed tests find tiktoken's vocabularies here.
        junit: whether JUnit XML is written, which carries each test's figures.
    """

    rootdir: Path
    reports: tuple[Report, ...] = ()
    record: RecordMode = "none"
    record_forced: bool = False
    replay: Literal["marked", "all", "off"] = "marked"
    cassette_dir: Path | None = None
    unplayed_fails: bool = False
    baseline: Path
    baseline_named: bool = False
    baseline_update: Literal["merge", "prune"] | None = None
    baseline_missing_fails: bool = False
    tolerance: Decimal
    enforcement: Literal["enforce", "warn", "off"] = "enforce"
    estimates_count: bool = True
    prices: Path | None = None
    price_date: date | None = None
    test_budget: Budget = field(default_factory=Budget)
    total_max_cost: Decimal | None = None
    total_max_tokens: int | None = None
    offline_tiktoken: bool = True
    junit: bool = False

    @classmethod
    def from_pytest_config(cls, config: pytest.Config) -> Settings:
        """Read the command line and the ini file.

        Raises:
            ConfigurationError: a value that is not allowed, or an unknown ``token_*`` key; one line for all of them.
        """
        faults = list(_unknown_keys(config))
        values: dict[str, Any] = {}
        given: dict[str, str] = {}
        for option in OPTIONS:
            for origin, text in _texts(option, config):
                try:
                    value = _parse(option, text)
                except ValueError as error:
                    faults.append(f"{origin} = {text!r} is not allowed; it must be {error}")
                    continue
                # The first is the command line's, which wins; the rest are only checked.
                if option.name not in values:
                    values[option.name] = value
                    given[option.name] = origin
        reports, report_faults = _reports(config)
        faults += report_faults
        update = config.getoption("token_update_baseline")
        if update not in (None, "merge", "prune"):
            faults.append(
                f"--token-update-baseline={update} is not allowed; write --token-update-baseline alone "
                "or --token-update-baseline=prune"
            )
        if faults:
            raise ConfigurationError("token budget: " + "; ".join(sorted(faults)))
        root = config.rootpath
        limits = {
            limit: values[key]
            for limit in ("max_cost", "max_tokens", "max_requests")
            if (key := "token_test_" + limit) in values and key in given
        }
        directory, prices = values.get("token_cassette_dir"), values.get("token_prices")
        return cls(
            rootdir=root,
            reports=reports,
            record=values["token_record"],
            record_forced=config.getoption("token_record") is not None,
            replay=values["token_replay"],
            cassette_dir=root / directory if directory else None,
            unplayed_fails=values["token_unplayed"] == "fail",
            baseline=root / (values.get("token_baseline") or DEFAULT_BASELINE),
            baseline_named="token_baseline" in values,
            baseline_update=update,
            baseline_missing_fails=values["token_baseline_missing"] == "fail",
            tolerance=values["token_tolerance"],
            enforcement=values["token_budget"],
            estimates_count=values["token_estimates"] == "judge",
            prices=root / prices if prices else None,
            price_date=values.get("token_price_date"),
            test_budget=Budget(**limits, origins={name: f"token_test_{name}" for name in limits}),
            total_max_cost=values.get("token_total_max_cost"),
            total_max_tokens=values.get("token_total_max_tokens"),
            offline_tiktoken=values["token_offline_tiktoken"],
            junit=bool(config.getoption("xmlpath", None)),
        )

    def load_files(self) -> tuple[PriceBook, Baseline | None]:
        """Read the price file and the baseline; the price table itself is read when the first call is priced.

        Raises:
            ConfigurationError: one of them is missing or broken; one line with its path and the reason.
        """
        from pytest_tokenbudget.baseline import load  # noqa: PLC0415 - only where a test is counted
        from pytest_tokenbudget.price_file import load_price_file  # noqa: PLC0415 - likewise
        from pytest_tokenbudget.pricing import PriceBook  # noqa: PLC0415 - likewise

        book = PriceBook(None if self.prices is None else load_price_file(self.prices), self.price_date)
        # One that is about to be updated is read too: a broken one is refused before any test runs.
        present = self.judges_baseline or (self.baseline_update is not None and self.baseline.exists())
        baseline = load(self.baseline) if present else None
        return book, baseline if self.judges_baseline else None

    @property
    def judges_baseline(self) -> bool:
        """Whether tests are held against a baseline in this run."""
        return self.baseline_update is None and (self.baseline_named or self.baseline.is_file())

    @property
    def counts_all(self) -> bool:
        """Whether every test is counted, marked or not, because something asks for the figures of all."""
        return bool(
            self.reports
            or self.junit
            or self.baseline_update
            or self.judges_baseline
            or self.test_budget.watches
            or self.total_max_cost is not None
            or self.total_max_tokens is not None
            or self.replay == "all"
        )


def _texts(option: Option, config: pytest.Config) -> Iterator[tuple[str, str]]:
    """The option's texts with their origins, the one that wins first."""
    if option.flag and (text := config.getoption(option.name)) is not None:
        yield option.long, text
    # A key that is set to nothing is checked like any other: "token_test_max_cost =" must not mean no limit.
    if (text := _ini_text(option.name, config)) is not None:
        yield _ini_origin(option.name, config), text
    elif option.default is not None:
        yield option.name, option.default


def _ini_text(name: str, config: pytest.Config) -> str | None:
    try:
        value = config.getini(name)
    except (TypeError, pytest.UsageError):
        # A native TOML table may hold a number or a boolean; those are fine where their text is.
        raw = ini_keys(config)[name]
        value = getattr(raw, "value", raw)
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def _ini_origin(name: str, config: pytest.Config) -> str:
    where = f" in {config.inipath.name}" if config.inipath else ""
    return f"{name}{where}"


def _unknown_keys(config: pytest.Config) -> Iterator[str]:
    for key in ini_keys(config):
        if key.startswith("token_") and key not in INI_KEYS:
            near = difflib.get_close_matches(key, INI_KEYS, n=1)
            meant = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(INI_KEYS))
            yield f"unknown ini key {_ini_origin(key, config)}; {meant}"


def _reports(config: pytest.Config) -> tuple[tuple[Report, ...], list[str]]:
    asked = config.getoption("token_report")
    origin = "--token-report"
    if asked is None:
        asked, origin = config.getini("token_report"), _ini_origin("token_report", config)
    faults = []
    reports: list[Report] = []
    for text in cast("list[str]", asked):
        kind, colon, dest = text.partition(":")
        if kind not in REPORT_FILES:
            faults.append(f"{origin} {text!r} is no kind of report; {REPORT_USAGE}")
        elif colon and not dest:
            faults.append(f"{origin}={text} names no file after the colon; {REPORT_USAGE}")
        else:
            report = Report(kind, dest or REPORT_FILES[kind])
            if report in reports:
                continue
            if report.dest not in (None, "-") and any(other.dest == report.dest for other in reports):
                faults.append(f"{origin}: two reports go to {report.dest}; give each a file of its own")
            reports.append(report)
    return tuple(reports), faults
