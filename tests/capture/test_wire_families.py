"""Anthropic, Gemini, Bedrock, Cohere and Ollama; every figure here is written by hand."""

from __future__ import annotations

import base64
import binascii
import json
import struct

import pytest

from pytest_tokenbudget.capture.wire import Exchange, read
from pytest_tokenbudget.usage import PromptPart, Usage


def ask(url, answer, request=None, **more):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read(Exchange(method="POST", url=url, request_body=json.dumps(request or {}).encode(), body=body, **more))


def sse(*events):
    return "".join(f"event: {event.get('type', 'x')}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def lines(*objects):
    return "\n".join(json.dumps(each) for each in objects).encode()


# Anthropic

MESSAGES = "https://api.anthropic.com/v1/messages"
ASKED = {"model": "claude-3-5-haiku-latest", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}


def message(usage, **more):
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-5-haiku-20241022"}
    return base | {"content": [{"type": "text", "text": "Hello"}], "usage": usage} | more


def test_anthropics_input_leaves_out_the_cache():
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 50,
        "output_tokens": 7,
    }
    lifetimes = {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}
    reading = ask(MESSAGES, message(usage | {"cache_creation": lifetimes, "service_tier": "standard"}), ASKED)
    assert reading.usage == Usage(
        input_tokens=260, cached_input_tokens=200, cache_write_tokens=50, cache_write_1h_tokens=30, output_tokens=7
    )
    assert (reading.model, reading.provider) == ("claude-3-5-haiku-20241022", "anthropic")
    assert (reading.request_id, reading.service_tier, reading.outputs) == ("msg_1", None, ("Hello",))


@pytest.mark.parametrize(
    ("usage", "tier"),
    [({"service_tier": "batch"}, "batch"), ({"service_tier": "priority"}, "priority"), ({"speed": "fast"}, "fast")],
)
def test_anthropics_tiers(usage, tier):
    assert ask(MESSAGES, message({"input_tokens": 1, "output_tokens": 1} | usage), ASKED).service_tier == tier


def anthropic_stream(*, delta=None, stop="end_turn", complete=True, **more):
    start = message({"input_tokens": 25, "cache_read_input_tokens": 100, "output_tokens": 1}, content=[])
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    ]
    if delta is not None:
        events.append({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": delta})
        events.append({"type": "message_stop"})
    return ask(MESSAGES, sse(*events), ASKED, complete=complete, **more)


def test_message_delta_overrides_message_start():
    reading = anthropic_stream(delta={"output_tokens": 15})
    assert reading.usage == Usage(input_tokens=125, cached_input_tokens=100, output_tokens=15)
    assert (reading.outputs, reading.request_id, reading.model) == (("Hello",), "msg_1", "claude-3-5-haiku-20241022")
    reading = anthropic_stream(delta={"input_tokens": 30, "cache_read_input_tokens": None, "output_tokens": 15})
    assert reading.usage == Usage(input_tokens=130, cached_input_tokens=100, output_tokens=15)


@pytest.mark.parametrize("complete", [True, False])
def test_the_first_events_usage_is_not_the_final_one(complete):
    reading = anthropic_stream(complete=complete)
    assert (reading.usage, reading.reason) == (None, "the stream ended before its usage came")
    assert reading.outputs == ("Hello",)


def test_a_cut_anthropic_stream_is_believed_where_it_had_stopped():
    assert anthropic_stream(delta={"output_tokens": 15}, complete=False).usage.output_tokens == 15
    assert anthropic_stream(delta={"output_tokens": 15}, stop=None, complete=False).usage is None


def test_thinking_is_not_known_from_its_summary():
    usage = {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 6}}
    reading = ask(MESSAGES, message(usage, content=[{"type": "thinking", "thinking": "..."}]), ASKED)
    assert (reading.usage.reasoning_tokens, reading.outputs) == (6, None)


def test_anthropics_prompt():
    request = ASKED | {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "2"}]}]},
        ],
        "tools": [{"name": "add"}],
    }
    prompt = ask(MESSAGES, message({"input_tokens": 1, "output_tokens": 1}), request).prompt
    assert prompt.parts == (
        PromptPart("system", "Be brief."),
        PromptPart("user", "Hi"),
        PromptPart("assistant", 'add{"a":1}'),
        PromptPart("tool", "2"),
        PromptPart("tools", '[{"name":"add"}]'),
    )
    assert not prompt.opaque


