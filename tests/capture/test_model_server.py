from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import threading
import time

import openai
import pytest
from model_server import Answer, ModelServer, ToolCall

JOKE = [{"role": "user", "content": "Tell me a joke"}]


def post(server, path, body, *, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"} | (headers or {}))
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def events(raw):
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_bills_a_word_as_a_token_and_echoes(server, client):
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=JOKE)
    assert answer.choices[0].message.content == "You said: Tell me a joke"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 6, 10)
    (bill,) = server.bills
    assert (bill.input_tokens, bill.output_tokens, bill.reported, bill.complete) == (4, 6, True, True)
    assert (bill.id, bill.endpoint, bill.prompt) == (answer.id, "/v1/chat/completions", "Tell me a joke")


def test_scripted_answers_come_in_order(server, client):
    server.script([Answer(text="one"), Answer(text="two", input_tokens=11, output_tokens=13, model="gpt-4-0613")])
    first, second = (client.chat.completions.create(model="gpt-4", messages=JOKE) for _ in range(2))
    assert (first.choices[0].message.content, first.model) == ("one", "gpt-4")
    assert (second.choices[0].message.content, second.model) == ("two", "gpt-4-0613")
    assert (second.usage.prompt_tokens, second.usage.completion_tokens) == (11, 13)
    assert (server.input_tokens, server.output_tokens, server.unplayed) == (15, 14, ())


def test_an_answer_can_wait_for_its_prompt(server, client):
    server.answer("about fish", to="fish").answer("about birds", to="birds")
    asked = [{"role": "user", "content": "birds, please"}]
    assert client.chat.completions.create(model="m", messages=asked).choices[0].message.content == "about birds"
    assert [left.to for left in server.unplayed] == ["fish"]


def test_chat_overhead_is_billed_for_messages_and_for_the_request():
    with ModelServer(tokens_per_message=4, tokens_per_chat=3) as server:
        post(server, "/v1/chat/completions", {"model": "m", "messages": JOKE})
        post(server, "/v1/completions", {"model": "m", "prompt": "Tell me a joke"})
        assert [bill.input_tokens for bill in server.bills] == [4 + 4 + 3, 4]


@pytest.mark.parametrize("asked", [True, False])
def test_chat_stream_sends_usage_only_when_asked(server, client, asked):
    server.answer("why not", output_tokens=9, cached_tokens=2, reasoning_tokens=7)
    options = {"stream_options": {"include_usage": True}} if asked else {}
    stream = client.chat.completions.create(model="gpt-4o", messages=JOKE, n=2, stream=True, **options)
    chunks = list(stream)
    said = ["".join(c.delta.content or "" for x in chunks for c in x.choices if c.index == i) for i in (0, 1)]
    assert said == ["why not", "why not"]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == asked
    if asked:
        assert not chunks[-1].choices
        assert (usages[0].prompt_tokens, usages[0].completion_tokens) == (4, 9)
        assert usages[0].prompt_tokens_details.cached_tokens == 2
        assert usages[0].completion_tokens_details.reasoning_tokens == 7
    (bill,) = server.bills
    assert (bill.output_tokens, bill.stream, bill.reported, bill.complete) == (9, True, asked, True)


def test_stream_arrives_event_by_event(server):
    server.answer("a b c", chunk_delay=0.05)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "m", "messages": JOKE, "stream": True}))
    answer = connection.getresponse()
    assert answer.getheader("transfer-encoding") == "chunked"
    started = time.monotonic()
    answer.readline()
    first = time.monotonic() - started
    answer.read()
    assert time.monotonic() - started > first + 0.15
    connection.close()


@pytest.mark.parametrize("stream", [True, False])
def test_tool_calls(server, client, stream):
    server.answer(tool_calls=(ToolCall(name="add", arguments={"a": 1, "b": 2}), ToolCall(name="now")))
    answer = client.chat.completions.create(model="gpt-4o", messages=JOKE, stream=stream)
    if stream:
        heard = {}
        for chunk in answer:
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    name, arguments = heard.get(call.index, ("", ""))
                    heard[call.index] = (name + (call.function.name or ""), arguments + call.function.arguments)
        calls = list(heard.values())
    else:
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = [(call.function.name, call.function.arguments) for call in answer.choices[0].message.tool_calls]
    assert calls == [("add", '{"a": 1, "b": 2}'), ("now", "{}")]
    assert server.bills[0].output_tokens == 5 + 2


def test_best_of_bills_every_candidate(server, client):
    server.answer(("one", "two words", "three more words"))
    answer = client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Tell me a joke", n=2, best_of=3)
    assert [choice.text for choice in answer.choices] == ["one", "two words"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 1 + 2 + 3)
    assert server.bills[0].texts == ("one", "two words", "three more words")


