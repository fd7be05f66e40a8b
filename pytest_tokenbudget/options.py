"""Every option, ini key and marker: the one table behind the parser, the help and the docs; and which tests ask.

pytest loads this module in every run, and asks it of every test, so it holds plain data and imports nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

BUDGET = "token_budget"
CASSETTE = "token_cassette"
HOME = "pytest_tokenbudget.plugin"

DEFAULT_BASELINE = "token-baseline.json"


TABLE = {
    "token_record": (
        "none once new_episodes all rewrite",
        "none",
        "MODE",
        "record model traffic: none (replay only, the default), once, new_episodes, all or rewrite",
    ),
    "token_replay": (
        "marked all off",
        "marked",
        None,
        "which tests replay recorded traffic: marked (those with a marker or the usage fixture), all or off",
    ),
    "token_cassette_dir": (
        "path",
        None,
        None,
        "folder for cassettes, relative to the rootdir; by default cassettes/ beside each test file",
    ),
    "token_unplayed": (
        "warn fail",
        "warn",
        None,
        "recordings that a passing test left unplayed: warn lists them, fail fails the test",
    ),
    "token_drift": (
        "fail estimate",
        "fail",
        "MODE",
        "a request that no recording answers: fail (default), or estimate its usage from the nearest recording",
    ),
    "token_max_age": (
        "age",
        None,
        "AGE",
        "fail tests whose recordings are older, such as 90d",
    ),
    "token_max_spend": (
        "usd",
        None,
        "USD",
        "refuse each live request that could bring what the run spends above this",
    ),
    "token_baseline": (
        "path",
        None,
        "PATH",
        "baseline file (default: token-baseline.json in the rootdir, judged whenever it exists)",
    ),
    "token_baseline_missing": (
        "allow fail",
        "allow",
        None,
        "tests that used a model and have no baseline entry: allow or fail",
    ),
    "token_tolerance": (
        "percent",
        "0%",
        "PERCENT",
        'how far above its baseline a test may go, such as "5%%"',
    ),
    "token_budget": (
        "enforce warn off",
        "enforce",
        "MODE",
        "enforce budgets (default), warn (report what would fail) or off (only count)",
    ),
    "token_estimates": (
        "judge fail",
        "judge",
        None,
        "estimated usage: judge it like measured usage, or fail the test as unmeasured",
    ),
    "token_prices": (
        "path",
        None,
        None,
        "TOML file with prices and aliases of your own models",
    ),
    "token_price_date": (
        "day",
        None,
        None,
        "day whose list prices hold, such as 2026-11-18 (default: the day of the installed price table)",
    ),
    "token_test_max_cost": (
        "usd",
        None,
        None,
        "USD that each test may cost where no marker says otherwise",
    ),
    "token_test_max_tokens": (
        "count",
        None,
        None,
        "tokens that each test may use where no marker says otherwise",
    ),
    "token_test_max_requests": (
        "count",
        None,
        None,
        "model requests that each test may make where no marker says otherwise",
    ),
    "token_total_max_cost": (
        "usd",
        None,
        "USD",
        "fail the run when all its tests together cost more",
    ),
    "token_total_max_tokens": (
        "count",
        None,
        "N",
        "fail the run when all its tests together use more tokens",
    ),
    "token_offline_tiktoken": (
        "boolean",
        "true",
        None,
        "in replayed tests, serve tiktoken's vocabularies from this plugin so that it needs no network",
    ),
}
"""Each setting by its ini key: how its text is read, the value where the user says nothing, what stands for its value
in the help where it is an option of the command line too, and the help itself. ``settings.Option`` names them.

Plain tuples: what is made of a class, and by calls, costs every run more.
"""

MARKERS = (
    (
        "token_budget(max_cost=USD, max_tokens=N, max_input_tokens=N, max_output_tokens=N, max_reasoning_tokens=N, "
        'max_requests=N, min_requests=1, tolerance="10%"): fail the test when its model requests use more.'
    ),
    "token_cassette(name, record=MODE, match_on=[...]): replay the test's model requests from the named cassette.",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Announce every option to pytest, under "token budget" in its help."""
    # Loaded by its module's name (-p pytest_tokenbudget.plugin), the plugin is not loaded again by its entry point's.
    if pluginmanager.has_plugin(HOME):
        pluginmanager.set_blocked("pytest_tokenbudget")
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
        help="report usage and cost: term (default), json, markdown or html; DEST: a file, or - for standard output",
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
    for name, (_, _, metavar, text) in TABLE.items():
        if metavar:
            group.addoption("--" + name.replace("_", "-"), dest=name, default=None, metavar=metavar, help=text)
        parser.addini(name, text.replace("%%", "%"), type="string", default=None)


def ini_keys(config: pytest.Config) -> dict[str, object]:
    """The keys that the ini file, or ``-o``, sets, with their raw values."""
    # pytest has no public way to ask which keys a file sets; 9 renamed the mapping and deprecates the old name.
    return dict(config._inicfg if hasattr(config, "_inicfg") else config.inicfg)  # noqa: SLF001


def concern(config: pytest.Config) -> bool:
    """Whether there is anything to check and obey: an option, ini key or file of ours."""
    said = vars(config.option)
    given = [*map(said.get, ("token_report", "token_update_baseline", "xmlpath", "htmlpath", *TABLE))]
    return (
        given.count(None) < len(given)
        or "token_" in " ".join((*ini_keys(config), *(said.get("override_ini") or ())))
        or (baseline := config.rootpath / DEFAULT_BASELINE).exists()
        or baseline.is_symlink()  # one that leads nowhere is refused, not passed over
    )


def asks(item: pytest.Item) -> bool:
    """Whether a test has a marker of ours, even a misspelt one, or wants its usage."""
    if "usage" in getattr(item, "fixturenames", ()):
        from pytest_tokenbudget.fixture import wants_usage  # noqa: PLC0415 - only where the name says so

        if wants_usage(item):
            return True
    for marker in item.iter_markers():  # noqa: SIM110 - a generator takes every run longer to load, and to ask
        if _is_ours(marker.name):
            return True
    return False


@lru_cache(maxsize=1024)
def _is_ours(name: str) -> bool:
    if name in (BUDGET, CASSETTE):
        return True
    # Two typing errors take two letters away at the most.
    if min(len(set(BUDGET) - set(name)), len(set(CASSETTE) - set(name))) > 2:  # noqa: PLR2004
        return False
    from pytest_tokenbudget.misspelling import meant_by  # noqa: PLC0415 - only for names that look like ours

    return meant_by(name) is not None
