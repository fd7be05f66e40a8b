"""Recording: what reaches the disk, when, and that nothing good is lost to a bad run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
import yaml
from test_replay import CLIENT, cassettes, recording

SECRETS = {
    "header": "sk-proj-header0header0header0header0header0",
    "cookie": "0cookie1cookie2cookie3cookie4",
    "query": "AIza" + "SyQuery0Query1Query2Query3Query4Query"[:35],
    "body": "opaque0body1opaque2body3opaque4body",
    "environment": "environment-has-a-key-of-its-own-17",
    "own": "company-secret-without-any-shape",
    "anthropic": "sk-ant-api03-" + "echo0echo1" * 8,
}
"""Fakes: each stands in its own place of a request, and all of them in the prompt, which the answer repeats."""

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])


@pytest.fixture
def client(pytester, server):
    pytester.makepyfile(client=CLIENT)
    return server


def test_modes(pytester, client, run, monkeypatch):
    pytester.makepyfile(
        test_a="""
        import os
        from client import ask

        def test_it(usage):
            for text in os.environ["TEXTS"].split(","):
                ask(text)
        """
    )

    def recorded(mode, texts, *outcome):
        monkeypatch.setenv("TEXTS", texts)
        before = len(client.ledger)
        run(f"--token-record={mode}").assert_outcomes(**{outcome[0] if outcome else "passed": 1})
        (path,) = pytester.path.rglob("*.yaml")
        bodies = [yaml.safe_load(each["request"]["body"])["messages"][0]["content"] for each in recording(path)]
        return len(client.ledger) - before, bodies

    assert recorded("once", "a,b") == (2, ["a", "b"])
    assert recorded("once", "a,c", "failed") == (0, ["a", "b"])
    assert recorded("new_episodes", "a,c") == (1, ["a", "b", "c"])
    assert recorded("all", "a,d") == (2, ["b", "c", "a", "d"])
    assert recorded("rewrite", "e") == (1, ["e"])
    assert recorded("none", "e") == (0, ["e"])


def test_a_bad_run_leaves_the_good_recording(pytester, client, run, monkeypatch):
    pytester.makepyfile(
        test_a="""
        import os
        import pytest
        from client import ask

        @pytest.fixture
        def broken():
            yield
            assert "TEAR_DOWN" not in os.environ

        def test_it(usage, broken):
            ask(os.environ["TEXT"])
            assert "FAIL" not in os.environ
        """
    )
    monkeypatch.setenv("TEXT", "good")
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    good = path.read_bytes()
    partial = path.with_name(path.name + ".partial")
    monkeypatch.setenv("TEXT", "bad")
    for how, outcome in (("FAIL", {"failed": 1}), ("TEAR_DOWN", {"passed": 1, "errors": 1})):
        monkeypatch.setenv(how, "1")
        run("--token-record=rewrite").assert_outcomes(**outcome)
        assert path.read_bytes() == good
        assert b"bad" in partial.read_bytes()
        monkeypatch.delenv(how)
    path.unlink()
    run().assert_outcomes(failed=1)  # a partial recording is none
    run("--token-record=once").assert_outcomes(passed=1)
    assert not partial.exists()


@plain
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_leaves_the_good_recording(pytester, client, run, monkeypatch):
    pytester.makepyfile(
        test_a="""
        import os, time
        import pytest
        from client import ask

        def test_it(usage):
            ask(os.environ["TEXT"])
            if "WAIT" in os.environ:
                open("asked", "w").close()
                time.sleep(60)
            if "EXIT" in os.environ:
                pytest.exit("enough")

        def test_after():
            assert os.environ["OPENAI_API_KEY"] == "sk-loopback"
        """
    )
    monkeypatch.setenv("TEXT", "good")
    run("--token-record=once").assert_outcomes(passed=2)
    (path,) = pytester.path.rglob("*.yaml")
    good = path.read_bytes()
    partial = path.with_name(path.name + ".partial")
    monkeypatch.setenv("TEXT", "bad")
    monkeypatch.setenv("WAIT", "1")
    # A shell that runs the suite in the background has its processes ignore the signal.
    heed = "import signal, pytest; signal.signal(signal.SIGINT, signal.default_int_handler); raise SystemExit(pytest.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", heed, "-p", "no:cacheprovider", "--token-record=rewrite"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (pytester.path / "asked").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert path.read_bytes() == good
    assert b"bad" in partial.read_bytes()
    partial.unlink()
    monkeypatch.delenv("WAIT")
    monkeypatch.setenv("EXIT", "1")
    assert run("--token-record=rewrite").ret == 2
    assert path.read_bytes() == good
    assert partial.exists()


def test_a_test_that_is_over_budget_or_expected_to_fail_is_recorded_all_the_same(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.token_budget(max_tokens=1)
        def test_over():
            ask("a b c d e f")

        @pytest.mark.xfail
        def test_expected(usage):
            ask("x")
            assert False

        def test_skips(usage):
            ask("y")
            pytest.skip("enough seen")
        """
    )
    for _ in range(2):
        result = run("--token-record=once")
        result.assert_outcomes(failed=1, xfailed=1, skipped=1)
        assert "over its token budget" in result.stdout.str()
        assert [path.rpartition("/")[2] for path in cassettes(pytester)] == [
            "test_expected.yaml",
            "test_over.yaml",
            "test_skips.yaml",
        ]
        assert len(client.ledger) == 3


