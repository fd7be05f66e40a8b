"""What the terminal says of each test while the run goes on: pytest's own words, and with -v the figures behind them."""

from __future__ import annotations

import re

import pytest

from pytest_tokenbudget.handover import FIGURES_ATTRIBUTE

PRICES = '[models."small"]\ninput = 1.0\noutput = 2.0\n'
SUITE = """
import model, pytest

def test_passes(): model.ask(10, 8, model="small")

def test_fails():
    model.ask(20, 5, model="small")
    assert 0

@pytest.mark.xfail(reason="known")
def test_xfails():
    model.ask(1, 1, model="small")
    assert 0

def test_skips():
    model.ask(1, 2, model="small")
    pytest.skip("no")

@pytest.fixture
def broken():
    model.ask(1, 3, model="small")
    raise OSError

def test_errs(broken): pass

def test_has_no_price(): model.ask(1, 0, model="nobody-has-a-price")

@pytest.mark.skip
def test_is_skipped(): pass

def test_idles(): pass
"""
# USD for a million tokens are 1 of input and 2 of output.
WORDS = {
    "test_passes": "PASSED (18 tokens, $0.000026)",
    "test_fails": "FAILED (25 tokens, $0.00003)",
    "test_xfails": "XFAIL (2 tokens, $0.000003)",
    "test_skips": "SKIPPED (3 tokens, $0.000005)",
    "test_errs": "ERROR (4 tokens, $0.000007)",
    "test_has_no_price": "PASSED (1 token, cost unknown)",
    "test_is_skipped": "SKIPPED",
    "test_idles": "PASSED",
}


def words(lines):
    """What each test's line says beside its name, how far the run is, the worker and why it was skipped."""
    said = {}
    for line in lines:
        found = re.search(r"test_suite\.py::(\w+)", line)
        if found and re.search(r"\[ *\d+%\]", line):
            rest = re.sub(r"\[gw\d\]|\[ *\d+%\]|\S*test_suite\.py::\w+", "", line)
            said[found[1]] = re.sub(r" \((no|known|unconditional skip)\)", "", " ".join(rest.split()))
    return said


def test_each_test_tells_its_tokens_and_cost(suite, go):
    result = go("--token-report", "-v")
    assert words(result.outlines) == WORDS
    assert sum(bill.input_tokens + bill.output_tokens for bill in suite.bills) == 18 + 25 + 2 + 3 + 4 + 1


def test_the_summary_keeps_pytests_words(suite, go):
    result = go("--token-report", "-v", "-rA")
    summary = result.stdout.str().partition("short test summary info")[2]
    assert "PASSED test_suite.py::test_passes" in summary
    assert "FAILED test_suite.py::test_fails" in summary
    assert not re.search(r"[A-Z]+ \(\d", summary)


def test_a_teardown_that_fails_tells_what_the_test_used_with_it(pytester, told, go):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.fixture
        def closing():
            yield
            model.ask(30, 1, model="small")
            raise OSError
        def test_it(closing): model.ask(10, 8, model="small")
        """
    )
    told_of = [line for line in go("--token-report", "-v").outlines if "test_suite.py::test_it" in line]
    assert sum("PASSED (18 tokens, $0.000026)" in line for line in told_of) == 1
    assert sum("ERROR (49 tokens, $0.000058)" in line for line in told_of) == 1


def test_where_tests_are_dots_no_figures_are_worked_out(pytester, suite, go):
    pytester.makeconftest(f"""
        def pytest_runtest_logreport(report):
            if hasattr(report, {FIGURES_ATTRIBUTE!r}):
                print("figures of", report.nodeid)
    """)
    assert "figures of" not in go("--token-report", "-s").stdout.str()
    assert "figures of" in go("--token-report", "-s", "-v").stdout.str()


def test_as_without_the_plugin_where_no_model_is_used(pytester, go, run):
    pytester.makepyfile(
        test_suite="""
        import pytest
        def test_passes(): pass
        @pytest.mark.xfail(reason="known")
        def test_xfails(): assert 0
        @pytest.mark.skip(reason="no")
        def test_skips(): pass
        @pytest.fixture
        def broken(): raise OSError
        def test_errs(broken): pass
        """
    )
    pytester.makefile(".toml", prices=PRICES)

    def told(result):
        """The lines of the tests; which worker ran one, and when, differs from run to run."""
        return sorted(re.sub(r"\[gw\d\] \[ *\d+%\]", "", line) for line in result.outlines if "%]" in line)

    with_figures = told(go("--token-report", "-v"))
    assert len(with_figures) == 4
    assert with_figures == told(run("-v", "-p", "no:pytest_tokenbudget"))


def test_the_marked_tests_of_a_run_without_a_report_tell_theirs(pytester, told, go):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.mark.token_budget(max_tokens=20)
        def test_marked(): model.ask(10, 8, model="small")
        def test_plain(): pass
        """
    )
    assert words(go("-v").outlines) == {"test_marked": WORDS["test_passes"], "test_plain": "PASSED"}


