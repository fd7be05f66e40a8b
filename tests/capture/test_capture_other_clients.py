"""requests, urllib3, urllib, http.client and aiohttp: live, under a cassette, and never twice."""

from __future__ import annotations

import asyncio
import http.client
import json
import time
import urllib.request

import aiohttp
import httpx
import pytest
import requests
import urllib3
from model_server import Answer
from truth import CHAT, assert_billed, chat_bytes, chat_request, streamed

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture.http_body import Chunks, body_of

JSON = {"content-type": "application/json"}


@pytest.fixture
def url(server):
    return server.openai_url + CHAT


def send_requests(url, **options):
    with requests.Session() as session:
        return session.post(url, json=chat_request(**options)).content


def send_urllib3(url, **options):
    with urllib3.PoolManager() as pool:
        return pool.request("POST", url, body=chat_bytes(**options), headers=JSON).data


def send_urllib(url, **options):
    request = urllib.request.Request(url, data=chat_bytes(**options), headers=JSON)
    with urllib.request.urlopen(request) as response:
        return response.read()


def send_http_client(url, **options):
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host)
    try:
        connection.request("POST", f"/{path}", chat_bytes(**options), JSON)
        return connection.getresponse().read()
    finally:
        connection.close()


def send_aiohttp(url, **options):
    async def send():
        async with aiohttp.ClientSession() as session, session.post(url, json=chat_request(**options)) as response:
            return await response.read()

    return asyncio.run(send())


CLIENTS = [send_requests, send_urllib3, send_urllib, send_http_client, send_aiohttp]
EACH_CLIENT = pytest.mark.parametrize("send", CLIENTS, ids=lambda send: send.__name__.removeprefix("send_"))


@EACH_CLIENT
def test_whole_answers_live(send, server, url):
    with track_usage() as usage:
        assert json.loads(send(url))["usage"]
    assert_billed(usage, server, requests=1)
    assert not usage.calls[0].replayed


@EACH_CLIENT
def test_streams_live(send, server, url):
    with track_usage() as usage:
        assert send(url, **streamed()).endswith(b"data: [DONE]\n\n")
    assert_billed(usage, server, requests=1)


@EACH_CLIENT
def test_streams_without_usage_are_estimated(send, server, url):
    server.answer("Hello world, how are you?")
    with track_usage() as usage:
        send(url, stream=True)
    assert_billed(usage, server, requests=1, estimated=1)
    assert (usage.input_tokens, usage.output_tokens) == (11, 7)


@EACH_CLIENT
def test_gzip_is_taken_off(send, server, url):
    server.answer("zipped", gzip=True).answer("zipped", gzip=True)
    with track_usage() as usage:
        send(url)
        send(url, **streamed())
    assert_billed(usage, server, requests=2)


@EACH_CLIENT
def test_refusals_cost_nothing(send, server, url):
    server.answer(status=429)
    with track_usage() as usage:
        try:
            send(url)
        except urllib.error.HTTPError as error:
            error.close()
    assert (len(server.ledger), usage.requests) == (1, 0)


@EACH_CLIENT
def test_nobody_listens(send, server):
    with track_usage() as usage, pytest.raises(Exception, match=r"(?i)refused|connect|retries"):
        send("http://127.0.0.1:9/v1" + CHAT)
    assert usage.requests == 0


@EACH_CLIENT
def test_a_body_that_breaks_off_is_labelled(send, server, url):
    server.answer("Hello world, how are you?", cut_after=30)
    with track_usage() as usage, pytest.raises(Exception, match=r"(?i)incomplete|broken|payload|not completed"):
        send(url)
    assert usage.requests == usage.estimated_requests + usage.unmeasured_requests == 1


def test_an_answer_that_nobody_asks_for_is_labelled(server, url):
    host, _, path = url.removeprefix("http://").partition("/")
    with track_usage() as usage:
        connection = http.client.HTTPConnection(host)
        connection.request("POST", f"/{path}", chat_bytes(), JSON)
        connection.close()
    assert (usage.requests, usage.unmeasured_requests) == (1, 1)
    assert usage.calls[0].model == chat_request()["model"]


@EACH_CLIENT
def test_nobody_counts_outside_of_a_block(send, server, url):
    with track_usage() as usage:
        pass
    send(url)
    assert usage.requests == 0


