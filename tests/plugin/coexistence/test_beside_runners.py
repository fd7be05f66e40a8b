"""Beside other ways to write, order, repeat and choose tests: each is counted, judged, recorded and held as any other."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import dataclass, field

import pytest
from neighbours import without_all_but

# ruff: noqa: PLR0917 - fixtures are asked for by name


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A project of somebody else's making, and the truth about it.

    Attributes:
        files: its files.
        used: each test's input tokens; a test whose name has ``over`` in it breaks its budget.
        held: the test that breaks the baseline, if its entry is one token lower.
        shared: its fixtures of wider scope that use a model.
        plugins: whom it runs beside.
        args: what it is run with.
        later: what it is run with the second time, when it replays.
        environment: variables that it is run with.
    """

    files: dict[str, str]
    used: dict[str, int]
    held: str
    shared: frozenset[str] = frozenset()
    plugins: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


BACKENDS = ("asyncio", "trio") if importlib.util.find_spec("trio") else ("asyncio",)

ASYNC = """
import asyncio, pytest, model
HEAD

@pytest.fixture
async def own():
    await model.ask_async(1, 1)

@MARK
async def test_own(own): await model.ask_async(10, 1)

@MARK
@pytest.mark.token_budget(max_tokens=20)
async def test_at_once():
    await asyncio.gather(*(model.ask_async(n, 1) for n in (3, 4, 5)))

@MARK
@pytest.mark.token_budget(max_tokens=20)
async def test_over(own): await asyncio.to_thread(model.ask, 20, 1)
"""

UNITTEST = """
import unittest, pytest, model

def setUpModule(): model.ask(200, 1)

class Plain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        model.ask(300, 1)
        cls.addClassCleanup(model.ask, 301, 1)
    @classmethod
    def tearDownClass(cls): model.ask(302, 1)
    def setUp(self):
        model.ask(1, 1)
        self.addCleanup(model.ask, 2, 1)
    def test_it(self):
        for n in (10, 11):
            with self.subTest(n=n): model.ask(n, 1)
    @pytest.mark.token_budget(max_tokens=20)
    def test_over(self): model.ask(20, 1)

@pytest.mark.token_budget(max_tokens=20)
class Isolated(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        await model.ask_async(1, 1)
        self.addAsyncCleanup(model.ask_async, 2, 1)
    async def test_it(self): await model.ask_async(12, 1)
    async def test_over(self): await model.ask_async(20, 1)
"""

SHARED = """
import pytest, model

@pytest.fixture(scope="session")
def session():
    model.ask(100, 1)
    yield
    model.ask(101, 1)

@pytest.fixture(scope="module", params=[1, 2])
def module(request):
    model.ask(200 + request.param, 1)
    yield
    model.ask(210 + request.param, 1)

@pytest.fixture(scope="class")
def klass(session):
    model.ask(300, 1)
    yield
    model.ask(301, 1)

@pytest.mark.token_budget(max_tokens=20)
class TestClass:
    def test_it(self, klass): model.ask(10, 1)
    def test_over(self, klass, session): model.ask(20, 1)

def test_each(module, session): model.ask(11, 1)
def test_last(session): model.ask(12, 1)
"""

