"""What of an exchange is stored: harmless headers, decoded bodies, no secret; and what was redacted still matches."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import sys
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from planted_secrets import SHAPED
from vcr.request import Request

from pytest_tokenbudget.capture.redaction import redact
from pytest_tokenbudget.capture.request_index import request_key
from pytest_tokenbudget.capture.scrub import (
    REDACTED,
    scrub_body,
    scrub_request,
    scrub_response,
    scrub_url,
)
from pytest_tokenbudget.environment import DUMMY


@given(st.binary())
def test_bytes_that_hold_no_key_come_back_as_they_were(data):
    assert scrub_body(data) == data


@pytest.mark.parametrize(
    "name",
    [
        "key", "api_key", "API-KEY", "access_token", "token", "sig", "X-Amz-Signature", "x-goog-signature", "password",
        "X-Amz-Credential", "X-Amz-Security-Token", "AWSAccessKeyId", "subscription-key", "openai_api_key", "api%5Fkey",
    ],
)  # fmt: skip
def test_secrets_leave_the_query(name):
    url = scrub_url(f"https://host/v1/models/m:generate?alt=sse&{name}=opaque-17&x=a%20b+c")
    assert url == f"https://host/v1/models/m:generate?alt=sse&{name}=REDACTED&x=a%20b+c"


@pytest.mark.parametrize("name", ["max_tokens", "keys", "tokens", "page_token", "monkey", "signed", "author", "q"])
def test_what_is_no_secret_stays_in_the_query(name):
    url = f"https://host/v1/x?{name}=opaque-value-17&api_key=&key=${{KEY}}"
    assert scrub_url(url) == url


def test_secrets_leave_the_rest_of_the_url():
    assert scrub_url("https://user:hunter2@host/x") == "https://host/x"
    assert scrub_url("https://token@host/x") == "https://host/x"
    assert scrub_url(f"https://host/bot{SHAPED['google']}/x") == f"https://host/bot{REDACTED}/x"
    assert scrub_url(f"https://host/x#access_token={'0a1b' * 8}&y=1") == "https://host/x#access_token=REDACTED&y=1"
    assert scrub_url("no URL [ at all") == "no URL [ at all"
    assert scrub_url("https://[broken/?key=1") == "https://[broken/?key=1"
    found = []
    assert scrub_url("https://user:hunter2@[broken/x", note=lambda *each: found.append(each)) == "https://[broken/x"
    assert found == [("password in a URL", "hunter2")]
    assert scrub_url("https://host/a%20b?q=c%2Fd&e=") == "https://host/a%20b?q=c%2Fd&e="


def test_form_bodies():
    assert scrub_body(b"api_key=0123456789&x=1") == b"api_key=REDACTED&x=1"
    assert scrub_body(b"x=1&client_secret=0123456789") == b"x=1&client_secret=REDACTED"
    assert scrub_body("x=a%20b&password=p&y=%7B%7D&token=t&") == "x=a%20b&password=REDACTED&y=%7B%7D&token=REDACTED&"
    assert scrub_body(b"x = 1 & password = p") == b"x = 1 & password = p"  # prose, and no form


@pytest.mark.parametrize("name", ["api_key", "password", "x-api-key"])
def test_multipart_bodies(name):
    parts = [("purpose", "batch"), (name, "opaque value"), ("file", "{}\r\n")]
    body = "".join(f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts) + "--b--"
    assert scrub_body(body.encode()).decode() == body.replace("opaque value", REDACTED)
    typed = body.replace(f'name="{name}"', f'name="{name}"; filename="x"\r\nContent-Type: text/plain')
    assert scrub_body(typed) == typed.replace("opaque value", REDACTED)


def test_bodies_that_are_mappings():
    assert scrub_body({"a": [{"password": "opaque"}], "b": 1.5}) == {"a": [{"password": REDACTED}], "b": 1.5}
    odd = {"a": object()}
    assert scrub_body(odd) is odd


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "MY_TOKEN",
        "DB_PASSWORD",
        "AWS_ACCESS_KEY_ID",
        "WATSONX_APIKEY",
        "AWS_BEARER_TOKEN_BEDROCK",
        "APP_SECRET",
        "my_secret",
    ],
)
def test_values_of_this_process_own_key_variables(monkeypatch, name):
    monkeypatch.setenv(name, "correct-horse-battery")
    assert redact("the key is correct-horse-battery!") == "the key is REDACTED!"


@pytest.mark.parametrize("name", ["KEYS", "TOKENIZERS_PARALLELISM", "MONKEY", "OPENAI_BASE_URL", "PATH_TO_KEY_FILE"])
def test_other_variables_are_none(monkeypatch, name):
    monkeypatch.setenv(name, "correct-horse-battery")
    assert redact("the key is correct-horse-battery!") == "the key is correct-horse-battery!"


BODY = b'{"api_key": "opaque", "messages": [{"content": "hi"}]}'


@pytest.mark.parametrize("body", [BODY, BODY.decode(), iter([BODY[:9], BODY[9:]])])
def test_a_request_is_stored_with_harmless_headers_only(body):
    headers = {
        "Authorization": "Bearer x",
        "X-Api-Key": "y",
        "Cookie": "z",
        "Content-Type": "application/json",
        "OpenAI-Organization": "org",
        "Accept": "*/*",
        "User-Agent": "me",
        "api-key": "k",
        "x-goog-api-key": "k",
    }
    request = scrub_request(Request("POST", "https://h/v1/x?key=abc", body, headers))
    assert sorted(name.lower() for name in request.headers) == ["accept", "content-type"]
    assert request.uri == "https://h/v1/x?key=REDACTED"
    assert json.loads(request.body) == {"api_key": REDACTED, "messages": [{"content": "hi"}]}
    assert isinstance(request._to_dict()["body"], bytes)


def test_an_open_file_as_body(tmp_path):
    path = tmp_path / "body"
    path.write_bytes(BODY)
    with path.open("rb") as file:
        request = scrub_request(Request("POST", "https://h/x", file, {}))
    assert b"opaque" not in request.body


class Brotli:
    """Stands in for the brotli package, which is not installed here: what it unpacks is zlib."""

    error = zlib.error

    class Decompressor:
        def __init__(self):
            self._inner = zlib.decompressobj()

        def process(self, data):
            return self._inner.decompress(data)

        def is_finished(self):
            return self._inner.eof


zstd = zstandard.ZstdCompressor().compress
PACKED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd,
    "br": zlib.compress,
    "gzip, gzip": lambda body: gzip.compress(gzip.compress(body)),
    "deflate, gzip": lambda body: gzip.compress(zlib.compress(body)),
    "gzip, zstd": lambda body: zstd(gzip.compress(body)),
    "identity": lambda body: body,
}


@pytest.fixture
def brotli(monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", Brotli)


def packed_response(encoding, packed):
    return {
        "status": {"code": 200, "message": "OK"},
        "headers": {
            "Content-Encoding": [encoding],
            "Content-Type": ["application/json"],
            "Date": ["Sun, 22 Nov 2026 10:00:00 GMT"],
            "Retry-After": ["5"],
            "retry-after-ms": ["5"],
            "Set-Cookie": ["s"],
            "openai-organization": ["o"],
            "Content-Length": ["5"],
            "x-request-id": ["r"],
        },
        "body": {"string": packed},
    }


@pytest.mark.parametrize("encoding", PACKED)
def test_a_response_is_stored_decoded_and_its_secrets_are_found(encoding, brotli):
    body = json.dumps({"echo": SHAPED["openai project"], "text": "grün"}).encode()
    response = packed_response(encoding, PACKED[encoding](body))
    before = copy.deepcopy(response)
    stored = scrub_response(response)
    assert sorted(name.lower() for name in stored["headers"]) == ["content-type", "date"]
    assert json.loads(stored["body"]["string"]) == {"echo": REDACTED, "text": "grün"}
    assert response == before


@pytest.mark.parametrize("encoding", PACKED)
def test_a_request_is_stored_decoded_and_still_matches(encoding, brotli):
    body = json.dumps({"echo": SHAPED["openai project"], "text": "grün"}).encode()
    sent = Request("POST", "https://h/x", PACKED[encoding](body), {"Content-Encoding": encoding})
    stored = scrub_request(copy.deepcopy(sent))
    assert json.loads(stored.body) == {"echo": REDACTED, "text": "grün"}
    assert stored.headers == {}
    assert request_key(sent) == request_key(stored)
    other = Request("POST", "https://h/x", PACKED[encoding](body + b" "), {"Content-Encoding": encoding})
    assert request_key(other) == request_key(stored)  # packed otherwise, and the same JSON


def test_a_body_that_can_not_be_decoded_keeps_what_tells_its_client_how():
    response = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-encoding": ["gzip"]},
        "body": {"string": b"\x1f\x8bbroken"},
    }
    assert scrub_response(response) == response


def test_responses_as_older_recorders_of_httpx_wrote_them():
    old = {"status_code": 200, "headers": {"x-id": ["1"]}, "content": f"it is {SHAPED['anthropic']}"}
    assert scrub_response(old) == {"status_code": 200, "headers": {}, "content": "it is REDACTED"}


def test_a_secret_in_what_can_be_read_of_a_damaged_body_is_not_stored():
    body = json.dumps({"echo": SHAPED["openai project"], "text": "grün" * 999}).encode()
    harmless = json.dumps({"echo": "x", "text": "grün" * 999}).encode()
    cut = packed_response("gzip", gzip.compress(harmless)[:-9])
    assert scrub_response(cut)["body"]["string"] == cut["body"]["string"]
    stored = scrub_response(packed_response("gzip", gzip.compress(body)[:-9]))
    assert stored["body"]["string"].startswith(b'{"echo": "REDACTED"')
    assert "Content-Encoding" not in stored["headers"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_packed_file_without_a_header_that_says_so(pack):
    harmless = pack(b'{"text": "hi"}')
    assert scrub_body(harmless) == harmless
    stored = scrub_body(pack(json.dumps({"key": SHAPED["anthropic"]}).encode()))
    plain = gzip.decompress(stored) if pack is gzip.compress else stored
    assert json.loads(plain) == {"key": REDACTED}
    for broken in (b"\x1f\x8bbroken", b"\x28\xb5\x2f\xfdbroken", gzip.compress(gzip.compress(gzip.compress(b"x")))):
        assert scrub_body(broken) == broken


def request_with(body, url="https://h/v1/chat/completions"):
    return Request("POST", url, body, {"content-type": "application/json"})


def test_a_replayed_request_finds_the_recording_of_one_whose_secrets_were_redacted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "correct-horse-battery-staple")
    sent = request_with(
        b'{"a": "correct-horse-battery-staple", "b": 1}', "https://h/x?key=correct-horse-battery-staple&v=1"
    )
    stored = scrub_request(copy.deepcopy(sent))
    monkeypatch.setenv("OPENAI_API_KEY", DUMMY)
    now = request_with(f'{{"b":1.0,"a":"{DUMMY}"}}'.encode(), f"https://h/x?key={DUMMY}&v=1")
    assert request_key(now) == request_key(stored) == request_key(scrub_request(copy.deepcopy(now)))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b'{"a": 1, "b": [1, 2]}', b'{"b":[1.0,2],"a":1}', True),
        (b'{"a": 1}', '{"a": 1.0}', True),
        (b' {"a": "\\u00e4"}', '{"a": "ä"}'.encode(), True),
        (b'{"a": [1, 2]}', b'{"a": [2, 1]}', False),
        (b'{"a": 1}', b'{"a": "1"}', False),
        (b'{"a": true}', b'{"a": 1}', False),
        (b'{"a": null}', b"{}", False),
        (b'{"a": 0.5}', b'{"a": 0.50}', True),
        (b"plain", b"plain ", False),
        (None, b"", True),
        (b"--b1\r\nx\r\n--b1--", b"--b2\r\nx\r\n--b2--", True),
        (b"--b1\r\nx\r\n--b1--", b"--b2\r\ny\r\n--b2--", False),
        (b'{"broken', b'{"broken', True),
        (b"[" * 5000, b"[" * 5000, True),
    ],
)
def test_bodies_compare_as_json(one, other, same):
    assert (request_key(request_with(one)) == request_key(request_with(other))) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h/x", "https://h:443/x", True),
        ("https://h", "https://h/", True),
        ("https://h/x?a=1&b=2", "https://h/x?b=2&a=1", True),
        ("https://h/x?a=1", "https://h/x?a=2", False),
        ("https://h/x", "http://h/x", False),
        ("https://h/x", "https://i/x", False),
        ("http://h:1/x", "http://h:2/x", False),
        ("https://h/x?key=1", "https://h/x?key=2", True),
    ],
)
def test_urls_compare_by_what_they_say(one, other, same):
    assert (request_key(request_with(b"", one)) == request_key(request_with(b"", other))) is same


# -- AWS event streams


def frame(event, payload):
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2, "big") + value
        for name, value in ((b":event-type", event), (b":content-type", b"application/json"))
    )
    lengths = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    start = lengths + zlib.crc32(lengths).to_bytes(4, "big") + headers + payload
    return start + zlib.crc32(start).to_bytes(4, "big")


def payloads(body):
    """The payloads, each after its lengths and both of its checksums were found right."""
    found = []
    while body:
        total, headers = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        assert zlib.crc32(body[:8]) == int.from_bytes(body[8:12], "big")
        assert zlib.crc32(body[: total - 4]) == int.from_bytes(body[total - 4 : total], "big")
        found.append(body[12 + headers : total - 4])
        body = body[total:]
    return found


def wrapped(document):
    """As InvokeModel wraps a model's own events."""
    return json.dumps({"bytes": base64.b64encode(json.dumps(document).encode()).decode(), "p": "abcdef"}).encode()


