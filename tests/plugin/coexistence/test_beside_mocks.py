"""respx, pytest-httpx and other mocks beside us: a mock answers first, is counted, and neither sends nor spends."""

from __future__ import annotations

import pytest
from neighbours import ASYNCIO

PLUGINS = ("respx", "pytest_httpx", "asyncio")

MOCKED = '''
import json

def answer(input_tokens=7, output_tokens=3, text="mocked"):
    """What a mock gives: a chat completion with its usage."""
    return {
        "id": "chatcmpl-mocked", "object": "chat.completion", "created": 0, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input_tokens, "completion_tokens": output_tokens,
                  "total_tokens": input_tokens + output_tokens},
    }

EVENTS = "".join(
    f"data: {json.dumps(each)}\\n\\n"
    for each in (
        {"id": "x", "object": "chat.completion.chunk", "model": "gpt-4o-mini",
         "choices": [{"index": 0, "delta": {"content": "mocked"}, "finish_reason": "stop"}]},
        {"id": "x", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [],
         "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
    )
) + "data: [DONE]\\n\\n"
'''

TESTS = """
    import asyncio, os
    import httpx, pytest, respx
    from client import CHAT, STREAM, async_by_httpx, body, by_httpx, said
    from mocked import EVENTS, answer

    pytestmark = [{marks}]

    def test_respx_fixture(respx_mock{usage}):
        route = respx_mock.post(CHAT).respond(json=answer())
        assert by_httpx("x") == "mocked"
        assert route.call_count == 1
        assert json_of(route) == body("x")

    def json_of(route):
        import json
        return json.loads(route.calls.last.request.content)

    @respx.mock
    async def test_respx_decorator({only_usage}):
        respx.post(CHAT).mock(return_value=httpx.Response(200, text=EVENTS, headers={{"content-type": "text/event-stream"}}))
        assert await async_by_httpx("x", **STREAM) == "mocked"

    def test_respx_above({only_usage}):
        with respx.mock(using="httpx") as router:
            router.post(CHAT).respond(json=answer())
            assert by_httpx("x") == "mocked"

    def test_httpx_mock(httpx_mock{usage}):
        httpx_mock.add_response(url=CHAT, json=answer())
        assert by_httpx("x") == "mocked"
        assert len(httpx_mock.get_requests()) == 1

    async def test_httpx_mock_async(httpx_mock{usage}):
        httpx_mock.add_response(url=CHAT, text=EVENTS, headers={{"content-type": "text/event-stream"}})
        assert await async_by_httpx("x", **STREAM) == "mocked"

    @pytest.mark.parametrize("library", ["httpx", "httpx2"])
    def test_mock_transport(library{usage}):
        client = pytest.importorskip(library)
        transport = client.MockTransport(lambda request: client.Response(200, json=answer()))
        with client.Client(transport=transport) as session:
            assert said(session.post(CHAT, json=body("x")).text) == "mocked"

    def test_pool_of_httpcore(monkeypatch{usage}):
        import httpcore
        def fake(self, request):
            import json
            return httpcore.Response(200, content=json.dumps(answer()).encode())
        monkeypatch.setattr(httpcore.ConnectionPool, "handle_request", fake)
        assert by_httpx("x") == "mocked"
    """

COUNTED = {
    "test_respx_fixture", "test_respx_decorator", "test_respx_above", "test_httpx_mock", "test_httpx_mock_async",
    "test_mock_transport[httpx]", "test_mock_transport[httpx2]", "test_pool_of_httpcore",
}  # fmt: skip


def inner(*, marks="", usage=False):
    return TESTS.format(marks=marks, usage=", usage" if usage else "", only_usage="usage" if usage else "")


def test_a_mocked_test_is_as_without_us_and_is_counted(same_with_and_without, spread):
    runs = [[]] if spread else [[], ["-otoken_replay=all"], ["-otoken_replay=all", "--token-record=all"]]
    sides = same_with_and_without(*runs, plugins=PLUGINS, test_theirs=inner(), mocked=MOCKED)
    for side in sides:
        assert {outcome for outcome, _ in side.outcomes.values()} == {"passed"}
        assert set(side.usage) == COUNTED
        for usage in side.usage.values():
            assert (usage["requests"], usage["input_tokens"], usage["output_tokens"]) == (1, 7, 3)
            assert usage["spent_usd"] == "0"
        assert side.bills == ()


