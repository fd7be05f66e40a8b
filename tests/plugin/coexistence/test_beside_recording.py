"""pytest-recording beside us: its tests keep their cassettes, modes and blocked network, and are counted."""

from __future__ import annotations

import pytest
from neighbours import ASYNCIO

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])

THEIRS = """
    import os
    import pytest
    from client import CLIENTS, async_by_httpx, by_httpx, by_httpx2

    @pytest.fixture(autouse=True)
    def environment():
        yield
        assert os.environ["OPENAI_API_KEY"] == "sk-of-the-developer"
        assert os.environ["ANTHROPIC_API_KEY"] == "sk-ant-of-the-developer"

    @pytest.mark.vcr
    @pytest.mark.parametrize("client", ["httpx2", "requests", "aiohttp"])
    def test_client(client):
        assert CLIENTS[client](f"by {client}") == f"You said: by {client}"

    @pytest.mark.vcr
    async def test_async():
        assert await async_by_httpx("asked in a loop") == "You said: asked in a loop"

    @pytest.mark.vcr("other.yaml", match_on=["method", "uri", "body"])
    def test_arguments():
        assert by_httpx("one") == "You said: one"

    @pytest.mark.vcr("third.yaml", "other.yaml")
    @pytest.mark.vcr("fourth.yaml")
    @pytest.mark.default_cassette("named.yaml")
    def test_several(vcr):
        assert by_httpx2("one") == "You said: one"
        assert vcr is None or len(vcr)

    @pytest.mark.vcr
    class TestClass:
        @pytest.fixture
        def vcr_config(self):
            return {"filter_headers": ["authorization", "user-agent"], "match_on": ["method", "path"]}

        def test_configured(self):
            assert by_httpx("hello") == "You said: hello"

        @pytest.mark.xfail(strict=True)
        def test_fails(self):
            assert by_httpx("hello") == "You said: something else"

    @pytest.mark.block_network
    def test_blocked():
        with pytest.raises(RuntimeError, match="Network is disabled"):
            by_httpx("never")

    @pytest.mark.block_network(allowed_hosts=["127.0.0.1"])
    def test_allowed():
        assert by_httpx("two words") == "You said: two words"

    @pytest.mark.vcr
    def test_skipped():
        by_httpx("before")
        pytest.skip("enough")

    def test_live():
        assert by_httpx("live") == "You said: live"
    """

RECORDED = {  # test -> what the server bills for it
    "test_client[httpx2]": (2, 4), "test_client[requests]": (2, 4), "test_client[aiohttp]": (2, 4),
    "test_async": (4, 6), "test_arguments": (1, 3), "test_several": (1, 3), "test_configured": (1, 3),
    "test_fails": (1, 3), "test_skipped": (1, 3),
}  # fmt: skip
LIVE = {"test_allowed": (2, 4), "test_live": (1, 3)}


def used(side):
    """What each test used, by its last name: ``{test: (input tokens, output tokens)}``."""
    return {
        test: (usage["input_tokens"], usage["output_tokens"])
        for test, usage in side.usage.items()
        if usage["requests"] == 1
    }


def spent(side):
    return {test for test, usage in side.usage.items() if usage["spent_usd"] != "0"}


def test_a_test_of_theirs_is_as_without_us_and_is_counted(same_with_and_without, spread):
    runs = {
        "record": ["--record-mode=once"],
        "replay": [],
        "closed": ["--record-mode=none", "--block-network", "--allowed-hosts=10.0.0.1"],
        "add": ["--record-mode=new_episodes"],
        "anew": ["--record-mode=rewrite"],
        "off": ["--disable-recording"],
    }
    if spread:  # what differs between the modes has nothing to do with workers
        runs = {name: runs[name] for name in ("record", "replay")}
    seen = dict(
        zip(
            runs,
            same_with_and_without(*runs.values(), plugins=("recording", "asyncio"), test_theirs=THEIRS),
            strict=True,
        )
    )
    for name, side in seen.items():
        failed = {test for (test, _), (outcome, _) in side.outcomes.items() if outcome == "failed"}
        if name == "closed":
            assert failed == {"test_theirs.py::test_live"}
            assert used(side) == RECORDED | {"test_allowed": (2, 4)}
            continue
        assert failed == set()
        assert used(side) == RECORDED | LIVE
        live = RECORDED | LIVE if name in ("record", "anew", "off") else LIVE
        assert sorted((bill.input_tokens, bill.output_tokens) for bill in side.bills) == sorted(live.values())
        assert spent(side) == set(live)
        assert len([path for path in side.files if path.endswith(".yaml")]) == len(RECORDED)