def test_completions_of_a_batch_are_one_request(server, client):
    answer = client.completions.create(model="m", prompt=["a b", "c"], n=2)
    assert [choice.text for choice in answer.choices] == ["You said: a b"] * 2 + ["You said: c"] * 2
    (bill,) = server.bills
    assert (bill.input_tokens, bill.output_tokens) == (3, 4 + 4 + 3 + 3)


@pytest.mark.parametrize("asked", [True, False])
def test_completions_stream(server, client, asked):
    server.answer("\n\nwhy not\n")
    options = {"stream_options": {"include_usage": True}} if asked else {}
    chunks = list(client.completions.create(model="m", prompt="Tell me a joke", stream=True, **options))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "\n\nwhy not\n"
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([4 + 2] if asked else [])
    assert server.bills[0].reported is asked


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_bill_their_input_only(server, client, encoding):
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a b", "c"], encoding_format=encoding)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    assert (server.bills[0].input_tokens, server.bills[0].output_tokens) == (3, 0)
    assert len(answer.data) == 2


def test_embeddings_are_the_same_in_both_encodings(server, client):
    packed = client.embeddings.create(model="m", input="a b")  # the SDK asks for base64, and decodes it
    plain = client.embeddings.create(model="m", input="a b", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_embeddings_of_token_numbers(server, client):
    client.embeddings.create(model="m", input=[[1, 2, 3], [4]])
    assert server.input_tokens == 4


def test_responses(server, client):
    server.answer("why not", cached_tokens=1, reasoning_tokens=5)
    answer = client.responses.create(model="gpt-4o", instructions="be brief", input="Tell me a joke")
    assert answer.output_text == "why not"
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (6, 7, 13)
    assert answer.usage.input_tokens_details.cached_tokens == 1
    assert answer.usage.output_tokens_details.reasoning_tokens == 5
    assert (server.input_tokens, server.output_tokens, server.bills[0].id) == (6, 7, answer.id)


def test_responses_stream(server, client):
    server.answer("why not")
    heard = list(client.responses.create(model="gpt-4o", input="Tell me a joke", stream=True))
    assert (heard[0].type, heard[-1].type) == ("response.created", "response.completed")
    assert "".join(e.delta for e in heard if e.type == "response.output_text.delta") == "why not"
    assert [e.sequence_number for e in heard] == list(range(len(heard)))
    assert heard[0].response.usage is None
    assert heard[-1].response.usage.total_tokens == 4 + 2
    assert server.bills[0].reported


def test_responses_stream_of_a_tool_call(server, client):
    server.answer(tool_calls=(ToolCall(name="add", arguments={"a": 1}),))
    heard = list(client.responses.create(model="gpt-4o", input="Add", stream=True))
    (call,) = heard[-1].response.output
    assert (call.name, call.arguments) == ("add", '{"a": 1}')


def test_azure_paths(server):
    with openai.AzureOpenAI(azure_endpoint=server.url, api_key="any", api_version="2024-10-21") as client:
        server.answer("why not", model="gpt-4o-2024-08-06")
        answer = client.chat.completions.create(model="my-deployment", messages=JOKE)
        assert answer.model == "gpt-4o-2024-08-06"
        chunks = list(client.chat.completions.create(model="my-deployment", messages=JOKE, stream=True))
        assert (chunks[0].model, chunks[0].choices) == ("", [])
    assert server.bills[0].endpoint == "/openai/deployments/my-deployment/chat/completions"
    assert server.bills[0].requested_model == "my-deployment"


def test_async_client(server):
    async def ask_three_times():
        async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="any") as client:
            calls = (client.chat.completions.create(model="m", messages=JOKE) for _ in range(3))
            return await asyncio.gather(*calls)

    answers = asyncio.run(ask_three_times())
    assert {answer.id for answer in answers} == {bill.id for bill in server.bills}
    assert (len(server.bills), server.input_tokens) == (3, 12)


def test_an_error_is_free_and_its_retry_is_not(server):
    server.script([Answer(status=429, headers={"retry-after-ms": "1"}), Answer(status=500), Answer(text="at last")])
    with openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=2) as client:
        answer = client.chat.completions.create(model="m", messages=JOKE)
    assert answer.choices[0].message.content == "at last"
    assert [bill.status for bill in server.ledger] == [429, 500, 200]
    assert [bill.output_tokens for bill in server.ledger] == [0, 0, 2]
    assert len(server.bills) == 1


@pytest.mark.parametrize("usage", ["null", "omitted"])
@pytest.mark.parametrize("stream", [True, False])
def test_usage_can_be_kept_back(server, client, usage, stream):
    server.answer("why not", usage=usage)
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = client.chat.completions.create(model="m", messages=JOKE, **options)
    assert not any(chunk.usage for chunk in answer) if stream else answer.usage is None
    (bill,) = server.bills
    assert (bill.input_tokens, bill.output_tokens, bill.reported) == (4, 2, False)


