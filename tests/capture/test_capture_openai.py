"""The openai SDK, used directly: every way to ask and to read, against what the server billed."""

from __future__ import annotations

import gzip
import json

import openai
import pytest
from truth import GREETING, assert_billed, assert_measured, chat_request, streamed

from pytest_tokenbudget import track_usage

ASK = {"model": "gpt-4o-mini", "messages": GREETING}


WHOLE = {
    "chat": lambda client: client.chat.completions.create(**ASK),
    "chat with n": lambda client: client.chat.completions.create(**ASK, n=3),
    "chat parse": lambda client: client.chat.completions.parse(**ASK),
    "chat beta parse": lambda client: client.beta.chat.completions.parse(**ASK),
    "completion": lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="one two"),
    "completion n": lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="one two", n=2),
    "completion best_of": lambda client: client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="one two", n=2, best_of=4
    ),
    "completion of a list": lambda client: client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt=["one two", "three"], n=2
    ),
    "embeddings": lambda client: client.embeddings.create(model="text-embedding-3-small", input="one two"),
    "embeddings of a list": lambda client: client.embeddings.create(
        model="text-embedding-3-small", input=["one two", "three"]
    ),
    "embeddings as floats": lambda client: client.embeddings.create(
        model="text-embedding-3-small", input=[[1, 2, 3]], encoding_format="float"
    ),
    "responses": lambda client: client.responses.create(
        model="gpt-4o-mini", input="one two", instructions="be brief"
    ),
    "responses parse": lambda client: client.responses.parse(model="gpt-4o-mini", input="one two"),
    "raw response": lambda client: client.chat.completions.with_raw_response.create(**ASK),
    "with options": lambda client: client.with_options(max_retries=1).chat.completions.create(**ASK),
    "post": lambda client: client.post("/chat/completions", body=chat_request(), cast_to=object),
}


@pytest.mark.parametrize("way", WHOLE)
def test_whole_answers(way, server, client):
    with track_usage() as usage:
        WHOLE[way](client)
    assert_billed(usage, server, requests=1)


@pytest.mark.parametrize("way", WHOLE)
async def test_whole_answers_async(way, server, async_client):
    with track_usage() as usage:
        await WHOLE[way](async_client)
    assert_billed(usage, server, requests=1)


def test_tools_reasoning_and_cache_are_told(server, client):
    server.answer("done", cached_tokens=2, reasoning_tokens=7, input_tokens=9)
    with track_usage() as usage:
        client.chat.completions.create(
            **ASK, tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}]
        )
    assert_billed(usage, server, requests=1)
    assert (usage.cached_input_tokens, usage.reasoning_tokens) == (2, 7)
    assert (usage.prompt_tokens_cached, usage.prompt_tokens) == (2, 9)


def test_streaming_response_read_in_each_way(server, client):
    asked = client.chat.completions.with_streaming_response
    with track_usage() as usage:
        with asked.create(**ASK) as response:
            response.parse()
        with asked.create(**ASK) as response:
            response.read()
        with asked.create(**ASK) as response:
            assert len(list(response.iter_lines())) == 1
        with asked.create(**ASK) as response:
            assert b"".join(response.iter_bytes()).startswith(b"{")
    assert_billed(usage, server, requests=4)


async def test_streaming_response_async(server, async_client):
    with track_usage() as usage:
        async with async_client.chat.completions.with_streaming_response.create(**ASK) as response:
            await response.parse()
        async with async_client.chat.completions.with_streaming_response.create(**ASK) as response:
            assert [line async for line in response.iter_lines()]
    assert_billed(usage, server, requests=2)


def test_streaming_response_never_read_is_labelled(server, client):
    with track_usage() as usage, client.chat.completions.with_streaming_response.create(**ASK):
        pass
    assert usage.requests == 1
    assert usage.estimated_requests + usage.unmeasured_requests == 1


def test_chat_stream_helper(server, client):
    with track_usage() as usage:
        with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            kinds = [event.type for event in stream]
        with client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            stream.get_final_completion()
        with client.beta.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            stream.until_done()
    assert kinds.count("content.delta") > 2
    assert_billed(usage, server, requests=3)


async def test_chat_stream_helper_async(server, async_client):
    with track_usage() as usage:
        async with async_client.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            assert [event async for event in stream]
    assert_billed(usage, server, requests=1)


def test_responses_streams(server, client):
    with track_usage() as usage:
        with client.responses.stream(model="gpt-4o-mini", input="one two") as stream:
            assert stream.get_final_response().output_text
        assert list(client.responses.create(model="gpt-4o-mini", input="one two", stream=True))
    assert_billed(usage, server, requests=2)


async def test_responses_streams_async(server, async_client):
    with track_usage() as usage:
        async with async_client.responses.stream(model="gpt-4o-mini", input="one two") as stream:
            await stream.get_final_response()
        async for _ in await async_client.responses.create(model="gpt-4o-mini", input="one two", stream=True):
            pass
    assert_billed(usage, server, requests=2)


