"""Reports that stay open while they are needed: of a test's only call its figures alone are in memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_strategies import PRICES, summaries

from pytest_tokenbudget import cli, commands
from pytest_tokenbudget.baseline import Baseline
from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.plain_record import plain_record
from pytest_tokenbudget.record import BaselineResult, ModelTokens, UsageRecord
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.report.reading import from_json, load
from pytest_tokenbudget.summary import Summary, tally_of
from pytest_tokenbudget.usage import ModelCall, Usage
from pytest_tokenbudget.written_call import WrittenCall

MINI = ModelCall(
    model="gpt-4o-mini",
    provider="openai",
    endpoint="/v1/chat/completions",
    usage=Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=50, reasoning_tokens=20),
    cost=Decimal("0.00015"),
    replayed=True,
    request_id="chatcmpl-1",
    parts={"system": 600, "user": 400},
)
ENTRY = {"gpt-4o-mini": ModelTokens(requests=1, input=1000, cached=400, output=50)}


def run_of(*calls, **more):
    records = [UsageRecord(nodeid=f"test_{n}", calls=(call,), **more) for n, call in enumerate(calls)]
    return Summary.of(records, plugin_version="0.1.0", created="2026-11-26T10:00:00Z", prices=PRICES)


@pytest.fixture
def files():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.json"


def test_the_figures_of_an_only_call_are_at_hand_and_the_call_is_that_of_the_file(path, files):
    live = replace(MINI, replayed=False, source="estimate", parts=None, request_id=None)
    path.write_text(to_json(run_of(MINI, live)))
    first, second = load(path, files=files).tests
    for record, call in ((first, MINI), (second, live)):
        assert isinstance(record.calls, WrittenCall)
        assert (tuple(record.calls), record.calls[0], len(record.calls)) == ((call,), call, 1)
        assert record.calls == (call,)
        assert record.models == ENTRY
        assert record.is_known
        assert tally_of(record.figures) == record.tally == tally_of([call])


def test_a_test_of_more_calls_or_of_unknown_ones_is_in_memory_as_it_was(path, files):
    unpriced, unmeasured = replace(MINI, cost=None), ModelCall(model="gpt-4o", replayed=True)
    run = run_of(unpriced, unmeasured)
    run = replace(run, tests=(*run.tests, UsageRecord(nodeid="two", calls=(MINI, MINI)), UsageRecord(nodeid="none")))
    path.write_text(to_json(run))
    read = load(path, files=files)
    assert [type(record.calls) for record in read.tests] == [tuple] * 4
    assert read == load(path)


@settings(deadline=None)
@given(summaries(), st.data())
def test_a_report_that_stays_open_says_what_it_says_as_a_whole(tmp_path_factory, summary, data):
    text = to_json(summary)
    for _ in range(data.draw(st.integers(0, 2))):
        begin = data.draw(st.integers(0, len(text)))
        text = text[:begin] + data.draw(st.sampled_from(["", "0", "1", '"', ", ", "é"])) + text[begin + 1 :]
    path = tmp_path_factory.getbasetemp() / "open.json"
    path.write_text(text, "utf-8", newline="\n")
    entries = {each.nodeid: each.baseline.models for each in summary.tests if each.baseline and each.baseline.models}
    baseline = data.draw(st.sampled_from([None, Baseline(tests=entries)]))
    with ExitStack() as files:
        try:
            read = load(path, baseline, files=files)
        except ConfigurationError:
            with pytest.raises(ConfigurationError):
                from_json(text)
            return
        whole = from_json(text)
        assert read == whole
        assert (read.total, read.models) == (whole.total, whole.models)
        assert [each.nodeid for each in read.costliest] == [each.nodeid for each in whole.costliest]
        assert to_json(read) == to_json(whole)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('"cost_usd": "0.00015"', '"cost_usd": "0.000150"'),
        ('"/v1/chat/completions"', '"/v1/chat/completions\\u0041"'),
        ('"/v1/chat/completions"', '"/v1/chät/completions"'),
        ('"chatcmpl-1"', '"\x7f"'),
    ],
)
def test_what_the_writer_would_write_otherwise_is_not_copied(path, files, written, instead):
    path.write_text(to_json(run_of(MINI)).replace(written, instead), "utf-8")
    read = load(path, files=files)
    assert to_json(read) == to_json(load(path))
    assert to_json(read) != path.read_text("utf-8")


WITHIN = BaselineResult(status="within", tokens=1050, cost=Decimal("0.0002"), models=ENTRY)
HELD = Baseline(tests={"test_0": ENTRY})


@pytest.mark.parametrize("budget", [None, Budget(max_cost=Decimal("0.10"), max_tokens=2000)])
def test_all_of_a_line_is_copied_for_the_record_that_was_read_and_for_no_other(path, files, budget):
    path.write_text(to_json(run_of(MINI, baseline=WITHIN, budget=budget)))
    read = load(path, HELD, files=files)
    (record,) = read.tests
    assert f"  {record.calls.line_of(record)}" in path.read_text().splitlines()
    assert to_json(read) == path.read_text()
    failed = replace(record, outcome="failed")
    assert failed.calls is record.calls
    assert failed.calls.line_of(failed) is None
    assert to_json(replace(read, tests=(failed,))) == path.read_text().replace('"passed"', '"failed"')


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('"test_0"', '"test\\u005f0"'),
        ('"test_0"', '"tést"'),
        ('"test_0"', '"test_\x7f"'),
        ('"models": {"gpt-4o-mini"', '"models": {"gpt\\u002d4o-mini"'),
        ('"max_cost": "0.10", "max_tokens": 2000', '"max_tokens": 2000, "max_cost": "0.10"'),
        ('"max_tokens": 2000', '"max_tokens":  2000'),
        ('"cost_usd": "0.0002"', '"cost_usd": "0.00020"'),
        ('"requests": 1, "input": 1000', '"requests": 2, "input": 1000'),
    ],
)
def test_a_line_of_which_anything_would_be_written_otherwise_is_not_copied(path, files, written, instead):
    run = run_of(MINI, baseline=WITHIN, budget=Budget(max_cost=Decimal("0.10"), max_tokens=2000))
    assert written in to_json(run)
    path.write_text(to_json(run).replace(written, instead), "utf-8")
    (record,) = load(path, HELD, files=files).tests
    assert isinstance(record.calls, WrittenCall)
    assert record.calls.line_of(record) is None
    assert to_json(load(path, HELD, files=files)) == to_json(load(path))


@pytest.mark.parametrize(
    ("written", "names"),
    [('{"é": %s}', ("é",)), ('{"m": %s, "a": %s}', ("a", "m")), ('{"a": %s, "m": %s}', ("a", "m"))],
)
def test_an_entry_that_is_the_known_one_in_another_spelling_is_written_in_ours(path, files, written, names):
    known = {name: ModelTokens(requests=1, input=9, output=1) for name in names}
    result = BaselineResult(status="within", tokens=10 * len(names), models=known)
    ours = to_json(run_of(MINI, baseline=result))
    tokens = '{"requests": 1, "input": 9, "cached": 0, "cache_write": 0, "output": 1}'
    begin = ours.index('"models": {') + len('"models": ')
    end = ours.index("}}}", begin) + 2
    path.write_text(ours[:begin] + written.replace("%s", tokens) + ours[end:], "utf-8")
    read = load(path, Baseline(tests={"test_0": known}), files=files)
    assert isinstance(read.tests[0].calls, WrittenCall)
    assert to_json(read) == ours


def living():
    return sum(type(each) is WrittenCall for each in gc.get_objects())


def test_when_a_report_is_closed_its_records_go_without_the_collector(path):
    path.write_text(to_json(run_of(MINI, baseline=WITHIN)))
    gc.collect()
    gc.disable()
    before = living()
    try:
        with ExitStack() as files:
            (record,) = load(path, HELD, files=files).tests
            assert record.calls.line_of(record) is not None
            assert living() == before + 1
        with pytest.raises(ConfigurationError, match="can't be read"):
            record.calls.text  # noqa: B018
        assert record.calls.line_of(record) is None
        del record
        assert living() == before
    finally:
        gc.enable()


def test_behind_a_name_of_any_letters_the_line_is_found_again(path, files):
    path.write_text(to_json(run_of(MINI)).replace("test_0", "tést_\U0001f600"), "utf-8")
    (record,) = load(path, files=files).tests
    assert isinstance(record.calls, WrittenCall)
    assert record.calls == (MINI,)


def test_a_test_that_is_judged_anew_is_written_so_and_its_call_is_copied(path, files):
    path.write_text(to_json(run_of(MINI)))
    read = load(path, files=files)
    (record,) = read.tests
    judged = replace(
        record,
        verdict="over",
        violations=(Violation(limit="max_tokens", allowed=5, used=1050),),
        baseline=BaselineResult(status="over", tokens=4, cost=Decimal("0.1"), models={"gpt-4o": ModelTokens(1, 2)}),
    )
    written = to_json(replace(read, tests=(judged,)))
    assert written == to_json(replace(read, tests=(replace(judged, calls=(MINI,)),)))
    assert written != to_json(read)


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('"usage": {"requests": 1, "input_tokens": 1000', '"usage": {"requests": 1, "input_tokens": 1001'),
        ('"input_tokens": 1000', '"input_tokens": 1001'),
        ('"total_tokens": 1050', '"total_tokens": 1051'),
        ('"spent_usd": "0"', '"spent_usd": "0.00015"'),
        ('"replayed": true', '"replayed": false'),
        ('"estimated_requests": 0', '"estimated_requests": 1'),
        ('"source": "response"', '"source": "estimate"'),
        ('"system": 600, "user": 400', '"user": 600, "user": 400'),
        ('"unmeasured_requests": 0', '"unmeasured_requests": 1'),
        ('"unpriced_models": []', '"unpriced_models": ["gpt-4o-mini"]'),
        ('"cache_hits": 0', '"cache_hits": 1'),
    ],
)
def test_a_line_that_contradicts_itself_is_refused(path, files, written, instead):
    """In the test's line alone, or wherever else the same is said of the run, which has no other test."""
    lines = to_json(run_of(MINI)).splitlines(keepends=True)
    (place,) = (number for number, line in enumerate(lines) if "test_0" in line)
    assert written in lines[place]
    lines[place] = lines[place].replace(written, instead)
    path.write_text("".join(lines))
    with pytest.raises(ConfigurationError, match=r"contradicts itself|twice"):
        load(path, files=files)


