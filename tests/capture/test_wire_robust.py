"""Whatever bytes come: no exception, no invented counts, bounded work; and the ring stays pure and quick."""

from __future__ import annotations

import ast
import gzip
import json
import sys
import time
import zlib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.capture import wire
from pytest_tokenbudget.capture.wire import Exchange, Reading, encodings, read, recognise
from pytest_tokenbudget.usage import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
ANSWER = json.dumps({"model": "gpt-4o", "choices": [], "usage": USAGE}).encode()
EVENT = b"data: " + ANSWER + b"\n\n"
ASKED = b'{"model": "gpt-4o", "messages": []}'
MEASURED = Usage(input_tokens=9, output_tokens=3)
CHAT = "https://api.openai.com/v1/chat/completions"


def chat(body, encoding="", **more):
    headers = {"content-encoding": encoding} if encoding else {}
    return read(Exchange(method="POST", url=CHAT, request_body=ASKED, body=body, headers=headers, **more))


def test_a_request_that_nobody_could_read_is_unmeasured_at_a_provider_only():
    for url in URLS[:10]:
        reading = read(Exchange(method="POST", url=url, request_body=b"", body=b""))
        assert (reading.usage, reading.reason) == (None, "the body is empty")
    assert read(Exchange(method="POST", url="http://localhost/v1/messages", body=b"")) is None


def pack(body):
    return gzip.compress(body, mtime=0)


def deflate_raw(body):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", pack(ANSWER)),
        ("GZIP", pack(ANSWER)),
        ("x-gzip", pack(EVENT)),
        ("gzip", pack(ANSWER[:9]) + pack(ANSWER[9:])),
        ("deflate", zlib.compress(ANSWER)),
        ("deflate", deflate_raw(ANSWER)),
        ("gzip, deflate", zlib.compress(pack(ANSWER))),
        ("gzip,gzip", pack(pack(ANSWER))),
        ("gzip", pack(pack(ANSWER))),
        ("", pack(ANSWER)),
        # plain already, whatever the header says
        ("gzip", ANSWER),
        ("br", b"\n " + ANSWER),
        ("zstd", EVENT),
        ("gzip, gzip", b"\xef\xbb\xbf" + ANSWER),
        ("identity", ANSWER),
    ],
)
def test_content_encodings_are_taken_off(encoding, body):
    assert chat(body, encoding).usage == MEASURED


@pytest.mark.parametrize(
    ("encoding", "body", "reason"),
    [
        ("gzip", pack(ANSWER)[:-9], "cut short"),
        ("gzip", pack(ANSWER)[:10] + b"\xff" * 40, "damaged"),
        ("deflate", b"\xff\xfe\xfd", "damaged"),
        ("rot13", b"\x80abc", "not known"),
        ("gzip, gzip, gzip", pack(ANSWER), "more than twice"),
    ],
)
def test_a_body_that_can_not_be_unpacked_is_unmeasured(encoding, body, reason):
    reading = chat(body, encoding)
    assert reading.usage is None
    assert reason in reading.reason


def test_a_cut_stream_is_unpacked_as_far_as_it_goes():
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(EVENT) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert chat(body, "gzip", complete=False).usage == MEASURED


@pytest.mark.parametrize("encoding", ["gzip", "gzip,gzip"])
def test_a_bomb_does_no_harm(encoding):
    bomb = pack(b" " * (encodings.MAX_BODY + 10))
    bomb = pack(bomb) if encoding == "gzip,gzip" else bomb
    assert chat(bomb, encoding).reason == "the body is larger than 64 MiB"


