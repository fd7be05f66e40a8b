"""What one model request used, and the sum of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_tokenbudget.frozen import adder_of, maker_of, quickly_made, remade

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

Source = Literal["response", "callback", "estimate"]
Role = Literal["system", "user", "assistant", "tool", "tools"]


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one or of many model requests; addition adds every field.

    All fields are whole numbers >= 0.

    Attributes:
        requests: model requests that a provider answered and bills for.
        input_tokens: all prompt tokens, those read from and written to a prompt cache included.
        cached_input_tokens: the part of the input that was read from the provider's prompt cache.
        cache_write_tokens: the part of the input that was written to the provider's prompt cache.
        cache_write_1h_tokens: the part of ``cache_write_tokens`` that is kept for an hour (Anthropic).
        output_tokens: all generated tokens, reasoning included.
        reasoning_tokens: the part of the output that was hidden reasoning.
        input_audio_tokens: the part of the input that was audio.
        cached_input_audio_tokens: the part of the cached input that was audio.
        output_audio_tokens: the part of the output that was audio.
        input_image_tokens: the part of the input that was images, where a provider prices it apart.
        output_image_tokens: the part of the output that was images, where a provider prices it apart.
        cache_hits: answers that LangChain took from its own cache; nothing was sent for them.
        estimated_requests: requests whose tokens were counted locally.
        unmeasured_requests: requests whose tokens nobody knows; they add no tokens here.
    """

    requests: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cached_input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    cache_hits: int = 0
    estimated_requests: int = 0
    unmeasured_requests: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return _added((self, other))

    @classmethod
    def sum(cls, usages: Iterable[Usage]) -> Usage:
        """Add up any number of usages; of none it is all zeros."""
        return _added(usages)


_added = adder_of(Usage)

make_usage = maker_of(Usage)
"""Makes the same, see ``frozen.maker_of``."""


class PromptPart(NamedTuple):
    """One piece of a prompt, for counting where the input went.

    Attributes:
        role: who speaks; ``tools`` holds, as JSON, the list of the tools on offer, or the schema of the answer.
        text: the text as the model reads it, behind the ``name`` of the message if it carries one.
        named: whether it does (it costs a token of its own).
    """

    role: Role
    text: str
    named: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The input of one request, as far as it can be counted locally.

    Attributes:
        parts: messages and tool definitions in order; for completions and embeddings, their texts as ``user``.
        chat: whether each message costs the chat format's overhead.
        token_ids: tokens that the request gave as numbers instead of text.
        opaque: the input holds images, audio, files or a stored conversation: no local count is honest.
    """

    parts: tuple[PromptPart, ...] = ()
    chat: bool = False
    token_ids: int = 0
    opaque: bool = False


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One model request that was answered, or one that LangChain reported without any HTTP.

    Attributes:
        model: the model as the answer names it, else as the request did.
        provider: who bills, as genai-prices names it: ``openai``, ``azure``, ``anthropic``, ...
        endpoint: the URL's path, for example ``/v1/chat/completions``; empty where no HTTP was seen.
        usage: its tokens; ``None`` where it is unmeasured.
        cost: USD list price, exact; ``None`` where it is unpriced, unmeasured or not priced yet.
        source: where the usage comes from.
        replayed: answered from a cassette, so that nothing was spent.
        request_id: the provider's id of the answer, if it has one.
        parts: input tokens by role, scaled to the reported input; ``None`` where not known.
        service_tier: the tier that the answer names (``flex``, ``priority``, ``batch``, ...), which sets the price.
        request_model: the model, or Azure's deployment, as the request named it; the user's own prices know it too.
        reason: why it is unmeasured or unpriced, for messages.
        prompt: the input, kept to tell where it went; it does not leave the process.
    """

    model: str
    provider: str = ""
    endpoint: str = ""
    usage: Usage | None = None
    cost: Decimal | None = None
    source: Source = "response"
    replayed: bool = False
    request_id: str | None = None
    parts: dict[str, int] | None = None
    service_tier: str | None = None
    request_model: str = ""
    reason: str | None = None
    prompt: Prompt | None = field(default=None, repr=False, compare=False)

    @property
    def estimated(self) -> bool:
        """Whether the tokens were counted locally."""
        return self.source == "estimate"

    @property
    def tokens(self) -> tuple[int, int, int, int, int] | None:
        """What a baseline remembers of it, see ``ModelTokens``; ``None`` where it is unmeasured."""
        if (usage := self.usage) is None:
            return None
        return 1, usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens

    @property
    def tally(self) -> Usage:
        """What this call adds to a total: its tokens, one request, and whether they were estimated or unknown."""
        if self.usage is None:
            return Usage(requests=1, unmeasured_requests=1)
        return remade(
            self.usage,
            requests=self.usage.requests + 1,
            estimated_requests=self.usage.estimated_requests + self.estimated,
        )


make_call = maker_of(ModelCall)
"""Makes the same, see ``frozen.maker_of``."""
