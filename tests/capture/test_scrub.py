"""Nothing that looks like a key, or is one of this process's own, reaches a file; what is no key stays as it was."""

from __future__ import annotations

import copy
import gzip
import json
import string
import zlib
from urllib.parse import quote

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from vcr.request import Request

from pytest_tokenbudget.capture.cassette import request_key
from pytest_tokenbudget.capture.scrub import (
    REDACTED,
    scrub_body,
    scrub_request,
    scrub_response,
    scrub_text,
    scrub_url,
)
from pytest_tokenbudget.environment import DUMMY

LETTERS = string.ascii_letters + string.digits  # 62, not in any key's alphabet order
KEYS = {
    "openai project": "sk-proj-" + LETTERS[:48],
    "openai service": "sk-svcacct-" + LETTERS[:40],
    "openai admin": "sk-admin-" + LETTERS[:40],
    "openai old": "sk-" + LETTERS[:20] + "T3BlbkFJ" + LETTERS[20:40],
    "anthropic": "sk-ant-api03-" + LETTERS[:60] + "_-AA",
    "openrouter": "sk-or-v1-" + "0123456789abcdef" * 4,
    "deepseek": "sk-" + "0123456789abcdef" * 2,
    "langsmith": "lsv2_pt_" + "0123456789abcdef" * 2 + "_0123456789",
    "google": "AIza" + LETTERS[:35],
    "google oauth": "ya29." + LETTERS[:60],
    "groq": "gsk_" + LETTERS[:52],
    "hugging face": "hf_" + LETTERS[:34],
    "replicate": "r8_" + LETTERS[:37],
    "xai": "xai-" + LETTERS[:62],
    "perplexity": "pplx-" + LETTERS[:48],
    "nvidia": "nvapi-" + LETTERS[:60],
    "github": "ghp_" + LETTERS[:36],
    "github fine": "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59],
    "aws": "AKIA" + "ABCDEFGH01234567",
    "slack": "xoxb-" + "0123456789-0123456789-" + LETTERS[:24],
    "web token": "eyJ" + LETTERS[:17] + ".eyJ" + LETTERS[:40] + "." + LETTERS[:43],
    "private key": "-----BEGIN RSA PRIVATE KEY-----\\n" + LETTERS * 3 + "\\n-----END RSA PRIVATE KEY-----",
}
PLACES = {
    "alone": "{}",
    "in a text": "use {} please",
    "in JSON": '{{"a": "{}"}}',
    "after an escaped line end": '{{"content": "my key:\\n{}"}}',
    "in an escaped JSON": '{{"arguments": "{{\\"x\\": \\"{}\\"}}"}}',
    "in a query": "https://x/y?z={}&a=b",
    "in an event stream": 'data: {{"delta": {{"content": "{}"}}}}\n\n',
    "twice": "{0} {0}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_known_makers_are_redacted_wherever_they_stand(kind, place):
    text = PLACES[place].format(KEYS[kind])
    middle = KEYS[kind][14:30]
    for scrubbed in (scrub_text(text), scrub_body(text.encode()).decode()):
        assert middle not in scrubbed
        assert REDACTED in scrubbed
    if place == "in JSON":
        assert json.loads(scrub_text(text)) == {"a": REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        '{"max_tokens": 5, "top_logprobs": 2}',
        '{"token": " Hello", "logprob": -0.1, "bytes": [1]}',
        '{"token": "                                    "}',
        '{"key": "the_name_of_a_customer_field"}',
        '{"key": {"type": "string"}, "required": ["key", "token"]}',
        "Which tokens does sk- start? A task-oriented risk-proj-list.",
        "Bearer of bad news, bearer-of-the-ring and internationalization",
        "See https://example.com/?page=12345678&sort=descending",
        "eyJust a word. eyJ",
        "AKIA is short, hf_hub too, xai-grok as well",
        '{"usage": {"prompt_tokens": 12, "completion_tokens": 5}}',
        "",
    ],
)
def test_what_is_no_key_stays(text):
    assert scrub_text(text) == text
    assert scrub_body(text.encode()) == text.encode()


