"""OpenAI's formats and their deviations; every figure here is written by hand."""

from __future__ import annotations

import json

import pytest

from pytest_tokenbudget.capture.wire import Exchange, read
from pytest_tokenbudget.usage import PromptPart, Usage

CHAT = "https://api.openai.com/v1/chat/completions"
ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}
CHOICES = [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}]


def ask(answer, *, url=CHAT, request=ASKED, **more):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    asked = request if isinstance(request, bytes) else json.dumps(request).encode()
    return read(Exchange(method="POST", url=url, request_body=asked, body=body, **more))


def chat(usage, **more):
    return ask({"id": "chatcmpl-1", "model": "gpt-4o-mini-2024-07-18", "choices": CHOICES, "usage": usage} | more)


def stream(*events, done=True, complete=True, url=CHAT, request=ASKED, end="\n\n", headers=None):
    pieces = [f"data: {json.dumps(event)}{end}" for event in events]
    body = "".join([*pieces, f"data: [DONE]{end}"] if done else pieces).encode()
    return ask(body, url=url, request=request, complete=complete, headers=headers or {})


def chunk(text=None, *, index=0, finish=None, usage="absent", **more):
    delta = {} if text is None else {"content": text}
    event = {
        "id": "c1",
        "model": "gpt-4o-mini",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }
    return event | ({} if usage == "absent" else {"usage": usage}) | more


def counts(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion} | more


def test_a_chat_completion_with_all_its_parts():
    reading = chat(
        counts(
            100,
            50,
            prompt_tokens_details={"cached_tokens": 64, "audio_tokens": 10},
            completion_tokens_details={"reasoning_tokens": 30, "audio_tokens": 5},
        ),
        service_tier="flex",
    )
    assert reading.usage == Usage(
        input_tokens=100,
        cached_input_tokens=64,
        output_tokens=50,
        reasoning_tokens=30,
        input_audio_tokens=10,
        output_audio_tokens=5,
    )
    assert (reading.model, reading.request_model) == ("gpt-4o-mini-2024-07-18", "gpt-4o-mini")
    assert (reading.provider, reading.endpoint) == ("openai", "/v1/chat/completions")
    assert (reading.request_id, reading.service_tier, reading.reason) == ("chatcmpl-1", "flex", None)
    assert reading.outputs == ("Hello",)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (counts(7, 3), (7, 0, 3, 0)),
        ({"prompt_tokens": 7, "total_tokens": 10}, (7, 0, 3, 0)),
        ({"prompt_tokens": 7, "total_tokens": 7}, (7, 0, 0, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3}, (7, 0, 3, 0)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": None}, (7, 0, 3, 0)),
        # hidden thinking: the difference is output
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 110}, (7, 0, 103, 0)),
        # xAI: reasoning is reported apart from the completion, and is inside the total
        (counts(7, 3, total_tokens=110, completion_tokens_details={"reasoning_tokens": 100}), (7, 0, 103, 100)),
        # a total below its parts is not believed
        (counts(7, 3, total_tokens=0), (7, 0, 3, 0)),
        (counts(9, 1, prompt_token_details={"cached_tokens": 4}), (9, 4, 1, 0)),
        (counts(9, 1, prompt_cache_hit_tokens=8, prompt_cache_miss_tokens=1), (9, 8, 1, 0)),
        (counts(9, 1, prompt_tokens_details=None, completion_tokens_details=None), (9, 0, 1, 0)),
        (counts(9, 1, prompt_time=0.25, queue_time=0.5), (9, 0, 1, 0)),
        (counts(9, 5, completion_tokens_details={"reasoning_tokens": 8}), (9, 0, 5, 5)),
    ],
)
def test_how_counts_add_up(usage, expected):
    found = chat(usage).usage
    assert (found.input_tokens, found.cached_input_tokens, found.output_tokens, found.reasoning_tokens) == expected


