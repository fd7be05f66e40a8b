"""The ``usage`` fixture in real runs: what it counts, live and replayed, under whose cassette ever."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

ASK = """
    import asyncio, json, os, threading, urllib.request
    from concurrent.futures import ThreadPoolExecutor

    import aiohttp, httpx2, pytest, requests

    URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"

    def body(words="say hello to me", **options):
        return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": words}], **options}

    STREAM = {"stream": True, "stream_options": {"include_usage": True}}

    def by_httpx(**options):
        with httpx2.Client() as client:
            return client.post(URL, json=body(**options)).text

    def by_requests(**options):
        return requests.post(URL, json=body(**options)).text

    def by_urllib(**options):
        request = urllib.request.Request(
            URL, data=json.dumps(body(**options)).encode(), headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return response.read().decode()

    def by_aiohttp(**options):
        async def send():
            async with aiohttp.ClientSession() as session, session.post(URL, json=body(**options)) as response:
                return await response.text()
        return asyncio.run(send())

    ALL = pytest.mark.parametrize("ask", [by_httpx, by_requests, by_urllib, by_aiohttp])
"""


@pytest.fixture
def recording(monkeypatch):
    """Tells the inner tests, for the length of a block, that nothing is replayed."""

    @contextmanager
    def recording():
        with monkeypatch.context() as patch:
            patch.setenv("RECORDING", "1")
            yield

    return recording


def test_every_client_records_and_replays_as_one_request(server, pytester, run, recording):
    pytester.makepyfile(
        ASK
        + """
    @ALL
    def test_whole(ask, usage):
        ask()
        assert usage.requests == 1, usage.calls
        assert (usage.input_tokens, usage.output_tokens) == (4, 6)
        assert [call.replayed for call in usage.calls] == [not os.environ.get("RECORDING")]

    @ALL
    def test_stream(ask, usage):
        assert ask(**STREAM).endswith("data: [DONE]\\n\\n")
        assert usage.requests == 1, usage.calls
        assert (usage.input_tokens, usage.output_tokens, usage.estimated_requests) == (4, 6, 0)

    @ALL
    def test_thread(ask, usage):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask).result()
        thread = threading.Thread(target=ask, kwargs={"words": "once more"})
        thread.start()
        thread.join()
        assert usage.requests == 2, usage.calls
"""
    )
    with recording():
        run("--token-record=once").assert_outcomes(passed=12)
    assert len(server.bills) == 16
    run().assert_outcomes(passed=12)
    assert len(server.bills) == 16


def test_live_runs_are_counted_as_they_are(server, pytester, run):
    pytester.makepyfile(
        ASK
        + """
    @ALL
    def test_live(ask, usage):
        ask()
        ask(**STREAM)
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 8, 12), usage.calls
        assert not any(call.replayed for call in usage.calls)
"""
    )
    run("-o", "token_replay=off").assert_outcomes(passed=4)
    assert len(server.bills) == 8


def test_cassettes_of_pytest_recording_are_counted(server, pytester, run, recording):
    pytester.makepyfile(
        ASK
        + """
    @pytest.fixture(scope="module")
    def vcr_config():
        return {"match_on": ["method", "path", "body"]}

    @pytest.mark.vcr
    @ALL
    def test_theirs(ask, usage):
        ask()
        ask(**STREAM)
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 8, 12), usage.calls
        assert [call.replayed for call in usage.calls] == [not os.environ.get("RECORDING")] * 2

    @pytest.mark.vcr
    @pytest.mark.token_budget(max_requests=1)
    def test_over():
        by_requests()
        by_httpx(words="once more")