def test_event_streams_keep_whole_frames():
    secret = SHAPED["anthropic"]
    said = [json.dumps({"delta": {"text": f"it is {secret}"}, "p": "abc"}).encode(), b'{"stopReason": "end_turn"}']
    own = [{"delta": {"text": f"it is {secret}"}}, {"delta": {"text": "bye"}}]
    body = b"".join(
        [frame(b"contentBlockDelta", each) for each in said] + [frame(b"chunk", wrapped(each)) for each in own]
    )
    stored = payloads(scrub_body(body))
    assert [json.loads(each) for each in stored[:2]] == [
        {"delta": {"text": "it is REDACTED"}, "p": "abc"},
        {"stopReason": "end_turn"},
    ]
    inner = [json.loads(base64.b64decode(json.loads(each)["bytes"])) for each in stored[2:]]
    assert inner == [{"delta": {"text": "it is REDACTED"}}, {"delta": {"text": "bye"}}]
    told = []
    scrub_body(body, note=lambda kind, found: told.append(found))
    assert told == [secret, secret]
    harmless = b"".join(frame(b"chunk", wrapped({"delta": number})) for number in range(3))
    assert scrub_body(harmless) == harmless
    assert scrub_body(harmless[:-5]) == harmless[:-5]
    assert secret.encode() not in scrub_body(frame(b"x", said[0])[:-5])


@given(st.lists(st.binary(max_size=40), max_size=4), st.binary(max_size=20))
def test_frames_that_hold_no_secret_come_back_as_they_were(parts, tail):
    body = b"".join(frame(b"chunk", part) for part in parts) + tail
    assert scrub_body(body) == body