SUITES = {
    "asyncio_auto": Suite(
        files={"test_it.py": ASYNC.replace("HEAD", "").replace("@MARK\n", "")},
        used={"test_it.py::test_own": 11, "test_it.py::test_at_once": 12, "test_it.py::test_over": 21},
        held="test_it.py::test_at_once",
        plugins=("asyncio",),
        args=("-o", "asyncio_mode=auto"),
    ),
    "asyncio_strict_and_anyio": Suite(
        files={
            "test_it.py": ASYNC.replace("HEAD", "import pytest_asyncio")
            .replace("@pytest.fixture", "@pytest_asyncio.fixture")
            .replace("MARK", "pytest.mark.asyncio"),
            "test_any.py": ASYNC.replace(
                "HEAD", f"@pytest.fixture(params={BACKENDS})\ndef anyio_backend(request): return request.param"
            )
            .replace("await asyncio.gather(*(model.ask_async(n, 1) for n in (3, 4, 5)))", "await model.ask_async(12, 1)")
            .replace("asyncio.to_thread(model.ask, 20, 1)", "model.ask_async(20, 1)")
            .replace("MARK", "pytest.mark.anyio"),
        },
        used={
            "test_it.py::test_own": 11, "test_it.py::test_at_once": 12, "test_it.py::test_over": 21,
            **{f"test_any.py::{name}[{backend}]": tokens
               for name, tokens in {"test_own": 11, "test_at_once": 12, "test_over": 21}.items()
               for backend in BACKENDS},
        },
        held="test_any.py::test_own[asyncio]",
        plugins=("asyncio", "anyio"),
        args=("-o", "asyncio_mode=strict"),
    ),
    "unittest": Suite(
        files={"test_it.py": UNITTEST},
        used={
            "test_it.py::Plain::test_it": 24, "test_it.py::Plain::test_over": 23, "test_it.py::Isolated::test_it": 15,
            "test_it.py::Isolated::test_over": 23,
        },
        held="test_it.py::Isolated::test_it",
        shared=frozenset({"_xunit_setup_module_fixture_test_it", "_unittest_setUpClass_fixture_Plain"}),
    ),
    "randomly": Suite(
        files={"test_it.py": SHARED},
        used={
            "test_it.py::TestClass::test_it": 10, "test_it.py::TestClass::test_over": 20,
            "test_it.py::test_each[1]": 11, "test_it.py::test_each[2]": 11, "test_it.py::test_last": 12,
        },
        held="test_it.py::test_last",
        shared=frozenset({"session", "module", "klass"}),
        plugins=("randomly",),
        args=("--randomly-seed=1",),
        later=("--randomly-seed=2",),
    ),
    "repeat": Suite(
        files={"test_it.py": "import pytest, model\n"
                             "@pytest.fixture(scope='session')\n"
                             "def session(): model.ask(100, 1)\n"
                             "def test_it(session): model.ask(10, 1)\n"
                             "@pytest.mark.repeat(2)\n"
                             "@pytest.mark.token_budget(max_tokens=20)\n"
                             "def test_over(): model.ask(20, 1)\n"},
        used={
            **{f"test_it.py::test_it[{n}-3]": 10 for n in (1, 2, 3)},
            **{f"test_it.py::test_over[{n}-2]": 20 for n in (1, 2)},
        },
        held="test_it.py::test_it[2-3]",
        shared=frozenset({"session"}),
        plugins=("repeat",),
        args=("--count=3",),
    ),
    "reruns": Suite(
        files={"test_it.py": "import pytest, model\n"
                             "@pytest.fixture(scope='session')\n"
                             "def session(): model.ask(100, 1)\n"
                             "@pytest.fixture\n"
                             "def own(): model.ask(1, 1)\n"
                             "tries = []\n"
                             "def test_second_try(session, own):\n"
                             "    model.ask(10, 1)\n"
                             "    tries.append(1)\n"
                             "    assert len(tries) > 1\n"
                             "@pytest.mark.token_budget(max_tokens=20)\n"
                             "def test_over(session): model.ask(20, 1)\n"},
        used={"test_it.py::test_second_try": 11, "test_it.py::test_over": 20},
        held="test_it.py::test_second_try",
        shared=frozenset({"session", ""}),  # an earlier try is charged to no test
        plugins=("rerunfailures",),
        args=("--reruns=1",),
    ),
    "doctests": Suite(
        files={
            "api.py": 'import model\n\ndef double(x):\n    """\n    >>> double(2)\n    4\n    """\n'
                      '    model.ask(10, 1)\n    return 2 * x\n\ndef over():\n    """\n    >>> over()\n    """\n'
                      "    model.ask(20, 1)\n",
            "page.md": '>>> import model\n>>> usage = getfixture("usage")\n>>> _ = model.ask(11, 1)\n'
                       ">>> usage.input_tokens\n11\n",
        },
        used={"api.py::api.double": 10, "api.py::api.over": 20, "page.md::page.md": 11},
        held="page.md::page.md",
        args=("--doctest-modules", "--doctest-glob=*.md", "--ignore=model.py", "-o", "token_test_max_tokens=20"),
    ),
    "subtests_and_no_autoload": Suite(
        files={"test_it.py": "import pytest, model\n"
                             "def test_it(subtests):\n"
                             "    for n in (5, 6):\n"
                             "        with subtests.test(n=n): model.ask(n, 1)\n"
                             "@pytest.mark.token_budget(max_tokens=20)\n"
                             "def test_over(subtests):\n"
                             "    for n in (10, 11):\n"
                             "        with subtests.test(n=n): model.ask(n, 1)\n"},
        used={"test_it.py::test_it": 11, "test_it.py::test_over": 21},
        held="test_it.py::test_it",
        args=("-p", "xdist", "-p", "pytest_tokenbudget", "-p", "no:terminal"),
        environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    ),
}  # fmt: skip


def is_over(nodeid):
    return "over" in nodeid.partition("::")[2]


