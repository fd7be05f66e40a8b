"""Replay: which cassette a test gets, what it plays, and that nothing else is reached."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.playbacks import describe_unplayed

CLIENT = """
import asyncio, json, os, threading
import httpx2 as httpx
import pytest

URL = os.environ["OPENAI_BASE_URL"]

def body(text):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}

def ask(text, url=None, **kwargs):
    with httpx.Client(trust_env=False) as client:
        answer = client.post((url or URL) + "/chat/completions", json=body(text), **kwargs)
    return answer.raise_for_status().json()["choices"][0]["message"]["content"]

async def ask_async(text):
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(URL + "/chat/completions", json=body(text))
    return answer.raise_for_status().json()["choices"][0]["message"]["content"]
"""

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])
"""For what happens inside one test, where xdist makes no difference."""


@pytest.fixture
def client(pytester, server):
    """A module ``client`` for inner tests that asks the loopback server."""
    pytester.makepyfile(client=CLIENT)
    return server


def cassettes(pytester):
    return sorted(path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.yaml"))


def recording(path):
    return yaml.safe_load(path.read_text("utf-8"))["interactions"]


def test_record_and_replay(pytester, client, run, reported):
    pytester.makepyfile(
        test_a="""
        import asyncio
        import pytest
        from concurrent.futures import ThreadPoolExecutor
        from client import ask, ask_async

        def test_plain(usage):
            assert ask("one two") == "You said: one two"
            assert usage.requests == 1

        @pytest.mark.parametrize("text", ["a/b", "a:b", "A:B", "é ü", "x" * 300, "../../up", "猫" * 100])
        def test_names(usage, text):
            assert ask(text) == f"You said: {text}"

        class TestOne:
            class TestInner:
                def test_it(self, usage):
                    assert ask("first") == "You said: first"

        class TestTwo:
            class TestInner:
                def test_it(self, usage):
                    assert ask("second") == "You said: second"

        def test_each_question_gets_its_own_answer(usage):
            with ThreadPoolExecutor(8) as pool:
                texts = [f"question {n}" for n in range(20)]
                assert list(pool.map(ask, texts)) == [f"You said: {text}" for text in texts]
            async def all():
                return await asyncio.gather(*map(ask_async, reversed(texts)))
            assert asyncio.run(all()) == [f"You said: {text}" for text in reversed(texts)]
            assert usage.requests == 40

        @pytest.mark.token_cassette("greetings/hello")
        def test_named():
            assert ask("hello") == "You said: hello"
        """
    )
    run("--token-record=once").assert_outcomes(passed=12)
    billed = client.input_tokens
    assert len(client.bills) == 51
    run("--token-report=json").assert_outcomes(passed=12)
    assert len(client.bills) == 51
    assert sum(test["usage"]["input_tokens"] for test in reported().values()) == billed
    assert all(call["replayed"] for test in reported().values() for call in test["calls"])
    found = cassettes(pytester)
    assert len(found) == 12
    assert len({name.casefold() for name in found}) == 12
    assert all(len(name.rpartition("/")[2].encode()) <= 250 for name in found)
    assert "cassettes/test_a/test_plain.yaml" in found
    assert "cassettes/test_a/greetings/hello.yaml" in found
    assert not list(pytester.path.rglob("*.partial"))


@plain
def test_one_test_alone_finds_the_cassette_of_the_whole_run(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.parametrize("text", ["a/b", "a:b"])
        def test_names(usage, text):
            assert ask(text) == f"You said: {text}"
        """
    )
    run("--token-record=once").assert_outcomes(passed=2)
    for text in ("a/b", "a:b"):
        run(f"test_a.py::test_names[{text}]").assert_outcomes(passed=1)
    assert len(client.bills) == 2


@plain
def test_identical_requests_play_in_the_order_of_their_recording(pytester, client, run):
    client.answer("first")
    client.answer("second")
    pytester.makepyfile(
        test_a="""
        from client import ask

        def test_it(usage):
            assert [ask("same"), ask("same")] == ["first", "second"]
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)


@plain
def test_the_form_of_a_body_does_not_matter(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import os
        import httpx2 as httpx

        def test_it(usage):
            bodies = {"r": '{"temperature": 1, "model": "m", "messages": [{"role": "user", "content": "ä"}]}'}
            bodies["p"] = '{"model":"m","messages":[{"content":"\\\\u00e4","role":"user"}],"temperature":1.0}'
            body = bodies[os.environ["STEP"]]
            headers = {"content-type": "application/json", "x-request-number": os.environ["STEP"]}
            url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
            with httpx.Client(trust_env=False) as client:
                assert client.post(url, content=body, headers=headers).status_code == 200
        """
    )
    os.environ["STEP"] = "r"
    try:
        run("--token-record=once").assert_outcomes(passed=1)
        os.environ["STEP"] = "p"
        run().assert_outcomes(passed=1)
    finally:
        del os.environ["STEP"]


