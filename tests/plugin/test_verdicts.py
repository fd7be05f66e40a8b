from __future__ import annotations

from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest

IN, OUT = Decimal("0.15") / 10**6, Decimal("0.60") / 10**6
"""USD per token of gpt-4o-mini, as OpenAI publishes them."""


def test_every_limit_is_inclusive(told, pytester, run_live, reported):
    cost = 1500 * IN + 150 * OUT
    exact = {
        "max_tokens": 1650,
        "max_input_tokens": 1500,
        "max_output_tokens": 150,
        "max_requests": 2,
        "max_cost": cost,
    }
    params = [
        f'pytest.param(0, id="{name}-{word}", marks=pytest.mark.token_budget({name}={str(value)!r}))'
        if name == "max_cost"
        else f'pytest.param(0, id="{name}-{word}", marks=pytest.mark.token_budget({name}={value}))'
        for name, limit in exact.items()
        for word, value in (("at", limit), ("above", limit - (Decimal("1e-12") if name == "max_cost" else 1)))
    ]
    pytester.makepyfile(f"""
        import pytest, model
        @pytest.mark.parametrize("_", [{", ".join(params)}])
        def test_it(_):
            model.ask(1000, 100)
            model.ask(500, 50)
    """)
    result = run_live()
    result.assert_outcomes(passed=5, failed=5)
    tests = reported()
    for name, limit in exact.items():
        at, above = tests[f"test_it[{name}-at]"], tests[f"test_it[{name}-above]"]
        assert (at["verdict"], at["outcome"], at["violations"]) == ("within", "passed", [])
        assert (above["verdict"], above["outcome"]) == ("over", "failed")
        (violation,) = above["violations"]
        assert violation["limit"] == name
        assert Decimal(violation["used"]) == limit
        assert Decimal(violation["allowed"]) < limit
    assert sum(test["usage"]["input_tokens"] for test in tests.values()) == told.input_tokens
    assert sum(test["usage"]["output_tokens"] for test in tests.values()) == told.output_tokens
    assert {Decimal(test["usage"]["cost_usd"]) for test in tests.values()} == {cost}


def test_reasoning_is_limited_too_and_zero_is_a_limit(told, pytester, run_live, reported):
    told.answer("a", to="think", input_tokens=10, output_tokens=50, reasoning_tokens=40)
    told.answer("a", to="ponder", input_tokens=10, output_tokens=50, reasoning_tokens=40)
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_reasoning_tokens=40)
        def test_at(): model.ask(say="think")
        @pytest.mark.token_budget(max_reasoning_tokens=0)
        def test_over(): model.ask(say="ponder")
        @pytest.mark.token_budget(max_reasoning_tokens=0)
        def test_none(): model.ask()
        @pytest.mark.token_budget(max_tokens=0, max_cost=0, max_requests=0, min_requests=0)
        def test_idle(): pass
        @pytest.mark.token_budget(max_requests=0, min_requests=0)
        def test_one_too_many(): model.ask()
    """)
    run_live().assert_outcomes(passed=3, failed=2)
    assert {name for name, test in reported().items() if test["verdict"] == "over"} == {
        "test_over",
        "test_one_too_many",
    }
    assert sum(bill.reasoning_tokens for bill in told.bills) == 80


def test_the_message_tells_facts_and_the_remedy(told, pytester, run_live):
    told.answer("a", to="long", input_tokens=1108, output_tokens=96, cached_tokens=512)
    pytester.makepyfile(
        test_chat="""
        import pytest, model
        @pytest.mark.token_budget(max_cost=0.0001)
        def test_greet():
            model.ask(say="long")
            model.ask(100, 10)
    """
    )
    result = run_live()
    # 596 fresh at 0.15, 512 cached at 0.075, 96 out at 0.60 USD per million; then 100 and 10
    first = 596 * IN + 512 * IN / 2 + 96 * OUT
    cost = first + 100 * IN + 10 * OUT
    assert (first, cost) == (Decimal("0.0001854"), Decimal("0.0002064"))
    result.stdout.fnmatch_lines(
        [
            "test_chat.py::test_greet is over its token budget.",
            "  cost    $0.00020*   limit $0.0001*   +$0.00010* (+106%)",
            "  #  model              input  cached  output  cost*",
            "  1  gpt-4o-mini        1,108     512      96  $0.00018*",
            "  2  gpt-4o-mini          100       0      10  $0.000021   live",
            "  where the input went: *",
            "If this is intended, raise @pytest.mark.token_budget(max_cost=...) or run pytest --token-update-baseline.",
        ],
    )
    assert "Traceback" not in result.stdout.str()
    assert "gate.py" not in result.stdout.str()


def test_a_figure_never_looks_like_the_limit_that_it_passes(told, pytester, run_live):
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_cost="0.0000044999")
        def test_by_a_hair(): model.ask(10, 5)
    """)
    result = run_live()
    line, *_ = [line for line in result.outlines if line.startswith("  cost ")]  # a CI shows it twice
    used, limit = line.split()[1], line.split()[3]
    assert used != limit
    assert (used.rstrip("0"), limit.rstrip("0")) == ("$0.0000045", "$0.0000044999")