def calls_in(document):
    return [call for part in (*document["tests"], *document["shared"]) for call in part["calls"]]


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_each_test_is_recorded_held_and_replayed_with_its_own_figures(
    told, pytester, run, document, monkeypatch, suite
):
    if "subtests" in str(suite.files) and pytest.version_tuple < (9,):
        pytest.skip("subtests came with pytest 9")
    for name, text in suite.files.items():
        (pytester.path / name).write_text(text, "utf-8")
    for name, value in suite.environment.items():
        monkeypatch.setenv(name, value)

    def outcomes_of_a_run(*args):
        result = run("-o", "token_replay=all", "--token-report=json", *suite.args, *args, plugins=suite.plugins)
        assert result.ret == pytest.ExitCode.TESTS_FAILED, result.stdout.str()
        assert {each["fixture"] for each in document()["shared"]} == suite.shared - (
            {""} if told.ledger == () else set()
        )
        total = document()["total"]
        assert total["input_tokens"] == sum(call["input_tokens"] for call in calls_in(document()))
        assert {test["nodeid"]: test["usage"]["input_tokens"] for test in document()["tests"]} == suite.used
        return {test["nodeid"]: (test["outcome"], test["verdict"] == "over") for test in document()["tests"]}

    expected = {nodeid: ("failed", True) if is_over(nodeid) else ("passed", False) for nodeid in suite.used}
    assert outcomes_of_a_run("--token-record=once", "--token-update-baseline") == expected
    sent = [(call["input_tokens"], call["output_tokens"]) for call in calls_in(document()) if not call["replayed"]]
    assert Counter(sent) == Counter((bill.input_tokens, bill.output_tokens) for bill in told.bills)
    baseline = json.loads((pytester.path / "token-baseline.json").read_text("utf-8"))
    entries = {nodeid: models["gpt-4o-mini"] for nodeid, models in baseline["tests"].items()}
    assert {nodeid: entry["input"] for nodeid, entry in entries.items()} == {
        nodeid: tokens for nodeid, tokens in suite.used.items() if not is_over(nodeid)
    }

    entries[suite.held]["input"] -= 1
    (pytester.path / "token-baseline.json").write_text(json.dumps(baseline), "utf-8")
    told.reset()
    assert outcomes_of_a_run(*suite.later) == {**expected, suite.held: ("failed", True)}
    assert document()["baseline"]["over"] == [suite.held]
    assert told.ledger == ()
    assert all(call["replayed"] for call in calls_in(document()))


def test_what_last_failed_and_stepwise_choose_is_a_part_of_the_suite(told, pytester, run_pytest, spread, monkeypatch):
    """A part is merged into the baseline and never prunes it; without a cache the run is a whole one."""
    pytester.makeini("[pytest]\ntoken_replay = off\n")
    pytester.makepyfile(
        test_it="""
        import os, pytest, model
        def test_first(): model.ask(int(os.environ["FIRST"]), 1)
        @pytest.mark.token_budget(max_tokens=20)
        def test_over(): model.ask(20, 1)
        def test_last(): model.ask(12, 1)
        """
    )
    path = pytester.path / "token-baseline.json"

    def go(*args, first=10):
        told.reset()
        monkeypatch.setenv("FIRST", str(first))
        return run_pytest(*without_all_but(), *spread, *args)

    def stored():
        return {nodeid.partition("::")[2]: models["gpt-4o-mini"]["input"]
                for nodeid, models in json.loads(path.read_text("utf-8"))["tests"].items()}  # fmt: skip

    assert go("--token-update-baseline").ret == pytest.ExitCode.TESTS_FAILED
    assert stored() == {"test_first": 10, "test_last": 12}
    path.write_text(path.read_text("utf-8").replace("test_last", "test_gone"), "utf-8")
    for part in ("--last-failed", "--stepwise"):
        result = go("--token-update-baseline=prune", part)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert f"needs a whole run, and this is none: {part}" in result.stdout.str() + result.stderr.str()
        assert (told.ledger, stored()) == ((), {"test_first": 10, "test_gone": 12})

    assert go("--last-failed", "--token-update-baseline", first=9).ret == pytest.ExitCode.TESTS_FAILED
    assert [bill.input_tokens for bill in told.bills] == [20]
    assert stored() == {"test_first": 10, "test_gone": 12}

    assert go("--stepwise", "--token-update-baseline", first=9).ret == pytest.ExitCode.INTERRUPTED
    ran = {bill.input_tokens for bill in told.bills}
    assert spread or ran == {9, 20}
    assert stored()["test_first"] == 9
    assert stored()["test_gone"] == 12

    assert go("-p", "no:cacheprovider", "--token-update-baseline=prune").ret == pytest.ExitCode.TESTS_FAILED
    assert stored() == {"test_first": 10, "test_last": 12}