def test_a_missing_cassette_says_how_to_record_it(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        def test_it(usage):
            ask("hello")

        @pytest.mark.parametrize("x", ["a b"])
        def test_other(usage, x):
            try:
                ask("hello")
            except BaseException:
                pass
        """
    )
    result = run()
    assert result.ret == 1
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        "test_a.py::test_it has no recording: cassettes/test_a/test_it.yaml does not exist; record it with: "
        "pytest test_a.py::test_it --token-record=once"
    )
    assert "pytest 'test_a.py::test_other[a b]' --token-record=once" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert client.ledger == ()


@plain
def test_talk_with_a_server_of_the_test_itself_passes(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import asyncio, threading, urllib.request, socket
        from http.server import BaseHTTPRequestHandler, HTTPServer
        import aiohttp
        import httpx2 as httpx
        from client import ask

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")
            def log_message(self, *args): pass

        async def get(url):
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return await answer.text()

        def test_it(usage):
            with HTTPServer(("", 0), Handler) as local:
                thread = threading.Thread(target=local.serve_forever, args=(0.01,))
                thread.start()
                try:
                    for host in ("127.0.0.1", "localhost"):
                        url = f"http://{host}:{local.server_port}/health"
                        assert urllib.request.urlopen(url).read() == b"ok"
                        assert httpx.get(url, trust_env=False).text == "ok"
                        assert asyncio.run(get(url)) == "ok"
                    assert ask("hi") == "You said: hi"
                finally:
                    local.shutdown()
                    thread.join()
            a, b = socket.socketpair()
            a.sendall(b"x")
            assert b.recv(1) == b"x"
            a.close(); b.close()
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    assert len(recording(path)) == 1
    run().assert_outcomes(passed=1)


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="needs a network of its own")
def test_tiktoken_needs_no_network_in_a_replayed_test(pytester, client):
    pytester.makepyfile(
        test_a="""
        import pytest

        def test_it(usage):
            import tiktoken
            assert tiktoken.encoding_for_model("gpt-4o").encode("hello world") == [24912, 2375]
            assert tiktoken.get_encoding("cl100k_base").encode("hello world") == [15339, 1917]
        """
    )
    command = ["unshare", "-rn", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system gives no network of one's own")
    env = {**os.environ, "TIKTOKEN_CACHE_DIR": str(pytester.path / "none")}
    offline = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert "1 passed" in offline.stdout, offline.stdout
    online = subprocess.run(
        [*command, "-o", "token_offline_tiktoken=false"],
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 failed" in online.stdout, online.stdout
    # tiktoken's download is a request like any other, and has no recording
    assert "has no recording" in online.stdout


@plain
def test_keys_are_dummies_while_it_replays_and_back_afterwards(pytester, client, run, monkeypatch):
    real = "sk-proj-real0real0real0real0"
    monkeypatch.setenv("OPENAI_API_KEY", real)
    monkeypatch.setenv("VOYAGE_API_KEY", real)
    monkeypatch.setenv("LANGSMITH_API_KEY", real)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    pytester.makepyfile(
        test_a=f"""
        import os, subprocess, sys
        import pytest

        @pytest.mark.parametrize("fails", [False, True])
        def test_replayed(usage, fails):
            assert {real!r} not in os.environ.values()
            assert os.environ["OPENAI_API_KEY"]
            assert os.environ["ANTHROPIC_API_KEY"]
            assert os.environ["LANGSMITH_TRACING"] == "false"
            said = subprocess.run([sys.executable, "-c", "import os; print(*os.environ.values())"], capture_output=True, text=True)
            assert {real!r} not in said.stdout
            if fails:
                raise ValueError("on purpose")

        def test_after():
            assert os.environ["OPENAI_API_KEY"] == os.environ["VOYAGE_API_KEY"] == os.environ["LANGSMITH_API_KEY"] == {real!r}
            assert "ANTHROPIC_API_KEY" not in os.environ
            assert os.environ["LANGSMITH_TRACING"] == "true"
        """
    )
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    result = run()
    result.assert_outcomes(passed=2, failed=1)
    assert "on purpose" in result.stdout.str()


FAULTS = {
    "empty": ("", "it is empty"),
    "not_utf8": (b"\xff\xfe\x00", "not UTF-8"),
    "cut": ("interactions:\n- request:\n    body: '{", "cut short"),
    "version": ("interactions: []\nversion: 2\n", "version is 2"),
    "null": ("interactions: null\nversion: 1\n", "no list of interactions"),
    "top": ("- a\n", "top level is no mapping"),
    "tag": ("interactions: !!python/object/apply:os.mkdir [PROOF]\nversion: 1\n", "tag"),
    "anchor": ("interactions: &a []\nversion: 1\n", "anchor"),
    "twice": ("interactions: []\ninteractions: []\nversion: 1\n", "stands twice"),
    "conflict": ("<<<<<<< HEAD\ninteractions: []\n=======\n>>>>>>> x\nversion: 1\n", "merge conflict"),
    "deep": ("x: " + "[" * 100_000, "deeper than 64"),
    "large": (b"#" * (33 * 2**20), "larger than 32 MiB"),
    "gz": (gzip.compress(b"interactions: []\nversion: 1\n"), "not UTF-8"),
    "exchange": ("interactions:\n- request: {method: POST, uri: 'http://x/', body: '', headers: {}}\n  response: {status: {code: 200}}\nversion: 1\n", "no body"),
    "number": ("interactions:\n- request: {method: POST, uri: 'http://x/', body: '', headers: {}}\n  response: {status: {code: 200}, body: {string: 5}}\nversion: 1\n", "not a cassette"),
}  # fmt: skip


def test_a_cassette_that_can_not_be_trusted_fails_its_test_and_nothing_else(pytester, client, run):
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    for name, (content, _) in FAULTS.items():
        data = (
            content if isinstance(content, bytes) else content.replace("PROOF", str(pytester.path / "proof")).encode()
        )
        (folder / f"test_{name}.yaml").write_bytes(data)
    tests = "\n".join(
        f"def test_{name}(usage):\n    try:\n        ask('x')\n    except BaseException:\n        pass\n"
        for name in FAULTS
    )
    pytester.makepyfile(test_a=f"from client import ask\n\n{tests}\ndef test_fine():\n    pass\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for mode in ("none", "once", "new_episodes", "all"):
        result = run(f"--token-record={mode}")
        assert result.ret == 1
        result.assert_outcomes(failed=len(FAULTS), passed=1)
        output = result.stdout.str()
        assert "INTERNALERROR" not in output
        assert "Traceback" not in output
        for name, (_, reason) in FAULTS.items():
            (line,) = {
                line for line in output.splitlines() if f"test_{name}.yaml" in line and not line.startswith("FAILED")
            }
            assert reason in line
    assert client.ledger == ()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert not (pytester.path / "proof").exists()
    run("--token-record=rewrite").assert_outcomes(passed=len(FAULTS) + 1)
    run().assert_outcomes(passed=len(FAULTS) + 1)


@plain
def test_links_and_names_that_leave_the_folder_are_refused(pytester, client, run):
    victim = pytester.path / "victim.yaml"
    victim.write_text("precious")
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    (folder / "test_link.yaml").symlink_to(victim)
    (folder / "shared@module.yaml").symlink_to(victim)
    (folder / "test_partial.yaml.partial").symlink_to(victim)
    pytester.makepyfile(
        test_a=f"""
        import pytest
        from client import ask

        @pytest.fixture(scope="module")
        def shared():
            return ask("x")

        def test_link(usage):
            ask("x")

        @pytest.mark.token_cassette("../../victim")
        def test_up():
            ask("x")

        @pytest.mark.token_cassette({str(victim)!r})
        def test_absolute():
            ask("x")

        def test_fixture(usage, shared):
            pass

        def test_partial(usage):
            ask("x")
            assert False
        """
    )
    result = run("--token-record=rewrite")
    result.assert_outcomes(errors=4, failed=1)
    assert result.stdout.str().count("leads out of") >= 4
    assert victim.read_text() == "precious"
    assert len(client.bills) == 1


@plain
def test_the_command_line_beats_the_marker_beats_the_ini_file(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.token_cassette(record="once")
        def test_marked():
            ask("marked")

        def test_plain(usage):
            ask("plain")
        """
    )
    run("--token-record=none", "-o", "token_record=once").assert_outcomes(failed=2)
    assert client.ledger == ()
    run().assert_outcomes(passed=1, failed=1)
    assert len(client.ledger) == 1
    run("-o", "token_record=once").assert_outcomes(passed=2)
    assert len(client.ledger) == 2
    run("--token-record=none").assert_outcomes(passed=2)
    assert len(client.ledger) == 2


