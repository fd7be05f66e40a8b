from __future__ import annotations

import json
import re
import statistics
from dataclasses import replace

import corpus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.capture import estimate, vocabulary
from pytest_tokenbudget.capture.estimate import count_prompt, estimate_usage, split_prompt
from pytest_tokenbudget.capture.model_encodings import encoding_name_for
from pytest_tokenbudget.capture.tool_rendering import render_tools
from pytest_tokenbudget.capture.wire import Reading, read
from pytest_tokenbudget.usage import Prompt, PromptPart, Usage

JOKE = Prompt(parts=(PromptPart("user", "Tell me a joke"),))
JOKE_CHAT = replace(JOKE, chat=True)


def make_chat(*messages, tools=None):
    parts = [PromptPart(role, text) for role, text in messages]
    if tools is not None:
        parts.append(PromptPart("tools", json.dumps(tools)))
    return Prompt(parts=tuple(parts), chat=True)


def make_reading(**changes):
    given = {
        "model": "gpt-3.5-turbo-instruct",
        "provider": "openai",
        "endpoint": "/v1/completions",
        "usage": None,
        "prompt": JOKE,
        "outputs": ("hello world",),
    }
    return Reading(**given | changes)


# --- models

O200K = """
    gpt-4o GPT-4o-Mini gpt-4o-2024-11-20 openai/gpt-4o azure/gpt-4o-mini openrouter/openai/gpt-4o:free openai:gpt-4o
    ft:gpt-4o-mini-2024-07-18:org:name:id gpt-4o-audio-preview gpt-4o-mini-tts gpt-4o-transcribe
    gpt-4o-mini-search-preview gpt-4o-realtime-preview gpt-realtime gpt-realtime-mini gpt-audio gpt-audio-mini
    chatgpt-4o-latest chat-latest gpt-4.1 gpt-4.1-nano-2025-04-14 ft:gpt-4.1-mini-2025-04-14:org::id
    gpt-4.5-preview gpt-5 gpt-5-mini gpt-5-2025-08-07 gpt-5-chat-latest gpt-5.1 gpt-5.4-mini gpt-5-codex
    gpt-5.1-codex-max gpt-6 gpt-6-mini o1 o1-preview o1-mini o3 o3-2025-04-16 o3-deep-research o4-mini
    o4-mini-2025-04-16 codex-mini-latest computer-use-preview
"""
CL100K = """
    gpt-4 gpt-4-0613 gpt-4-32k gpt-4-turbo-2024-04-09 gpt-4-1106-preview gpt-3.5-turbo gpt-3.5-turbo-0125
    gpt-3.5-turbo-instruct gpt-35-turbo gpt-35-turbo-16k ft:gpt-3.5-turbo-0125:org::id ft:gpt-4-0613:org::id
    text-embedding-ada-002 text-embedding-3-small text-embedding-3-large davinci-002 ft:babbage-002:org::id
"""


@pytest.mark.parametrize(
    ("models", "encoding"),
    [
        (
            O200K,
            "o200k_base",
        ),
        ("gpt-oss-20b gpt-oss-120b openai/gpt-oss-120b openai.gpt-oss-20b-1:0", "o200k_harmony"),
        (
            CL100K,
            "cl100k_base",
        ),
        ("text-davinci-003 text-davinci-002 code-davinci-002 code-cushman-001", "p50k_base"),
        ("text-davinci-edit-001 code-davinci-edit-001", "p50k_edit"),
        ("davinci ada text-curie-001 text-search-ada-doc-001 curie:ft-org-2023-01-01", "r50k_base"),
        ("gpt2 gpt-2", "gpt2"),
    ],
)
def test_models_have_their_encoding(models, encoding):
    assert {model: encoding_name_for(model) for model in models.split()} == dict.fromkeys(models.split(), encoding)


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-5-sonnet-20241022",
        "gemini-2.5-flash",
        "meta-llama/Llama-3-8b",
        "mistral-large-latest",
        "deepseek-chat",
        "grok-4",
        "command-r",
        "gpt-j",
        "gpt-neo-125m",
        "gpt4all-falcon",
        "someone/gpt-4o",
        "my-gpt-4o",
        "gpt-4omega",
        "gpt-41",
        "gpt-7",
        "o5",
        "o11-x",
        "o1x",
        "davinci-003",
        "whisper-1",
        "dall-e-3",
        "tts-1",
        "omni-moderation-latest",
        "adaptive",
        "openai/",
        "ft:",
        "",
        "gpt-4o\nclaude",
    ],
)
def test_models_of_other_makers_have_none(model):
    assert encoding_name_for(model) is None
    assert count_prompt(JOKE, model) is None
    assert estimate_usage(make_reading(model=model)) is None