@pytest.mark.parametrize(
    "usage", [{}, {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 5}, {"output_tokens": 5}]
)
def test_anthropics_missing_counts_are_unmeasured(usage):
    reading = ask(MESSAGES, message(usage), ASKED)
    assert reading.usage is None
    assert reading.reason


def test_anthropic_on_vertex_and_behind_a_proxy():
    url = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict"
    reading = ask(url, message({"input_tokens": 5, "output_tokens": 1}), {"anthropic_version": "vertex-2023-10-16"})
    assert (reading.provider, reading.request_model) == ("google", "claude-x@1")
    assert reading.usage == Usage(input_tokens=5, output_tokens=1)
    assert (
        ask("http://localhost:1/v1/messages", message({"input_tokens": 5, "output_tokens": 1})).provider
        == "anthropic"
    )


@pytest.mark.parametrize(
    ("url", "request_body", "answer"),
    [
        ("https://graph.example/v1/messages", {"text": "hi"}, {"id": 1, "type": "message"}),
        ("https://slack.example/messages", {"messages": ["a"]}, {"ok": True}),
        (MESSAGES + "/count_tokens", ASKED, {"input_tokens": 5}),
        (MESSAGES + "/batches", {"requests": []}, {"id": "b", "type": "message_batch"}),
    ],
)
def test_other_messages_are_left_alone(url, request_body, answer):
    assert ask(url, answer, request_body) is None


# Gemini

GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def candidate(text="Hello", finish="STOP"):
    return {"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": finish, "index": 0}


def gemini(**usage):
    return {
        "candidates": [candidate()],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash-001",
        "responseId": "r1",
    }


def test_geminis_thoughts_and_tools_come_apart():
    answer = gemini(
        promptTokenCount=25,
        toolUsePromptTokenCount=1130,
        cachedContentTokenCount=8,
        candidatesTokenCount=49,
        thoughtsTokenCount=38,
        totalTokenCount=1242,
    )
    reading = ask(GEMINI + ":generateContent", answer, CONTENTS)
    assert reading.usage == Usage(input_tokens=1155, cached_input_tokens=8, output_tokens=87, reasoning_tokens=38)
    assert (reading.model, reading.request_model) == ("gemini-2.5-flash-001", "gemini-2.5-flash")
    assert (reading.provider, reading.request_id, reading.outputs) == ("google", "r1", ("Hello",))
    assert reading.prompt.parts == (PromptPart("user", "Hi"),)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"promptTokenCount": 5, "totalTokenCount": 5}, (5, 0)),
        ({"promptTokenCount": 5, "thoughtsTokenCount": 4, "totalTokenCount": 9}, (5, 4)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 4, "totalTokenCount": 30}, (5, 25)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 4}, (5, 4)),
        ({"promptTokenCount": 5, "candidatesTokenCount": 4, "thoughtsTokenCount": 3}, (5, 7)),
    ],
)
def test_geminis_counts_that_are_left_out(usage, expected):
    found = ask(GEMINI + ":generateContent", gemini(**usage), CONTENTS).usage
    assert (found.input_tokens, found.output_tokens) == expected


@pytest.mark.parametrize("usage", [{}, {"totalTokenCount": 9}, {"promptTokenCount": 0}, {"promptTokenCount": "5"}])
def test_geminis_unbelievable_counts(usage):
    assert ask(GEMINI + ":generateContent", gemini(**usage), CONTENTS).usage is None


@pytest.mark.parametrize("form", ["sse", "array", "cut array"])
def test_geminis_streams_are_cumulative(form):
    events = [
        {"candidates": [candidate("Hel", None)], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1}},
        {"candidates": [candidate("lo")], "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2}},
    ]
    body = sse(*events) if form == "sse" else json.dumps(events).encode()
    body = body[:-1] + b",\r\n" if form == "cut array" else body
    reading = ask(GEMINI + ":streamGenerateContent?alt=sse", body, CONTENTS, complete=form != "cut array")
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=5, output_tokens=2), ("Hello",))
    first = json.dumps(events)[:-1].encode() if form != "sse" else sse(events[0])
    first = first[: first.index(b"}, {") + 3] if form != "sse" else first
    assert ask(GEMINI + ":streamGenerateContent", first, CONTENTS, complete=False).usage is None