@plain
def test_a_folder_of_the_users_choice(pytester, client, run):
    (pytester.path / "unit").mkdir()
    (pytester.path / "unit" / "test_a.py").write_text("from client import ask\ndef test_it(usage):\n    ask('x')\n")
    pytester.syspathinsert()
    pytester.makeini("[pytest]\ntoken_cassette_dir = recorded\npythonpath = .\n")
    run("--token-record=once").assert_outcomes(passed=1)
    assert cassettes(pytester) == ["recorded/unit/test_a/test_it.yaml"]
    run().assert_outcomes(passed=1)


@plain
def test_matchers_of_a_marker(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import os
        import pytest
        from client import ask

        @pytest.fixture
        def vcr_config():
            return {"match_on": ["method", "body"]}

        @pytest.mark.token_cassette(match_on=["method", "path"])
        def test_marker(vcr_config):
            ask(os.environ.get("TEXT", "x"))

        @pytest.mark.token_cassette("config")
        def test_config(vcr_config):
            ask(os.environ.get("TEXT", "x"))
        """
    )
    run("--token-record=once").assert_outcomes(passed=2)
    os.environ["TEXT"] = "another"
    try:
        result = run()
    finally:
        del os.environ["TEXT"]
    result.assert_outcomes(passed=1, failed=1)
    assert "user " in result.stdout.str()


def test_shared_fixtures_replay_from_their_own_cassette(pytester, client, run, document):
    source = """
        import pytest
        from client import ask

        {fixture}

        def test_one(usage, index):
            assert index == "You said: index"
            assert ask("one") == "You said: one"
            assert usage.requests == 1

        def test_two(usage, index):
            assert ask("two") == "You said: two"
        """
    pytester.makeconftest(
        """
        import pytest
        from client import ask

        @pytest.fixture(scope="session")
        def index():
            yield ask("index")
            assert ask("index is gone") == "You said: index is gone"
        """
    )
    pytester.makepyfile(test_a=source.format(fixture=""), test_b=source.format(fixture=""))
    run("--token-record=once").assert_outcomes(passed=4)
    assert "cassettes/test_a/index@session.yaml" in cassettes(pytester)
    billed = len(client.bills)
    run("--token-report=json").assert_outcomes(passed=4)
    assert {each["fixture"] for each in document()["shared"]} == {"index"}
    run("test_b.py").assert_outcomes(passed=2)
    run("test_b.py::test_two").assert_outcomes(passed=1)
    assert len(client.bills) == billed


def test_what_was_not_played_is_listed_or_fails(pytester, client, run, document, monkeypatch):
    pytester.makepyfile(
        test_a="""
        import os
        from client import ask

        def test_it(usage):
            ask("one")
            if "ALL" in os.environ:
                ask("two")

        def test_gone(usage):
            if "ALL" in os.environ:
                ask("three")
        """
    )
    with monkeypatch.context() as recording_all:
        recording_all.setenv("ALL", "1")
        run("--token-record=once").assert_outcomes(passed=2)
    run("--token-report=json").assert_outcomes(passed=2)
    assert [each["nodeid"] for each in document()["unplayed"]] == ["test_a.py::test_it"]
    assert any("test_gone.yaml" in name for name in document()["unused_cassettes"])
    result = run("-o", "token_unplayed=fail", "--token-report=html:page.html")
    result.assert_outcomes(failed=1, passed=1)
    page = (pytester.path / "page.html").read_text("utf-8")
    assert "does not hold</strong> 1 test is failed for recordings that are too old or left unplayed" in page
    assert "--token-record=rewrite" in result.stdout.str()


@plain
@pytest.mark.parametrize(
    "way", ["yield", "request.addfinalizer(end)", "closes(request)", "(lambda: request.addfinalizer(partial(end)))()"]
)
def test_what_a_fixture_plays_at_its_end_is_played(  # noqa: PLR0917 - fixtures and parameters
    pytester, client, run, document, monkeypatch, way
):
    pytester.makepyfile(
        test_a=f"""
        import os
        import pytest
        from client import ask

        from functools import partial

        def closes(request):
            request.addfinalizer(lambda: end())

        def end():
            ask("end")
            if "ALL" in os.environ:
                ask("more")

        @pytest.fixture
        def closing(request):
            {way}
            {"end()" * (way == "yield")}

        def test_it(usage, closing):
            ask("one")
            if "ALL" in os.environ:
                ask("two")

        def test_all(usage, closing):
            ask("one")
        """
    )
    with monkeypatch.context() as recording_all:
        recording_all.setenv("ALL", "1")
        run("--token-record=once").assert_outcomes(passed=2)
    pytester.path.joinpath("cassettes/test_a/test_all.yaml").unlink()
    run("--token-record=once", "-k", "test_all").assert_outcomes(passed=1)
    run("--token-report=json").assert_outcomes(passed=2)
    assert [each["nodeid"] for each in document()["unplayed"]] == ["test_a.py::test_it"] * 2
    result = run("-o", "token_unplayed=fail")
    result.assert_outcomes(passed=2, errors=1)
    assert "test_a.py::test_it did not ask for 2 recording(s)" in result.stdout.str()
    # An error of the teardown is no expected failure.
    source = (pytester.path / "test_a.py").read_text("utf-8")
    (pytester.path / "test_a.py").write_text(
        source.replace("def test_it", "@pytest.mark.xfail(strict=True)\ndef test_it"), "utf-8"
    )
    run("-o", "token_unplayed=fail").assert_outcomes(passed=1, xfailed=1)


@plain
def test_which_tests_replay(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        def test_plain():
            assert ask("plain") == "You said: plain"

        @pytest.mark.token_budget(max_requests=1)
        def test_marked():
            assert ask("marked") == "You said: marked"
        """
    )
    run().assert_outcomes(passed=1, failed=1)
    assert [bill.prompt for bill in client.bills] == ["plain"]
    run("-o", "token_replay=all").assert_outcomes(failed=2)
    assert len(client.bills) == 1
    run("-o", "token_replay=off").assert_outcomes(passed=2)
    assert len(client.bills) == 3
    assert cassettes(pytester) == []