def test_azure(server):
    with (
        openai.AzureOpenAI(azure_endpoint=server.url, api_key="any", api_version="2024-10-21") as client,
        track_usage() as usage,
    ):
        client.chat.completions.create(**ASK)
        list(client.chat.completions.create(**ASK, **streamed()))
    assert_billed(usage, server, requests=2)
    assert {call.endpoint for call in usage.calls} == {"/openai/deployments/gpt-4o-mini/chat/completions"}


@pytest.mark.parametrize("status", [429, 500, 408])
def test_a_retry_is_one_request(status, server, client):
    server.answer(status=status, headers={"retry-after-ms": "1"})
    with track_usage() as usage:
        client.with_options(max_retries=2).chat.completions.create(**ASK)
    assert len(server.ledger) == 2
    assert_billed(usage, server, requests=1)


async def test_a_retry_is_one_request_async(server, async_client):
    server.answer(status=429, headers={"retry-after-ms": "1"})
    with track_usage() as usage:
        await async_client.with_options(max_retries=2).chat.completions.create(**ASK)
    assert_billed(usage, server, requests=1)


def test_an_error_costs_nothing_and_is_raised_as_ever(server, client):
    server.answer(status=400)
    with track_usage() as usage, pytest.raises(openai.BadRequestError, match="Scripted failure"):
        client.chat.completions.create(**ASK)
    assert (usage.requests, usage.cost) == (0, 0)


def test_a_timeout_and_its_retry_are_two_requests(server, client):
    server.answer(delay=0.6)
    with track_usage() as usage:
        client.with_options(timeout=0.2, max_retries=1).chat.completions.create(**ASK)
    assert len(server.bills) == 2
    assert (usage.requests, usage.unmeasured_requests) == (2, 1)


def test_nobody_listens(server):
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="any", max_retries=0) as client,
        track_usage() as usage,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**ASK)
    assert usage.requests == 0


@pytest.mark.parametrize("said", ["omitted", "null", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}])
def test_what_says_nothing_is_estimated(said, server, client):
    server.answer("well then", usage=said)
    with track_usage() as usage:
        client.chat.completions.create(**ASK)
    assert usage.requests == usage.estimated_requests == 1
    # OpenAI's cookbook: 3 a message, 1 for its role, 3 for the reply; and "say hello to me" is 4 tokens.
    assert (usage.input_tokens, usage.output_tokens) == (3 + 1 + 3 + 4, 2)


@pytest.mark.parametrize(
    "said",
    [
        {"prompt_tokens": -1, "completion_tokens": 3, "total_tokens": 2},
        {"prompt_tokens": 4.5, "completion_tokens": 3, "total_tokens": 7.5},
        {"prompt_tokens": "4", "completion_tokens": 3, "total_tokens": 7},
        {"prompt_tokens": 10**15, "completion_tokens": 3, "total_tokens": 10**15 + 3},
    ],
)
def test_what_can_not_be_believed_is_unmeasured(said, server, client):
    server.answer("well then", usage=said)
    with track_usage() as usage:
        client.chat.completions.with_raw_response.create(**ASK)
    assert (usage.requests, usage.input_tokens) == (1, 0)
    assert usage.unmeasured_requests == 1


def test_a_total_above_its_parts_is_hidden_output(server, client):
    server.answer("well", usage={"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 20})
    with track_usage() as usage:
        client.chat.completions.create(**ASK)
    assert (usage.input_tokens, usage.output_tokens) == (4, 16)


def test_a_gzipped_answer(server, client):
    server.answer("zipped", gzip=True).answer("zipped stream", gzip=True)
    with track_usage() as usage:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "zipped"
        list(client.chat.completions.create(**ASK, **streamed()))
    assert_measured(usage, server, requests=2)


@pytest.mark.parametrize(
    "body", ["", "not json", '{"id": "x", "choices": [', "[]", b"\xff\xfe", gzip.compress(b"{}", mtime=0), "null"]
)
def test_a_malformed_answer_is_never_zero(body, server, client):
    server.answer(body=body)
    with track_usage() as usage:
        try:
            client.chat.completions.create(**ASK)
        except Exception as error:
            told = repr(error)
        else:
            told = ""
    assert "tokenbudget" not in told
    assert usage.requests == usage.estimated_requests + usage.unmeasured_requests == 1


def test_two_answers_with_one_id_are_two_requests(server, client):
    body = {
        "id": "chatcmpl-same",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
    server.answer(body=body).answer(body=json.dumps(body))
    with track_usage() as usage:
        client.chat.completions.create(**ASK)
        client.chat.completions.create(**ASK)
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 10, 2)


def test_what_is_no_model_request_is_none(server, client):
    with track_usage() as usage, pytest.raises(openai.NotFoundError):
        client.models.list()
    assert usage.requests == 0


def test_the_same_answer_comes_back(server, client):
    server.answer("the very same")
    plain = client.chat.completions.with_raw_response.create(**ASK)
    server.answer("the very same")
    with track_usage():
        tracked = client.chat.completions.with_raw_response.create(**ASK)
    assert type(tracked.http_response) is type(plain.http_response)
    assert tracked.parse().choices == plain.parse().choices
    assert tracked.http_response.headers["x-request-id"] != plain.http_response.headers["x-request-id"]
