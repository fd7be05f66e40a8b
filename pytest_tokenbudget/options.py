"""Every option, ini key and marker: the one table behind the parser, the help and the docs; and which tests ask.

pytest loads this module in every run, and asks it of every test, so it holds plain data and imports nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

BUDGET = "token_budget"
CASSETTE = "token_cassette"
FIXTURE_HOME = "pytest_tokenbudget.plugin"

DEFAULT_BASELINE = "token-baseline.json"


class Option:
    """One setting: an ini key and, where ``flag`` is set, a command line option.

    Attributes:
        name: the ini key, and the command line option's name with dashes.
        kind: how its text is read: ``path``, ``usd``, ``count``, ``percent``, ``day``, ``age``, ``boolean``, or the
            words that are allowed.
        help: one line for ``pytest --help`` and the docs.
        default: the value where the user says nothing, as a user would write it.
        flag: whether it stands on the command line too.
        metavar: what to show for the value in the help.
    """

    __slots__ = ("default", "flag", "help", "kind", "metavar", "name")

    def __init__(  # noqa: PLR0913 - a row of a table, all by keyword
        self,
        *,
        name: str,
        kind: str,
        help: str,  # noqa: A002 - argparse's name for it
        default: str | None = None,
        flag: bool = False,
        metavar: str | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.help = help
        self.default = default
        self.flag = flag
        self.metavar = metavar

    @property
    def long(self) -> str:
        """The command line option."""
        return "--" + self.name.replace("_", "-")


OPTIONS = (
    Option(
        name="token_record",
        kind="none once new_episodes all rewrite",
        default="none",
        flag=True,
        metavar="MODE",
        help="record model traffic: none (replay only, the default), once, new_episodes, all or rewrite",
    ),
    Option(
        name="token_replay",
        kind="marked all off",
        default="marked",
        help="which tests replay recorded traffic: marked (those with a marker or the usage fixture), all or off",
    ),
    Option(
        name="token_cassette_dir",
        kind="path",
        help="folder for cassettes, relative to the rootdir; by default cassettes/ beside each test file",
    ),
    Option(
        name="token_unplayed",
        kind="warn fail",
        default="warn",
        help="recordings that a passing test left unplayed: warn lists them, fail fails the test",
    ),
    Option(
        name="token_drift",
        kind="fail estimate",
        default="fail",
        flag=True,
        metavar="MODE",
        help="a request that no recording answers: fail (default), or estimate its usage from the nearest recording",
    ),
    Option(
        name="token_max_age",
        kind="age",
        flag=True,
        metavar="AGE",
        help="fail tests whose recordings are older, such as 90d",
    ),
    Option(
        name="token_max_spend",
        kind="usd",
        flag=True,
        metavar="USD",
        help="refuse each live request that could bring what the run spends above this",
    ),
    Option(
        name="token_baseline",
        kind="path",
        flag=True,
        metavar="PATH",
        help="baseline file (default: token-baseline.json in the rootdir, judged whenever it exists)",
    ),
    Option(
        name="token_baseline_missing",
        kind="allow fail",
        default="allow",
        help="tests that used a model and have no baseline entry: allow or fail",
    ),
    Option(
        name="token_tolerance",
        kind="percent",
        default="0%",
        flag=True,
        metavar="PERCENT",
        help='how far above its baseline a test may go, such as "5%%"',
    ),
    Option(
        name="token_budget",
        kind="enforce warn off",
        default="enforce",
        flag=True,
        metavar="MODE",
        help="enforce budgets (default), warn (report what would fail) or off (only count)",
    ),
    Option(
        name="token_estimates",
        kind="judge fail",
        default="judge",
        help="estimated usage: judge it like measured usage, or fail the test as unmeasured",
    ),
    Option(
        name="token_prices",
        kind="path",
        help="TOML file with prices and aliases of your own models",
    ),
    Option(
        name="token_price_date",
        kind="day",
        help="day whose list prices hold, such as 2026-11-18 (default: the day of the installed price table)",
    ),
    Option(
        name="token_test_max_cost",
        kind="usd",
        help="USD that each test may cost where no marker says otherwise",
    ),
    Option(
        name="token_test_max_tokens",
        kind="count",
        help="tokens that each test may use where no marker says otherwise",
    ),
    Option(
        name="token_test_max_requests",
        kind="count",
        help="model requests that each test may make where no marker says otherwise",
    ),
    Option(
        name="token_total_max_cost",
        kind="usd",
        flag=True,
        metavar="USD",
        help="fail the run when all its tests together cost more",
    ),
    Option(
        name="token_total_max_tokens",
        kind="count",
        flag=True,
        metavar="N",
        help="fail the run when all its tests together use more tokens",
    ),
    Option(
        name="token_offline_tiktoken",
        kind="boolean",
        default="true",
        help="in replayed tests, serve tiktoken's vocabularies from this plugin so that it needs no network",
    ),
)

INI_KEYS = (*(option.name for option in OPTIONS), "token_report")

MARKERS = (
    (
        "token_budget(max_cost=USD, max_tokens=N, max_input_tokens=N, max_output_tokens=N, max_reasoning_tokens=N, "
        'max_requests=N, min_requests=1, tolerance="10%"): fail the test when its model requests use more.'
    ),
    "token_cassette(name, record=MODE, match_on=[...]): replay the test's model requests from the named cassette.",
)


def add_options(parser: pytest.Parser) -> None:
    """Announce every option to pytest, under "token budget" in its help."""
    group = parser.getgroup("token budget")
    # Where the destination is given, pytest does not look for it among those of all other options.
    group.addoption(
        "--token-report",
        dest="token_report",
        action="append",
        nargs="?",
        const="term",
        default=None,
        metavar="KIND[:DEST]",
        help="report usage and cost: term (default), json or markdown; DEST is a file, or - for standard output",
    )
    parser.addini("token_report", "reports to make, as for --token-report", type="linelist", default=[])
    group.addoption(
        "--token-update-baseline",
        dest="token_update_baseline",
        nargs="?",
        const="merge",
        default=None,
        metavar="prune",
        help="write the usage of the tests that pass to the baseline; =prune also drops tests that are gone",
    )
    for option in OPTIONS:
        if option.flag:
            group.addoption(option.long, dest=option.name, default=None, metavar=option.metavar, help=option.help)
        parser.addini(option.name, option.help.replace("%%", "%"), type="string", default=None)


def ini_keys(config: pytest.Config) -> Mapping[str, object]:
    """The keys that the ini file, or ``-o``, sets, with their raw values."""
    # pytest has no public way to ask which keys a file sets; 9 renamed the mapping and deprecates the old name.
    table: Mapping[str, object] = config._inicfg if hasattr(config, "_inicfg") else config.inicfg  # noqa: SLF001
    return table


def asks(item: pytest.Item) -> bool:
    """Whether a test has a marker of ours, even a misspelt one, or wants its usage."""
    if "usage" in getattr(item, "fixturenames", ()) and wants_usage(item):
        return True
    return any(_is_ours(mark.name) for mark in item.iter_markers())


def wants_usage(item: pytest.Item) -> bool:
    """Whether a test asks for our fixture; a parameter or a fixture of its own may have the same name."""
    info: Any = getattr(item, "_fixtureinfo", None)
    definitions: Any = None if info is None else info.name2fixturedefs.get("usage")
    return bool(definitions) and definitions[-1].func.__module__ == FIXTURE_HOME


@lru_cache(maxsize=1024)
def _is_ours(name: str) -> bool:
    if name in (BUDGET, CASSETTE):
        return True
    # Two typing errors take two letters away at the most.
    if min(len(set(ours) - set(name)) for ours in (BUDGET, CASSETTE)) > 2:  # noqa: PLR2004
        return False
    from pytest_tokenbudget.misspelling import meant_by  # noqa: PLC0415 - only for names that look like ours

    return meant_by(name) is not None
