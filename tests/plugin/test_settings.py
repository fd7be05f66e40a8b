"""What the user says is checked before any test: a mistake ends the run with exit 4 and one line, never a traceback."""

from __future__ import annotations

import pytest
from neighbours import without_all_but

LEAN = without_all_but()

CHOICES = {
    "token_record": "none, once, new_episodes, all, rewrite",
    "token_replay": "marked, all, off",
    "token_unplayed": "warn, fail",
    "token_drift": "fail, estimate",
    "token_baseline_missing": "allow, fail",
    "token_budget": "enforce, warn, off",
    "token_estimates": "judge, fail",
}
BAD_USD = ["", "cheap", "-1", "nan", "inf", "1,5", "0.01 USD", "1e999", "True"]
BAD_COUNTS = ["", "-1", "1.5", "1e3", "many", "True", "1_000", "\u0663"]
BAD_VALUES = {
    **{key: ["", "maybe", allowed.partition(",")[0].upper()] for key, allowed in CHOICES.items()},
    "token_cassette_dir": [""],
    "token_baseline": [""],
    "token_prices": [""],
    "token_tolerance": ["", "5", "-5%", "five%", "nan%", "%"],
    "token_max_age": ["", "90", "d", "-1d", "1.5d", "90 d", "90D", "3m", "1w2d", "123456d", "\u0663d"],
    "token_max_spend": BAD_USD,
    "token_price_date": ["", "yesterday", "2026-13-01", "20261118", "2026-W47-3", "2026-11-18T10:00"],
    "token_test_max_cost": BAD_USD,
    "token_total_max_cost": BAD_USD,
    "token_test_max_tokens": BAD_COUNTS,
    "token_test_max_requests": BAD_COUNTS,
    "token_total_max_tokens": BAD_COUNTS,
    "token_offline_tiktoken": ["", "maybe", "2"],
}
FLAGS = (
    "token_record", "token_drift", "token_max_age", "token_max_spend", "token_baseline", "token_tolerance",
    "token_budget", "token_total_max_cost", "token_total_max_tokens",
)  # fmt: skip
PAIRS = [(key, value) for key, values in BAD_VALUES.items() for value in values]


NATIVE = pytest.param(
    "tool.pytest", marks=pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 knows this table")
)


@pytest.fixture
def check(pytester, spread):
    """Run in this process: what is refused is refused before xdist starts a worker."""
    pytester.makepyfile(test_it="from pathlib import Path\ndef test_it(): Path('ran').touch()")

    def check(*args):
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *LEAN, *spread, *args)
        result.said = result.outlines + result.errlines
        return result

    return check


def assert_refused(pytester, result, *words):
    text = "\n".join(result.said)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, text
    assert not (pytester.path / "ran").exists(), "a test ran"
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    told = [line for line in result.said if line.strip()]
    assert len(told) == 1, text
    assert told[0].startswith("ERROR: "), text
    for word in words:
        assert word in told[0]


def test_every_key_has_its_mistakes_here():
    from pytest_tokenbudget.settings import OPTIONS

    assert {option.name for option in OPTIONS} - set(BAD_VALUES) == set()
    assert {option.name for option in OPTIONS if option.flag} - set(FLAGS) == set()


# Each value is read by the same code wherever it stands; a mistake of each key shows that it is, and how it is told.
ONE_OF_EACH = list({key: (key, value) for key, value in reversed(PAIRS)}.values())


@pytest.mark.parametrize(("key", "value"), [pair for pair in ONE_OF_EACH if pair[0] in FLAGS])
def test_bad_on_the_command_line(pytester, check, key, value):
    flag = "--" + key.replace("_", "-")
    assert_refused(pytester, check(f"{flag}={value}"), flag, repr(value), "not allowed", "must be")


@pytest.mark.parametrize(("key", "value"), PAIRS)
def test_bad_in_pytest_ini(pytester, check, key, value):
    pytester.makefile(".ini", pytest=f"[pytest]\n{key} = {value}\n")
    assert_refused(pytester, check(), f"{key} in pytest.ini", repr(value), "not allowed", "must be")


@pytest.mark.parametrize(("key", "value"), ONE_OF_EACH)
def test_bad_on_the_command_lines_o(pytester, check, key, value):
    assert_refused(pytester, check("-o", f"{key}={value}"), f"-o {key}", repr(value), "not allowed", "must be")