def test_an_entry_that_is_the_call_itself_is_in_memory_once(path, files):
    result = BaselineResult(status="within", tokens=1050, cost=Decimal("0.00015"), models=ENTRY)
    path.write_text(to_json(run_of(MINI, baseline=result)))
    entry = dict(ENTRY)
    (record,) = load(path, Baseline(tests={"test_0": entry}), files=files).tests
    assert record.baseline.models is entry
    assert record.calls.tokens is entry["gpt-4o-mini"]
    other = {"gpt-4o-mini": ModelTokens(requests=1, input=7)}
    (record,) = load(path, Baseline(tests={"test_0": other}), files=files).tests
    assert (record.baseline.models, record.models) == (ENTRY, ENTRY)


def test_the_figures_take_less_memory_than_the_calls(path, files):
    path.write_text(to_json(run_of(*[replace(MINI, request_id=f"chatcmpl-{n}") for n in range(1000)])))
    tracemalloc.start()
    try:
        sizes = []
        for kept in (None, files, None, files):  # what is there once for all is made in the first rounds
            before = tracemalloc.get_traced_memory()[0]
            summary = load(path, files=kept)
            sizes.append(tracemalloc.get_traced_memory()[0] - before)
            assert len(summary.tests) == 1000
            del summary
            gc.collect()  # while a report is open, its lines and its records know each other
    finally:
        tracemalloc.stop()
    assert sizes[3] < 0.7 * sizes[2]


