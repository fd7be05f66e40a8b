"""``token_max_age``: a test that plays recordings that are too old fails, in its call, with one line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from model_server import RECORDED_ON
from test_replay import CLIENT, recording

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])
ANSWER = {
    "id": "1", "object": "chat.completion", "created": 0, "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "y"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip


@pytest.fixture
def record(pytester, monkeypatch):
    """Write a cassette by hand: ``record(name, text=days or None, ...)``, each answer dated so many days ago."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    pytester.makepyfile(client=CLIENT)

    def record(name, **days):
        interactions = []
        for text, age in days.items():
            headers = {"content-type": ["application/json"]}
            if age is not None:
                date = datetime.now(UTC) - timedelta(days=age, minutes=5)
                headers["Date"] = [date.strftime("%a, %d %b %Y %H:%M:%S GMT")]
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}
            interactions.append({
                "request": {"method": "POST", "uri": "https://api.openai.com/v1/chat/completions",
                            "body": json.dumps(body), "headers": {}},
                "response": {"status": {"code": 200, "message": "OK"}, "headers": headers,
                             "body": {"string": json.dumps(ANSWER)}},
            })  # fmt: skip
        path = pytester.path / "cassettes" / "test_a" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"interactions": interactions, "version": 1}), "utf-8")

    return record


def day(ago):
    return (datetime.now(UTC) - timedelta(days=ago, minutes=5)).date().isoformat()


def lines(result, start):
    return [line for line in result.outlines if line.startswith(start)]


SUITE = """
    import pytest
    from client import ask

    def test_young(usage):
        ask("a")

    @pytest.mark.token_budget(max_tokens=100)
    def test_old(usage):
        ask("a")
        ask("b")

    def test_undated(usage):
        ask("a")

    def test_ahead(usage):
        ask("a")

    @pytest.mark.xfail(strict=True)
    def test_expected(usage):
        ask("a")

    def test_own_failure(usage):
        ask("a")
        assert False, "its own"

    @pytest.mark.token_budget(max_tokens=1)
    def test_over(usage):
        ask("a")

    def test_not_played(usage):
        ask("a")

    def test_none(usage):
        pass

    @pytest.fixture
    def late():
        yield
        ask("late")

    def test_teardown(usage, late):
        ask("a")

    def test_unmarked():
        pass
"""


@pytest.fixture
def suite(pytester, record):
    pytester.makepyfile(test_a=SUITE)
    record("test_young", a=10)
    record("test_old", a=10, b=91)
    record("test_undated", a=None)
    record("test_ahead", a=-40)
    record("test_expected", a=200)
    record("test_own_failure", a=200)
    record("test_over", a=200)
    record("test_not_played", a=90, old=400)
    record("test_teardown", a=1, late=300)


@pytest.mark.parametrize(
    "how", [("--token-max-age=90d",), ("-o", "token_max_age=90d"), ("--token-max-age=13w", "-o", "token_max_age=1d")]
)
def test_old_recordings_fail_the_tests_that_play_them(suite, run, how):
    if "13w" in how[0]:  # 91 days, and the command line wins
        result = run(*how)
        assert not lines(result, "test_a.py::test_old plays")
        return
    result = run(*how, "--junit-xml=junit.xml", "--token-report")
    result.assert_outcomes(passed=5, failed=5, xfailed=1, errors=1)
    told = {
        "test_old": f"a recording of {day(91)}, 91 days old",
        "test_teardown": f"a recording of {day(300)}, 300 days old",
        "test_undated": "1 recording without a date, so that nobody knows how old",
        "test_ahead": f"1 recording dated in the future ({day(-40)})",
    }
    expected = {
        f"test_a.py::{name} plays {what}; token_max_age allows 90 days; "
        f"re-record with: pytest test_a.py::{name} --token-record=rewrite"
        for name, what in told.items()
    }
    failures, _, report = result.stdout.str().partition("= token budget =")
    told_of = {line for line in failures.splitlines() if line.startswith("test_a.py::")}
    assert told_of == {*expected, "test_a.py::test_over is over its token budget."}
    assert "recordings too old, or left unplayed where that fails (4)" in report
    assert "its own" in result.stdout.str()


def test_without_a_limit_any_age_is_fine(suite, run):
    result = run()
    result.assert_outcomes(passed=8, failed=3)  # its own, over its budget, and one that was expected to fail
    assert not re.findall("plays .* recording", result.stdout.str())


def test_shared_fixtures(pytester, record, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.fixture(scope="module")
        def documents():
            yield ask("index")
            ask("end")

        def test_one(usage, documents):
            pass

        def test_two(usage, documents):
            pass

        def test_other(usage):
            pass
        """
    )
    record("documents@module", index=120, end=120)
    result = run("--token-max-age=90d", "--token-report=html:page.html")
    result.assert_outcomes(passed=1, errors=2)
    page = (pytester.path / "page.html").read_text("utf-8")
    # Each worker of xdist has a fixture of its own.
    assert re.search(r"does not hold</strong> (1 test is|2 tests are) failed for recordings that are too old", page)
    told = lines(result, "fixture documents plays")
    assert len(told) == 2
    assert all(
        line.startswith(
            f"fixture documents plays a recording of {day(120)}, 120 days old; token_max_age allows 90 days; "
        )
        for line in told
    )
    run("--token-max-age=120d").assert_outcomes(passed=3)
    record("documents@module", index=1, end=120)
    outcomes = run("--token-max-age=90d").parseoutcomes()  # what it plays at its end
    assert outcomes["passed"] == 3
    assert outcomes["errors"] in (1, 2)  # each worker of xdist has a fixture of its own


@plain
def test_what_is_recorded_now_is_young(pytester, server, run):
    pytester.makepyfile(client=CLIENT)
    pytester.makepyfile(
        test_a="""
        from client import ask

        def test_it(usage):
            ask("a")
        """
    )
    run("--token-record=once", "--token-max-age=0d").assert_outcomes(passed=1)  # what is recorded now is not judged
    (path,) = pytester.path.rglob("*.yaml")
    assert recording(path)[0]["response"]["headers"]["date"] == [RECORDED_ON]
    text = path.read_text("utf-8")
    path.write_text(text.replace(RECORDED_ON, "Sun, 06 Nov 1994 08:49:37 GMT"), "utf-8")
    run("--token-max-age=90d").assert_outcomes(failed=1)
    run("--token-max-age=90d", "--token-record=new_episodes").assert_outcomes(passed=1)
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
    path.write_text(text.replace(RECORDED_ON, now), "utf-8")
    run("--token-max-age=0d").assert_outcomes(passed=1)


@plain
def test_a_frozen_clock_of_the_test_is_not_asked(pytester, record, run):
    pytester.makepyfile(
        test_a="""
        import time
        import pytest
        from client import ask

        @pytest.fixture
        def frozen(monkeypatch):
            monkeypatch.setattr(time, "time", lambda: 0.0)

        def test_it(usage, frozen):
            ask("a")
        """
    )
    record("test_it", a=91)
    result = run("--token-max-age=90d")
    result.assert_outcomes(failed=1)
    assert "91 days old" in result.stdout.str()