@pytest.mark.parametrize("key", sorted(CHOICES))
def test_what_is_allowed_is_said(pytester, check, key):
    assert_refused(pytester, check("-o", f"{key}=maybe"), f"one of {CHOICES[key]}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("token_total_max_tokens = -1", ("-1", "a whole number >= 0")),
        ("token_total_max_tokens = 1.5", ("1.5",)),
        ("token_total_max_tokens = true", ("token_total_max_tokens",)),
        ("token_test_max_cost = nan", ("token_test_max_cost",)),
        ("token_test_max_cost = [1]", ("token_test_max_cost", "one value")),
        ("token_baseline = ['a.json']", ("token_baseline", "one value")),
        ("token_price_date = 2026-11-18T10:00:00Z", ("token_price_date",)),
        ("token_report = 7", ("token_report",)),
        ("token_report = [7]", ("token_report",)),
        ("token_report = ['jsn']", ("token_report", "'jsn'")),
        ("token_budgets = 'off'", ("unknown ini key token_budgets", "did you mean token_budget?")),
    ],
)
@pytest.mark.parametrize("table", [NATIVE, "tool.pytest.ini_options"])
def test_bad_in_pyproject(pytester, check, table, line, words):
    pytester.makepyprojecttoml(f"[{table}]\n{line}\n")
    native = table == "tool.pytest"
    assert_refused(
        pytester, check(), "pyproject.toml", *(words if native else words[:1] if "'" not in words[0] else ())
    )


@pytest.mark.parametrize("table", [NATIVE, "tool.pytest.ini_options"])
def test_good_in_pyproject(pytester, check, table):
    pytester.makepyprojecttoml(
        f"[{table}]\ntoken_total_max_tokens = 7\ntoken_test_max_cost = 0.0000001\ntoken_test_max_tokens = '7'\n"
        "token_offline_tiktoken = true\ntoken_price_date = 2026-11-18\ntoken_report = ['json']\n"
        "token_tolerance = '5%'\n"
    )
    result = check()
    assert result.ret == 0, result.said
    assert (pytester.path / "token-report.json").exists()


@pytest.mark.parametrize("value", ["0", "0.000001", "10", "1e-3", " 5 "])
def test_good_ceilings(check, value):
    assert check(f"--token-max-spend={value}").ret == 0
    assert check("-o", f"token_max_spend={value}").ret == 0


@pytest.mark.parametrize("value", ["0d", "1d", "12w", "99999d"])
def test_good_ages(check, value):
    assert check(f"--token-max-age={value}").ret == 0


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("token_budgett", "token_budget"),
        ("token_max_total_cost", "token_total_max_cost"),
        ("token_reports", "token_report"),
        ("token_price", "token_prices"),
        ("token_zzzzzzzzzzzz", "known are token_"),
    ],
)
def test_unknown_keys(pytester, check, key, meant):
    assert_refused(pytester, check("-o", f"{key}=1"), f"unknown ini key -o {key}", meant)
    pytester.makefile(".ini", pytest=f"[pytest]\n{key} = 1\n")
    assert_refused(pytester, check(), f"unknown ini key {key} in pytest.ini", meant)


def test_all_mistakes_in_one_line(pytester, check):
    pytester.makefile(".ini", pytest="[pytest]\ntoken_record = x\ntoken_zebra = 1\n")
    result = check("--token-total-max-cost=y", "--token-report=z")
    assert_refused(pytester, result, "token_record", "token_zebra", "--token-total-max-cost", "'z'")


def test_the_ini_is_checked_even_where_the_command_line_wins(pytester, check):
    pytester.makefile(".ini", pytest="[pytest]\ntoken_record = x\n")
    assert_refused(pytester, check("--token-record=none"), "token_record in pytest.ini")


@pytest.mark.parametrize("value", ["tests/", "test_it.py", "jsn", "", "JSON", "term:", "json:", "html2"])
def test_reports_that_are_none(pytester, check, value):
    assert_refused(pytester, check(f"--token-report={value}"), "--token-report=term")


def test_a_path_after_a_bare_report_is_told_apart(pytester, check):
    assert_refused(
        pytester, check("--token-report", "test_it.py"), "'test_it.py' is no kind of report", "--token-report=term"
    )


@pytest.mark.parametrize(
    "reports",
    [
        ("json:a", "markdown:a"),
        ("json:a", "markdown:./a"),
        ("json:a", "json:./a"),
        ("json", "markdown:token-report.json"),
        ("term:-", "json:-"),
        ("json:-", "markdown:-"),
        ("json", "term:sub/../token-report.json"),
        ("json:token-baseline.json",),
    ],
)
def test_two_in_one_place(pytester, check, reports):
    assert_refused(pytester, check(*(f"--token-report={each}" for each in reports)), "have one place")
    assert not list(pytester.path.glob("*.json"))


@pytest.mark.parametrize(
    ("dest", "other"),
    [
        ("test_it.py", "a Python module"),
        ("pytest.ini", "pytest's configuration"),
    ],
)
def test_a_report_replaces_nothing_that_the_run_reads(pytester, check, dest, other):
    path = pytester.path / dest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    before = path.read_bytes()
    assert_refused(pytester, check(f"--token-report=json:{dest}"), f"{other} have one place, {dest}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("page", ["token-report.json", "token-baseline.json"])
def test_the_jobs_page_has_a_place_of_its_own(pytester, check, monkeypatch, page):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / page))
    result = check("--token-report=json", "--token-report=markdown")
    assert_refused(pytester, result, f"GITHUB_STEP_SUMMARY names have one place, {pytester.path / page}")