def test_one_connection_for_many_requests(server, url):
    with track_usage() as usage, requests.Session() as session:
        for number in range(5):
            session.post(url, json=chat_request(n=number + 1))
        session.get(server.url + "/health")
        with session.post(url, json=chat_request(**streamed()), stream=True) as response:
            assert [line for line in response.iter_lines() if line]
        with session.post(url, json=chat_request(**streamed()), stream=True) as response:
            assert b"".join(response.raw.stream(16, decode_content=False))
    assert_billed(usage, server, requests=7)


def read_in_pieces(response):
    while response.read(7):
        pass


def read_what_is_there(response):
    while response.read1(7):
        pass


def read_into(response):
    buffer = bytearray(11)
    while response.readinto(buffer):
        pass


def peek_first(response):
    assert response.peek(3)
    assert response.read()


@pytest.mark.parametrize("options", [{}, streamed()], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "read", [http.client.HTTPResponse.read, list, read_in_pieces, read_what_is_there, read_into, peek_first]
)
def test_each_way_to_read_a_response_of_http_client(read, options, server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    with track_usage() as usage:
        connection.request("POST", "/v1" + CHAT, chat_bytes(**options), JSON)
        read(connection.getresponse())
        assert usage.requests == 1  # at once, not only when the block ends
    connection.close()
    assert_billed(usage, server, requests=1)


async def test_each_way_to_read_a_response_of_aiohttp(server, url):
    with track_usage() as usage:
        async with aiohttp.ClientSession() as session:
            for options in ({}, streamed()):

                def post(options=options):
                    return session.post(url, json=chat_request(**options))

                async with post() as response:
                    await response.text()
                async with post() as response:
                    await response.json(content_type=None) if not options else await response.read()
                async with post() as response:
                    assert [line async for line in response.content]
                async with post() as response:
                    assert [chunk async for chunk in response.content.iter_any()]
                async with post() as response:
                    assert [chunk async for chunk, _ in response.content.iter_chunks()]
                async with post() as response:
                    assert [chunk async for chunk in response.content.iter_chunked(10)]
                async with post() as response:
                    while await response.content.read(5):
                        pass
                response = await post()
                await response.read()
    assert_billed(usage, server, requests=16)


async def test_aiohttp_that_leaves_gzip_on(server, url):
    server.answer("zipped", gzip=True)
    with track_usage() as usage:
        ask = {"json": chat_request()}
        async with aiohttp.ClientSession(auto_decompress=False) as session, session.post(url, **ask) as response:
            assert (await response.read()).startswith(b"\x1f\x8b")
    assert_billed(usage, server, requests=1)


async def test_aiohttp_never_read_is_labelled(server, url):
    with track_usage() as usage:
        async with aiohttp.ClientSession() as session, session.post(url, data=chat_bytes(), headers=JSON):
            pass
    assert usage.requests == usage.estimated_requests + usage.unmeasured_requests == 1


async def test_aiohttp_broken_off_is_an_estimate(server, url):
    server.answer("Hello world, how are you?", chunk_delay=0.05)
    with track_usage() as usage:
        ask = {"json": chat_request(**streamed())}
        async with aiohttp.ClientSession() as session, session.post(url, **ask) as response:
            async for line in response.content:
                if b"Hello" in line:
                    break
    assert (usage.requests, usage.estimated_requests) == (1, 1)
    assert usage.input_tokens == 11


def test_requests_broken_off_is_an_estimate(server, url):
    server.answer("Hello world, how are you?", chunk_delay=0.05)
    with track_usage() as usage, requests.post(url, json=chat_request(**streamed()), stream=True) as response:
        for line in response.iter_lines(chunk_size=1):
            if b"Hello" in line:
                break
    assert (usage.requests, usage.estimated_requests, usage.output_tokens) == (1, 1, 1)


def test_requests_chunks_arrive_one_by_one(url, server):
    def read():
        server.script([Answer(text="one two three four", chunk_delay=0.05)])
        with requests.post(url, json=chat_request(**streamed()), stream=True) as response:
            return [(chunk, time.monotonic()) for chunk in response.iter_content(None)]

    assert_arrives_alike(read, requests=1)


def test_urllib_chunks_arrive_one_by_one(url, server):
    def read():
        server.script([Answer(text="one two three four", chunk_delay=0.05)])
        with urllib.request.urlopen(urllib.request.Request(url, data=chat_bytes(**streamed()))) as response:
            return [(line, time.monotonic()) for line in response if line.strip()]

    assert_arrives_alike(read, requests=1)


def test_aiohttp_chunks_arrive_one_by_one(url, server):
    async def read():
        server.script([Answer(text="one two three four", chunk_delay=0.05)])
        ask = {"json": chat_request(**streamed())}
        async with aiohttp.ClientSession() as session, session.post(url, **ask) as response:
            return [(chunk, time.monotonic()) async for chunk in response.content.iter_any()]

    assert_arrives_alike(lambda: asyncio.run(read()), requests=1)


def assert_arrives_alike(read, *, requests):
    """The same pieces as without the tracker, the first long before the last."""
    plain = read()
    with track_usage() as usage:
        tracked = read()
    assert [len(chunk) for chunk, _ in tracked] == [len(chunk) for chunk, _ in plain]
    assert tracked[-1][1] - tracked[0][1] > 0.2
    assert usage.requests == requests


def test_a_timeout_is_labelled(server, url):
    server.answer(delay=0.6)
    with track_usage() as usage, pytest.raises(requests.Timeout):
        requests.post(url, json=chat_request(), timeout=0.2)
    assert (usage.requests, usage.unmeasured_requests) == (1, 1)


async def test_a_timeout_of_aiohttp_is_labelled(server, url):
    server.answer(delay=0.6)
    with track_usage() as usage:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.2)) as session:
            with pytest.raises(TimeoutError):
                await session.post(url, json=chat_request())
    assert (usage.requests, usage.unmeasured_requests) == (1, 1)


