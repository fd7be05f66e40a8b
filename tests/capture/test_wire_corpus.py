"""What providers reported in recorded traffic, against what the wire ring reads."""

from __future__ import annotations

from dataclasses import replace

import corpus
import pytest

from pytest_tokenbudget.capture.wire import read, recognise

pytestmark = pytest.mark.skipif(not corpus.is_present(), reason="the recorded corpus is not here")

BILLED = {"chat", "responses", "embeddings", "messages", "generateContent", "streamGenerateContent"}
BILLED |= {"converse", "converse-stream", "invoke", "invoke-stream", "cohere.chat"}
PROVIDERS = {"gemini": "google", "vertex": "google", "bedrock": "aws", "other-openai-compatible": ""}


@pytest.fixture(scope="module")
def readings():
    exchanges = corpus.load_exchanges()
    rows = corpus.load_rows()
    pairs = [(row, exchanges[row["file"], row["interaction"]]) for row in rows]
    return [(row, exchange, read(exchange)) for row, exchange in pairs]


def name(row):
    return f"{row['file']} #{row['interaction']}"


def test_every_reported_usage_is_read_to_the_token(readings):
    wrong = []
    checked = 0
    for row, _, reading in readings:
        if row["expected"] is None:
            continue
        checked += 1
        usage = reading and reading.usage
        wrong += [
            f"{name(row)}: {field} is {usage and getattr(usage, field)}, not {count}"
            for field, count in row["expected"].items()
            if count is not None and (usage is None or getattr(usage, field) != count)
        ]
    assert not wrong
    assert checked > 1000


def test_reported_models_and_providers_are_named(readings):
    wrong = []
    for row, _, reading in readings:
        if row["expected"] is None:
            continue
        model = row["response_model"] or row["request_model"]
        if model is not None and reading.model != model:
            wrong.append(f"{name(row)}: {reading.model!r}, not {model!r}")
        provider = PROVIDERS.get(row["provider"], row["provider"])
        if reading.provider != provider:
            wrong.append(f"{name(row)}: {reading.provider!r}, not {provider!r}")
    assert not wrong


def test_what_is_not_measured_says_why(readings):
    wrong = []
    for row, _, reading in readings:
        if reading is None:
            continue
        if reading.usage is None and not reading.reason:
            wrong.append(f"{name(row)}: no usage and no reason")
        if reading.usage is not None and (reading.usage.total_tokens == 0 or reading.reason or reading.pending):
            wrong.append(f"{name(row)}: {reading}")
    assert not wrong


def test_only_answered_model_requests_are_readings(readings):
    wrong = []
    for row, exchange, reading in readings:
        billed = row["category"] in BILLED and row["status"] < corpus.MULTIPLE_CHOICES and exchange.method != "GET"
        if billed != (reading is not None) and exchange.method != "GET":
            wrong.append(f"{name(row)}: {row['category']} {row['status']} {reading}")
        if reading is not None and not recognise(exchange.method, exchange.url):
            wrong.append(f"{name(row)}: read but not recognised")
    assert not wrong


def test_a_stream_cut_anywhere_never_reports_other_figures(readings):
    """A cut stream is either unmeasured, or has the figures of the whole one."""
    wrong = []
    for row, exchange, reading in readings:
        if row["body_kind"] not in {"sse", "ndjson", "aws-eventstream"} or reading is None or reading.usage is None:
            continue
        headers = {key: value for key, value in exchange.headers.items() if key != "content-encoding"}
        for share in (0.1, 0.5, 0.8, 0.95):
            part = exchange.body[: int(len(exchange.body) * share)]
            cut = read(replace(exchange, body=part, complete=False, headers=headers))
            if cut is not None and cut.usage is not None and cut.usage != reading.usage:
                wrong.append(f"{name(row)} cut at {share}: {cut.usage}, whole {reading.usage}")
    assert not wrong