def test_gemini_by_modality_and_tier():
    details = [{"modality": "TEXT", "tokenCount": 5}, {"modality": "AUDIO", "tokenCount": 20}]
    image = [{"modality": "IMAGE", "tokenCount": 1290}]
    answer = gemini(
        promptTokenCount=25,
        candidatesTokenCount=1290,
        promptTokensDetails=details,
        candidatesTokensDetails=image,
        trafficType="ON_DEMAND_FLEX",
    )
    reading = ask(GEMINI + ":generateContent", answer, CONTENTS)
    assert (reading.usage.input_audio_tokens, reading.usage.output_image_tokens) == (20, 1290)
    assert reading.service_tier == "flex"
    assert ask(GEMINI + ":generateContent", gemini(promptTokenCount=1, trafficType="ON_DEMAND")).service_tier is None


def test_google_embeddings():
    batch = {"requests": [{"content": {"parts": [{"text": "a"}]}}]}
    reading = ask(GEMINI + ":batchEmbedContents", {"embeddings": [{"values": [1]}]}, batch)
    assert (reading.usage, reading.reason, reading.outputs) == (None, "no usage was reported", ())
    url = "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict"
    predictions = [{"embeddings": {"values": [1], "statistics": {"token_count": count}}} for count in (4, 5)]
    reading = ask(url, {"predictions": predictions}, {"instances": [{"content": "a"}, {"content": "b"}]})
    assert (reading.usage, reading.model) == (Usage(input_tokens=9), "text-embedding-005")


def test_counting_tokens_is_not_billed():
    assert ask(GEMINI + ":countTokens", {"totalTokens": 9}, CONTENTS) is None


def test_googles_interactions():
    url = "https://generativelanguage.googleapis.com/v1beta/interactions"
    usage = {"total_input_tokens": 7, "total_output_tokens": 20, "total_thought_tokens": 22, "total_tokens": 49}
    answer = {"id": "i1", "object": "interaction", "model": "gemini-3-flash", "status": "completed", "usage": usage}
    asked = {"model": "gemini-3-flash", "input": "Hi"}
    reading = ask(url, answer, asked)
    assert reading.usage == Usage(input_tokens=7, output_tokens=42, reasoning_tokens=22)
    assert (reading.provider, reading.request_id, reading.prompt.opaque) == ("google", "i1", False)
    start = {"event_type": "interaction.start", "interaction": {"id": "i1", "model": "gemini-3-flash"}}
    body = sse(start, {"event_type": "interaction.complete", "interaction": {"id": "i1", "usage": usage}})
    assert ask(url, body, asked).usage == reading.usage
    assert ask(url, sse(start), asked, complete=False).usage is None
    assert ask(url, answer | {"status": "in_progress", "usage": None}, asked).pending
    assert ask("http://localhost/interactions", {"clicks": 1}, {"x": 2}) is None


# Bedrock

BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/"


def frame(name, payload):
    headers = b""
    for key, value in ((b":event-type", name.encode()), (b":message-type", b"event")):
        headers += bytes([len(key)]) + key + b"\x07" + struct.pack(">H", len(value)) + value
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", binascii.crc32(whole))


def chunk(data):
    return frame(
        "chunk", json.dumps({"bytes": base64.b64encode(json.dumps(data).encode()).decode(), "p": "ab"}).encode()
    )