@pytest.mark.parametrize(
    ("spread", "modes"), [((), ("none", "all")), (("-n", "2"), ("none",))], ids=["plain", "xdist"]
)
def test_a_replayed_test_is_answered_by_its_mocks(pytester, client, run, document, modes):
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    pytester.makepyfile(mocked=MOCKED, test_a=inner(marks="pytest.mark.token_budget(max_tokens=10)", usage=True))
    for mode in modes:
        run("--token-report=json", f"--token-record={mode}", plugins=PLUGINS).assert_outcomes(passed=8)
        found = document()
        assert {test["nodeid"].partition("::")[2]: test["verdict"] for test in found["tests"]} == dict.fromkeys(
            COUNTED, "within"
        )
        assert found["total"]["spent_usd"] == "0"
        assert all(call["replayed"] for test in found["tests"] for call in test["calls"])
        assert found["drift"] == found["blocked"] == []
    pytester.makepyfile(test_a=inner(marks="pytest.mark.token_budget(max_tokens=9)", usage=True))
    run("--token-report=json", plugins=PLUGINS).assert_outcomes(failed=8)
    assert {test["verdict"] for test in document()["tests"]} == {"over"}
    assert not list(pytester.path.rglob("*.yaml"))
    assert client.ledger == ()


def test_what_a_mock_passes_on_reaches_the_cassette(pytester, client, run, reported):
    pytester.makeini(f"[pytest]\n{ASYNCIO}")
    pytester.makepyfile(
        test_a="""
        import httpx, pytest, respx
        from client import CHAT, async_by_httpx, by_httpx, by_httpx2

        @pytest.mark.token_budget(max_requests=1)
        def test_respx(usage):
            with respx.mock:
                respx.get("https://weather.example.com/").respond(text="sunny")
                respx.route(host="127.0.0.1").pass_through()
                assert httpx.get("https://weather.example.com/").text == "sunny"
                assert by_httpx("one") == "You said: one"
            assert usage.total_tokens == 4

        @pytest.mark.respx(assert_all_called=False)
        async def test_respx_async(respx_mock, usage):
            respx_mock.route(host="127.0.0.1").pass_through()
            assert await async_by_httpx("one") == "You said: one"
            assert usage.total_tokens == 4

        @pytest.mark.respx
        def test_body_that_can_be_read_once(respx_mock, usage):
            respx_mock.route(host="127.0.0.1").pass_through()
            pieces = [b'{"model": "gpt-4o-mini", "messages": [{"role": "user", ', b'"content": "one"}]}']
            with httpx.Client(trust_env=False, headers={"content-length": str(len(b"".join(pieces)))}) as session:
                answer = session.post(CHAT, content=iter(pieces))
            assert "You said: one" in answer.text
            assert usage.total_tokens == 4

        @pytest.mark.httpx_mock(should_mock=lambda request: request.url.host != "127.0.0.1")
        def test_httpx_mock(httpx_mock, usage):
            httpx_mock.add_response(text="sunny")
            assert httpx.get("https://weather.example.com/").text == "sunny"
            assert by_httpx("one") == "You said: one"
            assert by_httpx2("two") == "You said: two"
            assert usage.total_tokens == 8

        def test_not_mocked(respx_mock, usage):
            with pytest.raises(AssertionError, match="not mocked"):
                by_httpx("nobody answers")
            assert usage.requests == 0
        """
    )
    plugins = PLUGINS
    run("--token-record=once", "--token-report=json", plugins=plugins).assert_outcomes(passed=5)
    assert len(client.bills) == 5
    assert len(reported()) == 4
    assert all(test["usage"]["spent_usd"] == test["usage"]["cost_usd"] != "0" for test in reported().values())
    assert len(list(pytester.path.rglob("*.yaml"))) == 4
    run("--token-report=json", plugins=plugins).assert_outcomes(passed=5)
    assert {test["usage"]["spent_usd"] for test in reported().values()} == {"0"}
    assert len(client.bills) == 5


def test_what_a_mock_passes_on_and_no_recording_answers_is_drift(pytester, client, run, document):
    pytester.makepyfile(
        test_a="""
        import respx
        from client import by_httpx

        def test_it(respx_mock, usage):
            respx_mock.route(host="127.0.0.1").pass_through()
            by_httpx("never recorded")
        """
    )
    run("--token-report=json", plugins=PLUGINS).assert_outcomes(failed=1)
    (drift,) = document()["drift"]
    assert "has no recording" in str(drift)
    assert client.ledger == ()