VERDICTS = """
    import pytest, model

    def test_none(): model.ask()
    @pytest.mark.token_budget(max_tokens=15)
    def test_within(): model.ask(10, 5)
    @pytest.mark.token_budget(max_tokens=14)
    def test_over(): model.ask(10, 5)
    @pytest.mark.token_budget(max_tokens=100)
    def test_unmeasured(): model.ask(model="no-such-tokenizer", say="unreported")
    @pytest.mark.token_budget(max_tokens=1)
    def test_over_and_unmeasured():
        model.ask(10, 5)
        model.ask(model="no-such-tokenizer", say="unreported")

    @pytest.mark.token_budget(max_cost=1)
    def test_unpriced_with_cost(): model.ask(model="my-own-model")
    @pytest.mark.token_budget(max_tokens=100)
    def test_unpriced_without_cost(): model.ask(model="my-own-model")

    @pytest.mark.token_budget(max_tokens=1000)
    def test_estimated(): model.ask(say="unreported")
    @pytest.mark.token_budget(max_tokens=1)
    def test_estimated_over(): model.ask(say="unreported")
"""


def unreported(server, times=8):
    for _ in range(times):
        server.answer("hello there", to="unreported", usage="omitted")


def test_all_verdicts(told, pytester, run_live, reported):
    unreported(told)
    pytester.makepyfile(VERDICTS)
    result = run_live()
    assert {name: (test["verdict"], test["outcome"]) for name, test in reported().items()} == {
        "test_none": ("none", "passed"),
        "test_within": ("within", "passed"),
        "test_over": ("over", "failed"),
        "test_unmeasured": ("unmeasured", "failed"),
        "test_over_and_unmeasured": ("over", "failed"),
        "test_unpriced_with_cost": ("unmeasured", "failed"),
        "test_unpriced_without_cost": ("within", "passed"),
        "test_estimated": ("within", "passed"),
        "test_estimated_over": ("over", "failed"),
    }
    assert reported()["test_unpriced_with_cost"]["usage"]["unpriced_models"] == ["my-own-model"]
    assert reported()["test_unpriced_with_cost"]["usage"]["cost_usd"] is None
    assert reported()["test_unmeasured"]["usage"]["unmeasured_requests"] == 1
    assert reported()["test_unmeasured"]["calls"][0]["input_tokens"] is None
    assert reported()["test_estimated"]["usage"]["estimated_requests"] == 1
    assert reported()["test_none"]["budget"] is None
    text = result.stdout.str()
    assert "no price for 'my-own-model'" in text
    assert "token_prices" in text
    assert "~ marks an estimate" in text
    result.stdout.fnmatch_lines(["*test_unmeasured could not be measured by its token budget."])


def test_estimates_can_fail(told, pytester, run_live, reported):
    unreported(told)
    pytester.makepyfile(VERDICTS)
    run_live("-o", "token_estimates=fail", "-k", "estimated or within")
    assert {name: test["verdict"] for name, test in reported().items()} == {
        "test_within": "within",
        "test_estimated": "unmeasured",
        "test_estimated_over": "over",
    }


OUTCOMES = """
    import pytest, model, unittest
    over = pytest.mark.token_budget(max_tokens=1)

    @over
    @pytest.mark.xfail
    def test_xfail(): model.ask()
    @over
    @pytest.mark.xfail(strict=True)
    def test_xfail_strict(): model.ask()
    @over
    def test_skips():
        model.ask()
        pytest.skip("enough")
    @over
    def test_xfails():
        model.ask()
        pytest.xfail("enough")
    @over
    def test_own_failure():
        model.ask()
        assert 1 == 2, "my own words"
    def test_own_failure_unbudgeted():
        model.ask()
        assert 1 == 2, "other words"
    @over
    @pytest.mark.xfail(raises=ValueError)
    def test_other_xfail(): model.ask()
    @over
    @pytest.mark.skip
    def test_never(): model.ask()

    @over
    class TestUnit(unittest.TestCase):
        def test_unit(self): model.ask()
        def test_unit_skips(self):
            model.ask()
            self.skipTest("enough")
        @unittest.expectedFailure
        def test_unit_expected(self):
            model.ask()
            self.fail("so")

    @over
    class TestAsync(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self): await model.ask_async()
        async def test_async(self): await model.ask_async()
"""


