"""What of an exchange may be stored: headers that are known to be harmless, and nothing that looks like a key."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body
from pytest_tokenbudget.environment import DUMMY

if TYPE_CHECKING:
    from vcr.request import Request

REQUEST_HEADERS = frozenset({"content-type", "accept"})
RESPONSE_HEADERS = frozenset({
    "content-type",
    "date",
    # Only where the body could not be decoded: it is of no use without.
    "content-encoding",
    # Bedrock reports the usage of some models in these alone.
    "x-amzn-bedrock-input-token-count",
    "x-amzn-bedrock-output-token-count",
    "x-amzn-bedrock-cache-read-input-token-count",
    "x-amzn-bedrock-cache-write-input-token-count",
})  # fmt: skip
"""Everything else is left out. Above all ``retry-after``: a replay would sleep for it."""

CLEAR_NAMES = (
    "api_key", "apikey", "api-key", "access_token", "refresh_token", "id_token", "client_secret", "password",
    "authorization", "x-api-key",
)  # fmt: skip
"""What is called so is a secret, in a query and in JSON."""

VAGUE_NAMES = ("key", "token", "secret", "sig", "signature", "cookie")
"""What is called so in JSON is a secret where it looks like one: log probabilities call a word ``token``."""

SECRET_PARAMETERS = frozenset({
    *CLEAR_NAMES, *VAGUE_NAMES, "x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature",
    "x-goog-credential", "subscription-key", "ocp-apim-subscription-key",
})  # fmt: skip

KEY_VARIABLE = re.compile(
    r"(?:_API_?KEY|_TOKEN|_SECRET|_KEY|_ACCESS_KEY_ID|_BEARER_TOKEN_\w+|_PASSWORD|_PASSWD|_CREDENTIALS?)$",
    re.IGNORECASE,
)
MIN_SECRET_LENGTH = 12
"""Shorter values of such variables are words that a prompt may hold."""

REDACTED = "REDACTED"


class _Rule(NamedTuple):
    """One kind of secret: looked for only in texts that hold one of its signs, so that plain texts cost little."""

    signs: tuple[str, ...]
    pattern: re.Pattern[str]


def _any_of(names: tuple[str, ...] | frozenset[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=lambda name: (-len(name), name)))


_SHAPES = (
    (("sk-",), r"sk-(?:(?:proj|svcacct|admin|None|ant|or)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})"),
    (("lsv2_",), r"lsv2_(?:pt|sk)_[A-Za-z0-9_]{20,}"),
    (("AIza",), r"AIza[A-Za-z0-9_-]{35}"),
    (("ya29.",), r"ya29\.[A-Za-z0-9_-]{20,}"),
    (("gsk_", "hf_", "r8_"), r"(?:gsk_|hf_|r8_)[A-Za-z0-9]{30,}"),
    (("xai-", "pplx-", "nvapi-"), r"(?:xai-|pplx-|nvapi-)[A-Za-z0-9_-]{32,}"),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{30,}"),
    (("github_pat_",), r"github_pat_[A-Za-z0-9_]{30,}"),
    (("AKIA", "ASIA"), r"(?:AKIA|ASIA)[A-Z0-9]{16}"),
    (("xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"), r"xox[abprs]-[A-Za-z0-9-]{10,}"),
    # A web token starts where its run of letters does, or after an escaped line end.
    (
        ("eyJ",),
        r"(?:(?<![A-Za-z0-9_.-])|(?<=\\[nrt]))eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+",
    ),
    (
        ("PRIVATE KEY-----",),
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]{0,16384}+(?:-----END [A-Z ]{0,20}PRIVATE KEY-----)?",
    ),
    (("earer ",), r"(?P<keep>[Bb]earer )(?=[A-Za-z_.~+/=-]{0,200}+[0-9])[A-Za-z0-9_.~+/=-]{16,}"),
    (("__cf_bm=",), r"(?P<keep>__cf_bm=)[^;\s\"\\]+"),
)
"""How the keys of known makers look. None of these can backtrack: each is a fixed start and one run of letters."""

_RULES = tuple(_Rule(signs, re.compile(pattern)) for signs, pattern in _SHAPES)
_PARAMETER = re.compile(rf"(?P<keep>(?:\A|[?&])(?:{_any_of(SECRET_PARAMETERS)})=)[^&\s\"'\\<>#]{{8,}}", re.IGNORECASE)
_CLEAR_MEMBER = re.compile(
    rf'(?P<keep>"(?:{_any_of(CLEAR_NAMES)})"\s{{0,8}}:\s{{0,8}}")[^"\\]++(?:\\.[^"\\]*+)*+', re.IGNORECASE
)
_VAGUE_MEMBER = re.compile(
    rf'(?P<keep>"(?:{_any_of(VAGUE_NAMES)})"\s{{0,8}}:\s{{0,8}}")'
    r'(?=[A-Za-z_.~+/=:|-]{0,200}+[0-9])[A-Za-z0-9_.~+/=:|-]{16,}+(?=")',
    re.IGNORECASE,
)


def secret_parameter(name: str) -> bool:
    """Whether a query parameter of this name holds a secret: it is redacted, and not compared."""
    return name.lower() in SECRET_PARAMETERS


def scrub_request(request: Request) -> Request:
    """Leave out of a request what must not be stored. Changes and returns it."""
    request.headers = {name: value for name, value in request.headers.items() if name.lower() in REQUEST_HEADERS}
    request.uri = scrub_url(request.uri)
    body = request.body
    if body is not None and not isinstance(body, bytes | str | dict | list):
        # An open file or an iterator: what it gave is what was sent.
        body = body.read() if hasattr(body, "read") else b"".join(map(_as_bytes, body))
        request._was_file = request._was_iter = False  # noqa: SLF001 - vcrpy has no other way to say so
    request.body = scrub_body(body)
    return request


def scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """A copy of a response, decoded, without what must not be stored."""
    headers = response.get("headers") or {}
    body = dict(response.get("body") or {})
    if "string" in body:
        body["string"], decoded = _decode(body["string"], headers)
        body["string"] = scrub_body(body["string"])
        if decoded:
            headers = {name: values for name, values in headers.items() if name.lower() != "content-encoding"}
    kept = {name: _scrub_values(values) for name, values in headers.items() if name.lower() in RESPONSE_HEADERS}
    return {**response, "headers": kept, "body": body}


def scrub_url(url: str) -> str:
    """The URL without secrets, in its query and elsewhere."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        url = urlunsplit(parts := parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if any(secret_parameter(name) for name, _ in pairs):
        kept = [(name, REDACTED if secret_parameter(name) else value) for name, value in pairs]
        url = urlunsplit(parts._replace(query=urlencode(kept)))
    return scrub_text(url)