@pytest.mark.parametrize(
    ("usage", "reason"),
    [
        (None, "no usage"),
        ({}, "no usage"),
        (counts(0, 0), "all zero"),
        ({"total_tokens": 12}, "only a total"),
        ({"completion_tokens": 12, "total_tokens": 14}, "no input"),
        ({"prompt_tokens": 12}, "no output"),
        (counts(-1, 5), "negative"),
        (counts(1, 5, completion_tokens=-5), "negative"),
        ({"prompt_tokens": 1.5, "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": 2.0, "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": True, "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": "9", "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": float("nan"), "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": float("inf"), "completion_tokens": 2}, "whole number"),
        ({"prompt_tokens": 10**30, "completion_tokens": 2}, "large"),
        ({"prompt_tokens": [5], "completion_tokens": 2}, "whole number"),
        (counts(5, 2, total_tokens="7"), "whole number"),
        (counts(5, 2, prompt_tokens_details={"cached_tokens": -1}), "negative"),
        (counts(5, 2, prompt_tokens_details={"cached_tokens": 6}), "more cached"),
        ([5, 2], "no object"),
        ("7 tokens", "no object"),
    ],
)
def test_what_is_not_believed_is_unmeasured_and_never_zero(usage, reason):
    reading = chat(usage)
    assert reading.usage is None
    assert reason in reading.reason
    assert reading.outputs == ("Hello",)


def test_a_number_of_thousands_of_digits_is_unmeasured():
    body = b'{"choices": [], "usage": {"prompt_tokens": ' + b"9" * 5000 + b', "completion_tokens": 1}}'
    assert ask(body).usage is None


def test_the_last_usage_of_a_stream_wins_and_is_not_added_up():
    reading = stream(
        chunk("Hel", usage=counts(9, 1)),
        chunk("lo", usage=counts(9, 2)),
        chunk(finish="stop", usage=counts(9, 3)),
        {"id": "c1", "model": "gpt-4o-mini", "choices": [], "usage": counts(9, 3)},
    )
    assert reading.usage == Usage(input_tokens=9, output_tokens=3)
    assert reading.outputs == ("Hello",)


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\n", "\n: ping\n\n\n"])
@pytest.mark.parametrize("done", [True, False])
def test_streams_with_every_kind_of_line_end(end, done):
    last = {"model": "gpt-4o-mini", "choices": [], "usage": counts(9, 3)}
    reading = stream(chunk("Hel", usage=None), chunk("lo", usage=None), last, end=end, done=done)
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=9, output_tokens=3), ("Hello",))


def test_null_usage_on_every_event_is_no_usage():
    reading = stream(chunk("Hello", usage=None), chunk(finish="stop", usage=None))
    assert (reading.usage, reading.outputs, reading.reason) == (None, ("Hello",), "no usage was reported")


def test_null_choices_and_azures_first_event():
    first = {"choices": [], "model": "", "id": "", "prompt_filter_results": [{"prompt_index": 0}]}
    last = {"model": "gpt-4o", "choices": None, "usage": counts(9, 3)}
    reading = stream(
        first, chunk("Hi", model="gpt-4o"), last, url="https://me.openai.azure.com/openai/v1/chat/completions"
    )
    assert (reading.model, reading.provider, reading.request_id) == ("gpt-4o", "azure", "c1")
    assert reading.usage == Usage(input_tokens=9, output_tokens=3)


def test_groq_reports_at_the_end_under_its_own_name():
    last = chunk(finish="stop", x_groq={"id": "req_1", "usage": counts(9, 3, total_time=0.01)})
    reading = stream(chunk("Hi"), last, url="https://api.groq.com/openai/v1/chat/completions")
    assert (reading.usage, reading.provider) == (Usage(input_tokens=9, output_tokens=3), "groq")


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([chunk("Hel", usage=counts(9, 1)), chunk("lo", usage=counts(9, 2))], None),
        ([chunk("Hel", usage=counts(9, 1)), chunk(finish="stop", usage=counts(9, 2))], (9, 2)),
        ([chunk("Hel"), {"choices": [], "usage": counts(9, 2)}], (9, 2)),
        # one of two choices goes on
        ([chunk("a", index=0), chunk("b", index=1), chunk(index=0, finish="stop", usage=counts(9, 2))], None),
        ([chunk("Hel")], None),
    ],
)
def test_a_cut_stream_believes_a_final_usage_only(events, usage):
    reading = stream(*events, done=False, complete=False)
    assert reading.usage == (None if usage is None else Usage(input_tokens=usage[0], output_tokens=usage[1]))
    assert usage is not None or reading.reason == "the stream ended before its usage came"


