"""The two ends of the wire ring: an HTTP exchange goes in, a reading comes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_tokenbudget.usage import Prompt, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One HTTP request and the answer to it, as any client saw them.

    Attributes:
        method: ``POST``, ``GET``, ...
        url: the whole URL.
        request_body: the request's body; empty where there was none.
        status: the answer's status code.
        headers: the answer's headers, names in lower case.
        body: the answer's body as far as it arrived. Content encodings that are still on it are taken off here.
        complete: whether the body arrived whole; ``False`` for a stream that was cut or abandoned.
    """

    method: str
    url: str
    request_body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an exchange says about its model request.

    Attributes:
        model: the model as the answer names it, else as the request did, else the empty string.
        provider: who bills, as genai-prices names it (``openai``, ``azure``, ``anthropic``, ``google``, ...).
        endpoint: the URL's path.
        usage: the tokens that were reported; ``None`` where there were none or they can't be believed.
        request_id: the provider's id of the answer.
        service_tier: the tier that the answer names; ``None`` for the standard one.
        prompt: the input, for estimates and for telling where it went; ``None`` where the request can't be read.
        outputs: the generated texts, one per choice, tool calls included, for estimates;
            ``None`` where the output can't be known from the answer (hidden reasoning, images, an unreadable body).
        request_model: the model as the request named it.
        pending: the answer is only a receipt for background work whose usage comes in a later answer of the same id.
        reason: why there is no usage, in a few words, or ``None``.
        impossible: usage was reported, and can't be true.
    """

    model: str
    provider: str
    endpoint: str
    usage: Usage | None
    request_id: str | None = None
    service_tier: str | None = None
    prompt: Prompt | None = None
    outputs: tuple[str, ...] | None = None
    request_model: str = ""
    pending: bool = False
    reason: str | None = None
    impossible: bool = False