def test_a_report_that_changes_in_its_place_is_refused(path, files):
    path.write_text(to_json(run_of(MINI)))
    read = load(path, files=files)
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"chatcmpl-1", b"chatcmpl-2"))
    with pytest.raises(ConfigurationError) as caught:
        to_json(read)
    assert str(caught.value) == f"report {path}: has changed while it was read"
    with pytest.raises(ConfigurationError, match="has changed"):
        list(read.tests[0].calls)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="has changed"):
        to_json(read)


def test_a_report_that_is_replaced_is_read_on(path, files, tmp_path):
    text = to_json(run_of(MINI))
    path.write_text(text)
    read = load(path, files=files)
    (tmp_path / "new").write_text("")
    (tmp_path / "new").replace(path)
    assert to_json(read) == text


@pytest.fixture
def shards(tmp_path):
    paths = []
    for number in range(3):
        run = run_of(*[replace(MINI, request_id=f"chatcmpl-{number}")] * 2)
        tests = tuple(replace(each, nodeid=f"{each.nodeid}_{number}") for each in run.tests)
        paths.append(tmp_path / f"shard-{number}.json")
        paths[-1].write_text(to_json(replace(run, tests=tests)))
    return list(map(str, paths))


def combined(shards, tmp_path, *more):
    out = tmp_path / "combined.json"
    assert cli.main(["combine", *shards, "-o", str(out), *more]) == 0
    return out.read_text()