def test_an_error_inside_a_200_is_unmeasured():
    reading = stream(
        chunk("Hel", usage=counts(9, 1)), {"error": {"type": "server_error", "message": "boom"}}, done=False
    )
    assert reading.usage is None
    assert "server_error" in reading.reason
    assert "error" in ask({"error": {"message": "quota"}}).reason


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"<html>", b"\xff\xfe", b"data", b"[" * 200_000, b'{"a":' * 200_000, b"123"]
)
def test_bodies_that_hold_nothing_are_unmeasured(body):
    reading = ask(body)
    assert reading.usage is None
    assert reading.reason
    assert reading.outputs is None
    assert reading.model == "gpt-4o-mini"


@pytest.mark.parametrize("status", [199, 302, 400, 401, 404, 429, 500])
def test_only_success_is_billed(status):
    assert ask({"usage": counts(9, 3), "choices": []}, status=status) is None


@pytest.mark.parametrize(
    ("url", "model", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", "x", "openai"),
        ("https://api.openai.com:443/v1/chat/completions?a=b", "x", "openai"),
        ("https://eu.api.openai.com/v1/chat/completions", "x", "openai"),
        ("https://API.MISTRAL.AI/v1/chat/completions", "mistral-small", "mistral"),
        ("https://api.deepseek.com/chat/completions", "deepseek-chat", "deepseek"),
        ("https://api.x.ai/v1/chat/completions", "grok-3", "x-ai"),
        ("https://api.together.xyz/v1/chat/completions", "meta/llama", "together"),
        ("https://api.fireworks.ai/inference/v1/chat/completions", "a", "fireworks"),
        ("https://openrouter.ai/api/v1/chat/completions", "openai/gpt-4o", "openrouter"),
        ("https://api.perplexity.ai/chat/completions", "sonar", "perplexity"),
        ("https://api.cerebras.ai/v1/chat/completions", "llama", "cerebras"),
        ("https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=1", "gpt-4o", "azure"),
        ("https://me.services.ai.azure.com/models/chat/completions", "phi", "azure"),
        ("https://gateway.local/openai/deployments/d/chat/completions", "gpt-4o", "azure"),
        ("https://adb-1.2.azuredatabricks.net/serving-endpoints/chat/completions", "claude", "databricks"),
        ("https://router.huggingface.co/v1/chat/completions", "llama", "huggingface"),
        ("https://router.huggingface.co/together/v1/chat/completions", "llama", "huggingface_together"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "gemini-2.0-flash", "google"),
        ("http://127.0.0.1:8080/v1/chat/completions", "gpt-4o-mini", "openai"),
        ("http://[::1]:8080/v1/chat/completions", "o3-mini", "openai"),
        ("http://localhost:8080/v1/chat/completions", "ft:gpt-4o-mini:org::1", "openai"),
        ("http://localhost:8080/v1/chat/completions", "gpt-oss-20b", ""),
        ("http://localhost:8080/v1/chat/completions", "gpt-j-6b", ""),
        ("http://localhost:8080/v1/chat/completions", "llama3.2", ""),
        ("https://api.openai.com.evil.example/v1/chat/completions", "llama", ""),
        ("https://notopenai.azure.com.example/v1/chat/completions", "llama", ""),
    ],
)
def test_who_bills(url, model, provider):
    answer = {"model": model, "choices": CHOICES, "usage": counts(9, 3)}
    assert ask(answer, url=url, request={"messages": []}).provider == provider


def test_an_azure_deployment_is_the_model_only_where_nothing_else_names_one():
    url = "https://me.openai.azure.com/openai/deployments/my-d/chat/completions?api-version=1"
    answer = {"choices": CHOICES, "usage": counts(9, 3)}
    assert ask(answer, url=url, request={"messages": []}).model == "my-d"
    assert ask(answer, url=url).model == "gpt-4o-mini"
    assert ask(answer | {"model": "gpt-4o-2024-08-06"}, url=url).model == "gpt-4o-2024-08-06"


@pytest.mark.parametrize("tier", [None, "auto", "default", "standard", "on_demand"])
def test_the_standard_tier_has_no_name(tier):
    assert chat(counts(9, 3), service_tier=tier).service_tier is None


