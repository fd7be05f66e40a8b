"""The rates of one model, and what a usage costs at them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import TYPE_CHECKING

from pytest_tokenbudget.errors import UnmeasuredUsageError

if TYPE_CHECKING:
    from pytest_tokenbudget.usage import Usage

_MILLION = 1_000_000

# Wide enough for any product of a count and a rate, so that nothing is ever rounded here. A context of our own:
# code under test may have set the thread's to six digits, or to trap what is harmless.
EXACT = Context(prec=100, rounding=ROUND_HALF_EVEN)

_normalize = EXACT.normalize
_TEN = Decimal(10)


class MissingRateError(LookupError):
    """These rates can't charge that usage; the message says which part has no rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """USD per million tokens, perhaps dearer for long prompts.

    Attributes:
        usd_per_million_tokens: the rate of a prompt that reaches no tier.
        tiers: (threshold, USD per million tokens), thresholds rising. A prompt of more tokens than the threshold
            has all its tokens charged at that rate, not only those above it.
    """

    usd_per_million_tokens: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """The rate that a prompt of so many tokens meets, in USD per million tokens."""
        rate = self.usd_per_million_tokens
        for threshold, dearer in self.tiers:
            if input_tokens > threshold:
                rate = dearer
        return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a model costs; ``None`` where its price list has no rate of that kind.

    A part without a rate of its own is charged as the whole it belongs to (cached input as input, audio as
    text), which is how price lists are read. Tokens of a direction without any rate can't be charged.

    Attributes:
        input: prompt tokens.
        cached_input: prompt tokens read from the prompt cache.
        cache_write: prompt tokens written to the prompt cache.
        cache_write_1h: those of them that are kept for an hour.
        output: generated tokens, reasoning included.
        reasoning: hidden reasoning, for the few providers that charge it at another rate than the output.
        input_audio: audio in the prompt.
        cached_input_audio: audio in the prompt that was read from the cache.
        output_audio: generated audio.
        input_image: images in the prompt.
        output_image: generated images.
        usd_per_request: what a request costs on top of its tokens, in USD.
        free: nothing is charged, and the price list says so.
    """

    input: Rate | None = None
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    output: Rate | None = None
    reasoning: Rate | None = None
    input_audio: Rate | None = None
    cached_input_audio: Rate | None = None
    output_audio: Rate | None = None
    input_image: Rate | None = None
    output_image: Rate | None = None
    usd_per_request: Decimal | None = None
    free: bool = False

    def completed_by(self, other: Rates) -> Rates:
        """These rates, and from the other list those that are missing here."""
        lacking = [each.name for each in fields(self) if getattr(self, each.name) is None]
        return replace(self, **{name: getattr(other, name) for name in lacking})

    def overlaid_with(self, other: Rates) -> Rates:
        """The other list's rates, and from this one those that are missing there."""
        return other.completed_by(self)


def charge(usage: Usage, rates: Rates) -> Decimal:
    """What a request of that usage costs, in exact USD.

    Where the usage is the sum of several requests, the mean prompt decides the tier: price each request by itself
    wherever they are known apart.

    Cached, written, audio and image tokens are parts of the input: each is charged at its own rate and taken off
    the count that is charged at the full one.

    Raises:
        MissingRateError: tokens were used that have no rate.
        UnmeasuredUsageError: the parts of the usage do not fit into the whole.
    """
    if rates.free:
        return Decimal(0)
    lines = [*_input_lines(usage, rates), *_output_lines(usage, rates)]
    requests = max(usage.requests, 1)
    mean_prompt = -(-usage.input_tokens // requests)
    with localcontext(EXACT):
        total = (rates.usd_per_request or Decimal(0)) * requests
        for tokens, rate in lines:
            if tokens:
                total += tokens * rate.at(mean_prompt) / _MILLION
        return canonical(total)


def _input_lines(usage: Usage, rates: Rates) -> list[tuple[int, Rate]]:
    full = _required(rates.input, usage.input_tokens, "input")
    cached = usage.cached_input_tokens
    fresh = usage.input_tokens - cached - usage.cache_write_tokens
    lines = [*_cache_write_lines(usage, rates, full)]
    if rates.input_audio is not None:
        cached_audio = usage.cached_input_audio_tokens
        audio = usage.input_audio_tokens - cached_audio
        lines += [(audio, rates.input_audio), (cached_audio, rates.cached_input_audio or rates.input_audio)]
        cached -= cached_audio
        fresh -= audio
    if rates.input_image is not None and usage.input_image_tokens:
        if cached:
            raise MissingRateError("its cached input and its images: no answer tells which images were cached")
        lines.append((usage.input_image_tokens, rates.input_image))
        fresh -= usage.input_image_tokens
    lines += [(cached, rates.cached_input or full), (fresh, full)]
    return _fitting(lines, usage)


def _cache_write_lines(usage: Usage, rates: Rates, full: Rate) -> list[tuple[int, Rate]]:
    hour = usage.cache_write_1h_tokens
    write = rates.cache_write or full
    if hour and rates.cache_write is not None and rates.cache_write_1h is None:
        # An hour costs more than five minutes wherever writing is charged at all; at the shorter one's rate it
        # would come out too cheap.
        raise MissingRateError("input that was cached for an hour")
    return [(usage.cache_write_tokens - hour, write), (hour, rates.cache_write_1h or write)]


def _output_lines(usage: Usage, rates: Rates) -> list[tuple[int, Rate]]:
    full = _required(rates.output, usage.output_tokens, "output")
    plain = usage.output_tokens
    lines = []
    for tokens, rate in (
        (usage.reasoning_tokens, rates.reasoning),
        (usage.output_audio_tokens, rates.output_audio),
        (usage.output_image_tokens, rates.output_image),
    ):
        if rate is not None:
            lines.append((tokens, rate))
            plain -= tokens
    return _fitting([*lines, (plain, full)], usage)


def _required(rate: Rate | None, tokens: int, direction: str) -> Rate:
    if rate is not None:
        return rate
    if tokens:
        raise MissingRateError(f"its {direction} tokens")
    return Rate(usd_per_million_tokens=Decimal(0))


def _fitting(lines: list[tuple[int, Rate]], usage: Usage) -> list[tuple[int, Rate]]:
    if any(tokens < 0 for tokens, _ in lines):
        raise UnmeasuredUsageError(f"the parts of the usage exceed the whole: {usage}")
    return lines


def canonical(amount: Decimal) -> Decimal:
    """The same amount without trailing zeros and without an exponent above zero."""
    trimmed = _normalize(amount)
    if trimmed < _TEN or int(trimmed.as_tuple().exponent) <= 0:
        return trimmed
    return trimmed.quantize(Decimal(1), context=EXACT)
