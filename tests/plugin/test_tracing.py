"""LangSmith's tracing sends nothing from a test that replays or records, and no recording holds anything of it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from test_network import HELPERS, read

KEY = "lsv2_pt_0000000000000000000000000000dead_0000000000"


@pytest.fixture
def traces(monkeypatch):
    """A LangSmith on loopback that the inner run is told to trace to: the paths that were asked of it."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            paths.append(self.path)
            self.send_response(202)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the library's names

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("LANGSMITH_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", KEY)
    yield paths
    server.shutdown()
    server.server_close()


TRACED = """
import os
import pytest
from langsmith import Client, traceable, utils
from langsmith.run_helpers import tracing_context
from langchain_openai import ChatOpenAI

@traceable
def ask(text):
    return ChatOpenAI(model="gpt-4o-mini").invoke(text).content

def test_before():
    # It remembers what it has read.
    assert utils.tracing_is_enabled() is True

def test_model(usage):
    assert ask("hello") == "You said: hello"
    assert utils.tracing_is_enabled() is False
    assert os.environ.get("LANGSMITH_API_KEY") != os.environ["KEY"] or os.environ.get("RECORDING")

@pytest.fixture(scope="module")
def shared():
    return ask("shared")

def test_shared(usage, shared):
    assert shared == "You said: shared"

def test_after():
    assert utils.tracing_is_enabled() is True
    assert os.environ["LANGSMITH_API_KEY"] == os.environ["KEY"]
"""


def test_a_developers_tracing_is_off_while_a_test_replays_or_records(  # noqa: PLR0917 - fixtures
    pytester, server, traces, run, monkeypatch, spread
):
    monkeypatch.setenv("KEY", KEY)
    pytester.makepyfile(test_it=TRACED)
    together = ("--dist=loadfile",) if spread else ()
    monkeypatch.setenv("RECORDING", "1")
    run("--token-record=once", *together).assert_outcomes(passed=4)
    monkeypatch.delenv("RECORDING")
    billed = len(server.bills)
    assert billed == 2
    run(*together).assert_outcomes(passed=4)
    assert len(server.bills) == billed
    assert traces == []
    recordings = list(pytester.path.rglob("*.yaml"))
    assert len(recordings) == 2
    for path in recordings:
        assert KEY not in path.read_text("utf-8")
        (interaction,) = yaml.safe_load(path.read_text("utf-8"))["interactions"]
        assert interaction["request"]["uri"].endswith("/chat/completions")


def test_the_loopback_langsmith_sees_what_is_traced(pytester, server, traces, run):
    pytester.makepyfile(
        test_it=TRACED
        + """
def test_live():
    with tracing_context(client=(client := Client())):
        ask("hello")
    client.flush()
"""
    )
    run("-k", "test_live").assert_outcomes(passed=1)
    assert any("/runs" in path for path in traces)


def test_what_a_recorded_test_traces_on_purpose_is_sent_and_not_recorded(pytester, server, traces, run):
    pytester.makepyfile(
        test_it="""
import os, requests
from langsmith import Client, traceable
from langsmith.run_helpers import tracing_context

@traceable
def ask(text):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]}
    return requests.post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", json=body).json()

def test_it(usage):
    client = Client()
    ask("before")  # vcrpy's stubs are there for all from now on
    with tracing_context(enabled=True, client=client):
        ask("hello")
    client.flush()
    assert usage.requests == 2
"""
    )
    run("--token-record=once").assert_outcomes(passed=1)
    assert any("/runs" in path for path in traces)
    (path,) = pytester.path.rglob("*.yaml")
    text = path.read_text("utf-8")
    assert [each["request"]["uri"] for each in yaml.safe_load(text)["interactions"]] == [
        f"{server.openai_url}/chat/completions"
    ] * 2
    assert KEY not in text
    run().assert_outcomes(passed=1)


@pytest.mark.parametrize("spread", [(), ("-n", "2", "--dist=loadfile")], ids=["plain", "xdist"])
def test_traces_of_other_tests_are_no_attempt_of_the_one_that_replays(pytester, run_alone, monkeypatch):
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", KEY)
    monkeypatch.setenv("LANGSMITH_ENDPOINT", "http://192.0.2.1:80")
    monkeypatch.setenv("LANGSMITH_USE_DAEMON", "true")
    pytester.makepyfile(
        test_it=HELPERS
        + """
import logging
from langsmith import Client, traceable
from langsmith.run_helpers import tracing_context
import requests

CLIENT = Client()
GO = [threading.Event(), threading.Event()]
REFUSED = threading.Event()

class Refused(logging.Handler):
    def emit(self, record):
        if "192.0.2.1:80 is out of reach while a test is replayed" in record.getMessage():
            REFUSED.set()

logging.getLogger("langsmith").addHandler(Refused())

@traceable
def work(): pass

def trace(go):
    go.wait(60)
    with tracing_context(enabled=True, client=CLIENT):
        work()

def test_traces():
    for go in GO:
        threading.Thread(target=trace, args=(go,)).start()

def test_replays(usage):
    GO[0].set()
    assert REFUSED.wait(30)
    REFUSED.clear()

def test_replays_with_stubs(usage):
    with contextlib.suppress(OSError):
        requests.get("http://127.0.0.1:9/")  # vcrpy's stubs are there for all from now on
    GO[1].set()
    assert REFUSED.wait(30)
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.OK
    assert read(pytester)["blocked"] == read(pytester)["drift"] == []