def test_streams_are_recorded_and_replayed_as_streams(pytester, client, run, reported):
    pytester.makepyfile(
        test_a="""
        import asyncio
        import openai
        from client import URL

        ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "one two three"}], "stream": True,
               "stream_options": {"include_usage": True}}

        def text(events):
            return "".join(event.choices[0].delta.content or "" for event in events if event.choices)

        def test_sync(usage):
            client = openai.OpenAI(base_url=URL, api_key="any")
            events = list(client.chat.completions.create(**ASK))
            assert len(events) > 2
            assert text(events) == "You said: one two three"
            assert usage.output_tokens == 5

        def test_async(usage):
            async def talk():
                async with openai.AsyncOpenAI(base_url=URL, api_key="any") as client:
                    return [event async for event in await client.chat.completions.create(**ASK)]
            assert text(asyncio.run(talk())) == "You said: one two three"
            assert usage.output_tokens == 5
        """
    )
    run("--token-record=once").assert_outcomes(passed=2)
    run("--token-report=json").assert_outcomes(passed=2)
    assert len(client.ledger) == 2
    assert {test["usage"]["output_tokens"] for test in reported().values()} == {5}
    for path in pytester.path.rglob("*.yaml"):
        (each,) = recording(path)
        assert each["response"]["headers"]["content-type"] == ["text/event-stream; charset=utf-8"]
        assert each["response"]["body"]["string"].startswith("data: {")


