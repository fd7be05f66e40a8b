"""``tokenbudget scan``: what it prints, its exit status, and that it loads nothing that it does not need."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from planted_secrets import SHAPED
from report_strategies import PRICES

from pytest_tokenbudget import cli
from pytest_tokenbudget.record import UsageRecord
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.summary import Summary

ROOT = Path(cli.__file__).parents[1]
KEY = SHAPED["openai project"]
HTTP = "%a, %d %b %Y %H:%M:%S GMT"


def run(capsys, *words):
    status = cli.main(["scan", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_clean(): ...\n", "utf-8")

    def record(name, *, days=1, key="REDACTED", answer="{}", count=1):
        headers = (
            {} if days is None else {"date": [(datetime.now(UTC) - timedelta(days=days, hours=1)).strftime(HTTP)]}
        )
        interaction = {
            "request": {"method": "POST", "uri": "https://h/x", "body": "{}", "headers": {"authorization": [key]}},
            "response": {"status": {"code": 200, "message": "OK"}, "headers": headers, "body": {"string": answer}},
        }
        path = tmp_path / "tests" / "cassettes" / "test_a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        documents = [json.loads(json.dumps(interaction)) for _ in range(count)]
        path.write_text(yaml.safe_dump({"interactions": documents, "version": 1}), "utf-8")
        return path

    record("test_clean.yaml")
    return record


def test_nothing_found(suite, capsys):
    assert run(capsys) == (0, ["1 cassette with 1 recording: no secret, all whole"], [])
    assert run(capsys, "--max-age=90d", "--strict")[0] == 0
    assert run(capsys, "tests/cassettes/test_a/test_clean.yaml", "tests")[1] == [
        "1 cassette with 1 recording: no secret, all whole"
    ]


def test_secrets(suite, capsys):
    suite("test_clean[1].yaml", key=f"Bearer {KEY}", count=3)
    suite("test_clean[2].yaml", answer=json.dumps({"a": KEY, "password": "Tr0ub4dor"}))
    status, out, err = run(capsys)
    assert (status, err) == (1, [])
    assert out == [
        "secrets (3); revoke each where it was made, then record again or put REDACTED in its place",
        "  tests/cassettes/test_a/test_clean[1].yaml",
        f"    request header authorization: OpenAI key sk-p..., {len(KEY)} characters (interactions 1-3)",
        "  tests/cassettes/test_a/test_clean[2].yaml",
        f"    response body: OpenAI key sk-p..., {len(KEY)} characters (interaction 1)",
        "    response body: named secret, 9 characters (interaction 1)",
        "",
        "3 cassettes with 5 recordings: 3 secrets",
    ]


def test_ages(suite, capsys):
    suite("test_clean[1].yaml", days=91)
    suite("test_clean[2].yaml", days=None, count=2)
    assert run(capsys)[0] == 0
    assert run(capsys, "--max-age=13w")[0] == 1  # for the one without a date
    status, out, _ = run(capsys, "--max-age=90d")
    assert status == 1
    day = (datetime.now(UTC) - timedelta(days=91, hours=1)).date()
    assert out == [
        "older than 90 days (1); record them again",
        f"  tests/cassettes/test_a/test_clean[1].yaml: a recording of {day}, 91 days old",
        "",
        "without a date (1); nobody knows how old they are; record them again",
        "  tests/cassettes/test_a/test_clean[2].yaml: 2 recordings",
        "",
        "3 cassettes with 4 recordings: 1 too old, 1 without a date",
    ]


def test_broken_files_and_leftovers(suite, capsys):
    suite("test_clean[1].yaml").write_text("interactions: [\n", "utf-8")
    suite("test_clean.yaml.partial")
    status, out, _ = run(capsys)
    assert status == 1
    assert out[0] == "broken (1); restore them, or delete them and record them again"
    assert out[1].startswith("  tests/cassettes/test_a/test_clean[1].yaml: it is cut short or not YAML (")
    assert out[3:] == [
        "left over from a recording that did not come to its end (1); delete them",
        "  tests/cassettes/test_a/test_clean.yaml.partial",
        "",
        "3 cassettes with 2 recordings: 1 broken",
    ]
    Path("tests/cassettes/test_a/test_clean[1].yaml").unlink()
    assert run(capsys)[0] == 0
    assert run(capsys, "--strict")[0] == 1


def test_a_guess_at_what_is_unused(suite, capsys):
    suite("test_gone.yaml")
    status, out, _ = run(capsys)
    assert status == 0
    assert out == [
        "perhaps unused (1); this is a guess: the report of a whole run (--report) knows",
        "  tests/cassettes/test_a/test_gone.yaml: test_a.py has no test test_gone",
        "",
        "2 cassettes with 2 recordings: no secret, all whole",
    ]
    assert run(capsys, "--strict")[0] == 1


@pytest.fixture
def whole_report(tmp_path):
    """Write the report of a run: ``whole_report(complete=..., unused=[...])``; its test left a recording unplayed."""

    def whole_report(*, complete, unused):
        record = UsageRecord(nodeid="tests/test_a.py::test_clean", outcome="passed", unplayed=("POST https://h/x",))
        summary = Summary.of(
            [record], [], plugin_version="0.1.0", created="2026-11-22T10:00:00Z", prices=PRICES, complete=complete,
            unused_cassettes=unused,
        )  # fmt: skip
        (tmp_path / "token-report.json").write_text(to_json(summary), "utf-8")

    return whole_report


def test_what_a_report_says_of_use(suite, capsys, whole_report):
    suite("test_gone.yaml")
    whole_report(complete=True, unused=["tests/cassettes/test_a/test_gone.yaml"])
    status, out, _ = run(capsys, "--report=token-report.json")
    assert status == 0
    assert out == [
        "used by no test (1); says token-report.json; delete them",
        "  tests/cassettes/test_a/test_gone.yaml",
        "",
        "recordings left unplayed (1); says token-report.json; record those tests again",
        "  tests/test_a.py::test_clean: POST https://h/x",
        "",
        "2 cassettes with 2 recordings: no secret, all whole",
    ]
    assert run(capsys, "--report=token-report.json", "--strict")[0] == 1
    whole_report(complete=False, unused=[])
    out = run(capsys, "--report=token-report.json")[1]
    said = "token-report.json is of a run that did not come to its end, so nobody knows which cassettes are unused"
    assert out[0] == said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone"], "gone does not exist"),
        (["a\0b"], "does not exist"),
        (["--max-age=90"], "--max-age=90 is not allowed; it must be a number of days or weeks such as 90d or 12w"),
        (["--max-age="], "--max-age= is not allowed"),
        (["--report=gone.json"], "gone.json"),
        (["tests/empty"], "there is no cassette in tests/empty; name a file or a folder that has one"),
    ],
)
def test_what_can_not_be_used_is_exit_4_in_one_line(suite, capsys, words, told):
    Path("tests/empty").mkdir()
    status, out, err = run(capsys, *words)
    assert (status, out, len(err)) == (4, [], 1)
    assert err[0].startswith("tokenbudget: ")
    assert told in err[0]


def test_no_cassette_at_all_is_no_clean_bill(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys)
    assert (status, out) == (4, [])
    assert err == [
        "tokenbudget: there is no cassette in any folder cassettes below this one; name a file or a folder that has one"
    ]


def test_it_loads_nothing_slow(suite):
    code = (
        "import sys; from pytest_tokenbudget.cli import main; main(['scan']); "
        "print(sorted({'vcr', 'langchain_core', 'tiktoken', 'genai_prices', 'pytest', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_file_named_in_an_odd_way_is_printed_on_one_line(suite, capsys):
    suite("test_gone\n\x1b[31m.yaml", key=KEY)
    status, out, _ = run(capsys)
    assert status == 1
    assert "  tests/cassettes/test_a/test_gone\\n\\x1b[31m.yaml" in out