def test_a_mocked_failure_used_nothing(pytester, client, run, reported):
    pytester.makepyfile(
        test_a="""
        import httpx, pytest
        from client import CHAT, by_httpx

        pytestmark = pytest.mark.token_budget(max_tokens=1)

        @pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.ConnectError, httpx.RemoteProtocolError])
        def test_respx(respx_mock, error, usage):
            respx_mock.post(CHAT).mock(side_effect=error)
            with pytest.raises(error):
                by_httpx("x")
            assert usage.requests == usage.unmeasured_requests == 0

        def test_status(respx_mock, usage):
            respx_mock.post(CHAT).respond(429, json={"error": {"message": "slow down"}})
            with pytest.raises(httpx.HTTPStatusError):
                by_httpx("x")
            assert usage.requests == usage.unmeasured_requests == 0

        def test_httpx_mock(httpx_mock, usage):
            httpx_mock.add_exception(httpx.ReadTimeout("mocked"))
            with pytest.raises(httpx.ReadTimeout):
                by_httpx("x")
            assert usage.requests == usage.unmeasured_requests == 0
        """
    )
    for replay in ("marked", "off"):
        run("-o", f"token_replay={replay}", "--token-report=json", plugins=PLUGINS).assert_outcomes(passed=5)
        assert {test["verdict"] for test in reported().values()} == {"within"}


REQUESTS_AND_AIOHTTP = """
    import pytest, responses
    from client import CHAT, by_aiohttp, by_requests
    from mocked import answer, aiohttp_mock

    {mark}
    @responses.activate
    def test_responses({usage}):
        responses.post(CHAT, json=answer())
        assert by_requests("x") == "mocked"
        assert len(responses.calls) == 1

    {mark}
    def test_aiohttp({usage}):
        with aiohttp_mock(answer()):
            assert by_aiohttp("x") == "mocked"
    """

AIOHTTP = '''
from contextlib import contextmanager
from unittest import mock

@contextmanager
def aiohttp_mock(*answers, passthrough="never"):
    """Answer requests of aiohttp, and pass on those to some host, as aioresponses does."""
    answers = list(answers)

    async def request(session, method, url, **options):
        if passthrough in str(url):
            return await patcher.temp_original(session, method, url, **options)
        return Answer(answers.pop(0))

    patcher = mock.patch("aiohttp.client.ClientSession._request", side_effect=request, autospec=True)
    with patcher:
        yield

class Answer:
    def __init__(self, content):
        self.content = content

    async def text(self):
        return json.dumps(self.content)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass
'''


def test_mocks_of_requests_and_aiohttp_answer_first_and_are_not_seen(
    pytester, client, run, same_with_and_without, reported
):
    (side,) = same_with_and_without(
        [], plugins=(), test_theirs=REQUESTS_AND_AIOHTTP.format(mark="", usage=""), mocked=MOCKED + AIOHTTP
    )
    assert {outcome for outcome, _ in side.outcomes.values()} == {"passed"}
    assert side.usage == {}
    pytester.makepyfile(
        mocked=MOCKED + AIOHTTP,
        test_a=REQUESTS_AND_AIOHTTP.format(mark="@pytest.mark.token_budget(max_tokens=10)", usage="usage"),
    )
    result = run("test_a.py", "--token-report=json")
    result.assert_outcomes(failed=2)  # a budget that sees nothing does not pass
    assert {test["verdict"] for test in reported().values()} == {"unmeasured"}
    assert "out of reach" not in result.stdout.str()


def test_a_mock_of_aiohttp_and_a_cassette_in_one_test(pytester, client, run):
    pytester.makepyfile(
        mocked=MOCKED + AIOHTTP,
        test_a="""
        import aiohttp, asyncio
        from client import by_aiohttp, by_requests
        from mocked import aiohttp_mock

        def test_it(usage):
            with aiohttp_mock("sunny", "rainy", passthrough="127.0.0.1"):
                assert asyncio.run(weather()) == "sunny"
                assert by_requests("one") == "You said: one"
                assert asyncio.run(weather()) == "rainy"
                assert by_aiohttp("two") == "You said: two"
            assert by_aiohttp("three") == "You said: three"
            assert usage.requests == 3

        async def weather():
            async with aiohttp.ClientSession() as session, session.get("https://weather.example.com/") as answer:
                return (await answer.text()).strip('"')

        def test_nothing_is_left_behind(usage):
            assert by_aiohttp("four") == "You said: four"
            assert not hasattr(aiohttp.ClientSession._request, "mock")
        """,
    )
    for mode in ("once", "none"):
        run(f"--token-record={mode}").assert_outcomes(passed=2)
    assert len(client.bills) == 4
