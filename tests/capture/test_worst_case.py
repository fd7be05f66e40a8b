"""What a request could cost at worst: never less than what was billed, and unknown rather than guessed.

The prices are the published ones, in USD per million tokens: gpt-4o-mini 0.15 in and 0.60 out, gpt-3.5-turbo-instruct
1.50 and 2.00, gpt-5 1.25 and 10, gpt-4o-audio-preview 2.50 and 10 for text and 40 and 80 for audio,
text-embedding-3-small 0.02, claude-sonnet-4-5 3 and 15, and 3.75 and 6 to write to its cache.
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import corpus
import pytest
import yaml

from pytest_tokenbudget.capture.worst_case import UnknownCostError, find_worst_case
from pytest_tokenbudget.errors import UnpricedModelError
from pytest_tokenbudget.price_file import PriceOverrides
from pytest_tokenbudget.price_rates import Rate, Rates
from pytest_tokenbudget.pricing import PriceBook

OPENAI = "https://api.openai.com/v1"
CHAT = f"{OPENAI}/chat/completions"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-3-5-sonnet-20240620-v1%3A0"
ASK = [{"role": "user", "content": "Why is the sky blue?"}]  # 6 tokens, and 7 of the chat's format
MILLION = 1_000_000


@pytest.fixture(scope="module")
def book():
    return PriceBook()


def worst(book, url, body, method="POST"):
    return find_worst_case(method, url, body if isinstance(body, bytes) else json.dumps(body).encode(), book)


def usd(input_tokens, input_rate, output_tokens=0, output_rate=0):
    return (input_tokens * Decimal(str(input_rate)) + output_tokens * Decimal(str(output_rate))) / MILLION


def test_the_input_is_counted_with_room_above_it_and_the_output_is_what_the_request_allows(book):
    found = worst(book, CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 100})
    assert 13 <= found.input_tokens <= 30
    assert (found.output_tokens, found.limited, found.model) == (100, True, "gpt-4o-mini")
    assert found.cost == usd(found.input_tokens, 0.15, 100, 0.60)


@pytest.mark.parametrize(
    ("url", "body", "output"),
    [
        (CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_completion_tokens": 70}, 70),
        (CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_completion_tokens": 70, "max_tokens": 90}, 90),
        (CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 70, "n": 3}, 210),
        (CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 70.0}, 70),
        (f"{OPENAI}/responses", {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": 70}, 70),
        (f"{OPENAI}/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "a", "max_tokens": 70, "n": 2}, 140),
        (
            f"{OPENAI}/completions",
            {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b"], "max_tokens": 70, "n": 2, "best_of": 5},
            700,
        ),
        (f"{OPENAI}/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": [1, 2, 3], "max_tokens": 70}, 70),
        (f"{OPENAI}/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": [[1, 2], [3]], "max_tokens": 70}, 140),
        (ANTHROPIC, {"model": "claude-sonnet-4-5", "messages": ASK, "max_tokens": 70}, 70),
        (
            f"{GEMINI}/gemini-2.5-flash:generateContent",
            {"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 70}},
            70,
        ),
        (
            f"{GEMINI}/gemini-2.5-flash:streamGenerateContent?alt=sse",
            {
                "contents": [{"parts": [{"text": "hi"}]}],
                "generation_config": {"max_output_tokens": 70, "candidate_count": 2},
            },
            140,
        ),
        (
            f"{BEDROCK}/converse",
            {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 70}},
            70,
        ),
        (f"{BEDROCK}/invoke", {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 70, "messages": ASK}, 70),
        (f"{OPENAI}/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}, 0),
        # Its answer alone would say that it is Cohere's.
        ("https://proxy.example.com/v2/chat", {"model": "command-r", "messages": ASK, "max_tokens": 70}, 70),
    ],
)  # fmt: skip
def test_the_limit_is_found_wherever_an_api_has_it(book, url, body, output):
    found = worst(book, url, body)
    assert (found.output_tokens, found.limited) == (output, True)
    assert found.cost > 0


@pytest.mark.parametrize("limit", [None, -1, 0, "70", True, 70.5, [70]])
def test_what_is_no_limit_is_none(book, limit):
    """Then it is the longest answer that OpenAI documents for the model."""
    found = worst(book, CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": limit})
    assert (found.output_tokens, found.limited) == (16_384, False)


@pytest.mark.parametrize(
    ("model", "output"),
    [
        ("gpt-3.5-turbo", 4_096),
        ("gpt-4", 8_192),
        ("gpt-4-turbo", 4_096),
        ("gpt-4o-2024-05-13", 4_096),
        ("gpt-4o-2024-11-20", 16_384),
        ("ft:gpt-4o-mini-2024-07-18:org::id", 16_384),
        ("gpt-4.1-nano", 32_768),
        ("o1-mini", 65_536),
        ("o4-mini", 100_000),
        ("gpt-5-mini", 128_000),
        ("gpt-4-32k", 32_000),  # its context, as the price table has it
    ],
)
def test_without_a_limit_it_is_the_longest_answer_of_the_model(book, model, output):
    found = worst(book, CHAT, {"model": model, "messages": ASK})
    assert (found.output_tokens, found.limited) == (output, False)


def test_a_legacy_completion_without_a_limit_stops_by_itself(book):
    found = worst(book, f"{OPENAI}/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": ["a", "b"]})
    assert found.output_tokens == 32


def test_the_dearest_kind_of_token_counts(book):
    sonnet = worst(book, ANTHROPIC, {"model": "claude-sonnet-4-5", "messages": ASK, "max_tokens": 70})
    assert sonnet.cost == usd(sonnet.input_tokens, 3.75, 70, 15)
    kept = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]  # fmt: skip
    hour = worst(book, ANTHROPIC, {"model": "claude-sonnet-4-5", "messages": kept, "max_tokens": 70})
    assert hour.cost == usd(hour.input_tokens, 6, 70, 15)
    audio = {"model": "gpt-4o-audio-preview", "messages": ASK, "modalities": ["text", "audio"], "max_tokens": 70}
    spoken = worst(book, CHAT, audio)
    assert spoken.cost == usd(spoken.input_tokens, 40, 70, 80)


def test_a_tier_is_priced_as_such_or_not_at_all(book):
    body = {"model": "gpt-5", "messages": ASK, "max_completion_tokens": 70}
    standard = worst(book, CHAT, body)
    assert standard.cost == usd(standard.input_tokens, 1.25, 70, 10)
    assert worst(book, CHAT, body | {"service_tier": "default"}).cost == standard.cost
    # The answer may come at the standard rates all the same.
    assert worst(book, CHAT, body | {"service_tier": "flex"}).cost == standard.cost
    assert worst(book, CHAT, body | {"service_tier": "priority"}).cost > standard.cost
    with pytest.raises(UnpricedModelError, match="service tier 'scale'"):
        worst(book, CHAT, body | {"service_tier": "scale"})


def test_input_that_nobody_can_count_fills_the_context(book):
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/i.png"}}]}]
    found = worst(book, CHAT, {"model": "gpt-4o-mini", "messages": image, "max_tokens": 1})
    assert found.input_tokens == 128_000
    stored = {"model": "gpt-4o-mini", "input": "hi", "previous_response_id": "resp_1", "max_output_tokens": 1}
    assert worst(book, f"{OPENAI}/responses", stored).input_tokens == 128_000


def test_text_without_a_public_tokenizer_has_at_most_a_token_for_each_byte(book):
    body = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "\u732b" * 50}], "max_tokens": 1}
    assert worst(book, ANTHROPIC, body).input_tokens == len(json.dumps(body))


@pytest.mark.parametrize(
    ("url", "body", "why"),
    [
        (f"{OPENAI}/responses", {"model": "gpt-5", "input": "x", "tools": [{"type": "web_search"}]}, "run tools"),
        (CHAT, {"model": "gpt-4o-mini", "messages": ASK, "web_search_options": {"a": 1}}, "run tools"),
        (
            ANTHROPIC,
            {"model": "claude-sonnet-4-5", "messages": ASK, "max_tokens": 9, "tools": [{"type": "web_search_20250305", "name": "s"}]},
            "run tools",
        ),
        (
            f"{GEMINI}/gemini-2.5-flash:generateContent",
            {"contents": [{"parts": [{"text": "hi"}]}], "tools": [{"googleSearch": {}}]},
            "run tools",
        ),
        ("https://api.groq.com/openai/v1/chat/completions", {"model": "llama-3.3-70b-versatile", "messages": ASK}, "no limit"),
        (f"{OPENAI}/images/generations", {"model": "gpt-image-1", "prompt": "x"}, "not all text"),
        (CHAT, b"", "can't be read"),
        (CHAT, b"\x1f\x8b\x08compressed", "can't be read"),
        (CHAT, b"[1]", "can't be read"),
        (f"{OPENAI}/audio/transcriptions", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx', "can't be read"),
    ],
)  # fmt: skip
def test_what_can_t_be_bounded_is_told(book, url, body, why):
    with pytest.raises(UnknownCostError, match=why):
        worst(book, url, body)


def test_functions_of_the_test_s_own_are_no_tools_of_the_provider(book):
    function = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    with_tools = worst(book, CHAT, {"model": "gpt-4o-mini", "messages": ASK, "max_tokens": 1, "tools": [function]})
    assert with_tools.input_tokens > 100
    bash = {"type": "bash_20250124", "name": "bash"}
    body = {"model": "claude-sonnet-4-5", "messages": ASK, "max_tokens": 1, "tools": [bash]}
    # Anthropic documents up to 346 tokens for tools, and 245 more for this one.
    assert worst(book, ANTHROPIC, body).input_tokens > 346 + 245


@pytest.mark.parametrize(
    ("url", "body", "model"),
    [
        (CHAT, {"model": "my-org/tuned", "messages": ASK, "max_tokens": 1}, "my-org/tuned"),
        ("https://x.openai.azure.com/openai/deployments/mine/chat/completions", {"messages": ASK}, "mine"),
        ("http://localhost:11434/api/chat", {"model": "llama3", "messages": ASK}, "llama3"),
        (
            "https://x.azuredatabricks.net/serving-endpoints/mine/invocations",
            {"prompt": "x", "max_tokens": 1},
            "mine",
        ),
    ],
)
def test_a_model_without_a_price_is_told_first(book, url, body, model):
    with pytest.raises(UnpricedModelError, match="the ini option token_prices names") as caught:
        worst(book, url, body)
    assert caught.value.models == (model,)


def test_prices_and_names_of_the_user_s_own():
    rate = Rate(usd_per_million_tokens=Decimal(3))
    nothing = Rate(usd_per_million_tokens=Decimal(0))
    book = PriceBook(
        PriceOverrides(
            models={"my-org/tuned": Rates(input=rate, output=rate), "llama3": Rates(input=nothing, output=nothing)},
            aliases={"mine": "azure:gpt-4o-mini"},
        )
    )
    tuned = worst(book, CHAT, {"model": "my-org/tuned", "messages": ASK, "max_tokens": 7})
    assert tuned.cost == usd(tuned.input_tokens, 3, 7, 3)
    with pytest.raises(UnknownCostError, match="sets no limit"):
        worst(book, CHAT, {"model": "my-org/tuned", "messages": ASK})
    assert worst(book, "http://localhost:11434/api/chat", {"model": "llama3", "messages": ASK}) is None
    deployed = worst(book, "https://x.openai.azure.com/openai/deployments/mine/chat/completions", {"messages": ASK})
    assert (deployed.output_tokens, deployed.input_tokens < 50) == (16_384, True)
    assert deployed.cost == usd(deployed.input_tokens, 0.15, 16_384, 0.60)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", f"{OPENAI}/responses/resp_1", b""),
        ("POST", f"{OPENAI}/responses/resp_1/cancel", b""),
        ("POST", "https://chat.example.com/api/messages", {"text": "hello"}),
        ("POST", "https://chat.example.com/api/messages", b"text=hello&channel=C1"),
        ("POST", f"{OPENAI}/threads/thread_1/messages", {"role": "user", "content": "hello"}),
        ("POST", "https://lambda.eu-west-1.amazonaws.com/2015-03-31/functions/f/invocations", {"order": 1}),
    ],
)
def test_what_asks_no_model_costs_nothing(book, method, url, body):
    assert worst(book, url, body, method) is None


def compare(book, exchange, problems):
    """Hold the bound against what the provider reported; returns whether there was anything to compare."""
    from pytest_tokenbudget.capture.wire import read
    from pytest_tokenbudget.usage import ModelCall

    reading = read(exchange)
    if reading is None or reading.usage is None or exchange.method != "POST":
        return False
    try:
        found = worst(book, exchange.url, exchange.request_body)
    except (UnknownCostError, UnpricedModelError):
        return False
    model = reading.model or reading.request_model
    cost = book.cost(
        ModelCall(
            model=model, provider=reading.provider, usage=reading.usage, service_tier=reading.service_tier,
            request_model=reading.request_model,
        )
    )  # fmt: skip
    used = (reading.usage.input_tokens, reading.usage.output_tokens, cost or Decimal(0))
    allowed = (0, 0, Decimal(0)) if found is None else (found.input_tokens, found.output_tokens, found.cost)
    if any(more > most for more, most in zip(used, allowed, strict=True)):
        problems.append(f"{exchange.url}: {model} used {used}, and {allowed} was the bound")
    return True


def test_no_recorded_answer_of_the_examples_used_more(book):
    problems, compared = [], 0
    for path in sorted((Path(__file__).parents[2] / "examples" / "cassettes").rglob("*.yaml")):
        for interaction in yaml.safe_load(path.read_text("utf-8"))["interactions"]:
            compared += compare(book, corpus.build_exchange(interaction), problems)
    assert problems == []
    assert compared > 15


@pytest.mark.skipif(not corpus.is_present(), reason="the recorded corpus is not here")
def test_no_recorded_answer_of_the_corpus_used_more(book):
    problems = []
    compared = sum(compare(book, exchange, problems) for exchange in corpus.load_exchanges().values())
    assert problems == []
    assert compared > 800
