"""What of an exchange may be stored: headers that are known to be harmless, and no value of a key variable."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from vcr.request import Request

REQUEST_HEADERS = frozenset({"content-type", "accept"})
RESPONSE_HEADERS = frozenset({
    "content-type",
    "date",
    # Bedrock reports the usage of some models in these alone.
    "x-amzn-bedrock-input-token-count",
    "x-amzn-bedrock-output-token-count",
    "x-amzn-bedrock-cache-read-input-token-count",
    "x-amzn-bedrock-cache-write-input-token-count",
})  # fmt: skip
"""Everything else is left out. Above all ``retry-after``: a replay would sleep for it."""

SECRET_PARAMETERS = frozenset({
    "key", "api_key", "apikey", "api-key", "access_token", "refresh_token", "id_token", "token", "client_secret",
    "password", "secret", "sig", "signature", "authorization", "x-amz-signature", "x-amz-credential",
    "x-amz-security-token", "x-goog-signature", "x-goog-credential",
})  # fmt: skip

KEY_VARIABLE = re.compile(r"(?:_API_KEY|_TOKEN|_SECRET|_ACCESS_KEY|_KEY)$")
MIN_SECRET_LENGTH = 12
"""Shorter values of such variables are words that a prompt may hold."""

REDACTED = "REDACTED"


def secret_parameter(name: str) -> bool:
    """Whether a query parameter of this name holds a secret: it is redacted, and not compared."""
    return name.lower() in SECRET_PARAMETERS


def scrub_request(request: Request) -> Request:
    """Leave out of a request what must not be stored. Changes and returns it."""
    request.headers = {name: value for name, value in request.headers.items() if name.lower() in REQUEST_HEADERS}
    request.uri = _scrub_text(_scrub_url(request.uri))
    request.body = _scrub(request.body)
    return request


def scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """A copy of a response without what must not be stored."""
    headers = {
        name: values for name, values in (response.get("headers") or {}).items() if name.lower() in RESPONSE_HEADERS
    }
    body = dict(response.get("body") or {})
    if "string" in body:
        body["string"] = _scrub(body["string"])
    return {**response, "headers": headers, "body": body}


def _scrub_url(url: str) -> str:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not any(secret_parameter(name) for name, _ in pairs):
        return url
    kept = [(name, REDACTED if secret_parameter(name) else value) for name, value in pairs]
    return urlunsplit(parts._replace(query=urlencode(kept)))


def _scrub(body: Any) -> Any:
    if isinstance(body, bytes):
        for secret in _secrets():
            body = body.replace(secret.encode(), REDACTED.encode())
        return body
    return _scrub_text(body) if isinstance(body, str) else body


def _scrub_text(text: str) -> str:
    for secret in _secrets():
        text = text.replace(secret, REDACTED)
    return text


def _secrets() -> list[str]:
    """The values of this process's own key variables, the longest first."""
    found = {
        value for name, value in os.environ.items() if KEY_VARIABLE.search(name) and len(value) >= MIN_SECRET_LENGTH
    }
    return sorted(found, key=len, reverse=True)