def test_usage_can_be_wrong(server):
    server.answer("why not", usage={"prompt_tokens": -1, "completion_tokens": "two"})
    _, raw = post(server, "/v1/chat/completions", {"model": "m", "messages": JOKE})
    assert json.loads(raw)["usage"] == {"prompt_tokens": -1, "completion_tokens": "two"}
    assert server.bills[0].input_tokens == 4


def test_a_stream_can_break(server):
    server.answer("a b c d e f", cut_after=3)
    body = {"model": "m", "messages": JOKE, "stream": True}
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(server, "/v1/chat/completions", body)
    assert caught.value.partial.count(b"data: ") == 3
    (bill,) = server.bills
    assert (bill.complete, bill.reported, bill.output_tokens) == (False, False, 6)


def test_a_whole_body_can_break(server):
    server.answer("a b c d e f", cut_after=20)
    with pytest.raises(http.client.IncompleteRead) as caught:
        post(server, "/v1/chat/completions", {"model": "m", "messages": JOKE})
    assert len(caught.value.partial) == 20
    assert not server.bills[0].complete


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_can_be_compressed(server, client, stream):
    server.answer("why not", gzip=True).answer("why not", gzip=True)
    body = {"model": "m", "messages": JOKE, "stream": stream, "stream_options": {"include_usage": True}}
    answer, raw = post(server, "/v1/chat/completions", body)
    assert answer.getheader("content-encoding") == "gzip"
    plain = gzip.decompress(raw)
    assert (events(plain)[-1] if stream else json.loads(plain))["usage"]["completion_tokens"] == 2
    heard = client.chat.completions.create(model="m", messages=JOKE, stream=stream)
    said = "".join(c.choices[0].delta.content or "" for c in heard) if stream else heard.choices[0].message.content
    assert said == "why not"


def test_anthropic(server):
    server.answer("why not", input_tokens=100, cached_tokens=60, cache_write_tokens=30)
    body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "system": "be brief", "messages": JOKE}
    _, raw = post(server, "/v1/messages", body)
    assert json.loads(raw)["usage"] == {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 2,
    }
    assert server.bills[0].prompt == "be brief\nTell me a joke"


def test_anthropic_stream(server):
    server.answer("why not now")
    _, raw = post(server, "/v1/messages", {"model": "m", "max_tokens": 9, "messages": JOKE, "stream": True})
    heard = events(raw)
    assert [each["type"] for each in heard][:1] + [each["type"] for each in heard][-2:] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    assert heard[0]["message"]["usage"]["output_tokens"] == 1
    assert heard[-2]["usage"]["output_tokens"] == 3
    assert "".join(e["delta"]["text"] for e in heard if e["type"] == "content_block_delta") == "why not now"


def test_every_answer_carries_its_date_its_id_and_junk(server):
    answer, _ = post(server, "/v1/chat/completions", {"model": "m", "messages": JOKE})
    assert answer.getheader("date") == "Sun, 22 Nov 2026 10:00:00 GMT"
    assert answer.getheader("x-request-id").startswith("req_")
    assert {"set-cookie", "openai-organization", "cf-ray"} <= {name.lower() for name, _ in answer.getheaders()}


@pytest.mark.parametrize(("path", "body", "status"), [("/v1/nothing", {}, 404), ("/v1/embeddings", None, 200)])
def test_what_is_no_model_request_is_refused_and_free(server, path, body, status):
    answer, raw = post(server, path, body if body is not None else {"model": "m", "input": "a"})
    assert answer.status == status
    assert ("error" in json.loads(raw)) == (status == 404)
    assert len(server.ledger) == (status == 200)


def test_a_client_that_leaves_a_stream_is_billed_as_incomplete(server):
    server.answer("word " * 200, chunk_delay=0.005)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "m", "messages": JOKE, "stream": True}))
    answer = connection.getresponse()
    answer.readline()
    answer.close()
    connection.close()
    deadline = time.monotonic() + 5
    while server.bills[0].complete and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (server.bills[0].complete, server.bills[0].output_tokens) == (False, 200)


def test_stops_at_once_however_slow_its_answers():
    started = time.monotonic()
    with ModelServer() as server:
        server.answer(delay=20)

        def ask():
            with pytest.raises((http.client.HTTPException, OSError)):
                post(server, "/v1/chat/completions", {"model": "m", "messages": JOKE})

        waiting = threading.Thread(target=ask)
        waiting.start()
        while not server.ledger:
            time.sleep(0.01)
    waiting.join(5)
    assert not waiting.is_alive()
    assert time.monotonic() - started < 5


def test_forty_threads_are_each_billed_once(server):
    def ask(number):
        post(server, "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": f"{number}"}]})

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(int(bill.prompt) for bill in server.bills) == list(range(40))
    assert len({bill.id for bill in server.bills}) == 40
