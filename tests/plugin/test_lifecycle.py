from __future__ import annotations

import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from neighbours import without_all_but

# ruff: noqa: PLR0917 - fixtures are asked for by name

SHARED = """
    import pytest, model, unittest

    @pytest.fixture(scope="session")
    def session():
        model.ask(100, 1)
        yield
        model.ask(100, 2)
    @pytest.fixture(scope="module")
    def module():
        model.ask(200, 1)
        yield
        model.ask(200, 2)
    @pytest.fixture(scope="class")
    def klass():
        model.ask(300, 1)
        yield
        model.ask(300, 2)
    @pytest.fixture
    def function():
        model.ask(10, 1)
        yield
        model.ask(1000, 1)

    class TestClass:
        @pytest.mark.token_budget(max_tokens=6)
        def test_alone(self, klass): model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=6)
        def test_all(self, session, module, klass): model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=17)
        def test_function(self, function, module): model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=16)
        def test_function_over(self, function): model.ask(5, 1)

    @pytest.mark.token_budget(max_tokens=6)
    class TestUnit(unittest.TestCase):
        @classmethod
        def setUpClass(cls): model.ask(400, 1)
        @classmethod
        def tearDownClass(cls): model.ask(400, 2)
        def setUp(self): model.ask(1, 1)
        def test_unit(self): model.ask(3, 1)
"""


@pytest.mark.parametrize("order", ["forwards", "backwards"])
def test_shared_fixtures_are_charged_to_no_test_whatever_the_order(
    told, pytester, run_live, spread, reported, document, order
):
    pytester.makepyfile(test_it=SHARED)
    if order == "backwards":
        pytester.makeconftest("def pytest_collection_modifyitems(items): items.reverse()")
    result = run_live("--dist=loadfile") if spread else run_live()  # else each worker sets the fixtures up
    result.assert_outcomes(passed=4, failed=1)
    seen = {name: (test["verdict"], test["usage"]["input_tokens"]) for name, test in reported().items()}
    assert seen == {
        "TestClass::test_alone": ("within", 5),
        "TestClass::test_all": ("within", 5),
        "TestClass::test_function": ("within", 1015),  # its teardown is reported, and not judged
        "TestClass::test_function_over": ("over", 1015),
        "TestUnit::test_unit": ("within", 4),
    }
    (violation,) = reported()["TestClass::test_function_over"]["violations"]
    assert violation == {"limit": "max_tokens", "allowed": 16, "used": 17}
    shared = {(each["fixture"], each["scope"]): each["usage"] for each in document()["shared"]}
    (unit,) = [key for key in shared if key[0] not in ("session", "module", "klass")]
    assert unit[1] == "class"
    for key, tokens in {
        ("session", "session"): 100,
        ("module", "module"): 200,
        ("klass", "class"): 300,
        unit: 400,
    }.items():
        assert (shared[key]["input_tokens"], shared[key]["output_tokens"]) == (2 * tokens, 3)
    total = document()["total"]
    assert (total["requests"], total["input_tokens"]) == (len(told.bills), told.input_tokens)
    assert total["output_tokens"] == told.output_tokens


def test_unreported_runs_too_charge_shared_fixtures_to_themselves(told, pytester, run):
    pytester.makepyfile("""
        import pytest, model
        @pytest.fixture(scope="module")
        def module():
            model.ask(200, 1)
            yield
            model.ask(200, 2)
        def test_first_to_ask(module): pass
        @pytest.mark.token_budget(max_tokens=6)
        def test_it(module): model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=5)
        def test_over(module): model.ask(5, 1)
    """)
    run("-o", "token_replay=off").assert_outcomes(passed=2, failed=1)


def test_async_fixtures_are_charged_by_their_scope(told, pytester, run_live, spread, reported, document):
    pytester.makepyfile("""
        import pytest, pytest_asyncio, model
        pytestmark = pytest.mark.asyncio(loop_scope="module")

        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def module():
            await model.ask_async(200, 1)
            yield
            await model.ask_async(200, 2)
        @pytest_asyncio.fixture(loop_scope="module")
        async def function():
            await model.ask_async(10, 1)
            yield
            await model.ask_async(1000, 1)
        @pytest.mark.token_budget(max_tokens=17)
        async def test_one(module, function): await model.ask_async(5, 1)
        @pytest.mark.token_budget(max_tokens=16)
        async def test_two(module, function): await model.ask_async(5, 1)
    """)
    result = run_live(*(["--dist=loadfile"] if spread else []), plugins=("asyncio",))
    result.assert_outcomes(passed=1, failed=1)
    assert {name: (test["verdict"], test["usage"]["input_tokens"]) for name, test in reported().items()} == {
        "test_one": ("within", 1015),
        "test_two": ("over", 1015),
    }
    (shared,) = document()["shared"]
    assert (shared["fixture"], shared["scope"], shared["usage"]["input_tokens"]) == ("module", "module", 400)
    assert document()["total"]["input_tokens"] == told.input_tokens