def test_a_name_that_no_file_can_have_is_one_line(pytester, check):
    assert_refused(pytester, check(f"--token-report=json:{'x' * 300}.json"), "can't be written")


def test_links_in_a_circle_are_one_line(pytester, check, monkeypatch):
    (pytester.path / "loop").symlink_to("loop")
    assert_refused(pytester, check("--token-report=json:loop/r.json"), "can't be written")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "loop"))
    assert_refused(pytester, check("--token-report=markdown"), "can't be added to GITHUB_STEP_SUMMARY")


def test_a_home_is_found_behind_the_colon(pytester, check, monkeypatch):
    monkeypatch.setenv("HOME", str(pytester.path / "home"))
    assert check("--token-report=json:~/r.json").ret == 0
    assert (pytester.path / "home" / "r.json").exists()


def test_junit_xml_keeps_its_place(pytester, check):
    assert_refused(pytester, check("--junit-xml=a.xml", "--token-report=json:./a.xml"), "JUnit XML have one place")


def test_a_price_file_is_no_place_for_a_report(pytester, check):
    prices = pytester.makefile(".toml", prices='[models."m"]\ninput = 1\noutput = 1\n')
    before = prices.read_bytes()
    assert_refused(
        pytester, check("-o", "token_prices=prices.toml", "--token-report=json:prices.toml"), "the price file"
    )
    assert prices.read_bytes() == before


def test_the_same_report_twice_is_one(pytester, check):
    assert check("--token-report=json", "--token-report=json").ret == 0


@pytest.mark.parametrize("report", ["json:taken", "markdown:taken", "term:taken", "json:file/below"])
def test_a_report_that_cant_be_written(pytester, check, report):
    pytester.mkdir("taken")
    (pytester.path / "file").touch()
    result = check(f"--token-report={report}")
    text = "\n".join(result.said)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, text
    assert [line for line in result.said if "can't be written" in line], text
    assert "INTERNALERROR" not in text
    assert "Traceback" not in text
    assert not (pytester.path / "ran").exists()


@pytest.mark.parametrize("value", ["all", "test_it.py", "", "PRUNE"])
def test_bad_updates(pytester, check, value):
    words = ("--token-update-baseline=merge", "--token-update-baseline=prune")
    assert_refused(pytester, check(f"--token-update-baseline={value}"), *words)
    assert_refused(pytester, check("--token-update-baseline", value or "x"), *words)


def test_help_shows_all_under_one_title(pytester, spread):
    from pytest_tokenbudget.settings import INI_KEYS, OPTIONS

    text = pytester.runpytest_inprocess("--help", *LEAN, *spread).stdout.str()
    group = text.partition("token budget:")[2].partition("\n\n")[0]
    flags = ["--token-report", "--token-update-baseline", *(option.long for option in OPTIONS if option.flag)]
    assert [flag for flag in flags if f"  {flag}" not in group] == []
    assert group.count("\n  --") == len(flags)
    assert [key for key in INI_KEYS if f"\n  {key} (" not in text] == []
    assert "%%" not in text


def test_help_is_there_for_whom_a_setting_is_refused(pytester, spread):
    pytester.makefile(".ini", pytest="[pytest]\ntoken_record = x\n")
    result = pytester.runpytest_inprocess("--help", *LEAN, *spread)
    assert result.ret == 0
    assert "token budget:" in result.stdout.str()


def test_markers_are_shown(pytester, spread):
    text = pytester.runpytest_inprocess("--markers", *LEAN, *spread).stdout.str()
    assert "@pytest.mark.token_budget(max_cost=USD" in text
    assert "@pytest.mark.token_cassette(name" in text


def test_strict_markers_know_ours(pytester, check):
    pytester.makepyfile(test_it="import pytest\n@pytest.mark.token_budget(min_requests=0)\ndef test_it(): pass")
    assert check("--strict-markers").ret == 0


def test_precedence(pytester, told, run_live):
    """The marker wins over the command line, and that over the ini file: for budgets and for the tolerance."""
    pytester.makefile(
        ".ini",
        pytest="[pytest]\ntoken_test_max_tokens = 10\ntoken_total_max_tokens = 1\ntoken_budget = off\n",
    )
    pytester.makepyfile(
        test_it="""
        import model, pytest

        @pytest.mark.token_budget(max_tokens=100)
        def test_marker():
            model.ask(10, 5)

        def test_ini():
            model.ask(10, 5)
        """
    )
    result = run_live("--token-budget=enforce", "--token-total-max-tokens=30")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*test_ini is over its token budget*"])
    assert "the run:" not in result.stdout.str()