@given(st.binary())
def test_bytes_that_hold_no_key_come_back_as_they_were(data):
    assert scrub_body(data) == data


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each, max_size=3),
    )
)
def test_json_stays_json(value):
    json.loads(scrub_text(json.dumps({"password": 'p"ä\\', "x": value})))


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "apikey",
        "api-key",
        "API_KEY",
        "access_token",
        "refresh_token",
        "id_token",
        "client_secret",
        "password",
        "authorization",
    ],
)
def test_what_is_called_a_secret_is_one(name):
    body = json.dumps({"a": {name: 'short "and\\ odd'}, "model": "m"}, indent=1)
    assert json.loads(scrub_text(body)) == {"a": {name: REDACTED}, "model": "m"}


@pytest.mark.parametrize("name", ["key", "token", "secret", "sig", "signature", "cookie"])
def test_what_is_vaguely_called_a_secret_is_one_where_it_looks_so(name):
    assert json.loads(scrub_text(json.dumps({name: "0a1b2c3d4e5f6a7b8c9d"}))) == {name: REDACTED}


@pytest.mark.parametrize(
    "name",
    ["key", "api_key", "API-KEY", "access_token", "token", "sig", "X-Amz-Signature", "x-goog-signature", "password"],
)
def test_secrets_leave_the_query(name):
    url = scrub_url(f"https://host/v1/models/m:generate?alt=sse&{name}=opaque-value-17")
    assert "opaque" not in url
    assert url.startswith("https://host/v1/models/m:generate?alt=sse&")


def test_secrets_leave_the_rest_of_the_url():
    assert scrub_url("https://user:hunter2@host/x") == "https://host/x"
    assert scrub_url(f"https://host/bot{KEYS['google']}/x") == f"https://host/bot{REDACTED}/x"
    assert scrub_url("https://host/a%20b?q=c%2Fd&e=") == "https://host/a%20b?q=c%2Fd&e="


def test_form_bodies():
    assert scrub_body(b"api_key=0123456789&x=1") == b"api_key=REDACTED&x=1"
    assert scrub_body(b"x=1&client_secret=0123456789") == b"x=1&client_secret=REDACTED"


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
@pytest.mark.parametrize(
    "value", ["correct-horse-battery", 'odd "quoted"\\value', "with/slash+plus==", "straße-grün-öl"]
)
def test_values_of_this_process_own_key_variables(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    for form in (value, json.dumps(value)[1:-1], quote(value, safe="")):
        assert form not in scrub_text(f"the key is {form}!")
        assert scrub_body(f"the key is {form}!".encode()) == b"the key is REDACTED!"


def test_short_values_and_other_variables_are_words(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hello")
    monkeypatch.setenv("GREETING", "a long greeting")
    assert scrub_text("hello, a long greeting") == "hello, a long greeting"


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


PACKED = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("encoding", PACKED)
def test_a_response_is_stored_decoded_and_its_secrets_are_found(encoding):
    body = json.dumps({"echo": KEYS["openai project"], "text": "grün"}).encode()
    response = {
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
        "body": {"string": PACKED[encoding](body)},
    }
    before = copy.deepcopy(response)
    stored = scrub_response(response)
    assert sorted(name.lower() for name in stored["headers"]) == ["content-type", "date"]
    assert json.loads(stored["body"]["string"]) == {"echo": REDACTED, "text": "grün"}
    assert response == before


def test_a_body_that_can_not_be_decoded_keeps_what_tells_its_client_how():
    response = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-encoding": ["gzip"]},
        "body": {"string": b"\x1f\x8bbroken"},
    }
    assert scrub_response(response) == response


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


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "sk-",
        "sk-proj-",
        '"api_key"   :',
        '"api_key":"\\',
        '"key":"aaaa',
        "-----BEGIN PRIVATE KEY-----",
        "Bearer a",
        "Bearer ",
        "?key=",
        "eyJaaaaaaaaaa.",
        '"',
        "\\",
        "__cf_bm=",
    ],
)
def test_no_text_takes_more_than_its_length(piece):
    """Twice the text may take about twice the time, where backtracking took four times and more."""
    import time

    def seconds(text):
        start = time.perf_counter()
        scrub_text(text)
        return time.perf_counter() - start

    small, large = piece * 20_000, piece * 160_000
    assert min(seconds(large) for _ in range(2)) < 40 * max(seconds(small), 0.002)
