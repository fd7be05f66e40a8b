from __future__ import annotations

import pytest

BAD = {
    "positional": ("500", "keywords only", "500"),
    "flag": ("max_tokens=True", "max_tokens=True", "whole number >= 0"),
    "nan": ("max_cost=float('nan')", "max_cost=nan", "an amount of USD >= 0"),
    "inf": ("max_cost=float('inf')", "max_cost=inf", "an amount of USD >= 0"),
    "negative": ("max_tokens=-1", "max_tokens=-1", "whole number >= 0"),
    "negative_cost": ("max_cost=-0.1", "max_cost=-0.1", "an amount of USD >= 0"),
    "empty": ("max_cost=''", "max_cost=''", "an amount of USD >= 0"),
    "text": ("max_tokens='5'", "max_tokens='5'", "an int >= 0"),
    "fraction": ("max_requests=1.5", "max_requests=1.5", "whole number >= 0"),
    "nothing": ("max_tokens=None", "max_tokens=None", "whole number >= 0"),
    "list": ("max_cost=[1]", "max_cost=[1]", "an amount of USD >= 0"),
    "huge": ("max_tokens=10**5000", "max_tokens=", "whole number >= 0"),
    "huge_cost": ("max_cost='1e999999999'", "max_cost='1e999999999'", "an amount of USD >= 0"),
    "unknown": ("max_cots=1", "unknown keyword max_cots=1", "did you mean max_cost?"),
    "far_off": ("bananas=1", "unknown keyword bananas=1", "allowed are max_cost, max_tokens"),
    "tolerance": ("tolerance=0.1", "tolerance=0.1", "a percentage >= 0"),
}
MISSPELT = {
    "token_buget": "token_budget",
    "tokenbudget": "token_budget",
    "token_budgets": "token_budget",
    "token_bugdet": "token_budget",
    "token_casette": "token_cassette",
    "token_cassete": "token_cassette",
}
BAD_CASSETTES = {
    "number": ("5", "name=5", "the name of a cassette"),
    "empty": ("''", "name=''", "the name of a cassette"),
    "two": ("'a', 'b'", "", "takes one name"),
    "mode": ("'a', record='always'", "record='always'", "one of none, once"),
    "match": ("'a', match_on=['colour']", "match_on=['colour']", "a list of method"),
    "unknown": ("nmae='a'", "nmae", "allowed are name, record and match_on"),
}


def lines_about(result, test):
    """What the run says of one test's error, without pytest's own frame."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if line.strip("_ ") == f"ERROR at setup of {test}")
    body = []
    for line in lines[start + 1 :]:
        if line.startswith(("___", "===")):
            break
        if line and not line.startswith("[gw"):
            body.append(line)
    return body


def test_a_bad_marker_is_an_error_of_its_test_alone(pytester, run):
    tests = [
        f"@pytest.mark.token_budget({text})\ndef test_{name}(): ran('{name}')\n" for name, (text, *_) in BAD.items()
    ]
    tests += [
        f"@pytest.mark.token_cassette({text})\ndef test_cassette_{name}(): ran('{name}')\n"
        for name, (text, *_) in BAD_CASSETTES.items()
    ]
    tests += [f"@pytest.mark.{name}(max_tokens=1)\ndef test_{name}(): ran('{name}')\n" for name in MISSPELT]
    pytester.makeini("[pytest]\nfilterwarnings = ignore::pytest.PytestUnknownMarkWarning")
    pytester.makepyfile(
        "import pytest\ndef ran(name): raise AssertionError(name)\n" + "\n".join(tests) + "\ndef test_good(): pass\n"
    )
    result = run("--token-report=json")
    result.assert_outcomes(passed=1, errors=len(tests))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    expected = {
        **{name: facts for name, (_, *facts) in BAD.items()},
        **{f"cassette_{name}": facts for name, (_, *facts) in BAD_CASSETTES.items()},
        **{
            name: (f"@pytest.mark.{name} ", f"did you mean @pytest.mark.{meant}?") for name, meant in MISSPELT.items()
        },
    }
    for name, facts in expected.items():
        (line,) = lines_about(result, f"test_{name}")
        assert f"::test_{name}: @pytest.mark.token" in line
        for fact in facts:
            assert fact in line, (name, fact, line)
        assert len(line) < 300
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_strict_markers_are_pytests_own_refusal_of_a_misspelt_name(pytester, run):
    pytester.makepyfile(
        test_bad="import pytest\n@pytest.mark.token_buget(max_tokens=1)\ndef test_bad(): pass",
        test_good="import pytest\n@pytest.mark.token_budget(min_requests=0)\ndef test_good(): pass",
    )
    result = run("--strict-markers")
    assert result.ret in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.TESTS_FAILED)  # xdist runs what was collected
    result.stdout.fnmatch_lines(["*'token_buget' not found in `markers`*"])
    assert "INTERNALERROR" not in result.stdout.str()


def test_strict_markers_know_ours_and_a_bad_value_is_still_an_error_in_setup(pytester, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.token_budget(max_tokens=-1)
        def test_bad(): pass
        @pytest.mark.token_cassette("other")
        @pytest.mark.token_budget(min_requests=0)
        def test_good(): pass
    """)
    result = run("--strict-markers")
    result.assert_outcomes(passed=1, errors=1)
    (line,) = lines_about(result, "test_bad")
    assert "max_tokens=-1" in line


