"""Idle is free: a run in which no test calls a model imports nothing slow, and pays next to nothing per test."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import yaml

from pytest_tokenbudget import options, plugin

SLOW = (
    "langchain_core",
    "jinja2",
    "vcr",
    "yaml",
    "tiktoken",
    "genai_prices",
    "httpx",
    "httpx2",
    "openai",
    "aiohttp",
    "urllib3",
)
CONFTEST = """
import json, os, sys
from pathlib import Path

def pytest_unconfigure(config):
    name = os.environ.get("PYTEST_XDIST_WORKER", "main")
    Path(os.environ["LOADED"], f"{name}.json").write_text(json.dumps(sorted(sys.modules)))
"""
IDLE = """
import pytest

def test_one(): assert True

@pytest.mark.parametrize("number", range(3))
def test_many(number): assert number >= 0

@pytest.fixture(scope="module")
def wide(): return 1

def test_fixture(wide, tmp_path, monkeypatch): monkeypatch.setenv("A", "B")

@pytest.mark.skip
def test_skipped(): pass

@pytest.mark.xfail
def test_xfailed(): assert 0
"""
ASKING = """
import pytest

@pytest.mark.token_budget(min_requests=0, max_cost=1, max_tokens=10)
def test_budget(): pass

def test_usage(usage):
    assert usage.requests == usage.total_tokens == 0
    assert usage.cost == 0
    assert str(usage)

@pytest.mark.token_budget(max_tokens=10)
def test_unmeasured(): pass

def test_track(usage):
    with usage.track("block", max_tokens=1):
        pass

@pytest.mark.token_cassette("own")
def test_cassette(): pass
"""
ARGUMENTS = {
    "bare": (),
    "term": ("--token-report",),
    "verbose": ("--token-report", "-vv"),
    "json": ("--token-report=json",),
    "markdown": ("--token-report=markdown",),
    "text": ("--token-report=term:own.txt",),
    "junit": ("--junitxml=junit.xml",),
    "total": ("--token-total-max-cost=1", "--token-total-max-tokens=1"),
    "limits": ("-o", "token_test_max_cost=1", "-o", "token_test_max_tokens=9"),
    "replay": ("-o", "token_replay=all"),
    "record": ("--token-record=once",),
    "date": ("-o", "token_price_date=2026-11-01", "--token-report=json"),
    "prices": ("-o", "token_prices=prices.toml", "--token-report=json"),
    "update": ("--token-update-baseline", "--token-report=json"),
    "baseline": ("--token-baseline=own.json", "--token-report=json"),
    "warn": ("--token-budget=warn",),
    "off": ("--token-budget=off",),
    "collect": ("--collect-only", "--token-report=json"),
    "help": ("--help",),
    "markers": ("--markers",),
}


@pytest.fixture
def python():
    """A cold one: what it has imported is looked at here."""
    return sys.executable


@pytest.fixture
def loaded(pytester, run, monkeypatch):
    """What is in ``sys.modules`` at the end of an inner run, over all its processes."""

    def loaded(*args):
        folder = pytester.mkdir(f"loaded{len(list(pytester.path.glob('loaded*')))}")
        monkeypatch.setenv("LOADED", str(folder))
        result = run(*args)
        files = list(folder.iterdir())
        assert files
        return result, {name for file in files for name in json.loads(file.read_text("utf-8"))}

    pytester.makeconftest(CONFTEST)
    return loaded


@pytest.mark.parametrize("arguments", ARGUMENTS.values(), ids=ARGUMENTS)
def test_nothing_slow_is_imported(pytester, loaded, spread, arguments):
    if spread and arguments not in map(ARGUMENTS.get, ("bare", "json", "baseline", "junit")):
        pytest.skip("what is loaded does not depend on the workers' number")
    pytester.makepyfile(test_idle=IDLE, test_asking=ASKING)
    pytester.makefile(".toml", prices='[models."m"]\ninput = 1\noutput = 1\n')
    tests = {"test_idle.py::test_one": {}}
    (pytester.path / "own.json").write_text(json.dumps({"schema": "pytest-tokenbudget/baseline/1", "tests": tests}))
    result, modules = loaded(*arguments)
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert result.ret in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    assert [name for name in SLOW if name in modules] == []


CLIENTS = {
    "httpx": "import httpx\ndef ask(url, body): return httpx.post(url, content=body).json()",
    "httpx2": "import httpx2\ndef ask(url, body): return httpx2.post(url, content=body).json()",
    "urllib": """
from urllib.request import Request, urlopen

def ask(url, body):
    with urlopen(Request(url, body)) as answer:
        return json.load(answer)