def test_what_no_test_can_be_blamed_for_is_in_the_total(told, pytester, run_live, spread, reported, document):
    told.answer("a", to="slow", delay=0.4, input_tokens=7, output_tokens=1)
    pytester.makepyfile("""
        import threading, time, pytest, model
        model.ask(50, 1)  # at import, which is at collection
        go = threading.Event()
        thread = threading.Thread(target=lambda: (go.wait(30), model.ask(70, 1)))

        @pytest.mark.token_budget(max_tokens=6)
        def test_starts():
            thread.start()
            model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=0, min_requests=0)
        def test_next(): go.set()
        def test_waits():
            pass
        def teardown_module(): thread.join()
    """)
    one_worker = ("-n", "1") if spread else ()
    run_live(*one_worker).assert_outcomes(passed=3)
    seen = {name: test["usage"]["input_tokens"] for name, test in reported().items()}
    assert seen["test_starts"] == 5
    assert document()["total"]["input_tokens"] == told.input_tokens
    assert document()["total"]["requests"] == len(told.bills)


def test_an_answer_that_comes_late_is_not_the_next_tests(told, pytester, run_live, spread, reported):
    told.answer("a", to="slow", delay=2, input_tokens=70, output_tokens=1)
    pytester.makepyfile("""
        import threading, time, pytest, model
        thread = threading.Thread(target=lambda: model.ask(say="slow"))
        @pytest.mark.token_budget(max_tokens=100)
        def test_starts():
            thread.start()
            time.sleep(0.8)  # it is on its way now
        @pytest.mark.token_budget(max_tokens=0, min_requests=0)
        def test_next(): thread.join()
    """)
    one_worker = ("-n", "1") if spread else ()
    run_live(*one_worker).assert_outcomes(passed=1, failed=1)
    assert reported()["test_starts"]["verdict"] == "unmeasured"  # sent, and nobody knows what it will use
    assert reported()["test_next"]["verdict"] == "within"
    assert reported()["test_next"]["usage"]["requests"] == 0


def test_a_run_inside_a_test_does_not_bill_it(told, pytester, run_live, reported, document):
    pytester.makepyfile("""
        import pytest, model
        pytest_plugins = ["pytester"]
        INNER = '''
            import pytest, model
            @pytest.mark.token_budget(max_tokens=1)
            def test_inner(): model.ask(1000, 1)
        '''
        @pytest.mark.token_budget(max_tokens=12)
        def test_outer(pytester):
            model.ask(5, 1)
            pytester.makepyfile(INNER)
            result = pytester.inline_run("-p", "no:cacheprovider", "-o", "token_replay=off")
            result.assertoutcome(failed=1)
            model.ask(5, 1)
    """)
    run_live().assert_outcomes(passed=1)
    assert reported()["test_outer"]["usage"]["input_tokens"] == 10
    assert document()["total"]["requests"] == 2
    assert len(told.bills) == 3


def test_two_answers_with_one_id_are_two_requests(told, pytester, run_live, reported):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]
    body = {
        "id": "chatcmpl-same",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "choices": choices,
        "usage": usage,
    }
    told.answer(body=body, input_tokens=10, output_tokens=5).answer(body=body, input_tokens=10, output_tokens=5)
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_requests=1)
        def test_it(): assert model.ask()["id"] == model.ask()["id"]
    """)
    run_live().assert_outcomes(failed=1)
    test = reported()["test_it"]
    assert (test["usage"]["requests"], test["usage"]["total_tokens"]) == (2, 30)
    assert [call["request_id"] for call in test["calls"]] == ["chatcmpl-same"] * 2


def test_a_rerun_starts_from_nothing(told, pytester, run_live, reported, document):
    told.answer("a", to="flaky", input_tokens=900, output_tokens=1)
    told.answer("a", to="flaky", input_tokens=9, output_tokens=1)
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_tokens=10)
        def test_flaky(): model.ask(say="flaky")
        @pytest.mark.token_budget(max_tokens=10)
        def test_always(): model.ask(100, 1)
    """)
    result = run_live("--reruns=1", "--junitxml=out.xml", plugins=("rerunfailures",))
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*2 rerun*"])
    flaky = reported()["test_flaky"]
    assert (flaky["outcome"], flaky["verdict"], flaky["usage"]["total_tokens"]) == ("passed", "within", 10)
    assert reported()["test_always"]["usage"]["requests"] == 1
    assert [test["nodeid"].partition("::")[2] for test in document()["tests"]].count("test_flaky") == 1
    assert len(told.bills) == 4
    cases = ET.parse(pytester.path / "out.xml").findall(".//testcase")
    verdicts = [
        [each.get("value") for each in case.iter("property") if each.get("name") == "token_budget.verdict"]
        for case in cases
    ]
    assert sorted(verdicts) == [
        ["over"],
        ["over"],
        ["over"],
        ["within"],
    ]  # each try has a case, and figures of its own