@plain
def test_a_cassette_that_several_tests_name_is_played_by_them_together(pytester, client, run, document):
    pytester.makepyfile(
        """
        import pytest
        from client import ask

        @pytest.mark.token_cassette("talk")
        def test_one(): ask("one")

        @pytest.mark.token_cassette("talk")
        def test_two(): ask("two")
        """
    )
    run("--token-record=new_episodes").assert_outcomes(passed=2)
    run("--token-report=json", "-o", "token_unplayed=fail").assert_outcomes(passed=2)
    assert document()["unplayed"] == []


@plain
def test_a_shared_fixture_without_a_recording_fails_each_of_its_tests(pytester, client, run, document):
    pytester.makepyfile(
        """
        import pytest
        from client import ask

        @pytest.fixture(scope="module")
        def loud(): return ask("one")

        @pytest.fixture(scope="module")
        def quiet():
            try:
                return ask("two")
            except BaseException:
                return "made up"

        @pytest.mark.token_budget(max_tokens=99, min_requests=0)
        @pytest.mark.parametrize("turn", [1, 2])
        def test_loud(loud, turn): pass

        @pytest.mark.token_budget(max_tokens=99, min_requests=0)
        @pytest.mark.parametrize("turn", [1, 2])
        def test_quiet(quiet, turn): pass
        """
    )
    result = run("--token-report=json")
    result.assert_outcomes(errors=4)
    text = result.stdout.str()
    assert text.count("has no recording") >= 4
    assert "AssertionError" not in text
    assert len(document()["drift"]) == 2


