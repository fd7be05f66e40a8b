"""Streams stay streams: while they are recorded their client gets each piece when the server sends it, and a replay
brings the same pieces."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

OPENAI_EVENTS = [
    {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": [
        {"index": 0, "delta": {"role": "assistant", "content": "one "}, "finish_reason": None}]},
    {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": [
        {"index": 0, "delta": {"content": "two"}, "finish_reason": "stop"}]},
    {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": [],
     "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}},
]  # fmt: skip
OPENAI_BODY = [f"data: {json.dumps(event)}\n\n".encode() for event in OPENAI_EVENTS] + [b"data: [DONE]\n\n"]
ANTHROPIC_EVENTS = [
    {"type": "message_start", "message": {
        "id": "m1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "two"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip
ANTHROPIC_BODY = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in ANTHROPIC_EVENTS]


class SteppingServer:
    """Sends a stream's first half, and the rest only when its client says that it has read that.

    Attributes:
        requests: how many it was asked for.
        seen: set when the client has told of the first piece.
        in_time: for each stream, whether that came before the server gave up waiting.
        cuts: whether it hangs up instead of sending the rest.
    """

    def __init__(self):
        self.requests = 0
        self.seen = threading.Event()
        self.in_time = []
        self.cuts = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                outer.seen.set()
                self.send_response(204)
                self.end_headers()

            def do_POST(self):
                outer.requests += 1
                self.rfile.read(int(self.headers["content-length"]))
                pieces = ANTHROPIC_BODY if self.path.endswith("/messages") else OPENAI_BODY
                self.send_response(200)
                self.send_header("content-type", "text/event-stream; charset=utf-8")
                self.send_header("date", "Mon, 23 Nov 2026 10:00:00 GMT")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                half = len(pieces) // 2
                for piece in pieces[:half]:
                    self._send(piece)
                outer.in_time.append(outer.seen.wait(5))
                outer.seen.clear()
                if outer.cuts:
                    self.close_connection = True
                    return
                for piece in pieces[half:]:
                    self._send(piece)
                self._send(b"")

            def _send(self, piece):
                try:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                    self.wfile.flush()
                except OSError:
                    self.close_connection = True  # a client that read enough

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()


PROGRAM = '''
import os
import urllib.request

URL = {url!r}
CHAT = {{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "count"}}], "stream": True,
        "stream_options": {{"include_usage": True}}}}
KEY = {{"api_key": "sk-loopback-0000", "max_retries": 0}}

def saw(piece):
    """Tell the server, if one is there, that a piece has come; how much of it does not matter."""
    if piece and "RECORDS" in os.environ and "told" not in os.environ:
        os.environ["told"] = "1"
        urllib.request.urlopen(URL + "/seen").close()
    return piece

def texts(chunks):
    return [saw(chunk.choices[0].delta.content) for chunk in chunks if chunk.choices]

def openai_sync():
    import openai
    return texts(openai.OpenAI(base_url=URL + "/v1", **KEY).chat.completions.create(**CHAT))

async def openai_async():
    import openai
    async with openai.AsyncOpenAI(base_url=URL + "/v1", **KEY) as client:
        return texts([chunk async for chunk in Telling(await client.chat.completions.create(**CHAT))])

class Telling:
    """An asynchronous stream that tells of each piece when it comes."""
    def __init__(self, stream):
        self.stream = stream
    async def __aiter__(self):
        async for piece in self.stream:
            saw("x")
            yield piece

def anthropic_sync():
    import anthropic
    client = anthropic.Anthropic(base_url=URL, **KEY)
    with client.messages.stream(model="claude-sonnet-4-5", max_tokens=10,
                                messages=[{{"role": "user", "content": "count"}}]) as stream:
        return [saw(event.delta.text) or event.delta.text for event in stream
                if event.type == "message_start" and saw("x") is None
                or event.type == "content_block_delta"]

async def anthropic_async():
    import anthropic
    async with anthropic.AsyncAnthropic(base_url=URL, **KEY) as client:
        async with client.messages.stream(model="claude-sonnet-4-5", max_tokens=10,
                                          messages=[{{"role": "user", "content": "count"}}]) as stream:
            return [event.delta.text async for event in Telling(stream) if event.type == "content_block_delta"]

def langchain_sync():
    from langchain_openai import ChatOpenAI
    model = ChatOpenAI(model="gpt-4o-mini", base_url=URL + "/v1", stream_usage=True, **KEY)
    return [saw(chunk.content) for chunk in model.stream("count") if chunk.content]

def words(lines):
    import json
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {{")]
    return [event["choices"][0]["delta"]["content"] for event in events if event["choices"]]

def requests_lines():
    import requests
    with requests.post(URL + "/v1/chat/completions", json=CHAT, stream=True) as answer:
        return words([saw(line) for line in answer.iter_lines(chunk_size=1, decode_unicode=True)])

def urllib3_stream():
    import urllib3
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", URL + "/v1/chat/completions", json=CHAT, preload_content=False)
        return words("".join(saw(each.decode()) for each in answer.stream(1)).splitlines())

def urllib_lines():
    import json
    asked = urllib.request.Request(URL + "/v1/chat/completions", json.dumps(CHAT).encode(),
                                   {{"content-type": "application/json"}})
    with urllib.request.urlopen(asked) as answer:
        return words([saw(line.decode().rstrip()) for line in answer])

async def aiohttp_lines():
    import aiohttp
    async with aiohttp.ClientSession() as session:
        async with session.post(URL + "/v1/chat/completions", json=CHAT) as answer:
            return words([saw(line.decode().rstrip()) async for line in answer.content])

def run(name):
    import asyncio, inspect
    found = globals()[name]()
    return asyncio.run(found) if inspect.iscoroutine(found) else found
'''
CLIENTS = (
    "openai_sync", "openai_async", "anthropic_sync", "anthropic_async", "langchain_sync", "requests_lines",
    "urllib3_stream", "urllib_lines", "aiohttp_lines",
)  # fmt: skip


@pytest.fixture
def server(pytester):
    with SteppingServer() as server:
        pytester.makepyfile(
            program=PROGRAM.format(url=server.url),
            test_streams=f"""
            import pytest
            import program

            @pytest.mark.parametrize("client", {CLIENTS!r})
            def test_it(client, usage, monkeypatch):
                monkeypatch.delenv("told", raising=False)
                assert program.run(client) == ["one ", "two"]
                assert (usage.input_tokens, usage.output_tokens, usage.requests) == (7, 2, 1)
                assert not usage.estimated_requests
            """,
        )
        yield server


def test_each_piece_comes_when_it_is_sent_while_it_is_recorded_and_again_from_the_cassette(
    pytester, server, run, monkeypatch
):
    monkeypatch.setenv("RECORDS", "1")
    run("--token-record=once", "-n", "0").assert_outcomes(passed=len(CLIENTS))
    assert server.in_time == [True] * len(CLIENTS)
    monkeypatch.delenv("RECORDS")
    run().assert_outcomes(passed=len(CLIENTS))
    assert server.requests == len(CLIENTS)
    for path in pytester.path.rglob("*.yaml"):
        (interaction,) = yaml.safe_load(path.read_text("utf-8"))["interactions"]
        body = interaction["response"]["body"]["string"].encode()
        assert body == b"".join(ANTHROPIC_BODY if "anthropic" in path.name else OPENAI_BODY)


EARLY = """
import pytest
import program