FAILING = """
    import pytest, model
    @pytest.mark.token_budget(max_tokens=1)
    def test_1_over(): model.ask()
    def test_2_fine(): pass
    @pytest.mark.token_budget(max_tokens=1)
    def test_3_over(): model.ask()
    def test_4_fine(): pass
"""


def test_stopping_and_last_failed_act_as_for_an_assertion(told, pytester):
    pytester.makepyfile(FAILING)
    live = ("-o", "token_replay=off", *without_all_but())
    pytester.runpytest_subprocess(*live, "-x").assert_outcomes(failed=1)
    pytester.runpytest_subprocess(*live, "--maxfail=2").assert_outcomes(failed=2, passed=1)
    pytester.runpytest_subprocess(*live, "--lf").assert_outcomes(failed=2)
    assert len(told.bills) == 5


def test_a_keyboard_interrupt_leaves_an_incomplete_report(told, pytester, run_live, spread, document, reported):
    pytester.makepyfile("""
        import pytest, model
        def test_before(): model.ask(5, 1)
        @pytest.mark.token_budget(max_tokens=1)
        def test_interrupted():
            model.ask(7, 1)
            raise KeyboardInterrupt
        def test_after(): model.ask(9, 1)
    """)
    result = run_live()
    assert result.ret != pytest.ExitCode.OK
    assert document()["complete"] is False
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    if not spread:
        assert result.ret == pytest.ExitCode.INTERRUPTED
        assert reported()["test_before"]["usage"]["input_tokens"] == 5
        assert len(told.bills) == 2


def test_a_debugger_does_not_hang(told, pytester):
    pytester.makepyfile(FAILING)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--pdb", "-p", "no:cacheprovider", "-o", "token_replay=off"],
        cwd=pytester.path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "is over its token budget." in done.stdout
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert done.returncode in (1, 2)


def test_without_a_terminal_the_report_is_written_and_the_verdict_stands(told, pytester, run_live, reported):
    pytester.makepyfile(FAILING)
    result = run_live("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {name: test["verdict"] for name, test in reported().items()} == {
        "test_1_over": "over",
        "test_3_over": "over",
    }
    assert "Traceback" not in result.stderr.str()


@pytest.mark.parametrize(
    ("name", "autoload"),
    [
        ("pytest_tokenbudget", False),
        ("pytest_tokenbudget", True),
        ("pytest_tokenbudget.plugin", False),
        ("pytest_tokenbudget.plugin", True),
    ],
)
def test_minus_p_loads_the_plugin_once(told, pytester, monkeypatch, name, autoload):
    pytester.makepyfile(FAILING)
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess("-p", name, "-p", "no:cacheprovider", "-o", "token_replay=off")
    result.assert_outcomes(passed=2, failed=2)
    assert "already registered" not in result.stdout.str() + result.stderr.str()
    assert len(told.bills) == 2


def test_without_the_plugin_nothing_is_left_of_it(told, pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_subprocess("-p", "no:pytest_tokenbudget", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "token budget" not in pytester.runpytest_subprocess("-p", "no:pytest_tokenbudget", "--help").stdout.str()


def test_a_failing_set_up_still_says_what_it_used(told, pytester, run_live, reported):
    pytester.makepyfile("""
        import pytest, model
        @pytest.fixture
        def broken():
            model.ask(7, 1)
            raise RuntimeError("so")
        @pytest.mark.token_budget(max_tokens=100)
        def test_it(broken): pass
        @pytest.fixture
        def broken_later():
            yield
            raise RuntimeError("late")
        @pytest.mark.token_budget(max_tokens=100)
        def test_late(broken_later): model.ask(5, 1)
    """)
    run_live().assert_outcomes(passed=1, errors=2)
    assert (reported()["test_it"]["outcome"], reported()["test_it"]["usage"]["input_tokens"]) == ("error", 7)
    assert (reported()["test_late"]["outcome"], reported()["test_late"]["verdict"]) == ("error", "within")


def test_prompts_are_gone_when_their_test_is(told, pytester, run_live):
    pytester.makeconftest(
        """
        import gc, os
        from pathlib import Path

        def pytest_sessionfinish():
            from pytest_tokenbudget.usage import Prompt
            gc.collect()
            left = sum(isinstance(each, Prompt) for each in gc.get_objects())
            Path(f"left-{os.getpid()}").write_text(str(left))
        """
    )
    pytester.makepyfile(
        """
        import model, pytest
        @pytest.mark.parametrize("number", range(9))
        def test_it(number, usage):
            model.ask(5, 1, say="long " * 1000)
            assert usage.calls[0].prompt is not None
        """
    )
    run_live("--token-report=json").assert_outcomes(passed=9)
    left = [int(file.read_text()) for file in pytester.path.glob("left-*")]
    assert left
    assert set(left) == {0}