def scrub_body(body: Any) -> Any:
    """The same body, of the same type, without secrets."""
    if isinstance(body, bytes | bytearray):
        # Each byte as one character: keys are ASCII, and what is no text comes back as it was.
        text = bytes(body).decode("latin-1")
        scrubbed = scrub_text(text, of_bytes=True)
        return bytes(body) if scrubbed == text else scrubbed.encode("latin-1")
    if isinstance(body, str):
        return scrub_text(body)
    if isinstance(body, dict | list):
        try:
            return json.loads(scrub_text(json.dumps(body, ensure_ascii=False)))
        except (TypeError, ValueError, RecursionError):
            return body
    return body


def scrub_text(text: str, *, of_bytes: bool = False) -> str:
    """The text with every secret replaced by ``REDACTED``; takes time in proportion to its length.

    Args:
        text: anything.
        of_bytes: each character stands for one byte.
    """
    for secret in _secrets():
        literal = secret.encode("utf-8", "surrogateescape").decode("latin-1") if of_bytes else secret
        text = text.replace(literal, REDACTED)
    for rule in _RULES:
        if any(sign in text for sign in rule.signs):
            text = rule.pattern.sub(_redact, text)
    if "=" in text:
        text = _PARAMETER.sub(_redact, text)
    if '"' in text:
        text = _CLEAR_MEMBER.sub(_redact, text)
        text = _VAGUE_MEMBER.sub(_redact, text)
    return text


def _redact(match: re.Match[str]) -> str:
    return (match.groupdict().get("keep") or "") + REDACTED


def _scrub_values(values: Any) -> Any:
    return [scrub_text(str(value)) for value in values] if isinstance(values, list) else scrub_text(str(values))


def _decode(body: Any, headers: dict[str, Any]) -> tuple[Any, bool]:
    named = {
        name.lower(): values if isinstance(values, str) else ", ".join(map(str, values))
        for name, values in headers.items()
    }
    if not isinstance(body, bytes) or not named.get("content-encoding"):
        return body, True
    try:
        return decode_body(body, named, complete=True), True
    except UnreadableError:
        return body, False


def _as_bytes(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()


def _secrets() -> list[str]:
    """The values of this process's own key variables in the forms they travel in, the longest first.

    The dummy that stands for them in a replayed test is one of them, so that a replayed request looks like the
    recorded one.
    """
    # Its own mapping decodes every value at each look; the one below it is the environment as the system has it.
    raw = getattr(os.environ, "_data", None)
    return _secrets_in(frozenset((os.environ if raw is None else raw).items()))


@lru_cache(maxsize=4)
def _secrets_in(environment: frozenset[tuple[Any, Any]]) -> list[str]:
    texts = ((os.fsdecode(name), os.fsdecode(value)) for name, value in environment)
    values = {value for name, value in texts if KEY_VARIABLE.search(name) and len(value) >= MIN_SECRET_LENGTH}
    values.add(DUMMY)
    forms = {form for value in values for form in (value, json.dumps(value)[1:-1], quote(value, safe=""))}
    return sorted(forms, key=len, reverse=True)