def test_a_name_that_is_not_near_is_none_of_ours(pytester, run):
    pytester.makeini("[pytest]\nmarkers =\n    budget\n    token\n    tokens_used\n    slow")
    pytester.makepyfile("""
        import pytest
        @pytest.mark.budget
        @pytest.mark.token
        @pytest.mark.tokens_used(9)
        @pytest.mark.slow
        def test_mine(): pass
    """)
    run("--token-report").assert_outcomes(passed=1)


def test_a_bad_marker_on_a_class_or_a_module_names_it_and_each_test(pytester, run):
    pytester.makepyfile(
        test_class="""
            import pytest
            @pytest.mark.token_budget(max_tokens=-1)
            class TestIt:
                def test_one(self): pass
                def test_two(self): pass
        """,
        test_module="""
            import pytest
            pytestmark = pytest.mark.token_budget(max_cost="much")
            def test_three(): pass
        """,
        test_fine="def test_fine(): pass",
    )
    result = run()
    result.assert_outcomes(passed=1, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*test_class.py::TestIt::test_one: @pytest.mark.token_budget on test_class.py::TestIt: max_tokens=-1 *",
            "*test_class.py::TestIt::test_two: @pytest.mark.token_budget on test_class.py::TestIt: max_tokens=-1 *",
            "*test_module.py::test_three: @pytest.mark.token_budget on test_module.py: max_cost='much' *",
        ]
    )


def test_all_faults_of_a_marker_stand_in_one_line(pytester, run):
    pytester.makepyfile("""
        import pytest
        @pytest.mark.token_budget(max_tokens=-1, max_cost="x", maxtokens=3)
        def test_bad(): pass
    """)
    (line,) = lines_about(run(), "test_bad")
    for fact in ("max_tokens=-1", "max_cost='x'", "unknown keyword maxtokens=3", "did you mean max_tokens?"):
        assert fact in line


