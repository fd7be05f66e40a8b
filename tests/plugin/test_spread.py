"""However a run is spread, and wherever it is cut short: what the server billed is what is reported, each of it once."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter

import pytest

# ruff: noqa: PLR0917 - fixtures are asked for by name

SUITE = """
import pytest, model

@pytest.fixture(scope="session")
def warm():
    model.ask(100, 1)
    yield
    model.ask(101, 1)

@pytest.mark.token_budget(max_tokens=50)
@pytest.mark.parametrize("n", range(4))
def test_each(n, warm): model.ask(FIRST + n, 1)

@pytest.mark.token_budget(max_tokens=5)
def test_over(): model.ask(FIRST + 4, 1)

@pytest.mark.xdist_group("one")
class TestClass:
    @pytest.mark.xdist_group("two")
    def test_it(self): model.ask(FIRST + 5, 1)
    def test_other(self, warm): model.ask(FIRST + 6, 1)
"""
NAMES = (*(f"test_each[{n}]" for n in range(4)), "test_over", "TestClass::test_it", "TestClass::test_other")
USED = {f"test_{module}.py::{name}": first + number
        for module, first in (("a", 10), ("b", 20)) for number, name in enumerate(NAMES)}  # fmt: skip
"""Each test's input tokens."""

OVER = {nodeid for nodeid in USED if nodeid.endswith("test_over")}

WAYS = {
    "one_process": ("-n", "0"),
    "two_workers": ("-n", "2"),
    "loadscope": ("-n", "2", "--dist=loadscope"),
    "worksteal": ("-n", "2", "--dist=worksteal"),
    "loadgroup": ("-n", "2", "--dist=loadgroup"),
    "popen": ("-d", "--tx", "2*popen"),
    "another_python": ("--dist=load", "--tx", f"popen//python={sys.executable}", "--tx", "popen"),
    "another_checkout": ("-d", "--tx", "2*popen//chdir={far}"),
}

plain = pytest.mark.parametrize("spread", [()], ids=[""])
"""For runs that say themselves how they are spread."""


def calls_in(document):
    return [call for part in (*document["tests"], *document["shared"]) for call in part["calls"]]


def sent(document):
    """What was sent, as the report has it."""
    return Counter(
        (call["input_tokens"], call["output_tokens"]) for call in calls_in(document) if not call["replayed"]
    )


def billed(server):
    """What was sent, as the server has it."""
    return Counter((bill.input_tokens, bill.output_tokens) for bill in server.bills)


def figures(document):
    return {
        test["nodeid"]: (test["outcome"], test["verdict"], test["usage"]["input_tokens"], test["usage"]["requests"])
        for test in document["tests"]
    }


@plain
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_gives_the_figures_of_one_process(told, pytester, tmp_path_factory, run, document, way):
    pytester.makeini("[pytest]\ntoken_replay = all\ntoken_report = json\n")
    pytester.makepyfile(test_a=SUITE.replace("FIRST", "10"), test_b=SUITE.replace("FIRST", "20"))
    far = tmp_path_factory.mktemp("far") / "project"
    shutil.copytree(pytester.path, far)
    way = [word.format(far=far) for word in way]
    expected = {
        nodeid: ("failed", "over", tokens, 1)
        if nodeid in OVER
        else ("passed", "within" if "test_each" in nodeid else "none", tokens, 1)
        for nodeid, tokens in USED.items()
    }

    assert run("--token-record=once", "--token-update-baseline", *way).ret == pytest.ExitCode.TESTS_FAILED
    assert figures(document()) == expected
    assert sent(document()) == billed(told)
    stored = json.loads((pytester.path / "token-baseline.json").read_text("utf-8"))["tests"]
    assert stored == {
        nodeid: {"gpt-4o-mini": {"requests": 1, "input": tokens, "cached": 0, "cache_write": 0, "output": 1}}
        for nodeid, tokens in USED.items()
        if nodeid not in OVER
    }

    stored["test_b.py::TestClass::test_it"]["gpt-4o-mini"]["input"] -= 1
    for folder in (pytester.path, far):
        (folder / "token-baseline.json").write_text(
            json.dumps({"schema": "pytest-tokenbudget/baseline/1", "tests": stored})
        )
    told.reset()
    assert run(*way).ret == pytest.ExitCode.TESTS_FAILED
    assert told.ledger == ()
    assert figures(document()) == {**expected, "test_b.py::TestClass::test_it": ("failed", "over", 25, 1)}
    assert document()["baseline"]["over"] == ["test_b.py::TestClass::test_it"]
    assert document()["baseline"]["new"] == [], "what is over has no entry, and an update gives it none"
    assert {(each["fixture"], each["scope"]) for each in document()["shared"]} == {("warm", "session")}
    total, calls = document()["total"], calls_in(document())
    assert (total["requests"], total["spent_usd"]) == (len(calls), "0")
    assert total["input_tokens"] == sum(call["input_tokens"] for call in calls)
    assert document()["complete"] is True


ENDS = {
    "keyboard": ("raise KeyboardInterrupt", ()),
    "keyboard_in_teardown": ("request.addfinalizer(interrupt)", ()),
    "exit": ("pytest.exit('enough')", ()),
    "first_failure": ("assert 0", ("-x",)),
    "too_many_failures": ("assert 0", ("--maxfail=2",)),
    "crash": ("os._exit(3)", ()),
}


@pytest.mark.parametrize(("end", "args"), ENDS.values(), ids=ENDS)
def test_a_run_that_is_cut_short_reports_all_that_was_sent(told, pytester, run_live, spread, document, end, args):
    """No finished test is lost, no call is told twice, and only a crashed process takes along what its test sent."""
    crashes = "_exit" in end
    if crashes and not spread:
        pytest.skip("it takes a worker to crash one")
    pytester.makepyfile(
        test_a=f"""
        import os, time, pytest, model

        @pytest.fixture(scope="session")
        def warm():
            model.ask(100, 1)
            yield
            model.ask(101, 1)

        def interrupt(): raise KeyboardInterrupt

        @pytest.mark.parametrize("n", range(4))
        def test_before(n, warm): model.ask(10 + n, 1)
        @pytest.mark.token_budget(max_tokens=5)
        def test_over(warm): model.ask(20, 1)
        def test_end(warm, request):
            model.ask(30, 1)
            time.sleep({1.5 if spread else 0})  # until the other worker has finished what it was given
            {end}
        """
    )
    result = run_live(*args)
    assert result.ret != pytest.ExitCode.OK
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    finished = {name: test for name, test in figures(document()).items() if "test_end" not in name}
    assert finished == {
        **{f"test_a.py::test_before[{n}]": ("passed", "none", 10 + n, 1) for n in range(4)},
        "test_a.py::test_over": ("failed", "over", 20, 1),
    }
    lost = Counter({(30, 1): 1}) if crashes else Counter()
    assert sent(document()) + lost == billed(told)
    assert document()["total"]["requests"] == sent(document()).total()
    assert document()["complete"] is False
