"""Reports of many tests: ``write N``, ``compare N`` (CPU seconds), or ``shards FOLDER COUNT N`` (writes them)."""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget.baseline import Baseline
from pytest_tokenbudget.budget import Budget
from pytest_tokenbudget.files import write_atomically
from pytest_tokenbudget.judgement import hold_against
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import BaselineResult, ModelTokens, UsageRecord
from pytest_tokenbudget.report.document import json_chunks
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.2.3", "date": "2026-11-03", "overrides": []}
RATE_IN, RATE_OUT = Decimal("0.00000015"), Decimal("0.0000006")


def record(number: int) -> UsageRecord:
    """A test of a suite that replays chat completions: one call, a budget for some, a baseline entry for all."""
    given, made = 200 + number % 3_000, 20 + number % 700
    usage = Usage(input_tokens=given, cached_input_tokens=given // 2, output_tokens=made)
    cost = given * RATE_IN + made * RATE_OUT
    tokens = ModelTokens(requests=1, input=given, cached=given // 2, output=made)
    return UsageRecord(
        nodeid=f"tests/area_{number // 500}/test_module_{number // 50}.py::TestSomething::test_case[{number}]",
        verdict="none" if number % 3 else "within",
        calls=(
            ModelCall(
                model="gpt-4o-mini",
                provider="openai",
                endpoint="/v1/chat/completions",
                usage=usage,
                cost=cost,
                replayed=True,
                request_id=f"chatcmpl-{number:024d}",
                parts={"system": given // 4, "user": given - given // 4},
            ),
        ),
        budget=None if number % 3 else Budget(max_cost=Decimal("0.01")),
        baseline=BaselineResult(status="within", tokens=given + made, cost=cost, models={"gpt-4o-mini": tokens}),
    )


def summary(numbers: range) -> Summary:
    return Summary.of(
        map(record, numbers),
        plugin_version="0.1.0",
        created="2026-11-22T10:00:00Z",
        prices=PRICES,
        baseline=BaselineSummary(path="token-baseline.json"),
    )


def write(count: int) -> float:
    """CPU seconds to write the JSON report of so many tests."""
    run = summary(range(count))
    with tempfile.TemporaryDirectory() as folder:
        gc.collect()
        began = time.process_time()
        write_atomically(Path(folder, "token-report.json"), json_chunks(run))
        return time.process_time() - began


def compare(count: int) -> float:
    """CPU seconds to hold so many tests against their entries."""
    records = list(map(record, range(count)))
    entries = {each.nodeid: each.models for each in records}
    book = PriceBook()
    hold_against(records[0], entries[records[0].nodeid], Decimal(0), book, beside=())  # the table is loaded
    gc.collect()
    began = time.process_time()
    for each in records:
        hold_against(each, entries.get(each.nodeid), Decimal(0), book, beside=())
    return time.process_time() - began


def shards(folder: str, count: int, tests: int) -> None:
    """Write the reports of a suite that was split, and its baseline."""
    for shard in range(count):
        run = summary(range(shard * tests, (shard + 1) * tests))
        write_atomically(Path(folder, f"shard-{shard}.json"), json_chunks(run))
    entries = {each.nodeid: each.models for each in map(record, range(count * tests))}
    baselines.save(Path(folder, "token-baseline.json"), Baseline(tests=entries))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", count]:
            print(write(int(count)))
        case ["compare", count]:
            print(compare(int(count)))
        case ["shards", folder, count, tests]:
            shards(folder, int(count), int(tests))
            print(0)