# --- prompts


def test_plain_texts_have_no_overhead():
    assert count_prompt(JOKE, "gpt-3.5-turbo-instruct") == 4
    twice = Prompt(parts=JOKE.parts * 2, token_ids=7)
    assert count_prompt(twice, "gpt-3.5-turbo-instruct") == 4 + 4 + 7


def test_chat_has_the_published_overhead():
    """11 input tokens for "Tell me a joke" is what gpt-4 reports; newer models end a chat with one token less."""
    assert count_prompt(JOKE_CHAT, "gpt-4") == 11
    assert count_prompt(JOKE_CHAT, "gpt-4o") == 11
    assert count_prompt(JOKE_CHAT, "gpt-5") == 10
    assert count_prompt(JOKE_CHAT, "o3-mini") == 10


@pytest.mark.parametrize(("model", "tokens"), [("gpt-4", 129), ("gpt-3.5-turbo", 129), ("gpt-4o", 124)])
def test_example_of_the_openai_cookbook(model, tokens):
    """The figures that OpenAI's API answered, in "How to count tokens with tiktoken"."""
    told = [
        ("", "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."),
        ("example_user", "New synergies will help drive top-line growth."),
        ("example_assistant", "Things working well together will increase revenue."),
        (
            "example_user",
            "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage.",
        ),
        ("example_assistant", "Let's talk later when we're less busy about how to do better."),
        ("", "This late pivot means we don't have time to boil the ocean for the client deliverable."),
    ]
    roles = ["system"] * 5 + ["user"]
    parts = [
        PromptPart(role, f"{name} {text}" if name else text, named=bool(name))
        for role, (name, text) in zip(roles, told, strict=True)
    ]
    assert count_prompt(Prompt(parts=tuple(parts), chat=True), model) == tokens


NOTHING = {"type": "object", "properties": {}}
RECIPE = {
    "type": "object",
    "required": ["ingredients", "instructions", "time_to_cook"],
    "properties": {
        "ingredients": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "unit", "amount"],
                "properties": {
                    "name": {"type": "string"},
                    "unit": {"type": "string", "enum": ["grams", "ml", "cups", "pieces", "teaspoons"]},
                    "amount": {"type": "number"},
                },
            },
        },
        "instructions": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Steps to prepare the recipe (no numbering)",
        },
        "time_to_cook": {"type": "number", "description": "Total time to prepare the recipe in minutes"},
    },
}
INNER = {
    "type": "object",
    "properties": {"bar": {"type": "string", "enum": ["a", "b", "c"]}, "baz": {"type": "boolean"}},
}


# What gpt-3.5-turbo reported, published with the tests of hmarr/openai-chat-tokens.
@pytest.mark.parametrize(
    ("messages", "function", "tokens"),
    [
        ([("user", "hello")], {"name": "foo", "parameters": NOTHING}, 31),
        ([("user", "hello")], {"name": "foo", "description": "Do a foo", "parameters": NOTHING}, 36),
        (
            [("user", "hello")],
            {
                "name": "bing_bong",
                "description": "Do a bing bong",
                "parameters": {"type": "object", "properties": {"foo": {"type": "string"}}},
            },
            49,
        ),
        (
            [("user", "hello")],
            {
                "name": "bing_bong",
                "description": "Do a bing bong",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "foo": {"type": "string"},
                        "bar": {"type": "number", "description": "A number"},
                    },
                },
            },
            57,
        ),
        (
            [("user", "hello")],
            {
                "name": "bing_bong",
                "description": "Do a bing bong",
                "parameters": {"type": "object", "properties": {"foo": INNER}},
            },
            68,
        ),
        ([("user", "hello")], {"name": "get_recipe", "parameters": RECIPE}, 106),
        ([("system", "Hello"), ("user", "Hi there")], {"name": "do_stuff", "parameters": NOTHING}, 35),
        ([("system", "Hello:"), ("user", "Hi there")], {"name": "do_stuff", "parameters": NOTHING}, 35),
        (
            [("system", "Hello:"), ("system", "Hello"), ("user", "Hi there")],
            {"name": "do_stuff", "parameters": NOTHING},
            40,
        ),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_tools_cost_what_openai_reported(messages, function, tokens, wrapped):
    tools = [{"type": "function", "function": function} if wrapped else function]
    assert count_prompt(make_chat(*messages, tools=tools), "gpt-3.5-turbo") == tokens