PRECEDENCE = """
    import pytest, model
    pytestmark = pytest.mark.token_budget(max_tokens=15, max_requests=1)

    def test_module_within():
        model.ask(10, 5)
    def test_module_over():
        model.ask(10, 6)

    @pytest.mark.token_budget(max_tokens=20)
    class TestClass:
        def test_class_within(self):
            model.ask(10, 10)
        def test_class_over(self):
            model.ask(10, 11)
        def test_open_limit_is_the_modules(self):
            model.ask(1, 1)
            model.ask(1, 1)
        @pytest.mark.token_budget(max_tokens=5)
        def test_function_over(self):
            model.ask(3, 3)
        @pytest.mark.token_budget(max_requests=2)
        def test_function_within(self):
            model.ask(5, 5)
            model.ask(5, 5)
        @pytest.mark.token_budget(max_cost=0)
        def test_stricter_cost_than_ini(self):
            model.ask(1, 1)

    @pytest.mark.parametrize("output", [
        pytest.param(5, marks=pytest.mark.token_budget(max_tokens=10), id="within"),
        pytest.param(6, marks=pytest.mark.token_budget(max_tokens=10), id="over"),
        pytest.param(10, id="unmarked"),
    ])
    def test_param(output):
        model.ask(5, output)
"""


def test_each_limit_comes_from_the_closest_that_sets_it(told, pytester, run_live, reported):
    pytester.makeini("[pytest]\ntoken_test_max_cost = 0.00001\ntoken_test_max_tokens = 1")
    pytester.makepyfile(test_it=PRECEDENCE, test_plain="import model\ndef test_ini():\n    model.ask(1, 1)\n")
    result = run_live()
    over = {name for name, test in reported().items() if test["verdict"] == "over"}
    assert over == {
        "test_module_over",
        "TestClass::test_class_over",
        "TestClass::test_open_limit_is_the_modules",
        "TestClass::test_function_over",
        "TestClass::test_stricter_cost_than_ini",
        "test_param[over]",
        "test_ini",
    }
    result.assert_outcomes(passed=len(reported()) - len(over), failed=len(over))
    assert {test["verdict"] for test in reported().values()} == {"within", "over"}
    assert reported()["TestClass::test_function_within"]["budget"] == {
        "max_cost": "0.00001",
        "max_tokens": 20,
        "max_requests": 2,
        "min_requests": 1,
    }
    assert reported()["test_ini"]["budget"] == {"max_cost": "0.00001", "max_tokens": 1}
    assert len(told.bills) == sum(test["usage"]["requests"] for test in reported().values())


def test_a_marker_is_on_the_function_alone_watches_for_at_least_one_request(told, pytester, run_live, reported):
    pytester.makepyfile(
        test_function="""
            import pytest, model
            @pytest.mark.token_budget(max_tokens=9)
            def test_idle(): pass
            @pytest.mark.token_budget(max_tokens=9, min_requests=0)
            def test_allowed(): pass
            @pytest.mark.token_budget(max_tokens=100, min_requests=2)
            def test_too_few(): model.ask()
            @pytest.mark.token_budget(max_tokens=100, min_requests=2)
            def test_enough(): model.ask(), model.ask()
            @pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.token_budget(max_tokens=9))])
            def test_param(n): pass
            @pytest.mark.token_budget()
            def test_empty(): pass
        """,
        test_class="""
            import pytest
            @pytest.mark.token_budget(max_tokens=9)
            class TestIt:
                def test_class_idle(self): pass
        """,
        test_module="""
            import pytest
            pytestmark = pytest.mark.token_budget(max_tokens=9)
            def test_module_idle(): pass
            @pytest.mark.token_budget(max_cost=1)
            def test_both(): pass
        """,
    )
    result = run_live("-o", "token_test_max_requests=5")
    verdicts = {name: test["verdict"] for name, test in reported().items()}
    assert verdicts == {
        "test_idle": "unmeasured",
        "test_allowed": "within",
        "test_too_few": "unmeasured",
        "test_enough": "within",
        "test_param[1]": "unmeasured",
        "test_empty": "unmeasured",
        "TestIt::test_class_idle": "within",
        "test_module_idle": "within",
        "test_both": "unmeasured",
    }
    result.assert_outcomes(passed=4, failed=5)
    result.stdout.fnmatch_lines(["*no model request and no cache hit was seen*min_requests=0*"])
    result.stdout.fnmatch_lines(["*only 1 of at least 2 requests were seen*"])
    assert len(told.bills) == 3