def test_converse():
    usage = {
        "inputTokens": 10,
        "cacheReadInputTokens": 100,
        "cacheWriteInputTokens": 20,
        "outputTokens": 5,
        "totalTokens": 135,
    }
    answer = {"output": {"message": {"content": [{"text": "Hello"}]}}, "usage": usage}
    request = {"system": [{"text": "Be brief."}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    reading = ask(BEDROCK + "us.anthropic.claude-3-5-haiku-20241022-v1%3A0/converse", answer, request)
    assert reading.usage == Usage(input_tokens=130, cached_input_tokens=100, cache_write_tokens=20, output_tokens=5)
    assert (reading.model, reading.provider) == ("us.anthropic.claude-3-5-haiku-20241022-v1:0", "aws")
    assert reading.prompt.parts == (PromptPart("system", "Be brief."), PromptPart("user", "Hi"))
    assert reading.outputs == ("Hello",)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        (
            "arn%3Aaws%3Abedrock%3Aus-west-2%3A1%3Ainference-profile%2Fus.amazon.nova-lite-v1%3A0",
            "us.amazon.nova-lite-v1:0",
        ),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-v1", "amazon.titan-v1"),
        (
            "arn%3Aaws%3Abedrock%3Aus-west-2%3A1%3Aapplication-inference-profile%2Fabc",
            "arn:aws:bedrock:us-west-2:1:application-inference-profile/abc",
        ),
        ("meta.llama3-8b-instruct-v1:0", "meta.llama3-8b-instruct-v1:0"),
    ],
)
def test_bedrocks_models_are_in_the_url(path, model):
    answer = {"usage": {"inputTokens": 1, "outputTokens": 1}}
    assert ask(BEDROCK + path + "/converse", answer, {"messages": []}).model == model


def test_converse_streams():
    body = frame("messageStart", b'{"role":"assistant"}') + frame(
        "contentBlockDelta", b'{"delta":{"text":"Hi"},"p":"x"}'
    )
    whole = body + frame("metadata", b'{"usage":{"inputTokens":8,"outputTokens":10,"totalTokens":18}}')
    reading = ask(BEDROCK + "m/converse-stream", whole, {"messages": []})
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=8, output_tokens=10), ("Hi",))
    for cut in (body, whole[:-1], whole[:5]):
        assert ask(BEDROCK + "m/converse-stream", cut, {"messages": []}, complete=False).usage is None
    damaged = whole[:9] + b"\xff" + whole[10:]
    assert ask(BEDROCK + "m/converse-stream", damaged).reason == "the event stream is damaged"
    failed = body + frame("throttlingException", b'{"message":"slow"}')
    assert "throttlingException" in ask(BEDROCK + "m/converse-stream", failed).reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (message({"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}), (7, 3)),
        ({"usage": {"inputTokens": 5, "outputTokens": 3, "totalTokens": 8}}, (5, 3)),
        ({"inputTextTokenCount": 5, "results": [{"tokenCount": 3}, {"tokenCount": 4}]}, (5, 7)),
        ({"inputTextTokenCount": 5, "embedding": [0.1]}, (5, 0)),
        ({"prompt_token_count": 5, "generation_token_count": 3}, (5, 3)),
        ({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}, (5, 3)),
    ],
)
def test_invoked_models_count_in_their_makers_words(answer, expected):
    usage = ask(BEDROCK + "m/invoke", answer).usage
    assert (usage.input_tokens, usage.output_tokens) == expected


def test_bedrocks_headers_count_where_the_body_does_not():
    headers = {"x-amzn-bedrock-input-token-count": "6", "x-amzn-bedrock-output-token-count": "10"}
    cached = headers | {"x-amzn-bedrock-cache-read-input-token-count": "4"}
    assert ask(BEDROCK + "m/invoke", {"outputs": []}, headers=headers).usage == Usage(
        input_tokens=6, output_tokens=10
    )
    assert ask(BEDROCK + "m/invoke", {"outputs": []}, headers=cached).usage.input_tokens == 10
    for wrong in ("-1", "1.5", "ten", "", "9" * 30):
        broken = headers | {"x-amzn-bedrock-output-token-count": wrong}
        assert ask(BEDROCK + "m/invoke", {"outputs": []}, headers=broken).usage is None
    assert ask(BEDROCK + "m/invoke", {"outputs": []}).usage is None


def test_invoked_streams():
    metrics = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 14, "outputTokenCount": 9}}
    claude = [
        {"type": "message_start", "message": message({"input_tokens": 14, "output_tokens": 1})},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"} | metrics,
    ]
    url = BEDROCK + "anthropic.claude-v2/invoke-with-response-stream"
    reading = ask(url, b"".join(chunk(each) for each in claude))
    assert (reading.usage, reading.model) == (Usage(input_tokens=14, output_tokens=12), "anthropic.claude-v2")
    reading = ask(url, chunk({"outputText": "x"} | metrics))
    assert reading.usage == Usage(input_tokens=14, output_tokens=9)
    assert ask(url, chunk(claude[0]), complete=False).usage is None


