"""The user's price file and price day in a run: used for every figure, refused whole, and read only when needed."""

from __future__ import annotations

import json

import pytest
from warm_python import cold

GOOD = """
[models."my-org/tuned"]
input = 3.00
cached_input = 0.30
output = 15.00
[models."gpt-4o-mini"]
input = 1000.0
output = 0.0
[aliases]
"my-deployment" = "my-org/tuned"
"""
SUITE = """
import model

def test_own(): model.ask(1000, 100, model="my-org/tuned")
def test_alias(): model.ask(1000, 100, model="my-deployment")
def test_override(): model.ask(1000, 100, model="gpt-4o-mini")
def test_listed(): model.ask(1000, 100, model="gpt-4")
"""


@pytest.fixture
def suite(pytester, told):
    pytester.makepyfile(test_suite=SUITE)
    return told


@pytest.fixture
def costs(pytester):
    def costs():
        document = json.loads((pytester.path / "token-report.json").read_text("utf-8"))
        return {test["nodeid"].partition("::")[2]: test["usage"]["cost_usd"] for test in document["tests"]}

    return costs


def assert_refused(suite, result, *words):
    told = [line for line in result.outlines + result.errlines if line.strip()]
    assert result.ret == pytest.ExitCode.USAGE_ERROR, told
    assert len(told) == 1, told
    assert "INTERNALERROR" not in told[0]
    for word in words:
        assert word in told[0]
    assert suite.bills == (), "a test ran"


def test_the_users_prices_win(pytester, suite, run_live, costs):
    pytester.makefile(".toml", prices=GOOD)
    run_live("-o", "token_prices=prices.toml").assert_outcomes(passed=4)
    assert costs() == {
        "test_own": "0.0045",  # 1000 * $3 and 100 * $15 a million
        "test_alias": "0.0045",
        "test_override": "1",
        "test_listed": "0.036",  # the published $30 and $60 a million
    }


def test_without_the_file_they_are_unpriced(pytester, suite, run_live, costs):
    run_live().assert_outcomes(passed=4)
    # gpt-4o-mini: the published $0.15 and $0.60 a million.
    assert costs() == {"test_own": None, "test_alias": None, "test_override": "0.00021", "test_listed": "0.036"}


def test_a_budget_of_money_needs_a_price(pytester, suite, run_live):
    pytester.makepyfile(
        test_suite="""
        import model, pytest

        @pytest.mark.token_budget(max_cost=1)
        def test_it():
            model.ask(1000, 100, model="my-org/tuned")

        @pytest.mark.token_budget(max_tokens=1100)
        def test_tokens():
            model.ask(1000, 100, model="my-org/tuned")
        """
    )
    result = run_live()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*my-org/tuned*token_prices*"])
    pytester.makefile(".toml", prices=GOOD)
    pytester.makefile(".ini", pytest="[pytest]\ntoken_prices = prices.toml\n")
    run_live().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "can't be read"),
        ("", None),
        ("models = [", "not TOML"),
        ('[models."m"]\ninput = -1\noutput = 1\n', "input"),
        ('[models."m"]\ninput = "free"\noutput = 1\n', "input"),
        ('[models."m"]\ninput = nan\noutput = 1\n', "input"),
        ('[models."m"]\ninput = 1\n', "output"),
        ('[models."m"]\ninput = 1\noutput = 1\noutptu_audio = 1\n', "output_audio"),
        ('[model."m"]\ninput = 1\noutput = 1\n', "models"),
        ('[aliases]\n"a" = 1\n', "a"),
        ('[aliases]\n"a" = "b"\n"b" = "a"\n', "a"),
    ],
)
def test_a_price_file_is_taken_whole_or_refused(pytester, suite, run, text, word):
    if text is not None:
        (pytester.path / "prices.toml").write_text(text, "utf-8")
    result = run("-o", "token_prices=prices.toml")
    if word is None:
        assert result.ret != pytest.ExitCode.USAGE_ERROR
    else:
        assert_refused(suite, result, "prices.toml", word)


def test_a_folder_is_no_price_file(pytester, suite, run):
    pytester.mkdir("prices.toml")
    assert_refused(suite, run("-o", "token_prices=prices.toml"), "prices.toml")


def test_the_file_is_found_from_the_rootdir(pytester, suite, run_live, costs, monkeypatch):
    pytester.makefile(".toml", prices=GOOD)
    pytester.makefile(".ini", pytest="[pytest]\ntoken_prices = prices.toml\n")
    monkeypatch.chdir(pytester.mkdir("sub"))
    result = run_live("--rootdir", str(pytester.path), "-c", str(pytester.path / "pytest.ini"),
                       f"--token-report=json:{pytester.path / 'token-report.json'}", str(pytester.path), "-k", "own")  # fmt: skip
    result.assert_outcomes(passed=1)
    assert costs() == {"test_own": "0.0045"}


def test_the_day_decides(pytester, suite, run_live, costs):
    """o3 cost $10 and $40 a million before 10 June 2025, and $2 and $8 from then on."""
    pytester.makepyfile(test_suite='import model\ndef test_it(): model.ask(1000, 100, model="o3")')
    run_live("-o", "token_price_date=2025-06-01")
    assert costs() == {"test_it": "0.014"}
    run_live("-o", "token_price_date=2025-07-01")
    assert costs() == {"test_it": "0.0028"}
    document = json.loads((pytester.path / "token-report.json").read_text("utf-8"))
    assert document["prices"]["date"] == "2025-07-01"


@pytest.mark.parametrize("day", ["2025-02-30", "01.06.2025", "2025-6-1", "tomorrow"])
def test_a_day_that_is_none(suite, run, day):
    assert_refused(suite, run("-o", f"token_price_date={day}"), "token_price_date", day)


@cold
def test_no_price_is_read_for_tokens_that_nobody_used(pytester, run):
    """The user's file is checked all the same; the table is not even imported."""
    pytester.makefile(".toml", prices=GOOD)
    pytester.makeconftest(
        "import sys\ndef pytest_unconfigure(): print('table read:', 'genai_prices' in sys.modules)\n"
    )
    pytester.makepyfile(test_suite="def test_it(usage): assert usage.cost == 0")
    result = run("-o", "token_prices=prices.toml", "--token-report=json", "--token-total-max-cost=1")
    assert result.ret == 0
    assert "table read: True" not in result.stdout.str()
    assert "table read: False" in result.stdout.str()


def test_own_prices_are_named_alike_whether_or_not_a_model_was_called(pytester, suite, run_live):
    """So are the prices of a shard that called none, next to those of one that did."""
    pytester.makefile(".toml", prices=GOOD)
    pytester.makepyfile(test_idle="def test_it(usage): pass")

    def own(*args):
        run_live("-o", "token_prices=prices.toml", "--token-report=json", *args)
        return json.loads((pytester.path / "token-report.json").read_text("utf-8"))["prices"]["overrides"]

    (said,) = own("test_suite.py")
    assert said.startswith("prices.toml (")
    assert own("test_idle.py") == [said]
    pytester.makefile(".toml", prices=GOOD.replace("3.00", "300"))
    assert own("test_idle.py") not in ([said], [])