def test_packages_that_are_not_installed_are_named(monkeypatch):
    for name in ("brotli", "brotlicffi", "zstandard", "compression.zstd", "compression", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "no brotli package" in chat(b"\x8b\x00\x80\x03", "br").reason
    assert "no zstd package" in chat(b"\x28\xb5\x2f\xfd\x00", "zstd").reason


class Unpacker:
    """Stands in for a package's decompressor of either kind."""

    unused_data, eof = b"", True

    def process(self, piece):
        return ANSWER if piece[:1] == b"\x8b" else b""

    def is_finished(self):
        return True

    def decompress(self, body, max_length):
        return ANSWER[:max_length]


class Package:
    error = ZstdError = ArithmeticError
    Decompressor = ZstdDecompressor = Unpacker


@pytest.mark.parametrize(
    ("encoding", "name", "body"),
    [("br", "brotli", b"\x8b\x00"), ("zstd", "compression.zstd", b"\x28\xb5\x2f\xfd\x00")],
)
def test_packages_that_are_installed_are_used(monkeypatch, encoding, name, body):
    monkeypatch.setitem(sys.modules, name.partition(".")[0], Package)
    monkeypatch.setitem(sys.modules, name, Package)
    assert chat(body, encoding).usage == MEASURED


HEAVY = {
    "one object of 60 MiB": lambda: b'{"a": "' + b"x" * (60 << 20) + b'"}',
    "more than 64 MiB": lambda: b'{"a": "' + b"x" * (100 << 20) + b'"}',
    "deep": lambda: b"[" * 10_000_000,
    "many events": lambda: b"data:1\n\n" * 3_000_000,
    "one event of many lines": lambda: b"data:1\n" * 5_000_000,
    "many compressed parts": lambda: pack(b"") * 500_000,
    "many frames": lambda: b"\x00\x00\x00\x10" * 4_000_000,
}


@pytest.mark.parametrize("kind", HEAVY)
def test_work_is_bounded(kind):
    body = HEAVY[kind]()
    start = time.process_time()
    reading = chat(body)
    assert reading is None or (reading.usage is None and reading.reason)
    assert time.process_time() - start < 10
    assert kind != "many events" or reading.reason == "the stream has more than a million events"


URLS = [
    CHAT,
    "https://api.openai.com/v1/completions",
    "https://api.openai.com/v1/responses",
    "https://api.openai.com/v1/embeddings",
    "https://api.openai.com/v1/images/generations",
    "https://api.anthropic.com/v1/messages",
    "https://api.anthropic.com/v1/complete",
    "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent",
    "https://generativelanguage.googleapis.com/v1beta/models/g:embedContent",
    "https://a-aiplatform.googleapis.com/v1/publishers/google/models/g:predict",
    "https://a-aiplatform.googleapis.com/v1/publishers/anthropic/models/g:rawPredict",
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse",
    "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke",
    "https://api.cohere.com/v1/chat",
    "https://api.cohere.com/v2/embed",
    "http://localhost:11434/api/chat",
    "http://localhost:11434/api/embed",
]
KEYS = """usage prompt_tokens completion_tokens total_tokens input_tokens output_tokens choices message delta content text
index finish_reason model id type object response output status usageMetadata promptTokenCount candidatesTokenCount
totalTokenCount thoughtsTokenCount candidates parts messages role tool_calls function name arguments input prompt tools
system contents requests instances predictions embeddings statistics token_count inputTokens outputTokens meta tokens
billed_units done prompt_eval_count eval_count x_groq error prompt_tokens_details cached_tokens cache_read_input_tokens
input_tokens_details output_tokens_details reasoning_tokens service_tier serviceTier n best_of echo instructions
completion_tokens_details cache_creation ephemeral_1h_input_tokens bytes data embedding anthropic_version max_tokens
texts chat_history preamble toolUse toolResult json inputTextTokenCount results tokenCount done_reason reasoning""".split()  # noqa: SIM905 - as a list it would take a hundred lines
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 50)
    | st.integers()
    | st.floats()
    | st.sampled_from(
        ["message", "message_start", "message_delta", "response", "completed", "queued", "text", "user"]
    )
    | st.text(max_size=4)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=8)


def frame_as(form, objects):
    texts = [json.dumps(each).encode() for each in objects]
    if form == "sse":
        return b"".join(b"data: " + text + b"\n\n" for text in texts)
    if form == "lines":
        return b"\n".join(texts)
    if form == "array":
        return b"[" + b",".join(texts) + b"]"
    return texts[0] if texts else b""