def test_tools_are_read_as_declarations():
    schema = {
        "type": "object",
        "required": ["city", "when"],
        "properties": {
            "city": {"$ref": "#/$defs/City"},
            "when": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "unit": {"const": "K"},
            "tags": {"type": "array"},
            "either": {"type": ["string", "null"]},
            "lost": {"$ref": "#/nowhere"},
        },
        "$defs": {"City": {"type": "object", "description": "Where.", "properties": {"name": {"type": "string"}}}},
    }
    rendered = render_tools(json.dumps([{"name": "look", "description": "Look\nup.", "parameters": schema}]))
    assert rendered == (
        "namespace functions {\n\n// Look\n// up.\ntype look = (_: {\n// Where.\ncity: {\n  name?: string,\n},\n"
        'when: number | null,\nunit?: "K",\ntags?: any[],\neither?: string | null,\nlost?: any,\n}) => any;\n\n'
        "} // namespace functions"
    )


def test_schemas_without_end_are_cut():
    pair = {"type": "object", "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}
    loop = {"type": "object", "properties": {"x": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/x"}}}
    for schema in (pair, loop):
        assert "namespace" in render_tools(json.dumps([{"name": "f", "parameters": schema}]))


@pytest.mark.parametrize(
    "text", ["", "[{", "7", "[]", "[7]", '[{"type":"web_search"}]', '[{"function":{"name":7}}]', "[" * 99999]
)
def test_what_is_no_function_is_counted_as_its_text(text):
    assert render_tools(text) is None
    prompt = Prompt(parts=(PromptPart("tools", text),), chat=True)
    assert count_prompt(prompt, "gpt-4o") == vocabulary.count_tokens(text, "o200k_base") + 9 + 3
    assert estimate_usage(make_reading(model="gpt-4o", prompt=prompt)) is not None


def test_opaque_prompts_are_not_counted():
    opaque = replace(JOKE_CHAT, opaque=True)
    assert count_prompt(opaque, "gpt-4o") is None
    assert split_prompt(opaque, "gpt-4o", 100) is None
    assert estimate_usage(make_reading(prompt=opaque)) is None


# --- usage


def test_usage_holds_only_tokens():
    assert estimate_usage(make_reading()) == Usage(input_tokens=4, output_tokens=2)


def test_every_choice_is_output():
    assert estimate_usage(make_reading(outputs=("hello world",) * 3)) == Usage(input_tokens=4, output_tokens=6)


def test_embeddings_have_no_output():
    reading = make_reading(model="text-embedding-3-small", endpoint="/v1/embeddings", outputs=())
    assert estimate_usage(reading) == Usage(input_tokens=4)


def test_the_model_of_the_request_serves_where_the_answer_names_none():
    assert estimate_usage(make_reading(model="", request_model="gpt-4")) == Usage(input_tokens=4, output_tokens=2)


@pytest.mark.parametrize("change", [{"prompt": None}, {"outputs": None}, {"model": ""}])
def test_what_is_not_known_is_not_estimated(change):
    assert estimate_usage(make_reading(**change)) is None


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5-mini", "openai/gpt-5-nano"])
def test_hidden_reasoning_is_not_estimated(model):
    assert count_prompt(JOKE_CHAT, model) == 10
    assert estimate_usage(make_reading(model=model, prompt=JOKE_CHAT)) is None


@pytest.mark.parametrize("model", ["gpt-5-chat-latest", "gpt-5.4", "chat-latest", "gpt-4.1"])
def test_models_that_need_not_reason_are_estimated(model):
    """The wire leaves the outputs of gpt-5.1 and later out unless the request switched reasoning off."""
    assert estimate_usage(make_reading(model=model, prompt=JOKE_CHAT)) is not None


# --- where the input went


def test_one_role_needs_no_vocabulary(monkeypatch):
    monkeypatch.setattr(estimate, "count_tokens", lambda *_: pytest.fail("counted"))
    assert split_prompt(JOKE_CHAT, "claude-3-5-sonnet", 14) == {"user": 14}
    assert split_prompt(Prompt(token_ids=3), "gpt-4", 3) == {"user": 3}


def test_an_exact_count_is_split_exactly():
    """hello is one token: each message is 5, and the 3 of the reply go to the larger rest first."""
    prompt = make_chat(("system", "hello hello"), ("user", "hello"))
    assert split_prompt(prompt, "gpt-4", 11) == {"system": 6, "user": 5}
    assert split_prompt(prompt, "gpt-4", 22) == {"system": 12, "user": 10}


def test_no_input_is_split_to_nothing():
    assert split_prompt(make_chat(("system", "a"), ("user", "b")), "gpt-4", 0) == {}
    assert split_prompt(Prompt(), "gpt-4", 5) is None
    assert split_prompt(JOKE, "gpt-4", -1) is None


ROLES = st.sampled_from(["system", "user", "assistant", "tool", "tools"])


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.builds(PromptPart, ROLES, st.text(max_size=30), st.booleans()), min_size=1, max_size=6),
    chat=st.booleans(),
    reported=st.integers(0, 10**7),
    model=st.sampled_from(["gpt-4", "gpt-5", "claude-3"]),
)
def test_shares_add_up_to_the_reported_total(parts, chat, reported, model):
    shares = split_prompt(Prompt(parts=tuple(parts), chat=chat), model, reported)
    if shares is None:
        assert not chat
        assert not any(part.text for part in parts)
    else:
        assert sum(shares.values()) == reported
        assert all(share > 0 for share in shares.values())
        assert set(shares) <= {part.role for part in parts}


# --- against what providers reported


@pytest.fixture(scope="module")
def recorded():
    """Each recorded call to a model of OpenAI's that can be counted, once: its kind, count, estimate, and reading."""
    if not corpus.is_present():
        pytest.skip("the recordings are not there")
    exchanges = corpus.load_exchanges()
    calls = {}
    for row in corpus.load_rows():
        exchange = exchanges.get((row["file"], row["interaction"]))
        if not row["expected"] or exchange is None or row["provider"] not in {"openai", "azure"}:
            continue
        reading = read(exchange)
        if reading is None or reading.prompt is None:
            continue
        counted = count_prompt(reading.prompt, reading.model or reading.request_model)
        if counted is not None:
            calls[exchange.request_body, json.dumps(row["expected"])] = (
                classify(exchange, reading),
                counted,
                estimate_usage(replace(reading, usage=None)),
                row["expected"],
            )
    return list(calls.values())


def classify(exchange, reading):
    roles = {part.role for part in reading.prompt.parts}
    family = "gpt-5" if re.search(r"gpt-[5-9]", reading.model) else "gpt-4"
    if not reading.prompt.chat:
        return "texts"
    if re.search(rb'"json_(schema|object)"', exchange.request_body):
        return f"{family} schema"
    return f"{family} " + ("tool results" if "tool" in roles else "tools" if "tools" in roles else "text")


def measure(recorded, kind, side):
    """(share of exact counts, median error, number of calls)."""
    pairs = []
    for found, counted, usage, expected in recorded:
        if found == kind and (side == "input" or usage is not None):
            pairs.append((counted if side == "input" else usage.output_tokens, expected[f"{side}_tokens"]))
    errors = [abs(ours - theirs) / theirs for ours, theirs in pairs]
    exact = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    print(f"| {kind} | {side} | {len(pairs)} | {exact:.0%} | {statistics.median(errors):.1%} | {max(errors):.0%} |")
    return exact, statistics.median(errors), len(pairs)


@pytest.mark.parametrize(
    ("kind", "side", "bounds"),
    [
        ("gpt-4 text", "input", (0.99, 0, 100)),
        ("gpt-4 text", "output", (0.9, 0, 100)),
        ("gpt-4 tools", "input", (0.4, 0.02, 15)),
        ("gpt-4 tools", "output", (0.7, 0.02, 15)),
        ("gpt-4 tool results", "input", (0.4, 0.03, 15)),
        ("gpt-5 text", "input", (0.8, 0, 20)),
        ("gpt-5 tools", "input", (0.2, 0.03, 30)),
        ("gpt-5 tool results", "input", (0.1, 0.03, 30)),
        ("gpt-4 schema", "input", (0, 0.15, 5)),
        ("gpt-5 schema", "input", (0, 0.1, 10)),
    ],
)
def test_counts_are_what_providers_reported(recorded, kind, side, bounds):
    exact, error, calls = measure(recorded, kind, side)
    least_exact, most_error, least_calls = bounds
    assert calls >= least_calls
    assert exact >= least_exact
    assert error <= most_error


def test_embeddings_are_counted_exactly(recorded):
    texts = [(counted, expected["input_tokens"]) for kind, counted, _, expected in recorded if kind == "texts"]
    assert len(texts) > 20
    assert [ours for ours, _ in texts] == [theirs for _, theirs in texts]