def test_a_chat_prompt_by_parts():
    request = ASKED | {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "name": "ann",
                "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"function": {"name": "add", "arguments": '{"a":1}'}}],
            },
            {"role": "function", "name": "add", "content": "2"},
        ],
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "functions": [{"name": "old"}],
    }
    prompt = ask({"choices": CHOICES, "usage": counts(9, 3)}, request=request).prompt
    assert prompt.parts[:4] == (
        PromptPart("system", "Be brief."),
        PromptPart("user", "ann Hi there", named=True),
        PromptPart("assistant", 'add{"a":1}'),
        PromptPart("tool", "add 2", named=True),
    )
    tools = prompt.parts[4]
    assert (tools.role, [each["function"]["name"] for each in json.loads(tools.text)]) == ("tools", ["add", "old"])
    assert (prompt.chat, prompt.opaque, prompt.token_ids) == (True, False, 0)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_what_is_no_text_makes_a_prompt_opaque(kind):
    request = ASKED | {"messages": [{"role": "user", "content": [{"type": kind, kind: {}}]}]}
    assert ask({"choices": CHOICES}, request=request).prompt.opaque


def test_outputs_hold_each_choice_with_its_tool_calls():
    message = {"content": None, "tool_calls": [{"function": {"name": "add", "arguments": '{"a":1}'}}]}
    answer = {"choices": [{"index": 1, "message": message}, {"index": 0, "message": {"content": "Hi"}}]}
    assert ask(answer).outputs == ("Hi", 'add{"a":1}')


@pytest.mark.parametrize(
    "message",
    [{"content": None, "audio": {"data": ""}}, {"content": "x", "images": [{}]}, {"content": [{"type": "odd"}]}],
)
def test_outputs_that_are_no_text_are_not_known(message):
    assert ask({"choices": [{"message": message}]}).outputs is None


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-4o-mini", True),
        ("gpt-4.1", True),
        ("gpt-5-chat-latest", True),
        ("o3-mini", False),
        ("gpt-5-mini", False),
    ],
)
def test_models_that_reason_out_of_sight_have_no_known_output(model, known):
    assert (ask({"model": model, "choices": CHOICES}).outputs is not None) == known


def test_without_reasoning_the_output_is_known_again():
    request = ASKED | {"reasoning_effort": "none"}
    assert ask({"model": "gpt-5.1", "choices": CHOICES}, request=request).outputs == ("Hello",)


COMPLETIONS = "https://api.openai.com/v1/completions"


def complete(request, *texts, usage=None):
    choices = [{"index": index, "text": text, "finish_reason": "stop"} for index, text in enumerate(texts)]
    answer = {"id": "cmpl-1", "object": "text_completion", "model": "gpt-3.5-turbo-instruct", "choices": choices}
    return ask(answer | ({"usage": usage} if usage else {}), url=COMPLETIONS, request={"model": "m"} | request)


def test_a_legacy_completion_of_several_prompts():
    reading = complete({"prompt": ["a", "b"], "n": 1}, "A", "B", usage=counts(2, 2))
    assert reading.usage == Usage(input_tokens=2, output_tokens=2)
    assert reading.prompt.parts == (PromptPart("user", "a"), PromptPart("user", "b"))
    assert (reading.prompt.chat, reading.outputs) == (False, ("A", "B"))


def test_token_numbers_are_counted_as_such():
    assert complete({"prompt": [1, 2, 3]}, "A").prompt.token_ids == 3
    assert complete({"prompt": [[1, 2], [3]]}, "A", "B").prompt.token_ids == 3


def test_hidden_candidates_are_not_known():
    assert complete({"prompt": "a", "n": 2, "best_of": 2}, "A", "B").outputs == ("A", "B")
    assert complete({"prompt": "a", "best_of": 2}, "A").outputs is None


def test_an_echo_is_no_output():
    assert complete({"prompt": ["a", "b"], "echo": True}, "aA", "bB").outputs == ("A", "B")
    assert complete({"prompt": [1], "echo": True}, "aA").outputs is None