def judge(exchange):
    """Read, and hold the reading to the laws."""
    reading = read(exchange)
    assert recognise(exchange.method, exchange.url)
    if reading is None:
        return
    assert isinstance(reading, Reading)
    assert (reading.usage is None) == (reading.reason is not None)
    if reading.usage is not None:
        counts = [getattr(reading.usage, each.name) for each in fields(Usage)]
        assert all(type(count) is int and count >= 0 for count in counts)
        assert reading.usage.total_tokens > 0
        assert reading.usage.cached_input_tokens <= reading.usage.input_tokens
        assert reading.usage.reasoning_tokens <= reading.usage.output_tokens
    assert all(isinstance(text, str) for text in reading.outputs or ())
    for name in ("model", "provider", "endpoint", "request_model"):
        assert isinstance(getattr(reading, name), str)
    for name in ("request_id", "service_tier"):
        assert getattr(reading, name) is None or isinstance(getattr(reading, name), str)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(URLS),
    OBJECTS,
    st.lists(OBJECTS, max_size=4),
    st.sampled_from(["json", "sse", "lines", "array"]),
    st.booleans(),
)
def test_any_json_is_read_or_refused(url, request, objects, form, complete):
    judge(
        Exchange(
            method="POST",
            url=url,
            request_body=json.dumps(request).encode(),
            body=frame_as(form, objects),
            complete=complete,
        )
    )


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(URLS), st.binary(max_size=200), st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate"])
)
def test_any_bytes_are_refused(url, request, body, encoding):
    for start in (b"", b"\x00\x00\x00", b"data: ", b"\x1f\x8b\x08\x00"):
        headers = {"content-encoding": encoding}
        judge(Exchange(method="POST", url=url, request_body=request, body=start + body, headers=headers))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(EVENT) - 1), st.binary(max_size=3), st.integers(0, 5))
def test_a_damaged_answer_is_never_cheaper_in_silence(at, put, skip):
    """A wrong byte may change a figure that it hits, but never makes a usage of zeros or an exception."""
    judge(Exchange(method="POST", url=CHAT, request_body=b"{}", body=EVENT[:at] + put + EVENT[at + skip :]))


@given(st.text(), st.text())
def test_any_url_is_judged(method, url):
    assert recognise(method, url) in {True, False}
    assert recognise("POST", url + "/v1/chat/completions") == ("?" not in url and "#" not in url)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "https://api.openai.com/v1/models"),
        ("POST", "https://api.openai.com/v1/moderations"),
        ("POST", "https://api.openai.com/v1/files"),
        ("POST", "https://api.openai.com/v1/batches"),
        ("POST", "https://api.openai.com/v1/responses/input_tokens"),
        ("GET", "https://api.openai.com/v1/chat/completions"),
        ("POST", "https://api.anthropic.com/v1/messages/count_tokens"),
        ("POST", "https://api.anthropic.com/v1/messages/batches"),
        ("POST", "https://generativelanguage.googleapis.com/v1beta/models/g:countTokens"),
        ("POST", "https://api.smith.langchain.com/runs/batch"),
        ("POST", "https://us.i.posthog.com/batch/"),
        ("GET", "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"),
        ("OPTIONS", CHAT),
        ("POST", "https://example.com/?next=/v1/chat/completions"),
        ("", ""),
    ],
)
def test_what_is_no_model_request_is_not_recognised(method, url):
    assert not recognise(method, url)


@pytest.mark.parametrize("method", ["POST", "post"])
@pytest.mark.parametrize("url", URLS)
def test_model_requests_are_recognised(method, url):
    assert recognise(method, url)
    assert recognise(method, url + "?key=1")
    assert recognise(method, url + "/")


def test_recognising_is_cheap():
    url = "https://files.example.com/v1/some/long/path/to/a/file.json?with=a&query=string"
    start = time.process_time()
    for _ in range(10_000):
        recognise("POST", url)
    assert time.process_time() - start < 0.5  # 50 microseconds each; it takes about two


def test_the_ring_imports_the_standard_library_and_itself_only():
    allowed = sys.stdlib_module_names | {"pytest_tokenbudget"}
    ours = ("pytest_tokenbudget.capture.wire", "pytest_tokenbudget.usage")
    for path in Path(wire.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in allowed, f"{path.name} imports {name}"
                assert not name.startswith("pytest_tokenbudget") or name.startswith(ours), f"{path.name}: {name}"
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
            assert called not in {"open", "print", "input", "exec", "eval"}, f"{path.name} calls {called}"