def test_an_invoke_of_somebody_else_is_left_alone():
    assert ask("http://localhost:8000/chain/invoke", {"output": "x"}, {"input": "y"}) is None
    assert ask("http://localhost:8000/model/m/invoke", {"output": "x"}, {"input": "y"}) is None


# Cohere

TOKENS = {"billed_units": {"input_tokens": 5, "output_tokens": 9}, "tokens": {"input_tokens": 71, "output_tokens": 9}}


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("https://api.cohere.com/v1/chat", json.dumps({"response_id": "r", "text": "Hi", "meta": TOKENS}).encode()),
        (
            "https://api.cohere.com/v1/chat",
            lines(
                {"event_type": "stream-start", "generation_id": "r"},
                {"event_type": "text-generation", "text": "Hi"},
                {"event_type": "stream-end", "response": {"text": "Hi", "meta": TOKENS}},
            ),
        ),
        (
            "https://api.cohere.com/v2/chat",
            json.dumps(
                {"id": "r", "message": {"content": [{"type": "text", "text": "Hi"}]}, "usage": TOKENS}
            ).encode(),
        ),
        (
            "http://localhost/v2/chat",
            sse(
                {"type": "message-start", "id": "r"},
                {"type": "content-delta", "delta": {"message": {"content": {"text": "Hi"}}}},
                {"type": "message-end", "delta": {"usage": TOKENS}},
            ),
        ),
    ],
)
def test_cohere_bills_its_billed_units(url, body):
    reading = ask(url, body, {"model": "command-r", "message": "Hey"})
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=5, output_tokens=9), ("Hi",))
    assert (reading.provider, reading.model, reading.request_id) == ("cohere", "command-r", "r")


def test_cohere_embeds():
    answer = {"id": "r", "embeddings": {}, "meta": {"billed_units": {"input_tokens": 12}}}
    reading = ask("https://api.cohere.com/v2/embed", answer, {"model": "embed-v4.0", "texts": ["a"]})
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=12), ())


def test_a_chat_that_is_not_coheres_is_left_alone():
    assert ask("http://localhost:3000/v1/chat", {"reply": "x"}, {"message": "y"}) is None
    cut = lines({"event_type": "text-generation", "text": "Hi"})
    assert ask("https://api.cohere.com/v1/chat", cut, {"message": "y"}, complete=False).usage is None


# Ollama


def test_ollamas_last_line_counts():
    body = lines(
        {"model": "llama3.2", "created_at": "t", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "llama3.2", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {"model": "llama3.2", "done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 298},
    )
    request = {"model": "llama3.2", "messages": [{"role": "user", "content": "Hi"}]}
    reading = ask("http://localhost:11434/api/chat", body, request)
    assert reading.usage == Usage(input_tokens=26, output_tokens=298)
    assert (reading.provider, reading.model, reading.outputs) == ("ollama", "llama3.2", ("Hello",))
    reading = ask("http://localhost:11434/api/chat", body[: body.rindex(b"\n")], request, complete=False)
    assert (reading.usage, reading.reason) == (None, "the stream ended before its usage came")


def test_ollama_generates_and_embeds():
    answer = {"model": "llama3.2", "response": "Hi", "done": True, "prompt_eval_count": 26, "eval_count": 2}
    reading = ask("http://localhost:11434/api/generate", answer, {"model": "llama3.2", "prompt": "Hey"})
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=26, output_tokens=2), ("Hi",))
    answer = {"model": "m", "embeddings": [[0.1]], "prompt_eval_count": 8}
    assert ask("http://localhost:11434/api/embed", answer, {"model": "m", "input": "x"}).usage == Usage(
        input_tokens=8
    )


def test_ollamas_evaluated_prompt_may_be_missing():
    answer = {"model": "m", "response": "Hi", "done": True, "eval_count": 2}
    reading = ask("http://localhost:11434/api/generate", answer, {"model": "m", "prompt": "Hey"})
    assert (reading.usage, reading.reason) == (None, "no input count was reported")


def test_loading_a_model_is_no_request():
    answer = {"model": "m", "response": "", "done": True, "done_reason": "load"}
    assert ask("http://localhost:11434/api/generate", answer, {"model": "m"}) is None


def test_an_api_chat_of_somebody_else_is_left_alone():
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
    assert ask("http://localhost:3000/api/chat", {"reply": "x"}, request) is None