OURS = """
    import pytest
    from client import async_by_httpx, by_httpx, by_httpx2, by_requests

    @pytest.mark.vcr
    @pytest.mark.token_budget(max_tokens=4, max_requests=1)
    def test_within(usage):
        assert by_httpx2("one") == "You said: one"
        assert usage.requests == 1
        assert usage.total_tokens == 4

    @pytest.mark.vcr
    @pytest.mark.token_budget(max_tokens=3)
    async def test_over():
        assert await async_by_httpx("one") == "You said: one"

    @pytest.mark.vcr
    def test_fixture(usage):
        by_requests("two words")
        assert (usage.input_tokens, usage.output_tokens) == (2, 4)

    @pytest.mark.vcr("test_within.yaml")
    @pytest.mark.default_cassette("missing.yaml")
    @pytest.mark.token_cassette("not this one")
    def test_both_markers(usage):
        by_httpx("one")
        assert usage.requests == 1

    @pytest.mark.vcr
    @pytest.mark.token_budget(max_tokens=9)
    def test_unmeasured():
        pass

    @pytest.mark.block_network
    def test_replayed_by_us(usage):
        by_httpx("ours")
        assert usage.requests == 1
    """


def test_a_budget_on_a_test_of_theirs_is_judged(pytester, client, run, reported):
    pytester.makepyfile(test_a=OURS)
    plugins = ("recording", "asyncio")
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    arguments = ("--token-report=json",)
    first = run("--record-mode=once", "--deselect=test_a.py::test_both_markers", "--allowed-hosts=127.0.0.1",
                   "--token-record=once", *arguments, plugins=plugins)  # fmt: skip
    assert first.parseoutcomes() | {"deselected": 1} == {"passed": 3, "failed": 2, "deselected": 1}
    recorded = {path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.yaml")}
    assert {path.rpartition("/")[2] for path in recorded} == {
        "test_within.yaml", "test_over.yaml", "test_fixture.yaml", "test_replayed_by_us.yaml",
    }  # fmt: skip
    assert len(client.bills) == 4
    again = run("--block-network", *arguments, plugins=plugins)
    again.assert_outcomes(passed=4, failed=2)
    again.stdout.fnmatch_lines(["test_a.py::test_over is over its token budget."])
    verdicts = {name: test["verdict"] for name, test in reported().items()}
    assert verdicts == {
        "test_within": "within", "test_over": "over", "test_fixture": "none", "test_both_markers": "none",
        "test_unmeasured": "unmeasured", "test_replayed_by_us": "none",
    }  # fmt: skip
    assert all(test["usage"]["spent_usd"] == "0" for test in reported().values())
    assert recorded == {path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.yaml")}
    assert len(client.bills) == 4


@pytest.mark.parametrize(
    "order",
    [
        ("pytest_tokenbudget.plugin", "pytest_recording.plugin"),
        ("pytest_recording.plugin", "pytest_tokenbudget.plugin"),
        ("pytest_tokenbudget", "recording"),
        ("recording", "pytest_tokenbudget"),
    ],
)
def test_the_order_and_the_names_of_the_plugins_do_not_matter(pytester, client, monkeypatch, order):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import by_httpx

        @pytest.mark.vcr
        def test_theirs(usage):
            by_httpx("theirs")
            assert usage.requests == 1

        def test_ours(usage):
            by_httpx("ours")
            assert usage.requests == 1
        """
    )
    loaded = [word for name in order for word in ("-p", name)]
    for arguments in (["--record-mode=once", "--token-record=once"], []):
        pytester.runpytest_subprocess("-p", "no:cacheprovider", *loaded, *arguments).assert_outcomes(passed=2)
    assert len(client.bills) == 2
    theirs, ours = (pytester.path / "cassettes" / "test_a" / f"test_{who}.yaml" for who in ("theirs", "ours"))
    assert "user-agent" in theirs.read_text()  # they store every header
    assert "user-agent" not in ours.read_text()


@plain
def test_vcr_imported_before_us_or_in_the_middle_of_a_test(pytester, client, run):
    pytester.makepyfile(
        conftest="import vcr.patch",
        test_a="""
        import pytest
        import vcr
        from client import by_httpx, by_httpx2, by_requests, by_aiohttp

        @pytest.mark.vcr
        def test_theirs(usage):
            for ask in (by_httpx, by_httpx2, by_requests, by_aiohttp):
                ask(ask.__name__)
            assert usage.requests == 4

        @pytest.mark.token_budget(max_requests=2)
        def test_own_cassette_inside_ours(usage):
            with vcr.use_cassette("own.yaml", record_mode="once"):
                by_httpx("in a cassette of its own")
            by_httpx("in ours")
            assert usage.requests == 2
        """,
    )
    for arguments in (["--record-mode=once", "--token-record=once"], []):
        run(*arguments, plugins=("recording",)).assert_outcomes(passed=2)
    assert len(client.bills) == 6