def test_the_command_that_records_again_can_be_copied():
    line = describe_unplayed(Playback(path=Path("a.yaml")), ("POST /v1",), "test_a.py::test_it[a b]")
    assert line == (
        "test_a.py::test_it[a b] did not ask for 1 recording(s) of a.yaml: POST /v1; "
        "record it again with: pytest 'test_a.py::test_it[a b]' --token-record=rewrite"
    )


CLASSES = {"plain": "class TestClass:", "unittest": "import unittest\nclass TestClass(unittest.TestCase):"}


@pytest.mark.parametrize("head", CLASSES.values(), ids=CLASSES)
def test_names_do_not_depend_on_what_was_selected(pytester, client, run, head):
    """Methods that differ only in case share a name; each plays its own recording alone as it does among all."""
    pytester.makepyfile(
        test_a=f"""
import client
{head}
    def test_it(self): assert client.ask("first") == "You said: first"
    def test_IT(self): assert client.ask("second") == "You said: second"
"""
    )
    pytester.makeini("[pytest]\ntoken_replay = all\n")
    run("--token-record=once").assert_outcomes(passed=2)
    assert len(cassettes(pytester)) == 2
    client.reset()
    for name in ("test_it", "test_IT"):
        run(f"test_a.py::TestClass::{name}").assert_outcomes(passed=1)
    assert client.ledger == ()
