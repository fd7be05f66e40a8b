"""Streams: read to the end, broken off, left open, cut by the server; and that watching them changes nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import time

import httpx
import httpx2
import openai
import pytest
from model_server import Answer
from truth import CHAT, GREETING, assert_billed, assert_measured, chat_request, streamed

from pytest_tokenbudget import UnmeasuredUsageError, track_usage

ASK = {"model": "gpt-4o-mini", "messages": GREETING}
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


def test_read_to_the_end(server, client):
    with track_usage() as usage:
        for _ in client.chat.completions.create(**ASK, **streamed()):
            pass
        with client.chat.completions.create(**ASK, **streamed()) as stream:
            assert list(stream)
        completion = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="one two", **streamed())
        assert list(completion)
    assert_billed(usage, server, requests=3)


async def test_read_to_the_end_async(server, async_client):
    with track_usage() as usage:
        async for _ in await async_client.chat.completions.create(**ASK, **streamed()):
            pass
        async with await async_client.chat.completions.create(**ASK, **streamed()) as stream:
            assert [event async for event in stream]
    assert_billed(usage, server, requests=2)


def test_without_usage_it_is_an_estimate_of_what_was_said(server, client):
    server.answer("Hello world, how are you?")
    with track_usage() as usage:
        list(client.chat.completions.create(**ASK, stream=True))
    assert_billed(usage, server, requests=1, estimated=1)
    # 3 + 1 for the message, 3 for the reply, "say hello to me" is 4; "Hello| world|,| how| are| you|?" is 7.
    assert (usage.input_tokens, usage.output_tokens) == (11, 7)


@pytest.mark.parametrize("how", ["break", "close", "with", "dropped", "left open"])
def test_broken_off_by_the_user(how, server, client):
    server.answer("Hello world, how are you?", chunk_delay=0.05)
    with track_usage() as usage:
        stream = client.chat.completions.create(**ASK, **streamed())
        next(stream)
        assert "Hello" in str(next(stream))
        if how == "break":
            for _ in stream:
                break
        elif how == "close":
            stream.close()
        elif how == "with":
            with stream:
                pass
        elif how == "dropped":
            del stream
            gc.collect()
    # Some of it was generated, nobody was told how much of it is billed: an estimate of what came, and it says so.
    assert (usage.requests, usage.estimated_requests) == (1, 1)
    assert usage.input_tokens == 11
    assert 1 <= usage.output_tokens <= 7


async def test_broken_off_by_the_user_async(server, async_client):
    server.answer("Hello world, how are you?", chunk_delay=0.05)
    with track_usage() as usage:
        async with await async_client.chat.completions.create(**ASK, **streamed()) as stream:
            async for event in stream:
                if "Hello" in str(event):
                    break
    assert (usage.requests, usage.estimated_requests, usage.output_tokens) == (1, 1, 1)


def test_a_stream_that_goes_on_after_the_block(server, client):
    server.answer("Hello world, how are you?")
    with track_usage() as whole:
        with track_usage() as usage:
            stream = client.chat.completions.create(**ASK, **streamed())
            next(stream)
        assert (usage.requests, usage.estimated_requests) == (1, 1)
        assert whole.requests == 0
        list(stream)
    assert_billed(whole, server, requests=1)
    assert (usage.requests, usage.estimated_requests) == (1, 1)


def test_cut_by_the_server(server, client):
    server.answer("Hello world, how are you?", cut_after=3)
    with track_usage() as usage, pytest.raises((openai.APIError, httpx.HTTPError, httpx2.HTTPError)):
        list(client.chat.completions.create(**ASK, **streamed()))
    assert (usage.requests, usage.estimated_requests, usage.output_tokens) == (1, 1, 3)  # "Hello| world|,"


def test_cut_by_the_server_before_its_whole_body_came(server, client):
    server.answer("Hello world, how are you?", cut_after=30)
    with track_usage() as usage, pytest.raises(openai.APIError):
        client.chat.completions.create(**ASK)
    assert usage.requests == 1
    assert usage.estimated_requests + usage.unmeasured_requests == 1


def test_an_error_event_in_the_stream(server, client):
    events = [
        {"id": "c", "model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": "Hello"}}]},
        {"error": {"message": "overloaded", "type": "server_error"}},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    server.answer(body=body, headers={"x-kind": "stream"})
    with track_usage() as usage, pytest.raises(openai.APIError, match="overloaded"):
        list(client.chat.completions.create(**ASK, **streamed()))
    assert usage.requests == usage.estimated_requests + usage.unmeasured_requests == 1


@pytest.mark.parametrize("repeated", ["twice", "cumulative"])
def test_usage_that_is_repeated_or_grows_counts_once(repeated, server, client):
    said = [(4, 9), (4, 9)] if repeated == "twice" else [(4, 1), (4, 5), (4, 9)]
    events = [
        {
            "id": "c",
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "delta": {"content": "x"}}],
            "usage": {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out},
        }
        for into, out in said
    ]
    server.answer(body="".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n")
    with track_usage() as usage:
        list(client.chat.completions.create(**ASK, **streamed()))
    assert (usage.requests, usage.input_tokens, usage.output_tokens, usage.estimated_requests) == (1, 4, 9, 0)


async def test_cut_off_by_wait_for(server, async_client):
    server.answer(delay=0.6)
    with track_usage() as usage, pytest.raises(TimeoutError):
        await asyncio.wait_for(async_client.chat.completions.create(**ASK), 0.25)
    assert len(server.bills) == 1
    assert (usage.requests, usage.unmeasured_requests) == (1, 1)


async def test_cut_off_by_wait_for_within_a_stream(server, async_client):
    server.script([Answer(text="Hello world, how are you?", chunk_delay=0.08)])

    async def read():
        async for _ in await async_client.chat.completions.create(**ASK, **streamed()):
            pass

    with track_usage() as usage:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(), 0.35)
        gc.collect()
    assert (usage.requests, usage.estimated_requests + usage.unmeasured_requests) == (1, 1)


@LIBRARIES
def test_every_way_to_send_with_httpx(library, server):
    url = server.openai_url + CHAT
    with track_usage() as usage:
        assert library.post(url, json=chat_request()).status_code == 200
        assert library.request("POST", url, json=chat_request()).json()["usage"]
        with library.stream("POST", url, json=chat_request()) as response:
            assert response.read()
        with library.Client() as client:
            client.post(url, json=chat_request())
            client.send(client.build_request("POST", url, json=chat_request()))
            with client.stream("POST", url, json=chat_request(**streamed())) as response:
                assert [line for line in response.iter_lines() if line]
            with client.stream("POST", url, json=chat_request(**streamed())) as response:
                assert b"".join(response.iter_raw())
        with library.Client(transport=library.HTTPTransport(retries=1)) as client:
            client.post(url, content=json.dumps(chat_request()))
    assert_billed(usage, server, requests=8)


@LIBRARIES
async def test_every_way_to_send_with_httpx_async(library, server):
    url = server.openai_url + CHAT
    with track_usage() as usage:
        async with library.AsyncClient() as client:
            await client.post(url, json=chat_request())
            async with client.stream("POST", url, json=chat_request(**streamed())) as response:
                assert [line async for line in response.aiter_lines() if line]
            async with client.stream("POST", url, json=chat_request()) as response:
                await response.aread()
    assert_billed(usage, server, requests=3)


@LIBRARIES
def test_transports_of_the_users_own(library, server):
    body = {
        "id": "c",
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }

    class Around(library.BaseTransport):
        def __init__(self):
            self.inner = library.HTTPTransport()

        def handle_request(self, request):
            return self.inner.handle_request(request)

        def close(self):
            self.inner.close()

    with track_usage() as usage:
        with library.Client(transport=library.MockTransport(lambda _: library.Response(200, json=body))) as client:
            client.post("https://api.openai.com/v1/chat/completions", json=chat_request())
            with client.stream("POST", "https://api.openai.com/v1/chat/completions", json=chat_request()) as response:
                response.read()
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 6, 2)
        with library.Client(transport=Around()) as client:
            client.post(server.openai_url + CHAT, json=chat_request())
    assert usage.requests == 3
    assert usage.input_tokens == 6 + server.input_tokens


@LIBRARIES
def test_a_hook_that_raises_for_a_refusal_bills_nothing(library, server):
    server.answer(status=429)
    with (
        library.Client(event_hooks={"response": [lambda response: response.raise_for_status()]}) as client,
        track_usage() as usage,
        pytest.raises(library.HTTPStatusError),
    ):
        client.post(server.openai_url + CHAT, json=chat_request())
    assert usage.requests == 0


@LIBRARIES
def test_chunks_arrive_one_by_one(library, server):
    def read():
        server.script([Answer(text="one two three four", chunk_delay=0.05)])
        seen = []
        with library.stream("POST", server.openai_url + CHAT, json=chat_request(**streamed())) as response:
            seen += [(chunk, time.monotonic()) for chunk in response.iter_raw()]
        return seen

    plain = read()
    with track_usage() as usage:
        tracked = read()
    assert_arrives_alike(plain, tracked)
    assert usage.requests == 1


def assert_arrives_alike(plain, tracked):
    """As many pieces as without the tracker, the first long before the last."""
    assert len(tracked) == len(plain) > 4
    assert [len(chunk) for chunk, _ in tracked] == [len(chunk) for chunk, _ in plain]
    assert tracked[-1][1] - tracked[0][1] > 0.2


def test_the_stream_of_a_response_keeps_its_attributes(server):
    with track_usage(), httpx.stream("POST", server.openai_url + CHAT, json=chat_request(**streamed())) as response:
        assert isinstance(response.stream, httpx.SyncByteStream)
        assert response.extensions["http_version"] == b"HTTP/1.1"
        assert response.num_bytes_downloaded == 0
        response.read()
        assert response.is_stream_consumed


@LIBRARIES
def test_who_stops_at_the_done_mark_has_read_the_usage(library, server):
    ask = {"json": chat_request(**streamed())}
    with track_usage() as usage, library.stream("POST", server.openai_url + CHAT, **ask) as response:
        for line in response.iter_lines():
            if line == "data: [DONE]":
                break
    assert_measured(usage, server, requests=1)


def test_a_fault_in_reading_an_answer_is_recorded_and_raised_to_nobody(server, client, monkeypatch):
    from pytest_tokenbudget.capture import counting

    monkeypatch.setattr(counting.wire, "read", lambda _: 1 / 0)
    with track_usage() as usage:
        assert client.chat.completions.create(**ASK).choices
    with pytest.raises(UnmeasuredUsageError, match="ZeroDivisionError"):
        _ = usage.cost


def test_an_answer_that_is_too_long_to_keep_is_unmeasured(server, client, monkeypatch):
    from pytest_tokenbudget.capture import tracked_request

    monkeypatch.setattr(tracked_request, "MAX_BODY_BYTES", 100)
    with track_usage() as usage:
        client.chat.completions.create(**ASK)
    assert (usage.requests, usage.unmeasured_requests) == (1, 1)


@pytest.mark.filterwarnings("ignore:The model .* is deprecated")
def test_anthropic(server):
    anthropic = pytest.importorskip("anthropic")
    ask = {"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": GREETING}
    with anthropic.Anthropic(base_url=server.url, api_key="any", max_retries=0) as client, track_usage() as usage:
        client.messages.create(**ask)
        with client.messages.stream(**ask) as stream:
            assert stream.get_final_text()
        assert list(client.messages.create(**ask, stream=True))
    assert_billed(usage, server, requests=3)
