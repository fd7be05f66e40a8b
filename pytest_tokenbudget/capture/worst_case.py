"""What a request could cost at worst, told before it is sent: for the ceiling on what a run spends.

An upper bound, not an estimate: what can't be bounded is an error, never a low figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tokenbudget.capture import wire
from pytest_tokenbudget.capture.estimate import count_prompt
from pytest_tokenbudget.capture.output_limits import answers_asked, longest_output, only_reads, requested_output
from pytest_tokenbudget.capture.wire.exchange import Exchange, Reading
from pytest_tokenbudget.capture.wire.providers import name_provider
from pytest_tokenbudget.capture.wire.traffic import read_objects, read_text, read_tier, take_apart
from pytest_tokenbudget.errors import UnpricedModelError
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from pytest_tokenbudget.capture.wire.traffic import Traffic
    from pytest_tokenbudget.pricing import PriceBook

# By how much more than a local count says the input may be: the largest errors that were measured, see
# docs/estimates.md, and some room above them.
_MORE_TEXT = 10
_MORE_WITH_TOOLS = 100
_HIDDEN_WITH_TOOLS = 2_000
"""Tokens of the instructions that a maker puts before tools. Source: Anthropic API documentation, tool use."""
_MANY = 1_000_000

_ASKING = frozenset({"messages", "prompt", "input", "inputs", "contents", "message", "text", "texts"})
_FORM = re.compile(rb"[\w.%+\[\]-]+=")
_OWN_TOOLS = re.compile(r"|function|custom|(bash|text_editor|computer|memory)_\d+")
"""Types of tools that the code under test runs itself."""


class UnknownCostError(Exception):
    """Nobody can say what a request could cost at most; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstCase:
    """The most that a request can use and cost.

    Attributes:
        cost: USD.
        model: who is asked.
        input_tokens: at most so many go in.
        output_tokens: at most so many come out, in all answers together.
        limited: whether the request itself says how many may come out, or nothing can.
    """

    cost: Decimal
    model: str
    input_tokens: int
    output_tokens: int
    limited: bool


def find_worst_case(method: str, url: str, body: bytes, book: PriceBook) -> WorstCase | None:
    """Bound what a request costs; ``None`` for one that asks no model for anything.

    Args:
        method: the request's method.
        url: the whole URL.
        body: what it sends; empty where that can't be looked at.
        book: the prices.

    Raises:
        UnknownCostError: it can't be bounded.
        UnpricedModelError: there is no price for the model, its service tier, or a kind of token that it may use.
        UnmeasuredUsageError: the price list and the usage do not fit together.
    """
    exchange = Exchange(method=method, url=url, request_body=body, complete=False)
    traffic = take_apart(exchange)
    # Work that is made in the background was let through when it was asked for: to look at it, or stop it, is free.
    if traffic.method != "POST" or traffic.segments[-1] == "cancel":
        return None
    if not traffic.readable:
        if _FORM.match(body):
            return None  # no model takes a form without files
        raise UnknownCostError(
            "its body can't be read (it is a stream, compressed, or no JSON); record it in a run without a ceiling"
        )
    reading = wire.read(exchange) or _read_unknown(traffic)
    if reading is None:
        return None
    tariff = _Tariff(book, traffic, reading, body)
    model = reading.model or reading.request_model
    tariff.price(0, 0)  # a model without a price is told of first
    if tariff.is_free:
        return None
    if _lets_provider_run_tools(traffic):
        raise UnknownCostError(
            "it lets the provider run tools, and nobody can bound what they put into the input; record it in a run "
            "without a ceiling"
        )
    window = book.context_window(model, provider=reading.provider)
    input_tokens = _bound_input(reading, body, book.real_name(model), window)
    output_tokens, limited = _bound_output(traffic, reading, book.real_name(model), window)
    return WorstCase(
        cost=tariff.price(input_tokens, output_tokens),
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        limited=limited,
    )


