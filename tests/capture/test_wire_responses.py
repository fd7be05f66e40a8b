"""The responses API: streams, background work, later looks at it."""

from __future__ import annotations

import json

import pytest

from pytest_tokenbudget.capture.wire import Exchange, read
from pytest_tokenbudget.usage import PromptPart, Usage

URL = "https://api.openai.com/v1/responses"
USAGE = {
    "input_tokens": 75,
    "input_tokens_details": {"cached_tokens": 32},
    "output_tokens": 1186,
    "output_tokens_details": {"reasoning_tokens": 1024},
    "total_tokens": 1261,
}
MEASURED = Usage(input_tokens=75, cached_input_tokens=32, output_tokens=1186, reasoning_tokens=1024)
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}


def response(status="completed", usage=USAGE, **more):
    base = {"id": "resp_1", "object": "response", "model": "gpt-4o-2024-08-06", "status": status, "usage": usage}
    return base | {"output": [MESSAGE], "service_tier": "default"} | more


def ask(answer, *, method="POST", url=URL, request=None, **more):
    asked = b"" if method == "GET" else json.dumps({"model": "gpt-4o", "input": "Hi"} | (request or {})).encode()
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read(Exchange(method=method, url=url, request_body=asked, body=body, **more))


def stream(*events, **more):
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    return ask("".join(lines).encode(), **more)


def test_a_response():
    reading = ask(response())
    assert (reading.usage, reading.model, reading.request_id) == (MEASURED, "gpt-4o-2024-08-06", "resp_1")
    assert (reading.outputs, reading.pending, reading.service_tier) == (("Hello",), False, None)


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_the_last_event_of_a_stream_has_the_usage(kind):
    reading = stream(
        {"type": "response.created", "response": response("in_progress", None, output=[])},
        {"type": "response.output_text.delta", "delta": "Hello"},
        {"type": f"response.{kind}", "response": response(kind)},
    )
    assert (reading.usage, reading.pending, reading.outputs) == (MEASURED, False, ("Hello",))


def test_a_cut_stream_is_unmeasured_and_not_pending():
    reading = stream(
        {"type": "response.created", "response": response("in_progress", None, output=[])},
        {"type": "response.output_item.added", "item": {"type": "message"}},
        {"type": "response.output_text.delta", "delta": "Hel"},
        complete=False,
    )
    assert (reading.usage, reading.pending, reading.outputs) == (None, False, ("Hel",))
    assert reading.reason == "the stream ended before its usage came"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_background_work_is_pending_until_a_later_look(status):
    receipt = ask(response(status, None, background=True, output=[]), request={"background": True})
    assert (receipt.usage, receipt.pending, receipt.request_id) == (None, True, "resp_1")
    look = ask(response(status, None, background=True, output=[]), method="GET", url=f"{URL}/resp_1")
    assert (look.usage, look.pending, look.request_id) == (None, True, "resp_1")
    end = ask(response(), method="GET", url=f"{URL}/resp_1?include[]=x")
    assert (end.usage, end.pending, end.request_id) == (MEASURED, False, "resp_1")


@pytest.mark.parametrize("status", ["failed", "cancelled", "completed"])
def test_an_end_without_usage_is_unmeasured_and_not_pending(status):
    reading = ask(response(status, None), method="GET", url=f"{URL}/resp_1")
    assert (reading.usage, reading.pending, reading.reason) == (
        None,
        False,
        f"no usage was reported (status {status})",
    )


def test_a_background_stream_that_was_left_is_pending():
    reading = stream(
        {"type": "response.queued", "response": response("queued", None, background=True, output=[])}, complete=False
    )
    assert reading.pending


def test_what_was_called_off_answers_for_itself():
    reading = ask(response("cancelled"), url=f"{URL}/resp_1/cancel")
    assert (reading.usage, reading.request_id) == (MEASURED, "resp_1")


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"{URL}/resp_1/input_items"),
        ("GET", URL),
        ("DELETE", f"{URL}/resp_1"),
        ("POST", f"{URL}/input_tokens"),
        ("POST", "https://api.openai.com/v1/batches"),
    ],
)
def test_what_is_not_billed_is_no_reading(method, url):
    assert ask(response(), method=method, url=url) is None


def test_azures_responses_are_azures():
    reading = ask(response(), url="https://me.openai.azure.com/openai/v1/responses?api-version=preview")
    assert (reading.provider, reading.usage) == ("azure", MEASURED)


@pytest.mark.parametrize("item", [{"type": "reasoning"}, {"type": "web_search_call"}, {"type": []}])
def test_output_that_is_out_of_sight_is_not_known(item):
    assert ask(response(output=[item, MESSAGE])).outputs is None


def test_a_prompt_of_items():
    request = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "output": "2"},
        ],
        "tools": [{"type": "function", "name": "add"}],
    }
    prompt = ask(response(), request=request).prompt
    assert prompt.parts[:4] == (
        PromptPart("system", "Be brief."),
        PromptPart("user", "Hi"),
        PromptPart("assistant", "add{}"),
        PromptPart("tool", "2"),
    )
    assert json.loads(prompt.parts[4].text) == [{"type": "function", "function": {"name": "add"}}]
    assert not prompt.opaque


@pytest.mark.parametrize(
    "request_body",
    [
        {"previous_response_id": "resp_0"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
    ],
)
def test_stored_input_is_opaque(request_body):
    assert ask(response(), request=request_body).prompt.opaque