def test_breaks(usage):
    import openai
    client = openai.OpenAI(base_url=program.URL + "/v1", **program.KEY)
    with client.chat.completions.create(**program.CHAT) as chunks:
        first = next(iter(chunks)).choices[0].delta.content
        program.saw(first)
    assert first == "one "
    print("estimated", usage.estimated_requests)

def test_leaves_it_unread(usage):
    import openai
    client = openai.OpenAI(base_url=program.URL + "/v1", **program.KEY)
    chunks = client.chat.completions.create(**program.CHAT)
    assert next(chunks).choices[0].delta.content == "one "
    program.saw("x")
    usage.kept = chunks  # open until the process ends

def test_requests_breaks(usage):
    import requests
    with requests.post(program.URL + "/v1/chat/completions", json=program.CHAT, stream=True) as answer:
        assert "one" in next(answer.iter_lines(chunk_size=1, decode_unicode=True))
        program.saw("x")

async def read_one_line():
    import aiohttp
    async with aiohttp.ClientSession() as session:
        async with session.post(program.URL + "/v1/chat/completions", json=program.CHAT) as answer:
            line = await answer.content.readline()
            program.saw("x")
            return line

def test_aiohttp_breaks(usage):
    import asyncio
    assert b"one" in asyncio.run(read_one_line())

@pytest.fixture(autouse=True)
def tell_anew(monkeypatch):
    monkeypatch.delenv("told", raising=False)
"""


def test_a_stream_that_its_client_leaves_is_recorded_as_far_as_it_came(pytester, server, run, monkeypatch):
    pytester.makepyfile(test_streams=EARLY.replace("usage.kept = chunks", "program.kept = chunks"))
    monkeypatch.setenv("RECORDS", "1")
    run("--token-record=once", "-n", "0").assert_outcomes(passed=4)
    monkeypatch.delenv("RECORDS")
    asked = server.requests
    run("-o", "token_unplayed=fail").assert_outcomes(passed=4)
    assert server.requests == asked == 4
    for path in pytester.path.rglob("*.yaml"):
        (interaction,) = yaml.safe_load(path.read_text("utf-8"))["interactions"]
        body = interaction["response"]["body"]["string"].encode()
        assert body.startswith(OPENAI_BODY[0].rstrip())  # aiohttp was asked for the one line
        assert b"".join(OPENAI_BODY).startswith(body), path.name


CUT = """
import pytest
import program

@pytest.mark.parametrize("client", ["openai_sync", "openai_async", "requests_lines", "aiohttp_lines"])
@pytest.mark.parametrize("swallows", [False, True])
def test_it(client, swallows, usage, monkeypatch):
    monkeypatch.delenv("told", raising=False)
    try:
        program.run(client)
    except Exception:
        if not swallows:
            raise
"""


def test_an_answer_that_broke_off_is_not_recorded_as_if_it_were_whole(pytester, server, run, monkeypatch):
    pytester.makepyfile(test_streams=CUT)
    monkeypatch.setenv("RECORDS", "1")
    server.cuts = True
    result = run("--token-record=once", "-n", "0")
    result.assert_outcomes(failed=8)
    result.stdout.fnmatch_lines(["*the answer to POST *broke off*can't be recorded*"])
    assert not list(pytester.path.rglob("*.yaml"))