""",
}


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_replay_imports_what_it_needs(pytester, loaded, client, monkeypatch):
    """Neither vcrpy nor PyYAML, nor what a client would connect by."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    url = "https://api.openai.com/v1/chat/completions"
    body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]})
    answer = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}}
    request = {"method": "POST", "uri": url, "body": body, "headers": {"content-type": ["application/json"]}}
    head = {"status": {"code": 200, "message": "OK"}, "headers": {"content-type": ["application/json"]}}
    exchange = {"request": request, "response": {**head, "body": {"string": json.dumps(answer)}}}
    folder = pytester.mkdir("cassettes") / "test_it"
    folder.mkdir()
    (folder / "test_it.yaml").write_text(yaml.safe_dump({"interactions": [exchange], "version": 1}), "utf-8")
    pytester.makepyfile(
        test_it=f"""
import json
{client}

def test_it(usage):
    assert ask({url!r}, {body.encode()!r})["usage"]["total_tokens"] == usage.total_tokens == 10
"""
    )
    result, modules = loaded()
    result.assert_outcomes(passed=1)
    assert "genai_prices" in modules
    assert {"vcr", "yaml", "httpcore", "httpcore2"} & modules == set()


def test_what_is_looked_for_would_be_found(pytester, loaded):
    """The test above can fail: where a test does call a model, these are the modules that are loaded."""
    pytester.makepyfile(test_it="import tiktoken, yaml, langchain_core.callbacks\ndef test_it(usage): pass")
    _, modules = loaded()
    assert {"tiktoken", "yaml", "langchain_core"} <= modules


def test_a_run_without_us_loads_as_much(pytester, loaded):
    """Of our own modules, a run in which no test asks loads the plugin's front alone, and nothing else with it."""
    pytester.makepyfile(test_idle=IDLE)
    _, with_us = loaded()
    _, without = loaded("-p", "no:pytest_tokenbudget")
    ours = {name for name in with_us if name.startswith("pytest_tokenbudget")}
    assert not any(name.startswith("pytest_tokenbudget") for name in without)
    front = {f"pytest_tokenbudget{each}" for each in ("", ".plugin", ".options", ".version")}
    controllers = {f"pytest_tokenbudget{each}" for each in (".activation", ".standby")}
    assert ours <= (front | controllers if any("xdist.dsession" in name for name in with_us) else front)
    assert {name.partition(".")[0] for name in with_us - without - ours} <= STANDARD


def test_pytest_has_little_to_look_through():
    """It takes every name of a plugin's module for a hook or a fixture until it has looked at it, in every run."""
    hooks = {"pytest_addoption", "pytest_configure", "pytest_make_collect_report", "pytest_collection_finish"}
    names = vars(plugin).keys() - vars(ModuleType("empty")).keys()
    # What an import leaves in any module, and pytest in those whose assertions it rewrites.
    of_python = {"__builtins__", "__cached__", "__file__", "@py_builtins", "@pytest_ar"}
    assert names - of_python == hooks | {"usage", "MADE", "pytest"}


def test_what_every_run_loads_is_plain():
    """No class is made at start-up: each takes more than ten rows of the table of settings."""
    loaded = (plugin, options)
    classes = [each for module in loaded for each in vars(module).values() if isinstance(each, type)]
    assert [each for each in classes if each.__module__.startswith("pytest_tokenbudget")] == []
    assert {type(cell) for row in options.TABLE.values() for cell in row} == {str, type(None)}


STANDARD = {"zoneinfo", "decimal", "_decimal", "numbers", "_zoneinfo", "tomllib", "secrets"}
"""What of Python's own library the controller of a spread run may load besides."""


def test_the_report_of_an_idle_run_tells_the_prices_all_the_same(pytester, run):
    """The day is read from the table's text; it is the one that the table itself says."""
    from pytest_tokenbudget.pricing import PriceBook

    pytester.makepyfile(test_idle=IDLE)
    run("--token-report=json")
    document = json.loads((pytester.path / "token-report.json").read_text("utf-8"))
    assert document["prices"] == PriceBook().describe()
    assert document["total"]["cost_usd"] == document["total"]["spent_usd"] == "0"
    assert document["tests"] == []
    run("--token-report=json", "-o", "token_price_date=2026-01-31")
    document = json.loads((pytester.path / "token-report.json").read_text("utf-8"))
    assert document["prices"]["date"] == "2026-01-31"


COUNT = """
import sys

count = 0

def pytest_runtest_protocol(item, nextitem):
    sys.setprofile(profile)

def profile(frame, event, argument):
    global count
    if event == "call" and "pytest_tokenbudget" in frame.f_code.co_filename:
        count += 1

def pytest_unconfigure():
    sys.setprofile(None)
    print(f"calls: {count}")
"""


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        # A test that nobody asks of is not even looked at while it runs.
        ((), 0),
        # Its ledger, its tally, its record there and back: figures that grow only when somebody adds to them.
        (("--token-report",), 200),
        (("--token-report=json", "--token-total-max-cost=1"), 200),
    ],
    ids=["bare", "term", "json"],
)
def test_calls_of_ours_for_an_idle_test(pytester, run, spread, arguments, most):
    """Function calls, not time: they are the same on every machine. The first run's costs are taken off."""
    if spread:
        pytest.skip("counted where the tests run")
    pytester.makeconftest(COUNT)
    counts = []
    for number in (10, 60):
        pytester.makepyfile(
            test_it=f"import pytest\n@pytest.mark.parametrize('n', range({number}))\ndef test_it(n): pass"
        )
        (line,) = [line for line in run(*arguments, "-s").outlines if line.startswith("calls: ")]
        counts.append(int(line.removeprefix("calls: ")))
    assert (counts[1] - counts[0]) / 50 <= most
