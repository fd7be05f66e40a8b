"""Limits on the whole run, and the limits that an ini file gives to every test."""

from __future__ import annotations

import pytest

PRICES = '[models."small"]\ninput = 1.0\noutput = 2.0\n'
SUITE = """
import model

def test_one():
    model.ask(10, 5, model="small")

def test_two():
    model.ask(20, 1, model="small")

def test_idle():
    pass
"""
# 30 input and 6 output tokens: 36 tokens, and 30 * $1 + 6 * $2 a million = $0.000042.


def said(result):
    return [line for line in result.outlines + result.errlines if line.startswith("the run:")]


def test_at_the_limit_passes_and_above_it_fails(suite, go):
    result = go("--token-total-max-tokens=36", "--token-total-max-cost=0.000042")
    assert result.ret == pytest.ExitCode.OK
    assert said(result) == []

    result = go("--token-total-max-tokens=35", "--token-total-max-cost=0.000040")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=3)
    cost, tokens = said(result)
    assert "$0.000042" in cost
    assert "$0.00004" in cost.replace("$0.000042", "")
    assert "+$0.000002" in cost
    assert "36" in tokens
    assert "35" in tokens
    assert "+1" in tokens


def test_from_the_ini_file(pytester, suite, go):
    pytester.makefile(".ini", pytest="[pytest]\ntoken_total_max_tokens = 35\n")
    result = go()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(said(result)) == 1
    assert go("--token-total-max-tokens=36").ret == pytest.ExitCode.OK


def test_zero_allows_nothing(pytester, suite, go):
    assert go("--token-total-max-tokens=0").ret == pytest.ExitCode.TESTS_FAILED
    assert go("--token-total-max-cost=0").ret == pytest.ExitCode.TESTS_FAILED
    assert go("--token-total-max-cost=0", "--token-total-max-tokens=0", "-k", "idle").ret == pytest.ExitCode.OK


def test_without_a_terminal(suite, go):
    result = go("--token-total-max-tokens=35", "-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = said(result)
    assert "+1" in line
    assert go("--token-total-max-tokens=36", "-p", "no:terminal").ret == pytest.ExitCode.OK


def test_warn_says_it_and_off_does_not(pytester, suite, go):
    result = go("--token-total-max-tokens=35", "--token-budget=warn", "--token-report=html:page.html")
    assert "warns only</strong>" in (pytester.path / "page.html").read_text("utf-8")
    assert result.ret == pytest.ExitCode.OK
    assert len(said(result)) == 1
    result = go("--token-total-max-tokens=35", "--token-budget=off")
    assert result.ret == pytest.ExitCode.OK
    assert said(result) == []


def test_an_unknown_cost_is_not_below_any(pytester, suite, go):
    pytester.makepyfile(test_suite='import model\ndef test_it(): model.ask(1, 1, model="nobody-has-a-price")')
    result = go("--token-total-max-cost=1000")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (line,) = said(result)
    assert "nobody-has-a-price" in line
    assert go("--token-total-max-tokens=2").ret == pytest.ExitCode.OK


def test_unknown_tokens_are_not_below_any(pytester, suite, go):
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": "who-knows",
        "choices": [],
        "usage": {"prompt_tokens": -1},
    }
    pytester.makepyfile(test_suite='import model\ndef test_it(): model.ask(1, 1, model="who-knows")')
    for limit in ("--token-total-max-tokens=1000", "--token-total-max-cost=1000"):
        suite.answer(body=body)
        result = go(limit)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert len(said(result)) == 1


def test_shared_fixtures_and_teardown_count(pytester, suite, go):
    """One module, so that one worker sets its fixture up, whoever runs the tests."""
    pytester.makepyfile(
        test_suite="""
        import model, pytest

        @pytest.fixture(scope="module")
        def warm():
            model.ask(100, 0 + 1, model="small")
            yield
            model.ask(1000, 1, model="small")

        @pytest.fixture
        def late():
            yield
            model.ask(10000, 1, model="small")

        def test_one(warm, late): model.ask(1, 1, model="small")
        def test_two(warm): pass
        """
    )
    total = 101 + 1001 + 10001 + 2
    assert go(f"--token-total-max-tokens={total}", "--dist=loadfile").ret == pytest.ExitCode.OK
    result = go(f"--token-total-max-tokens={total - 1}", "--dist=loadfile")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "+1" in said(result)[0]


def test_what_failing_and_skipped_tests_used_counts(pytester, suite, go):
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        def test_fails(): model.ask(1, 1, model="small"); assert 0
        def test_skips(): model.ask(10, 1, model="small"); pytest.skip("no")
        @pytest.mark.xfail
        def test_xfails(): model.ask(100, 1, model="small"); assert 0
        @pytest.fixture
        def broken():
            model.ask(1000, 1, model="small")
            raise OSError
        def test_errs(broken): pass
        """
    )
    result = go("--token-total-max-tokens=1114")
    assert "+1" in said(result)[0]
    assert said(go("--token-total-max-tokens=1115")) == []


def test_every_tests_ini_limits(pytester, suite, go):
    """They hold for tests without a marker, and for each limit that a marker leaves open."""
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        def test_tokens(): model.ask(30, 5, model="small")
        def test_cost(): model.ask(1, 18, model="small")
        def test_requests():
            for _ in range(3): model.ask(1, 1, model="small")
        def test_within(): model.ask(20, 5, model="small")
        def test_idle(): pass
        @pytest.mark.token_budget(max_tokens=100)
        def test_own_tokens(): model.ask(30, 1, model="small")
        @pytest.mark.token_budget(max_tokens=100)
        def test_own_tokens_but_not_cost(): model.ask(30, 5, model="small")
        """
    )
    pytester.makefile(
        ".ini",
        pytest="[pytest]\ntoken_test_max_tokens = 34\ntoken_test_max_cost = 0.000036\ntoken_test_max_requests = 2\n",
    )
    result = go("-rfp")
    result.assert_outcomes(passed=3, failed=4)
    failed = {line.split()[1].partition("::")[2] for line in result.outlines if line.startswith("FAILED")}
    assert failed == {"test_tokens", "test_cost", "test_requests", "test_own_tokens_but_not_cost"}


def test_the_run_that_is_stopped_early_keeps_its_exit_status(pytester, suite, go):
    pytester.makepyfile(test_a="def test_a(): raise KeyboardInterrupt")
    assert go("--token-total-max-tokens=0").ret == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("conftest.py", "import model\ndef pytest_sessionfinish(): model.ask(500, 1, model='small')"),
        ("test_z.py", "import pytest\ndef test_z(): pytest.exit('enough', returncode=0)"),
    ],
    ids=["a hook at the end", "an exit that claims success"],
)
def test_however_the_run_ends_its_total_is_judged(pytester, suite, go, spread, place, source):  # noqa: PLR0917
    if spread and place != "conftest.py":
        pytest.skip("xdist takes a worker's exit with status 0 for its end")
    (pytester.path / place).write_text(source)
    assert go("--token-total-max-tokens=3000").ret == pytest.ExitCode.OK
    result = go("--token-total-max-tokens=35")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(said(result)) == 1


def test_collecting_judges_nothing(suite, go):
    assert go("--token-total-max-tokens=0", "--collect-only").ret == pytest.ExitCode.OK
    assert suite.bills == ()
