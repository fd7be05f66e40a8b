"""An exchange, taken apart once for all provider families."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pytest_tokenbudget.capture.wire.counts import ImpossibleError, UncountableError
from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body
from pytest_tokenbudget.capture.wire.exchange import Reading
from pytest_tokenbudget.capture.wire.framing import Event, Frames, parse_frames, parse_json
from pytest_tokenbudget.capture.wire.providers import name_provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.capture.wire.exchange import Exchange
    from pytest_tokenbudget.usage import Prompt, Usage

_STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only", "on_demand", "unspecified"})
_FORM_MODEL = b'name="model"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """A request and its answer as JSON.

    Attributes:
        method: in upper case.
        host: in lower case, without port.
        path: the URL's path as it was sent.
        segments: the path's segments, decoded.
        request: the request's JSON object; empty where there was none that could be read.
        readable: whether the request could be read.
        frames: the answer's JSON objects.
        headers: the answer's headers.
        complete: whether the answer arrived whole.
        fault: why the answer could not be read, or ``None``.
    """

    method: str
    host: str
    path: str
    segments: tuple[str, ...]
    request: Mapping[str, Any] = field(default_factory=dict)
    readable: bool = False
    frames: Frames = field(default_factory=Frames)
    headers: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    fault: str | None = None

    @property
    def events(self) -> tuple[Event, ...]:
        """The answer's JSON objects in order."""
        return self.frames.events

    @property
    def body(self) -> Mapping[str, Any]:
        """The answer's first JSON object; empty where there is none."""
        return self.frames.events[0].data if self.frames.events else {}

    @property
    def whole(self) -> bool:
        """Whether nothing of the answer is missing or unreadable."""
        return self.complete and self.fault is None and self.frames.intact

    @property
    def request_model(self) -> str:
        """The model as the request's body names it."""
        return read_text(self.request, "model")

    @property
    def unseen(self) -> bool:
        """Whether neither side can be read, though the host is a provider's: a request whose cost nobody knows."""
        known = self.method == "POST" and name_provider(self.host, self.path, "") != ""
        return known and not self.readable and self.fault is not None

    def find_text(self, *names: str) -> str:
        """Return the first non-empty string under one of ``names`` in the answer's objects."""
        for event in self.frames.events:
            for name in names:
                if text := read_text(event.data, name):
                    return text
        return ""


def read_text(data: Mapping[str, Any], name: str) -> str:
    """Return the string under ``name``; empty where there is none."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


def read_objects(data: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the objects of the list under ``name``; empty where there is none."""
    value = data.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def read_tier(tier: Any) -> str | None:
    """Return a service tier's name, ``None`` for the one that has the list price."""
    if not isinstance(tier, str) or tier.lower() in _STANDARD_TIERS:
        return None
    return tier.lower()


@lru_cache(maxsize=64)  # each request's is asked for twice, and most go to the same few
def split_url(url: str) -> tuple[str, str]:
    """Return host (lower case, no port, no user) and path of a URL, whatever it is."""
    _, _, rest = url.rpartition("://") if "://" in url[:12] else ("", "", url)
    end = min((at for at in (rest.find("?"), rest.find("#")) if at >= 0), default=len(rest))
    host, slash, path = rest[:end].partition("/")
    host = host.rpartition("@")[2].lower()
    host = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return host, slash + path


def take_apart(exchange: Exchange) -> Traffic:
    """Parse both bodies of an exchange; what can't be read is left out and, for the answer, named as a fault."""
    host, path = split_url(exchange.url)
    frames, fault = Frames(), None
    try:
        frames = parse_frames(decode_body(exchange.body, exchange.headers, complete=exchange.complete))
    except UnreadableError as error:
        fault = str(error)
    request = _read_request(exchange.request_body)
    return Traffic(
        method=exchange.method.upper(),
        host=host,
        path=path,
        segments=tuple(unquote(each) for each in path.strip("/").split("/")),
        request=request or {},
        readable=request is not None,
        frames=frames,
        headers=exchange.headers,
        complete=exchange.complete,
        fault=fault,
    )


def make_reading(  # noqa: PLR0913 - keyword-only, one per field of a reading
    traffic: Traffic,
    *,
    measure: Callable[[], Usage | None],
    model: str = "",
    provider: str | None = None,
    request_model: str | None = None,
    prompt: Prompt | None = None,
    outputs: tuple[str, ...] | None = None,
    request_id: str | None = None,
    service_tier: str | None = None,
    why_none: str = "no usage was reported",
) -> Reading:
    """Make the reading of an answer, with the usage that ``measure`` finds or the reason that there is none."""
    usage, reason, impossible = None, traffic.fault, False
    if traffic.fault is None:
        try:
            usage = measure()
        except UncountableError as error:
            reason, impossible = str(error), isinstance(error, ImpossibleError)
        else:
            reason = None if usage is not None else why_none
    asked = traffic.request_model if request_model is None else request_model
    model = model or asked
    return Reading(
        model=model,
        provider=name_provider(traffic.host, traffic.path, model or asked) if provider is None else provider,
        endpoint=traffic.path,
        usage=usage,
        request_id=request_id or None,
        service_tier=service_tier,
        prompt=prompt,
        outputs=outputs if traffic.fault is None else None,
        request_model=asked,
        reason=reason,
        impossible=impossible,
    )


def _read_request(body: bytes) -> dict[str, Any] | None:
    if _FORM_MODEL in body[:1_000_000] and not body.lstrip().startswith(b"{"):
        return _read_form(body)
    try:
        request = parse_json(body)
    except UnreadableError:
        return None
    return request if isinstance(request, dict) else None


def _read_form(body: bytes) -> dict[str, Any]:
    """Read the one field of a multipart form that matters here."""
    _, _, rest = body.partition(_FORM_MODEL)
    value = rest[:400].partition(b"\r\n\r\n")[2].partition(b"\r\n")[0]
    return {"model": value.decode("utf-8", "replace")}