def test_whether_reports_stay_open_makes_no_difference(shards, tmp_path, monkeypatch):
    expected = combined(shards, tmp_path)
    assert [each["calls"][0]["request_id"] for each in json.loads(expected)["tests"]] == [
        f"chatcmpl-{number}" for _ in range(2) for number in range(3)
    ]
    for most in (0, 1):
        monkeypatch.setattr(commands, "MOST_OPEN", most)
        assert combined(shards, tmp_path) == expected
    assert combined(shards, tmp_path, "--html", str(tmp_path / "page.html")) == expected


@pytest.mark.parametrize("option", ["-o", "--markdown"])
def test_a_shard_may_be_replaced_by_what_is_made(shards, tmp_path, option):
    expected = combined(shards, tmp_path)
    link = tmp_path / "link.json"
    link.symlink_to(shards[1])
    words = {"-o": ["-o", str(link)], "--markdown": ["--markdown", str(link), "-o", str(tmp_path / "o.json")]}[option]
    assert cli.main(["combine", *shards, *words]) == 0
    made = tmp_path / ("shard-1.json" if option == "-o" else "o.json")
    assert made.read_text() == expected


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on open files")
def test_as_many_stay_open_as_the_system_allows(shards, tmp_path):
    run_of_one = Path(shards[0]).read_text()
    many = []
    for number in range(70):
        many.append(tmp_path / f"many-{number}.json")
        many[-1].write_text(run_of_one.replace('_0"', f'_of_{number}"'))
    expected = combined(list(map(str, many)), tmp_path)
    assert len(json.loads(expected)["tests"]) == 140
    # In a process of its own: this one may have any number of files open.
    command = [
        sys.executable,
        "-m",
        "pytest_tokenbudget",
        "combine",
        *map(str, many),
        "-o",
        str(tmp_path / "few.json"),
    ]
    limited = ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "few.json").read_text() == expected


@pytest.mark.skipif(sys.platform == "win32", reason="needs a named pipe")
def test_what_goes_to_a_pipe_is_read_before(shards, tmp_path, monkeypatch):
    expected = combined(shards, tmp_path)
    read = commands.load
    asked = []

    def load(path, *more, files=None):
        asked.append(files)
        return read(path, *more, files=files)

    monkeypatch.setattr(commands, "load", load)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        got = reader.submit(pipe.read_text)
        assert cli.main(["combine", *shards, "-o", str(pipe)]) == 0
        assert got.result(20) == expected
    assert asked == [None] * 3


def test_a_report_that_was_closed_says_so(path, files):
    path.write_text(to_json(run_of(MINI)))
    read = load(path, files=files)
    files.close()
    with pytest.raises(ConfigurationError, match="can't be read"):
        plain_record(read.tests[0])


def test_of_a_late_call_a_baseline_remembers_nothing(path, files):
    path.write_text(to_json(run_of(MINI)))
    (record,) = load(path, files=files).tests
    assert list(record.models) == [MINI.model]
    assert replace(record, late_calls=1).models == {}


def test_nothing_is_written_of_a_shard_that_changes_meanwhile(shards, tmp_path, monkeypatch, capsys):
    read = commands.load

    def load_and_change(path, *more, **options):
        summary = read(path, *more, **options)
        path.write_text(path.read_text().replace("chatcmpl-", "chatcmpl_"))
        return summary

    monkeypatch.setattr(commands, "load", load_and_change)
    out, page = tmp_path / "combined.json", tmp_path / "page.md"
    out.write_text("as it was")
    assert cli.main(["combine", *shards, "-o", str(out), "--markdown", str(page)]) == 4
    assert "has changed while it was read" in capsys.readouterr().err
    assert (out.read_text(), page.exists()) == ("as it was", False)