def test_a_legacy_stream_joins_the_text_of_each_choice():
    events = [
        {"choices": [{"index": index, "text": text}]} for index, text in ((0, "a"), (1, "x"), (0, "b"), (1, "y"))
    ]
    reading = stream(*events, url=COMPLETIONS, request={"model": "gpt-3.5-turbo-instruct", "prompt": "Hi", "n": 2})
    assert (reading.outputs, reading.usage) == (("ab", "xy"), None)


def test_served_models_by_their_shape():
    url = "https://adb-1.2.azuredatabricks.net/serving-endpoints/my-llm/invocations"
    reading = ask({"choices": CHOICES, "usage": counts(9, 3)}, url=url, request={"messages": []})
    assert (reading.model, reading.provider, reading.usage.total_tokens) == ("my-llm", "databricks", 12)
    answer = {"data": [{"embedding": [1.0]}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    assert ask(answer, url=url, request={"input": "x"}).usage == Usage(input_tokens=4)
    answer = {"choices": [{"text": "x"}], "usage": counts(9, 3)}
    assert ask(answer, url=url, request={"prompt": "x"}).usage.total_tokens == 12
    assert ask({"predictions": [1]}, url=url, request={"inputs": "x"}) is None
    assert ask({"choices": CHOICES, "usage": counts(9, 3)}, url="https://a.example/v1/chat").usage.total_tokens == 12


EMBEDDINGS = "https://api.openai.com/v1/embeddings"


@pytest.mark.parametrize("usage", [{"prompt_tokens": 8, "total_tokens": 8}, {"total_tokens": 8}])
def test_embeddings_have_input_only(usage):
    answer = {"object": "list", "model": "text-embedding-3-small", "data": [{"embedding": [0.5]}], "usage": usage}
    reading = ask(answer, url=EMBEDDINGS, request={"model": "e", "input": ["a b", "c"]})
    assert (reading.usage, reading.outputs) == (Usage(input_tokens=8), ())
    assert reading.prompt.parts == (PromptPart("user", "a b"), PromptPart("user", "c"))


def test_images_and_audio_where_usage_is_reported():
    usage = {
        "input_tokens": 50,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
        "output_tokens": 272,
    }
    reading = ask(
        {"created": 1, "data": [{"b64_json": "x"}], "usage": usage | {"total_tokens": 322}},
        url="https://api.openai.com/v1/images/generations",
        request={"model": "gpt-image-1", "prompt": "a cat"},
    )
    assert reading.usage == Usage(input_tokens=50, input_image_tokens=40, output_tokens=272)
    assert (reading.model, reading.outputs, reading.prompt.opaque) == ("gpt-image-1", None, True)
    usage = {"type": "tokens", "input_tokens": 14, "input_token_details": {"audio_tokens": 14}, "output_tokens": 5}
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4o-transcribe\r\n--b--\r\n'
    url = "https://api.openai.com/v1/audio/transcriptions"
    reading = ask({"text": "hi", "usage": usage}, url=url, request=form)
    assert reading.usage == Usage(input_tokens=14, input_audio_tokens=14, output_tokens=5)
    assert reading.model == "gpt-4o-transcribe"
    reading = ask({"text": "hi", "usage": {"type": "duration", "seconds": 3}}, url=url, request=form)
    assert (reading.usage, reading.reason) == (None, "billed by duration, not by token")


@pytest.mark.parametrize(
    ("url", "request_body", "answer"),
    [
        ("https://example.com/chat/completions", {"q": 1}, {"ok": True}),
        ("https://example.com/completions", {"q": 1}, {"usage": "high"}),
        ("https://example.com/embeddings", {"texts": ["a"]}, {"vectors": []}),
        ("https://example.com/responses", {"survey": 1}, {"id": 5}),
        ("https://example.com/images/edits", {"crop": 1}, {"ok": True}),
    ],
)
def test_other_services_with_such_paths_are_left_alone(url, request_body, answer):
    assert ask(answer, url=url, request=request_body) is None


def test_the_schema_of_the_answer_is_a_part_of_the_input():
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    request = {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Where?"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}},
    }
    prompt = ask({"choices": CHOICES, "usage": counts(9, 3)}, request=request).prompt
    assert prompt.parts[-1].role == "tools"
    assert json.loads(prompt.parts[-1].text) == schema