def _read_unknown(traffic: Traffic) -> Reading | None:
    """Read a request whose family is known by its answer only; ``None`` where it looks like nothing of the kind."""
    model = traffic.request_model
    if not model and "serving-endpoints" in traffic.segments:
        model = traffic.segments[-2]
    if not model or not _ASKING & traffic.request.keys():
        return None
    provider = name_provider(traffic.host, traffic.path, model)
    return Reading(model=model, provider=provider, endpoint=traffic.path, usage=None, request_model=model)


def _lets_provider_run_tools(traffic: Traffic) -> bool:
    if traffic.request.get("web_search_options") or traffic.request.get("mcp_servers"):
        return True
    return any(
        # Google's have no type: their one key is what they are, and functions go by these.
        not tool.keys() & {"functionDeclarations", "function_declarations"}
        if len(tool) == 1
        else _OWN_TOOLS.fullmatch(read_text(tool, "type")) is None
        for tool in read_objects(traffic.request, "tools")
    )


def _bound_input(reading: Reading, body: bytes, model: str, window: int | None) -> int:
    prompt = reading.prompt
    if prompt is not None and prompt.opaque:
        if window is None:
            raise UnknownCostError(
                "its input is not all text, and how much of it the model takes is not known; record it in a run "
                "without a ceiling"
            )
        return window
    with_tools = prompt is not None and any(part.role in {"tools", "tool"} for part in prompt.parts)
    counted = None if prompt is None else count_prompt(prompt, model)
    if counted is None:
        # Every token stands for a byte at least, and JSON's own signs are more than what a chat's format adds.
        return len(body) + _HIDDEN_WITH_TOOLS * with_tools
    return 2 * counted + _MORE_WITH_TOOLS if with_tools else counted + counted // 10 + _MORE_TEXT


def _bound_output(traffic: Traffic, reading: Reading, model: str, window: int | None) -> tuple[int, bool]:
    if only_reads(traffic, model):
        return 0, True
    answers = answers_asked(traffic)
    if (limit := requested_output(traffic)) is not None:
        return limit * answers, True
    longest = longest_output(traffic, model=model, provider=reading.provider)
    known = [each for each in (longest, window) if each is not None]
    if not known:
        raise UnknownCostError(
            f"it sets no limit to its output, and how long an answer of {model!r} can get is not known; set one in "
            "the request (max_tokens, or what its API calls it), or record it in a run without a ceiling"
        )
    return min(known) * answers, False


@dataclass(frozen=True, slots=True)
class _Tariff:
    """What tokens of one request cost at most."""

    book: PriceBook
    traffic: Traffic
    reading: Reading
    body: bytes

    def price(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The price of the dearest usage of so many tokens that the answer may report."""
        return max(
            self.book.price_usage(
                usage,
                model=self.reading.model or self.reading.request_model,
                provider=self.reading.provider,
                service_tier=tier,
                request_model=self.reading.request_model,
            )
            for tier in {None, _asked_tier(self.traffic)}
            for usage in _usages(input_tokens, output_tokens, self.body)
        )

    @property
    def is_free(self) -> bool:
        """Whether nothing is charged, however much is used."""
        try:
            return self.price(_MANY, _MANY) == 0
        except UnpricedModelError:
            return False  # a model that only embeds has no price of output


def _usages(given: int, made: int, body: bytes) -> Iterator[Usage]:
    yield Usage(input_tokens=given, output_tokens=made)
    yield Usage(input_tokens=given, output_tokens=made, cache_write_tokens=given, reasoning_tokens=made)
    if b'"1h"' in body:
        yield Usage(input_tokens=given, output_tokens=made, cache_write_tokens=given, cache_write_1h_tokens=given)
    if b"audio" in body:
        yield Usage(input_tokens=given, output_tokens=made, input_audio_tokens=given, output_audio_tokens=made)
    if b"image" in body:
        yield Usage(input_tokens=given, output_tokens=made, input_image_tokens=given, output_image_tokens=made)


def _asked_tier(traffic: Traffic) -> str | None:
    request = traffic.request
    if request.get("inference_geo") == "us":
        return "geo-us"
    tiers = (request.get("speed"), request.get("service_tier"), request.get("serviceTier"))
    named = (read_tier(each.get("type") if isinstance(each, dict) else each) for each in tiers)
    return next((each for each in named if each is not None), None)
