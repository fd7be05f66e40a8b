"""What the loopback model server is told to answer, and what it wrote down of what it did."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One tool that the model asks for.

    Attributes:
        name: the tool's name.
        arguments: its arguments.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments_json(self) -> str:
        """The arguments as they go over the wire."""
        return json.dumps(dict(self.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer in a script. Whatever is left out follows the server's own rule.

    Attributes:
        text: the generated text; a tuple gives one text per candidate, of which the first ``n`` are answered and
            all are billed, as ``best_of`` is. ``None`` echoes the prompt.
        chunks: the pieces in which a stream sends the text; ``None`` for one word at a time.
        tool_calls: tools that the model asks for.
        to: only for a prompt that contains this text; other prompts skip this answer.
        input_tokens: billed input; ``None`` for what the server's counter says of the prompt.
        output_tokens: billed output; ``None`` for what the server's counter says of the texts.
        cached_tokens: the part of the input that was read from a cache.
        cache_write_tokens: the part of the input that was written to a cache (Anthropic).
        reasoning_tokens: hidden reasoning, a part of the output.
        model: the model that the answer names; ``None`` for the one that was asked for.
        service_tier: the tier that the answer names, if any.
        usage: ``"reported"``; ``"null"`` or ``"omitted"`` to say nothing of what was billed; or a mapping that goes
            over the wire as it is, right or wrong.
        status: the answer's status; nothing is billed unless it is 2xx.
        body: sent instead of the answer, as it is.
        headers: more headers.
        delay: seconds before the answer starts.
        chunk_delay: seconds before each event of a stream.
        cut_after: the connection breaks after so many events of a stream, or so many bytes of a whole body.
        gzip: whether the body is sent compressed.
        finish_reason: why the model stopped; ``None`` for what is usual.
    """

    text: str | tuple[str, ...] | None = None
    chunks: tuple[str, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    to: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    model: str | None = None
    service_tier: str | None = None
    usage: Literal["reported", "null", "omitted"] | Mapping[str, Any] = "reported"
    status: int = 200
    body: bytes | str | Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    chunk_delay: float = 0.0
    cut_after: int | None = None
    gzip: bool = False
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """One line of the ledger: a request, and what the provider would charge for it.

    Attributes:
        number: the place of the request in the order of arrival, from 1.
        id: the answer's id.
        endpoint: the URL's path, without its query.
        model: the model that the answer names.
        requested_model: the model that the request asked for.
        prompt: the prompt's texts, joined by newlines.
        texts: the generated texts, one per candidate.
        input_tokens: billed input, cached tokens included.
        output_tokens: billed output, reasoning included.
        cached_tokens: the part of the input that was read from a cache.
        cache_write_tokens: the part of the input that was written to a cache.
        reasoning_tokens: the part of the output that was hidden reasoning.
        status: the answer's status.
        stream: whether the answer was streamed.
        reported: whether the answer carried its usage to the end.
        complete: whether the answer was sent whole.
    """

    number: int
    id: str
    endpoint: str
    model: str
    requested_model: str
    prompt: str = ""
    texts: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    status: int = 200
    stream: bool = False
    reported: bool = False
    complete: bool = True

    @property
    def billed(self) -> bool:
        """Whether the provider charges for it: an error is free."""
        return 200 <= self.status < 300

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """All that a wire format needs to write one answer down.

    Attributes:
        request: the request's body.
        answer: what the script says.
        bill: what is billed.
        texts: the texts that are answered, one per choice.
        created: the time of the answer, in seconds since 1970.
        azure: whether it was asked for under Azure's paths.
    """

    request: Mapping[str, Any]
    answer: Answer
    bill: Bill
    texts: tuple[str, ...]
    created: int
    azure: bool = False

    def pieces(self, text: str) -> tuple[str, ...]:
        """The pieces in which a stream sends a text."""
        return self.answer.chunks if self.answer.chunks is not None else split_words(text)

    def with_usage(self, usage: Mapping[str, Any], *, asked: bool = True) -> dict[str, Any]:
        """The ``usage`` key of an answer: as billed, as scripted, ``null``, or no key at all."""
        wanted = self.answer.usage
        if not isinstance(wanted, str):
            return {"usage": dict(wanted)}
        if wanted == "omitted" or not asked:
            return {}
        return {"usage": dict(usage) if wanted == "reported" else None}


def split_words(text: str) -> tuple[str, ...]:
    """Cut a text into words, each with the white space before it; joined again they are the text.

    >>> split_words("one  two\\n")
    ('one', '  two', '\\n')
    """
    return tuple(re.findall(r"\s*\S+|\s+$", text))


def count_words(_model: str, text: str) -> int:
    """The server's own rule for billing, easy to follow by eye: a word is a token."""
    return len(text.split())


def flatten(content: object) -> list[str]:
    """All texts of a prompt in any shape that a provider takes: a string, parts, messages, nested."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return list(itertools.chain.from_iterable(flatten(each) for each in content))
    if isinstance(content, dict):
        if content.get("type") == "function_call":
            return [f"{content.get('name')} {content.get('arguments')}"]
        calls = [
            f"{call['function']['name']} {call['function']['arguments']}" for call in content.get("tool_calls") or ()
        ]
        held = [content[key] for key in ("content", "text", "output", "input") if key in content]
        return [*calls, *itertools.chain.from_iterable(flatten(each) for each in held)]
    return []
