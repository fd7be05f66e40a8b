"""pytest-vcr beside us, with its marker and its fixture; pytest-recording can't be there too."""

from __future__ import annotations

import pytest
from neighbours import ASYNCIO

pytestmark = pytest.mark.usefixtures("with_pytest_vcr")

PLUGINS = ("vcr", "asyncio")

THEIRS = """
    import os
    import pytest
    from client import CLIENTS, async_by_httpx, by_httpx

    @pytest.fixture(autouse=True)
    def environment():
        yield
        assert os.environ["OPENAI_API_KEY"] == "sk-of-the-developer"

    @pytest.mark.vcr
    @pytest.mark.parametrize("client", ["httpx2", "requests", "aiohttp"])
    def test_client(client):
        assert CLIENTS[client](f"by {client}") == f"You said: by {client}"

    @pytest.mark.vcr(match_on=["method", "uri", "body"])
    async def test_async():
        assert await async_by_httpx("asked in a loop") == "You said: asked in a loop"

    def test_fixture(vcr_cassette):
        assert by_httpx("one") == "You said: one"
        assert vcr_cassette.dirty or vcr_cassette.all_played

    @pytest.fixture
    def vcr_cassette_name(request):
        return "named-" + request.node.name

    @pytest.mark.vcr
    class TestClass:
        @pytest.fixture(scope="module")
        def vcr_config(self):
            return {"filter_headers": ["authorization", "user-agent"]}

        def test_configured(self):
            assert by_httpx("hello") == "You said: hello"

    def test_live():
        assert by_httpx("live") == "You said: live"
    """

RECORDED = {
    "test_client[httpx2]": (2, 4), "test_client[requests]": (2, 4), "test_client[aiohttp]": (2, 4),
    "test_async": (4, 6), "test_fixture": (1, 3), "test_configured": (1, 3),
}  # fmt: skip


def test_a_test_of_theirs_is_as_without_us_and_is_counted(same_with_and_without, spread):
    runs = {"record": ["--vcr-record=once"], "replay": ["--vcr-record=none"], "off": ["--disable-vcr"]}
    if spread:
        del runs["off"]
    sides = same_with_and_without(*runs.values(), plugins=PLUGINS, test_theirs=THEIRS)
    for name, side in zip(runs, sides, strict=True):
        assert {outcome for outcome, _ in side.outcomes.values()} == {"passed"}
        counted = {each: (usage["input_tokens"], usage["output_tokens"]) for each, usage in side.usage.items()}
        assert counted == RECORDED | {"test_live": (1, 3)}
        assert len(side.bills) == (1 if name == "replay" else 7)
        spent = {each for each, usage in side.usage.items() if usage["spent_usd"] != "0"}
        assert spent == ({"test_live"} if name == "replay" else set(counted))


def test_a_budget_on_a_test_of_theirs_is_judged(pytester, client, run, reported):
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import async_by_httpx, by_httpx, by_httpx2

        @pytest.mark.vcr
        @pytest.mark.token_budget(max_tokens=4)
        def test_within(usage):
            by_httpx2("one")
            assert usage.requests == 1

        @pytest.mark.vcr
        @pytest.mark.token_budget(max_tokens=3)
        async def test_over():
            await async_by_httpx("one")

        @pytest.mark.token_budget(max_tokens=3)
        def test_fixture(vcr_cassette, usage):
            by_httpx("one")
            assert len(vcr_cassette) == usage.requests == 1

        def test_ours(usage):
            by_httpx("ours")
            assert usage.requests == 1
        """
    )
    for mode in ("once", "none"):
        result = run(f"--vcr-record={mode}", f"--token-record={mode}", "--token-report=json", plugins=PLUGINS)
        result.assert_outcomes(passed=2, failed=2)
        verdicts = {name: test["verdict"] for name, test in reported().items()}
        assert verdicts == {"test_within": "within", "test_over": "over", "test_fixture": "over", "test_ours": "none"}
    assert {path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.yaml")} == {
        "cassettes/test_within.yaml", "cassettes/test_over.yaml", "cassettes/test_fixture.yaml",
        "cassettes/test_a/test_ours.yaml",
    }  # fmt: skip
    assert len(client.bills) == 4


@pytest.mark.parametrize("order", [("pytest_tokenbudget", "vcr"), ("pytest_vcr", "pytest_tokenbudget.plugin")])
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
        """
    )
    loaded = [word for name in order for word in ("-p", name)]
    for mode in ("once", "none"):
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *loaded, f"--vcr-record={mode}")
        result.assert_outcomes(passed=1)
    assert len(client.bills) == 1
    assert not (pytester.path / "cassettes" / "test_a").exists()
