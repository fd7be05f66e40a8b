"""langsmith's pytest plugin beside us: its test cache stays its own, and nothing of it comes into our cassettes."""

from __future__ import annotations

import pytest
from langsmith_server import DATASET, LangSmithServer
from neighbours import ASYNCIO

PLUGINS = ("langsmith_plugin", "asyncio")

TURNS = """
    import contextlib, functools, threading
    import vcr.cassette, vcr.patch

    turn = threading.RLock()

    def in_turn(function):
        @functools.wraps(function)
        def held(*args, **kwargs):
            with turn:
                return function(*args, **kwargs)
        return held

    for owner, names in (
        (vcr.cassette.CassetteContextDecorator, ("__enter__", "__exit__")),
        (vcr.patch.ConnectionRemover, ("add_connection_to_pool_entry",)),
    ):
        for name in names:
            setattr(owner, name, in_turn(getattr(owner, name)))

    reset = vcr.patch.force_reset

    @contextlib.contextmanager
    def reset_in_turn():
        with turn, reset():
            yield

    vcr.patch.force_reset = reset_in_turn
    """
"""LangSmith's thread and the test, one after the other where vcrpy changes classes.

For each connection that vcrpy opens for real, it takes its stubs away from all threads. LangSmith's thread opens some
at any time, and a request of the test that falls in between is not recorded, or vcrpy fails with "Set changed size
during iteration"; without us too.
"""

THEIRS = """
    import os
    import pytest
    from client import CLIENTS, async_by_httpx, by_httpx
    from turns import turn

    @pytest.fixture(autouse=True)
    def environment():
        yield
        assert os.environ["OPENAI_API_KEY"] == "sk-of-the-developer"
        assert os.environ["LANGSMITH_API_KEY"] == "lsv2_pt_of_the_developer"

    @pytest.mark.langsmith
    @pytest.mark.parametrize("client", ["httpx", "httpx2"])  # of others it loses recordings, without us too
    def test_client(client):
        with turn:
            assert CLIENTS[client](f"by {client}") == f"You said: by {client}"

    @pytest.mark.langsmith(cache="named", cached_hosts=["127.0.0.1"])
    async def test_async():
        with turn:
            assert await async_by_httpx("asked in a loop") == "You said: asked in a loop"

    def test_live():
        assert by_httpx("live") == "You said: live"
    """


@pytest.fixture
def langsmith(monkeypatch):
    """LangSmith on loopback, and a developer's environment."""
    with LangSmithServer() as server:
        for name, value in {
            "LANGSMITH_ENDPOINT": server.url,
            "LANGSMITH_API_KEY": "lsv2_pt_of_the_developer",
            "LANGSMITH_TEST_SUITE": "suite",
            "LANGSMITH_TEST_CACHE": "cache",
            "LANGSMITH_TRACING": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield server


def test_a_test_of_theirs_is_as_without_us_and_is_counted(same_with_and_without, langsmith, spread):
    some = ["-k", "not client"] if spread else []  # its workers overwrite their one file
    recorded, replayed = same_with_and_without(some, some, plugins=PLUGINS, turns=TURNS, test_theirs=THEIRS)
    expected = {"test_async": (4, 6), "test_live": (1, 3)}
    if not spread:
        expected |= {f"test_client[{client}]": (2, 4) for client in ("httpx", "httpx2")}
    for side, live in ((recorded, set(expected)), (replayed, {"test_live"})):
        assert {outcome for outcome, _ in side.outcomes.values()} == {"passed"}
        assert {
            test: (usage["input_tokens"], usage["output_tokens"]) for test, usage in side.usage.items()
        } == expected
        assert {test for test, usage in side.usage.items() if usage["spent_usd"] != "0"} == live
        assert len(side.bills) == len(live)
    assert f"named/{DATASET}.yaml" in replayed.files
    assert ("POST", "/feedback") in langsmith.requests


def test_a_budget_on_a_test_of_theirs_is_judged(pytester, client, run, langsmith, reported):
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    pytester.makepyfile(
        turns=TURNS,
        test_a="""
        import pytest
        from client import async_by_httpx, by_httpx2
        from turns import turn

        @pytest.mark.langsmith(cache="within")
        @pytest.mark.token_budget(max_tokens=4)
        def test_within(usage):
            with turn:
                by_httpx2("one")
            assert usage.requests == 1

        @pytest.mark.langsmith(cache="over")
        @pytest.mark.token_budget(max_tokens=3)
        async def test_over():
            with turn:
                await async_by_httpx("one")
        """,
    )
    for live in (True, False):
        run("--token-report=json", plugins=PLUGINS).assert_outcomes(passed=1, failed=1)
        assert {name: test["verdict"] for name, test in reported().items()} == {
            "test_within": "within", "test_over": "over",
        }  # fmt: skip
        assert all((test["usage"]["spent_usd"] != "0") is live for test in reported().values())
    assert len(client.bills) == 2
    assert {path.parent.name for path in pytester.path.rglob("*.yaml")} == {"within", "over"}


@pytest.mark.parametrize("spread", [()], ids=["plain"])
@pytest.mark.parametrize("how", ["no cache", "tracking is off"])
def test_without_their_cache_ours_is_played_and_langsmith_hears_nothing(  # noqa: PLR0917 - fixtures and a parameter
    pytester, client, run, langsmith, monkeypatch, how
):
    if how == "no cache":
        monkeypatch.delenv("LANGSMITH_TEST_CACHE")
    else:
        monkeypatch.setenv("LANGSMITH_TEST_TRACKING", "false")
    pytester.makepyfile(
        test_a="""
        import os
        import pytest
        from client import by_httpx2

        @pytest.mark.langsmith
        def test_ours(usage):
            from langsmith import testing
            testing.log_inputs({"asked": "one"})
            testing.log_outputs({"said": by_httpx2("one")})
            testing.log_feedback(key="good", score=1)
            assert usage.requests == 1

        def test_after():
            from langsmith import utils
            assert os.environ["LANGSMITH_TRACING"] == "true"
            assert utils.test_tracking_is_disabled() is (os.environ.get("LANGSMITH_TEST_TRACKING") == "false")
        """
    )
    for mode in ("once", "none"):
        run(f"--token-record={mode}", plugins=PLUGINS).assert_outcomes(passed=2)
    assert len(client.bills) == 1
    assert langsmith.requests == []
    (path,) = pytester.path.rglob("*.yaml")
    assert path.name == "test_ours.yaml"
    assert path.read_text("utf-8").count("- request:") == 1
