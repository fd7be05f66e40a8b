"""What of an exchange may be stored: headers that are known to be harmless, decoded bodies, no secret anywhere."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from pytest_tokenbudget.capture.event_stream import change_payloads, is_event_stream
from pytest_tokenbudget.capture.redaction import redact
from pytest_tokenbudget.capture.secret_shapes import REDACTED, is_stand_in, secret_parameter
from pytest_tokenbudget.capture.wire.encodings import UnreadableError, decode_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vcr.request import Request

    from pytest_tokenbudget.capture.redaction import Note

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

CONTENT_ENCODING = "content-encoding"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_FORM = re.compile(r"[\w.~%+*\[\]!$-]{1,120}=[^\s\"'{}<>]*+")


def scrub_request(request: Request) -> Request:
    """Leave out of a request what must not be stored. Changes and returns it."""
    body = request.body
    if body is not None and not isinstance(body, bytes | str | dict | list):
        # An open file or an iterator: what it gave is what was sent.
        body = body.read() if hasattr(body, "read") else b"".join(map(_as_bytes, body))
        request._was_file = request._was_iter = False  # noqa: SLF001 - vcrpy has no other way to say so
    request.body = scrub_body(unpack(body, request.headers).body)
    request.headers = {
        name: _scrub_values(values) for name, values in request.headers.items() if name.lower() in REQUEST_HEADERS
    }
    request.uri = scrub_url(request.uri)
    return request


def scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """A copy of a response, decoded, without what must not be stored."""
    headers = response.get("headers") or {}
    body = dict(response.get("body") or {})
    if "string" in body:
        unpacked = unpack(body["string"], headers)
        body["string"] = scrub_body(unpacked.body)
        if unpacked.plain:
            headers = {name: values for name, values in headers.items() if name.lower() != CONTENT_ENCODING}
    kept = {name: _scrub_values(values) for name, values in headers.items() if name.lower() in RESPONSE_HEADERS}
    if "content" in response:  # as older versions of vcrpy recorded httpx
        return {**response, "headers": kept, "content": scrub_body(response["content"])}
    return {**response, "headers": kept, "body": body}


def scrub_path(url: str) -> str:
    """A URL's path without secrets, for a message."""
    return urlsplit(scrub_url(url)).path or "/"


def scrub_url(url: str, *, note: Note | None = None) -> str:
    """The URL without secrets: in its query by their names, and anywhere by what they look like."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no URL at all, in a file that was written by hand
        if found := _USER.match(url):
            _note_user(found[2], note)
            url = found[1] + url[found.end() :]
        return redact(url, note=note)
    changed = parts
    if "@" in parts.netloc:
        user, _, host = parts.netloc.rpartition("@")
        _note_user(user, note)
        changed = changed._replace(netloc=host)
    if "=" in parts.query:
        changed = changed._replace(query="&".join(_scrub_pairs(parts.query, note)))
    if changed != parts:
        url = urlunsplit(changed)
    return redact(url, note=note)


_USER = re.compile(r"([^:/?#]*://)([^/?#]*)@")


def _note_user(user: str, note: Note | None) -> None:
    if note is not None:
        note("password in a URL", unquote_plus(user.partition(":")[2] or user))


def scrub_body(body: Any, *, note: Note | None = None) -> Any:
    """The same body, of the same type, without secrets."""
    if isinstance(body, bytes | bytearray):
        return _scrub_bytes(bytes(body), note)
    if isinstance(body, str):
        return _scrub_form(redact(body, note=note), note)
    if isinstance(body, dict | list):
        try:
            return json.loads(redact(json.dumps(body, ensure_ascii=False), note=note))
        except (TypeError, ValueError, RecursionError):
            return body
    return body


def _scrub_bytes(body: bytes, note: Note | None) -> bytes:
    if body.startswith((_GZIP, _ZSTD)):
        return _scrub_packed(body, note)
    if body.startswith(b"\0") and is_event_stream(body):
        return change_payloads(body, lambda payload: _scrub_plain(payload, note))
    return _scrub_plain(body, note)


def _scrub_plain(body: bytes, note: Note | None) -> bytes:
    # Each byte as one character: keys are ASCII, and what is no text comes back as it was.
    text = body.decode("latin-1")
    scrubbed = _scrub_form(redact(text, of_bytes=True, note=note), note)
    return body if scrubbed == text else scrubbed.encode("latin-1")


class Unpacked(NamedTuple):
    """A body whose content encodings were looked at.

    Attributes:
        body: it, without them where they could be taken off.
        plain: whether it is without them.
    """

    body: Any
    plain: bool


def unpack(body: Any, headers: Mapping[Any, Any]) -> Unpacked:
    """Take the content encodings that the headers name off a body, as far as that goes."""
    named = {_as_text(name).lower(): values for name, values in headers.items()}
    encoding = named.get(CONTENT_ENCODING)
    if not encoding or not isinstance(body, bytes):
        return Unpacked(body, plain=True)
    values = encoding if isinstance(encoding, list | tuple) else [encoding]
    said = {CONTENT_ENCODING: ", ".join(map(_as_text, values))}
    try:
        return Unpacked(decode_body(body, said, complete=True), plain=True)
    except UnreadableError:
        pass
    try:
        readable = decode_body(body, said, complete=False)
    except UnreadableError:
        return Unpacked(body, plain=False)
    # Its client is to meet the same damage; but not at the price of a secret in what can be read of it.
    return Unpacked(readable, plain=True) if scrub_body(readable) != readable else Unpacked(body, plain=False)


def _scrub_packed(body: bytes, note: Note | None) -> bytes:
    """A body that is packed without a header that says so, such as a file that is sent: changed only for a secret."""
    zstd = body.startswith(_ZSTD)
    try:
        inner = decode_body(body, {CONTENT_ENCODING: "zstd"} if zstd else {}, complete=False)
    except UnreadableError:
        return body
    if inner.startswith((_GZIP, _ZSTD)):
        return body  # packed more often than anybody does
    scrubbed: bytes = scrub_body(inner, note=note)
    if scrubbed == inner:
        return body
    return scrubbed if zstd else gzip.compress(scrubbed, mtime=0)


def _scrub_form(text: str, note: Note | None) -> str:
    if "=" not in text or _FORM.fullmatch(text) is None:
        return text
    return "&".join(_scrub_pairs(text, note))


def _scrub_pairs(text: str, note: Note | None) -> Iterator[str]:
    for pair in text.split("&"):
        name, equals, value = pair.partition("=")
        if value and secret_parameter(unquote_plus(name)) and not is_stand_in(unquote_plus(value)):
            if note is not None:
                note(f"parameter {unquote_plus(name)}", unquote_plus(value))
            value = REDACTED
        yield f"{name}{equals}{value}"


def _scrub_values(values: Any) -> Any:
    if isinstance(values, list):
        return [redact(_as_text(value)) for value in values]
    return redact(_as_text(values))


def _as_text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _as_bytes(part: Any) -> bytes:
    return part if isinstance(part, bytes) else str(part).encode()