"""
    )
    with recording():
        run("--record-mode=once", plugins=("recording",)).assert_outcomes(passed=4, failed=1)
    assert len(server.bills) == 10
    result = run("--record-mode=none", plugins=("recording",))
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*test_over is over its token budget.", "*replayed*"])
    assert len(server.bills) == 10


def test_it_is_live_and_of_one_test_only(told, pytester, run_live):
    pytester.makepyfile("""
        import pytest, model
        from pytest_tokenbudget import BudgetExceeded, UnpricedModelError, track_usage

        def test_grows(usage):
            assert (usage.requests, usage.total_tokens, usage.cost, usage.calls) == (0, 0, 0, ())
            model.ask(10, 5)
            assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 10, 5)
            model.ask(100, 50, model="gpt-4o")
            assert usage.total_tokens == 165
            assert [call.model for call in usage.calls] == ["gpt-4o-mini", "gpt-4o"]
            assert usage.by_model["gpt-4o"].total_tokens == 150

        def test_starts_from_nothing(usage):
            assert usage.requests == 0

        @pytest.fixture
        def asked():
            model.ask(7, 1)
            yield
            model.ask(9, 1)

        def test_set_up_counts(asked, usage):
            assert (usage.requests, usage.input_tokens) == (1, 7)

        @pytest.fixture(scope="module")
        def shared():
            model.ask(1000, 1)

        def test_shared_set_up_does_not_count(shared, usage):
            assert usage.requests == 0

        def test_blocks(usage):
            with usage.track("part", max_requests=1) as part:
                model.ask(10, 5)
            with track_usage() as other:
                model.ask(20, 5)
            with pytest.raises(BudgetExceeded, match="part two"), usage.track("part two", max_tokens=10):
                model.ask(30, 5)
            assert (part.input_tokens, other.input_tokens, usage.input_tokens) == (10, 20, 60)

        def test_unpriced(usage):
            model.ask(10, 5, model="nobody-knows-me")
            with pytest.raises(UnpricedModelError, match="nobody-knows-me"):
                usage.cost
            assert "unknown (no price for 'nobody-knows-me')" in str(usage)

        def test_printed(usage):
            model.ask(4, 33)
            assert str(usage).splitlines()[-2:] == ["Successful Requests: 1", "Total Cost (USD): $2.04e-05"]

        class TestInside:
            def test_it(self, usage):
                model.ask(1, 1)
                assert usage.requests == 1
    """)
    run_live().assert_outcomes(passed=8)
    assert sum(bill.input_tokens for bill in told.bills if bill.model == "gpt-4o") == 100


def test_who_asks_too_late_is_told_what_to_do(told, pytester, run):
    pytester.makefile(".md", page='    >>> usage = getfixture("usage")\n')
    pytester.makepyfile("""
        import pytest, model
        def test_late(request):
            request.getfixturevalue("usage")
        @pytest.mark.usefixtures("usage")
        def test_known(request):
            model.ask(10, 5)
            assert request.getfixturevalue("usage").input_tokens == 10
    """)
    doctests = ("--doctest-glob=*.md", "-o", "token_replay=off")
    result = run(*doctests)
    result.assert_outcomes(passed=1, failed=2)
    assert sum("asked for usage while it ran" in line and "usefixtures" in line for line in result.outlines) == 2
    assert "KeyError" not in result.stdout.str()
    run(*doctests, "--token-report").assert_outcomes(passed=3)


def test_asynchronous_tests_of_every_kind(told, pytester, run_live):
    pytester.makepyfile("""
        import asyncio, unittest
        import pytest, model

        @pytest.mark.asyncio
        async def test_asyncio(usage):
            await asyncio.gather(*(model.ask_async(10, 5) for _ in range(3)))
            await asyncio.to_thread(model.ask, 10, 5)
            assert (usage.requests, usage.input_tokens) == (4, 40)

        @pytest.mark.asyncio(loop_scope="module")
        async def test_asyncio_on_a_wider_loop(usage):
            await model.ask_async(10, 5)
            assert usage.requests == 1

        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_anyio(usage, anyio_backend):
            await model.ask_async(10, 5)
            assert usage.requests == 1

        class Isolated(unittest.IsolatedAsyncioTestCase):
            @pytest.fixture(autouse=True)
            def keep(self, usage):
                self.usage = usage

            async def asyncSetUp(self):
                await model.ask_async(10, 5)

            async def test_unittest(self):
                await model.ask_async(10, 5)
                assert self.usage.requests == 2
    """)
    run_live("-o", "asyncio_mode=strict", plugins=("asyncio", "anyio")).assert_outcomes(passed=4)
    assert len(told.bills) == 8