def test_a_transport_of_httpx_that_sends_with_requests_is_one_request(server, url):
    class ByRequests(httpx.BaseTransport):
        def handle_request(self, request):
            answer = requests.post(str(request.url), data=request.read(), headers=JSON)
            return httpx.Response(answer.status_code, content=answer.content)

    with track_usage() as usage, httpx.Client(transport=ByRequests()) as client:
        client.post(url, json=chat_request())
    assert_billed(usage, server, requests=1)


@EACH_CLIENT
@pytest.mark.parametrize("options", [{}, streamed()], ids=["whole", "stream"])
def test_a_cassette_of_the_users_own(send, options, server, url, tmp_path):
    import vcr

    recorder = vcr.VCR(match_on=["method", "path", "body"], ignore_localhost=False)
    path = str(tmp_path / "mine.yaml")
    with track_usage() as live, recorder.use_cassette(path, record_mode="once"):
        recorded = send(url, **options)
    assert_billed(live, server, requests=1)
    assert [call.replayed for call in live.calls] == [False]
    with track_usage() as replayed, recorder.use_cassette(path, record_mode="none"):
        assert send(url, **options) == recorded
    assert_billed(replayed, server, requests=1)  # the ledger did not grow
    assert [call.replayed for call in replayed.calls] == [True]


@pytest.mark.parametrize("options", [{}, streamed()], ids=["whole", "stream"])
def test_a_cassette_of_the_users_own_under_httpx(options, server, url, tmp_path):
    import httpx2
    import vcr

    path = str(tmp_path / "mine.yaml")
    for library in (httpx, httpx2):
        with track_usage() as live, vcr.use_cassette(f"{path}.{library.__name__}", record_mode="once"):
            library.post(url, json=chat_request(**options))
        with track_usage() as replayed, vcr.use_cassette(f"{path}.{library.__name__}", record_mode="none"):
            library.post(url, json=chat_request(**options))
        assert_billed(live, server, requests=1)
        assert_billed(replayed, server, requests=1)
        assert [call.replayed for call in (*live.calls, *replayed.calls)] == [False, True]
        server.reset()


def test_chunked_framing_comes_off_whatever_the_pieces():
    framed = b"5\r\nhello\r\n6;ext=1\r\n world\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n"
    for size in range(1, len(framed) + 1):
        chunks = Chunks()
        pieces = [framed[start : start + size] for start in range(0, len(framed), size)]
        assert b"".join(map(chunks.feed, pieces)) == b"hello world!"
        assert chunks.ended
    assert Chunks().feed(b"zz\r\nwhat") == b""


def test_a_request_that_was_sent_in_chunks_is_put_together():
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    assert body_of(head + b'Content-Length: 4\r\n\r\n{"a"') == b'{"a"'
    assert body_of(head + b'Transfer-Encoding: chunked\r\n\r\n2\r\n{"\r\n2\r\na"\r\n0\r\n\r\n') == b'{"a"'