def test_outcomes_are_as_of_a_failed_assertion(told, pytester, run_live, reported):
    pytester.makepyfile(OUTCOMES)
    result = run_live("--junitxml=out.xml")
    seen = {name: (test["outcome"], test["verdict"], test["usage"]["requests"]) for name, test in reported().items()}
    assert seen.pop("test_never")[0] == "skipped"
    assert seen == {
        "test_xfail": ("xfailed", "over", 1),
        "test_xfail_strict": ("xfailed", "over", 1),
        "test_skips": ("skipped", "over", 1),
        "test_xfails": ("xfailed", "over", 1),
        "test_own_failure": ("failed", "over", 1),
        "test_own_failure_unbudgeted": ("failed", "none", 1),
        "test_other_xfail": ("failed", "over", 1),
        "TestUnit::test_unit": ("failed", "over", 1),
        "TestUnit::test_unit_skips": ("skipped", "over", 1),
        "TestUnit::test_unit_expected": ("xfailed", "over", 1),
        "TestAsync::test_async": ("failed", "over", 2),
    }
    result.assert_outcomes(failed=5, skipped=3, xfailed=4)
    text = result.stdout.str()
    assert "my own words" in text
    assert "token budget" in text  # the section beside the own failure
    assert "test_own_failure is over its token budget." in text
    assert "Tokens Used: 15" in text  # the section of the unbudgeted one
    suite = ET.parse(pytester.path / "out.xml").getroot().find("testsuite")
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("5", "0", "7")
    cases = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.iter("property")} for case in suite
    }
    assert cases["test_xfail"]["token_budget.verdict"] == "over"
    assert cases["test_async"]["token_budget.total_tokens"] == "30"
    assert Decimal(cases["test_unit"]["token_budget.cost_usd"]) == 10 * IN + 5 * OUT
    assert len(told.bills) == 12


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests came with pytest 9")
def test_subtests_are_judged_with_their_test(told, pytester, run_live, reported):
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_requests=2)
        def test_within(subtests):
            for i in range(2):
                with subtests.test(i=i): model.ask()
        @pytest.mark.token_budget(max_requests=1)
        def test_over(subtests):
            for i in range(2):
                with subtests.test(i=i): model.ask()
    """)
    run_live()
    assert {
        name: (test["outcome"], test["verdict"], test["usage"]["requests"]) for name, test in reported().items()
    } == {
        "test_within": ("passed", "within", 2),
        "test_over": ("failed", "over", 2),
    }


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_warn_and_off_fail_nothing(told, pytester, run_live, reported, mode):
    unreported(told)
    pytester.makepyfile(VERDICTS)
    result = run_live(f"--token-budget={mode}", "--token-total-max-tokens=1")
    result.assert_outcomes(passed=9)
    assert result.ret == pytest.ExitCode.OK
    verdicts = {test["verdict"] for test in reported().values()}
    assert verdicts == ({"none", "within", "over", "unmeasured"} if mode == "warn" else {"none"})
    assert ("(warning only)" in result.stdout.str()) == (mode == "warn")
    assert reported()["test_over"]["usage"]["total_tokens"] == 15


def test_a_lone_surrogate_in_an_answer_harms_nothing(told, pytester, run_live, reported):
    told.answer("a", to="odd", model="odd\ud800model")
    pytester.makepyfile("""
        import pytest, model
        @pytest.mark.token_budget(max_cost=1)
        def test_odd(): model.ask(say="odd")
        def test_next(): model.ask()
    """)
    result = run_live("--junitxml=out.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert set(reported()) == {"test_odd", "test_next"}
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_decimal_context_left_behind_harms_no_verdict(told, pytester, run_live, reported):
    pytester.makepyfile("""
        import decimal, pytest, model
        def test_careless(): decimal.getcontext().prec = 1
        @pytest.mark.token_budget(max_cost="0.0000155")
        def test_over():
            decimal.getcontext().prec = 1
            model.ask(10, 5), model.ask(10, 5), model.ask(10, 5), model.ask(10, 1)
    """)
    run_live().assert_outcomes(passed=1, failed=1)
    assert reported()["test_over"]["usage"]["cost_usd"] == "0.0000156"