@plain
def test_no_secret_reaches_the_disk(pytester, client, run, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS["environment"])
    monkeypatch.setenv("COMPANY_TOKEN", SECRETS["own"])
    pytester.makepyfile(
        secrets_here=f"SECRETS = {SECRETS!r}",
        test_a="""
        import json, os, threading
        import httpx2 as httpx, requests, openai
        from client import URL, ask
        from secrets_here import SECRETS

        # What has no shape of a key is known by its name or variable alone, so it stands in no text.
        KINDS = [kind for kind in SECRETS if kind not in ("cookie", "body", "environment")]

        def echo():
            return " ".join([SECRETS[kind] for kind in KINDS] + [os.environ["OPENAI_API_KEY"]])

        def test_httpx(usage):
            headers = {"authorization": "Bearer " + SECRETS["header"], "x-api-key": SECRETS["header"],
                       "cookie": "c=" + SECRETS["cookie"], "openai-organization": "org-private"}
            with httpx.Client(trust_env=False, headers=headers) as client:
                answer = client.post(URL + "/chat/completions?key=" + SECRETS["query"], json={
                    "model": "gpt-4o-mini", "api_key": SECRETS["body"],
                    "messages": [{"role": "user", "content": "echo " + echo()}]})
            assert "You said: echo" in answer.text

        def test_requests(usage):
            answer = requests.post(URL + "/chat/completions", params={"api_key": SECRETS["query"]}, json={
                "model": "gpt-4o-mini", "metadata": {"password": SECRETS["body"]},
                "messages": [{"role": "user", "content": "echo " + echo()}]}, headers={"api-key": SECRETS["header"]})
            assert "You said: echo" in answer.text

        def test_openai(usage):
            openai.OpenAI(base_url=URL).responses.create(model="gpt-4o", input="echo " + echo())
            ask("fails")
            assert "BAD" not in os.environ
        """,
    )
    client.answer("gzip please", gzip=True, to="never")
    run("--token-record=once").assert_outcomes(passed=3)
    monkeypatch.setenv("BAD", "1")
    run("--token-record=rewrite", "-k", "openai").assert_outcomes(failed=1, deselected=2)
    monkeypatch.delenv("BAD")
    files = [path for path in pytester.path.rglob("*.yaml*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        text = path.read_text("utf-8")
        for kind, secret in SECRETS.items():
            assert secret not in text, kind
            assert secret[10:26] not in text, kind
        assert "org-private" not in text
        assert "__cf_bm" not in text
        names = {name.lower() for each in recording(path) for side in each.values() for name in side["headers"]}
        assert names <= {"content-type", "accept", "date"}
        assert "date" in names
    # What was redacted still matches, with dummies in place of the real keys.
    monkeypatch.delenv("OPENAI_API_KEY")
    run().assert_outcomes(passed=3)


@plain
def test_bodies_are_stored_decoded_and_no_replay_waits(pytester, client, run):
    client.answer("packed", gzip=True, headers={"retry-after": "30", "retry-after-ms": "30000"})
    pytester.makepyfile(
        test_a="""
        from client import ask

        def test_it(usage):
            assert ask("x") == "packed"
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    assert "packed" in path.read_text("utf-8")
    assert "retry-after" not in path.read_text("utf-8")
    assert "binary" not in path.read_text("utf-8")
    run().assert_outcomes(passed=1)


@plain
def test_where_nothing_can_be_saved_nothing_is_spent(pytester, client, run):
    (pytester.path / "cassettes").write_text("in the way")
    pytester.makepyfile(
        test_a="""
        from client import ask

        def test_it(usage):
            ask("x")
        """
    )
    result = run("--token-record=once")
    result.assert_outcomes(failed=1)
    assert "can't be recorded" in result.stdout.str()
    assert client.ledger == ()


def test_tests_that_share_a_cassette_lose_nothing(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.token_cassette("shared")
        @pytest.mark.parametrize("number", range(8))
        def test_it(number):
            assert ask(f"question {number}") == f"You said: question {number}"
        """
    )
    for mode in ("once", "rewrite"):
        run(f"--token-record={mode}").assert_outcomes(passed=8)
        (path,) = pytester.path.rglob("*.yaml")
        asked = [yaml.safe_load(each["request"]["body"])["messages"][0]["content"] for each in recording(path)]
        assert sorted(asked) == [f"question {number}" for number in range(8)]
        run().assert_outcomes(passed=8)
    assert len(client.ledger) == 16


THREADS = """
import json, os, threading, urllib.request
from concurrent.futures import ThreadPoolExecutor
import pytest, requests, urllib3
URL = os.environ["OPENAI_BASE_URL"] + "/chat/completions"

SESSION, POOL = requests.Session(), urllib3.PoolManager(maxsize=2)

def body(text):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}

def by_requests(text):
    return requests.post(URL, json=body(text)).json()

def by_session(text):
    return SESSION.post(URL, json=body(text)).json()

def by_urllib3(text):
    return POOL.request("POST", URL, json=body(text)).json()

def by_urllib(text):
    head = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(URL, json.dumps(body(text)).encode(), head)) as answer:
        return json.load(answer)

@pytest.mark.parametrize("ask", [by_requests, by_session, by_urllib3, by_urllib])
def test_threads(ask, usage):
    meeting = threading.Barrier(8)
    def work(number):
        meeting.wait(30)
        return ask(f"{ask.__name__} {number}")["choices"][0]["message"]["content"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(16)))
    assert answers == [f"You said: {ask.__name__} {number}" for number in range(16)]
    assert usage.requests == 16
"""


def test_threads_that_ask_at_the_same_moment_get_and_keep_their_own_answers(pytester, client, run):
    pytester.makepyfile(test_a=THREADS)
    run("--token-record=once").assert_outcomes(passed=4)
    assert [len(recording(path)) for path in pytester.path.rglob("*.yaml")] == [16] * 4
    billed = len(client.ledger)
    for _ in range(2):
        run().assert_outcomes(passed=4)
    assert len(client.ledger) == billed == 64


@plain
def test_the_users_vcr_config_is_honoured(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import json
        import pytest
        from client import ask

        @pytest.fixture(scope="module")
        def vcr_config():
            def hide(request):
                request.body = request.body.replace(b"Ada", b"somebody")
                return request
            return {"before_record_request": hide, "filter_headers": ["accept"], "record_mode": "all", "cassette_library_dir": "/nowhere"}

        def test_it(usage):
            assert ask("I am Ada") == "You said: I am Ada"

        class TestJson:
            @pytest.fixture(scope="module")
            def vcr_config(self):
                return {"serializer": "json"}

            def test_it(self, usage):
                assert ask("json") == "You said: json"
        """
    )
    run("--token-record=once").assert_outcomes(passed=2)
    folder = pytester.path / "cassettes" / "test_a"
    (each,) = recording(folder / "test_it.yaml")
    assert "somebody" in each["request"]["body"]
    assert "accept" not in each["request"]["headers"]
    assert (folder / "TestJson.test_it.json").read_text("utf-8").startswith("{")
    run().assert_outcomes(passed=2)
    assert len(client.ledger) == 2
