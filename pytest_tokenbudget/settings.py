"""What the user asked for, on the command line and in the ini file: checked once, then frozen."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_tokenbudget.asked_reports import Report, clashes, pages_of_others, read_reports
from pytest_tokenbudget.budget import Budget, parse_count, parse_tolerance, parse_usd
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.options import DEFAULT_BASELINE, TABLE, ini_keys
from pytest_tokenbudget.said import ini_origin, ini_value, one_text, overridden, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from decimal import Decimal
    from pathlib import Path

    import pytest

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.pricing import PriceBook

RecordMode = Literal["none", "once", "new_episodes", "all", "rewrite"]

SHOWS_CALLS = 2
"""The verbosity from which a report in the terminal shows every call: ``report.terminal.ALL``, not loaded here."""

_DAYS = {"d": 1, "w": 7}


class Option(NamedTuple):
    """One setting: an ini key and, where it has a metavar, a command line option.

    Attributes:
        name: the ini key, and the command line option's name with dashes.
        kind: how its text is read: ``path``, ``usd``, ``count``, ``percent``, ``day``, ``age``, ``boolean``, or the
            words that are allowed.
        default: the value where the user says nothing, as a user would write it.
        metavar: what to show for the value in the help of the command line.
        help: one line for ``pytest --help`` and the docs.
    """

    name: str
    kind: str
    default: str | None
    metavar: str | None
    help: str

    @property
    def flag(self) -> bool:
        """Whether it stands on the command line too."""
        return self.metavar is not None

    @property
    def long(self) -> str:
        """The command line option."""
        return "--" + self.name.replace("_", "-")


OPTIONS = tuple(Option(name, *row) for name, row in TABLE.items())
INI_KEYS = (*TABLE, "token_report")


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
    allowed = "a day such as 2026-11-18"
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(allowed) from None
    if day.isoformat() != text:  # 2026-W47-3 is a day too, but no reader would say which
        raise ValueError(allowed)
    return day


def parse_age(text: str) -> timedelta:
    """Read an age such as ``90d`` or ``12w``.

    Raises:
        ValueError: it is none; the message says what is allowed.
    """
    number, unit = text[:-1], text[-1:]
    # Five digits: more would lead back beyond the first day that a date can name.
    if unit not in _DAYS or not (number.isascii() and number.isdigit() and len(number) <= 5):  # noqa: PLR2004
        raise ValueError("a number of days or weeks such as 90d or 12w")
    return timedelta(days=int(number) * _DAYS[unit])


_PARSERS: dict[str, Callable[[str], Any]] = {
    "path": _path,
    "usd": parse_usd,
    "count": parse_count,
    "percent": parse_tolerance,
    "day": _day,
    "age": parse_age,
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
        drift: what a request that no recording answers does.
        max_age: how old a recording may be; ``None`` for any age.
        max_spend: USD that the run may spend on live requests; ``None`` for no ceiling.
        baseline: the baseline file.
        baseline_named: whether the user named it, so that it must exist.
        baseline_update: whether to write the baseline: ``None``, ``merge`` or ``prune``.
        baseline_missing_fails: whether a test without an entry fails.
        judges_baseline: whether tests are held against a baseline in this run.
        tolerance: allowed growth over the baseline, as a fraction.
        enforcement: what a verdict does.
        estimates_count: whether an estimate is judged like a measurement.
        prices: the user's price file.
        price_date: the day whose prices hold; ``None`` for the table's own.
        test_budget: the limits for tests without a marker of their own.
        total_max_cost: USD for the whole run.
        total_max_tokens: tokens for the whole run.
        offline_tiktoken: whether replayed tests find tiktoken's vocabularies here.
        annotates: whether JUnit XML, or pytest-html's page, is written, which show each test's figures.
        names_tests: whether the terminal may show a line for each test, which then tells its figures.
        verbosity: how often ``-v`` was said.
    """

    rootdir: Path
    reports: tuple[Report, ...] = ()
    record: RecordMode = "none"
    record_forced: bool = False
    replay: Literal["marked", "all", "off"] = "marked"
    cassette_dir: Path | None = None
    unplayed_fails: bool = False
    drift: Literal["fail", "estimate"] = "fail"
    max_age: timedelta | None = None
    max_spend: Decimal | None = None
    baseline: Path
    baseline_named: bool = False
    baseline_update: Literal["merge", "prune"] | None = None
    baseline_missing_fails: bool = False
    judges_baseline: bool = False
    tolerance: Decimal
    enforcement: Literal["enforce", "warn", "off"] = "enforce"
    estimates_count: bool = True
    prices: Path | None = None
    price_date: date | None = None
    test_budget: Budget = field(default_factory=Budget)
    total_max_cost: Decimal | None = None
    total_max_tokens: int | None = None
    offline_tiktoken: bool = True
    annotates: bool = False
    names_tests: bool = False
    verbosity: int = 0

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
                    value = _parse(option, one_text(text))
                except ValueError as error:
                    faults.append(f"{origin} = {shown(text)} is not allowed; it must be {error}")
                    continue
                # The first is the command line's, which wins; the rest are only checked.
                if option.name not in values:
                    values[option.name] = value
                    given[option.name] = origin
        reports, report_faults = read_reports(config)
        faults += report_faults
        root = config.rootpath
        baseline = root / (values.get("token_baseline") or DEFAULT_BASELINE)
        prices = root / values["token_prices"] if "token_prices" in values else None
        taken = {
            "the baseline": baseline,
            "the price file": prices,
            "pytest's configuration": config.inipath,
            **pages_of_others(config),
        }
        faults += clashes(reports, config, taken)
        update = config.getoption("token_update_baseline")
        if update not in (None, "merge", "prune"):
            faults.append(
                f"--token-update-baseline {shown(update)} is not allowed; write --token-update-baseline=merge "
                "or --token-update-baseline=prune"
            )
        if faults:
            raise ConfigurationError("token budget: " + "; ".join(sorted(faults)))
        limits = {
            limit: values[key]
            for limit in ("max_cost", "max_tokens", "max_requests")
            if (key := "token_test_" + limit) in values and key in given
        }
        directory = values.get("token_cassette_dir")
        missing_fails = values["token_baseline_missing"] == "fail"
        verbosity = getattr(config.option, "verbose", 0)
        return cls(
            rootdir=root,
            reports=reports,
            record=values["token_record"],
            record_forced=config.getoption("token_record") is not None,
            replay=values["token_replay"],
            cassette_dir=root / directory if directory else None,
            unplayed_fails=values["token_unplayed"] == "fail",
            drift=values["token_drift"],
            max_age=values.get("token_max_age"),
            max_spend=values.get("token_max_spend"),
            baseline=baseline,
            baseline_named="token_baseline" in values,
            baseline_update=update,
            baseline_missing_fails=missing_fails,
            # Where tests without an entry fail, a missing file is an empty one.
            judges_baseline=update is None
            and ("token_baseline" in values or missing_fails or os.path.lexists(baseline)),
            tolerance=values["token_tolerance"],
            enforcement=values["token_budget"],
            estimates_count=values["token_estimates"] == "judge",
            prices=prices,
            price_date=values.get("token_price_date"),
            test_budget=Budget(**limits, origins={name: f"token_test_{name}" for name in limits}),
            total_max_cost=values.get("token_total_max_cost"),
            total_max_tokens=values.get("token_total_max_tokens"),
            offline_tiktoken=values["token_offline_tiktoken"],
            annotates=bool(config.getoption("xmlpath", None) or config.getoption("htmlpath", None)),
            names_tests=verbosity > 0 or "verbosity_test_cases" in (*ini_keys(config), *overridden(config)),
            verbosity=verbosity,
        )

    def load_files(self) -> tuple[PriceBook, Baseline | None]:
        """Read the price file and the baseline; the price table itself is read when the first call is priced.

        Raises:
            ConfigurationError: one of them is missing or broken; one line with its path and the reason.
        """
        from pytest_tokenbudget.baseline import Baseline, check_place, load  # noqa: PLC0415 - where tests are counted
        from pytest_tokenbudget.price_file import load_price_file  # noqa: PLC0415 - likewise
        from pytest_tokenbudget.pricing import PriceBook  # noqa: PLC0415 - likewise

        book = PriceBook(None if self.prices is None else load_price_file(self.prices), self.price_date)
        if self.baseline_named and self.baseline_update is None:
            return book, load(self.baseline)  # which refuses one that is missing
        if self.baseline_update is not None:
            # It is read too: a broken one, or a place where none can be, is refused before any test runs.
            check_place(self.baseline)
            if os.path.exists(self.baseline):  # noqa: PTH110 - Path's raises
                load(self.baseline)
            return book, None
        if not self.judges_baseline:
            return book, None
        return book, load(self.baseline) if os.path.lexists(self.baseline) else Baseline()

    @property
    def enforces(self) -> bool:
        """Whether what does not hold fails what it is for, and not only warns."""
        return self.enforcement == "enforce"

    @property
    def tells_parts(self) -> bool:
        """Whether a report tells where the input went, which takes a tokenizer; the terminal's does with ``-vv``."""
        return any(report.kind != "term" or self.verbosity >= SHOWS_CALLS for report in self.reports)

    @property
    def counts_all(self) -> bool:
        """Whether every test is counted, marked or not, because something asks for the figures of all."""
        return bool(
            self.reports
            or self.annotates
            or self.baseline_update
            or self.judges_baseline
            or self.test_budget.watches
            or self.total_max_cost is not None
            or self.total_max_tokens is not None
            or self.max_spend is not None
            or self.replay == "all"
        )


def _texts(option: Option, config: pytest.Config) -> Iterator[tuple[str, object]]:
    """The option's texts with their origins, the one that wins first."""
    if option.flag and (text := config.getoption(option.name)) is not None:
        yield option.long, text
    # A key that is set to nothing is checked like any other: "token_test_max_cost =" must not mean no limit.
    if (value := ini_value(option.name, config)) is not None:
        yield ini_origin(option.name, config), value
    elif option.default is not None:
        yield option.name, option.default


def _unknown_keys(config: pytest.Config) -> Iterator[str]:
    for key in dict.fromkeys((*ini_keys(config), *overridden(config))):
        if key.startswith("token_") and key not in INI_KEYS:
            near = difflib.get_close_matches(key, INI_KEYS, n=1)
            meant = f"did you mean {near[0]}?" if near else "known are " + ", ".join(sorted(INI_KEYS))
            yield f"unknown ini key {ini_origin(key, config)}; {meant}"
