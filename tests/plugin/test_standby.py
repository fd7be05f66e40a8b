"""Where the user said nothing, xdist's controller waits for a worker's test that asks: then all is as it always is."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[(), ("-n", "1"), ("-n", "2")], ids=["plain", "one", "two"])
def spread(request):
    return request.param


@pytest.fixture
def recorded(pytester, told, run):
    """Record an inner suite; from then on its runs say nothing to the plugin but what their tests say."""

    def recorded(suite):
        pytester.makepyfile(test_suite=suite)
        run("-o", "token_replay=all", "--token-record=once")
        told.reset()

    return recorded


def test_a_budget_that_does_not_hold_is_told(recorded, run, told):
    recorded("""
        import model, pytest
        def test_idle(): pass
        @pytest.mark.token_budget(max_tokens=5)
        def test_over(): model.ask(10, 8)
        @pytest.mark.token_budget(max_tokens=18)
        def test_within(): model.ask(10, 8)
    """)
    result = run()
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["test_suite.py::test_over is over its token budget.", "  tokens  18 *limit 5 *"])
    assert told.ledger == ()


def test_the_first_report_of_all_tells_its_figures(recorded, run, monkeypatch):
    """It is that of a set-up here, which the terminal tells of."""
    recorded("""
        import os, model, pytest
        @pytest.fixture
        def broken():
            model.ask(1, 3)
            assert "TOKENBUDGET_TEST_BROKEN" not in os.environ
        def test_it(broken, usage): pass
    """)
    monkeypatch.setenv("TOKENBUDGET_TEST_BROKEN", "1")
    result = run("-v")
    result.assert_outcomes(errors=1)
    # 1 token of input at $0.15, 3 of output at $0.6 for a million
    assert "ERROR (4 tokens, $0.00000195)" in result.stdout.str()


def test_a_worker_that_crashes_before_it_tells_of_a_test(recorded, run, spread, monkeypatch):
    if not spread:
        pytest.skip("it takes a worker to crash one")
    recorded("""
        import os, model, pytest
        @pytest.fixture
        def crash():
            if "TOKENBUDGET_TEST_CRASH" in os.environ: os._exit(3)
        @pytest.mark.token_budget(max_tokens=50)
        def test_crash(crash): model.ask(10, 8)
        @pytest.mark.token_budget(max_tokens=5)
        def test_over(): model.ask(10, 8)
    """)
    monkeypatch.setenv("TOKENBUDGET_TEST_CRASH", "1")
    result = run()
    result.assert_outcomes(failed=2)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines_random(
        ["worker 'gw*' crashed while running 'test_suite.py::test_crash'", "test_suite.py::test_over is over *"]
    )


def test_what_a_test_leaves_behind_fails_the_run(pytester, run_alone):
    """It tries when the worker has told of all of its tests."""
    pytester.makeconftest("""
        import sys

        def pytest_sessionfinish():
            if "test_suite" in sys.modules:  # not in xdist's controller
                sys.modules["test_suite"].GO.set()
    """)
    pytester.makepyfile(
        test_suite="""
        import socket, threading
        GO = threading.Event()

        def later():
            GO.wait()
            try:
                socket.create_connection(("192.0.2.1", 1), timeout=1)
            except BaseException:
                pass

        def test_last(usage): threading.Thread(target=later).start()
        """
    )
    result = run_alone()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "test_suite.py::test_last" in result.stdout.str()


@pytest.mark.parametrize("spread", [(), ("-n", "1")], ids=["plain", "one"])  # a second worker may still be starting
def test_a_baseline_that_appears_meanwhile_is_of_the_next_run(pytester, run):
    """Whatever stands in it: this run had none when it began."""
    pytester.makepyfile(
        test_suite="""
        import pathlib, pytest
        @pytest.fixture(scope="session", autouse=True)
        def writes(): pathlib.Path("token-baseline.json").write_text("<<<<<<< HEAD\\n")
        def test_it(usage): pass
        def test_other(): pass
        """
    )
    result = run()
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    assert run().ret == pytest.ExitCode.USAGE_ERROR