def test_an_ini_file_may_ask_for_the_names(pytester, suite, go):
    result = go("--token-report", "-o", "verbosity_test_cases=1", "-k", "passes")
    assert words(result.outlines) == {"test_passes": WORDS["test_passes"]}


def test_a_rerun_keeps_its_word(pytester, told, go):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model
        tries = []
        def test_it():
            tries.append(1)
            model.ask(10, len(tries), model="small")
            assert len(tries) > 1
        """
    )
    result = go("--token-report", "-v", "--reruns", "1", plugins=("rerunfailures",))
    told_of = [line for line in result.outlines if "test_suite.py::test_it" in line]
    assert sum("RERUN (11 tokens, $0.000012)" in line for line in told_of) == 1
    assert sum("PASSED (12 tokens, $0.000014)" in line for line in told_of) == 1


def test_subtests_keep_their_words_and_the_test_tells_for_all(pytester, told, go):
    pytest.importorskip("_pytest.subtests", reason="subtests are part of pytest since 9")
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model
        def test_it(subtests, usage):
            for number in range(2):
                with subtests.test(number=number):
                    model.ask(10, 5, model="small")
        """
    )
    told_of = [line for line in go("-v").outlines if "%]" in line]
    assert sum("SUBPASSED(number=" in line and "tokens" not in line for line in told_of) == 2
    assert sum("PASSED (30 tokens, $0.00004)" in line for line in told_of) == 1


def test_colours_are_pytests(pytester, suite, go, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    args = ("--token-report", "-v", "--token-total-max-tokens=1", "-k", "passes or fails")
    coloured = go(*args, "--color=yes").stdout.str()
    assert re.search(r"\x1b\[31mrun limit +tokens +45", coloured)
    assert "\x1b[1mcostliest tests\x1b[0m" in coloured
    assert "\x1b[32mPASSED (18 tokens, $0.000026)\x1b[0m" in coloured
    plain = go(*args, "--color=no").stdout.str()
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[1mcostliest tests\x1b[0m" in go(*args).stdout.str()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in go(*args).stdout.str()


@pytest.mark.parametrize(("budgets", "colour"), [("enforce", "31"), ("warn", "33")])
def test_without_a_report_what_fails_the_run_is_red(suite, go, monkeypatch, budgets, colour):
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)
    result = go("--token-total-max-tokens=1", f"--token-budget={budgets}", "-k", "passes", "--color=yes")
    assert f"\x1b[{colour}mthe run: tokens  18" in result.stdout.str()


def test_very_verbose_shows_every_call_and_where_its_input_went(suite, go):
    result = go("--token-report", "-vv", "-k", "passes")
    (line,) = [line for line in result.outlines if line.strip().startswith("1. small:")]
    # The server billed 10 tokens of input: one user's message.
    assert line.strip() == "1. small: $0.000026, live, input 10 (user 10), output 8"
