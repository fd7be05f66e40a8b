"""The baseline in a run: written by tests that pass, judged wherever it exists, and never guessed from a part."""

from __future__ import annotations

import json
import re

import pytest

# USD for a million tokens: (input, output).
PRICES = '[models."small"]\ninput = 1.0\noutput = 2.0\n[models."large"]\ninput = 10.0\noutput = 20.0\n'
SUITE = """
import os
import model, pytest

SIZE = int(os.environ.get("SIZE", 10))
NAME = os.environ.get("MODEL", "small")

def test_one():
    model.ask(SIZE, 5, model=NAME)

@pytest.mark.parametrize("word", ["a b", "\\u00e9", "x"])
def test_each(word):
    model.ask(20, 1, model="small")
    model.ask(20, 1, model="small")

def test_idle():
    pass
"""


@pytest.fixture
def go(run_live):
    def go(*args):
        return run_live("-o", "token_prices=prices.toml", *args)

    return go


@pytest.fixture
def stored(pytester):
    return lambda name="token-baseline.json": json.loads((pytester.path / name).read_text("utf-8"))["tests"]


def used(tokens_in, tokens_out, requests=1):
    return {"requests": requests, "input": tokens_in, "cached": 0, "cache_write": 0, "output": tokens_out}


def store(pytester, tests, name="token-baseline.json"):
    document = {"schema": "pytest-tokenbudget/baseline/1", "tests": tests}
    (pytester.path / name).write_text(json.dumps(document), "utf-8")


def statuses(document):
    return {test["nodeid"].partition("::")[2]: (test["baseline"] or {}).get("status") for test in document["tests"]}


def test_written_then_held(pytester, suite, go, stored, document, monkeypatch):  # noqa: PLR0917
    """The file holds what the server billed; the same usage is within, more is over, less is improved."""
    result = go("--token-update-baseline")
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["token budget: wrote 4 test(s) to token-baseline.json"])
    ids = [key for key in stored() if "test_each" in key]
    assert len(ids) == 3
    assert stored() == {
        "test_suite.py::test_one": {"small": used(10, 5)},
        **{key: {"small": used(40, 2, 2)} for key in ids},
    }
    before = (pytester.path / "token-baseline.json").read_bytes()

    go().assert_outcomes(passed=5)
    assert set(statuses(document()).values()) == {"within"}
    told = document()["baseline"]
    assert told == {"path": "token-baseline.json", "new": [], "over": [], "improved": [], "stale": []}

    monkeypatch.setenv("SIZE", "11")
    result = go()
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*test_one is over its *"])
    assert document()["baseline"]["over"] == ["test_suite.py::test_one"]
    one = next(test for test in document()["tests"] if test["nodeid"].endswith("test_one"))
    assert one["verdict"] == "over"
    assert one["baseline"] == {
        "status": "over", "total_tokens": 15, "cost_usd": "0.00002", "models": {"small": used(10, 5)},
    }  # fmt: skip
    # 11 + 5 tokens against 10 + 5; 11 * $1 + 5 * $2 a million against 10 * $1 + 5 * $2.
    assert one["violations"] == [
        {"limit": "baseline_tokens", "allowed": 15, "used": 16},
        {"limit": "baseline_cost", "allowed": "0.00002", "used": "0.000021"},
    ]

    monkeypatch.setenv("SIZE", "9")
    go("--junitxml=junit.xml").assert_outcomes(passed=5)
    assert document()["baseline"]["improved"] == ["test_suite.py::test_one"]
    junit = (pytester.path / "junit.xml").read_text("utf-8")
    assert junit.count('name="token_budget.baseline" value="improved"') == 1
    assert junit.count('name="token_budget.baseline" value="within"') == 3
    assert (pytester.path / "token-baseline.json").read_bytes() == before, "a run that judges writes nothing"


def test_tolerance(pytester, suite, go, monkeypatch):
    """Of 100 tokens: 5% more is within 5% and over 4.9%; the marker wins over the command line, that over the ini."""
    pytester.makepyfile(
        test_suite="""
        import os, model, pytest
        SIZE = int(os.environ.get("SIZE", 95))

        def test_plain():
            model.ask(SIZE, 5, model="small")

        @pytest.mark.token_budget(tolerance="10%", min_requests=0)
        def test_marked():
            model.ask(SIZE, 5, model="small")
        """
    )
    go("--token-update-baseline").assert_outcomes(passed=2)
    monkeypatch.setenv("SIZE", "100")
    go("--token-tolerance=6%").assert_outcomes(passed=2)
    go("-o", "token_tolerance=6%").assert_outcomes(passed=2)
    go("--token-tolerance=4.9%", "-o", "token_tolerance=90%").assert_outcomes(passed=1, failed=1)
    monkeypatch.setenv("SIZE", "106")
    go("--token-tolerance=90%").assert_outcomes(passed=1, failed=1)


def test_a_dearer_model_is_over_by_its_cost_alone(pytester, suite, go, document, monkeypatch):
    go("--token-update-baseline").assert_outcomes(passed=5)
    monkeypatch.setenv("MODEL", "large")
    go().assert_outcomes(passed=4, failed=1)
    one = next(test for test in document()["tests"] if test["nodeid"].endswith("test_one"))
    assert one["violations"] == [{"limit": "baseline_cost", "allowed": "0.00002", "used": "0.0002"}]


def test_prices_that_rise_make_nothing_over(pytester, suite, go, document):
    go("--token-update-baseline").assert_outcomes(passed=5)
    (pytester.path / "prices.toml").write_text(PRICES.replace("1.0", "900.0").replace("2.0", "900.0"), "utf-8")
    go().assert_outcomes(passed=5)
    assert set(statuses(document()).values()) == {"within"}


def test_prices_that_changed_since_the_last_run_are_said(pytester, suite, go, document):
    """In the report, next to the table; without pytest's cache nobody knows of a last run."""
    cached = ("-p", "cacheprovider")

    def said(*args):
        text = " ".join(go("--token-report", *args).stdout.str().split())
        found = re.search(r"not those of the last run here \((.*?)\): costs moved with them, baselines did not", text)
        return found and found[1]

    assert [said(*cached) for _ in range(2)] == [None, None]
    (pytester.path / "prices.toml").write_text(PRICES.replace("1.0", "3.0"), "utf-8")
    assert said() is None
    assert [said(*cached) for _ in range(2)] == ["your own file has changed", None]
    day = document()["prices"]["date"]
    older = (*cached, "-o", "token_price_date=2026-01-31")
    assert re.fullmatch(rf"genai-prices \S+ of {day}", said(*older))
    (pytester.path / ".pytest_cache/v/token_budget/prices").write_text('{"broken": 1}')
    assert said(*older) is None


def test_only_tests_that_passed_are_written(pytester, suite, go, stored, document):
    """And no others are said to be new, since updating would not help."""
    pytester.makepyfile(
        test_suite="""
        import model, pytest

        def test_passes(): model.ask(1, 1, model="small")
        def test_fails(): model.ask(1, 1, model="small"); assert 0
        def test_skips(): model.ask(1, 1, model="small"); pytest.skip("no")
        @pytest.mark.xfail(strict=False)
        def test_xfails(): model.ask(1, 1, model="small"); assert 0
        @pytest.mark.xfail(strict=False)
        def test_xpasses(): model.ask(1, 1, model="small")
        @pytest.mark.token_budget(max_tokens=1)
        def test_is_over(): model.ask(1, 1, model="small")
        @pytest.fixture
        def broken():
            yield
            raise OSError
        def test_breaks_down(broken): model.ask(1, 1, model="small")
        def test_idles(): pass
        def test_is_unpriced(): model.ask(1, 1, model="nobody-has-a-price")
        """
    )
    store(pytester, {})
    assert "new, not in the baseline (2)" in go("--token-report").stdout.str()
    assert document()["baseline"]["new"] == ["test_suite.py::test_is_unpriced", "test_suite.py::test_passes"]
    assert {statuses(document())[f"test_{name}"] for name in ("fails", "xfails", "xpasses", "is_over")} == {"new"}
    store(pytester, {f"test_suite.py::test_{name}": {"small": used(9, 9)} for name in ("fails", "skips", "xfails")})
    go("--token-update-baseline")
    kept = {f"test_suite.py::test_{name}": {"small": used(9, 9)} for name in ("fails", "skips", "xfails")}
    assert stored() == {
        **kept,
        "test_suite.py::test_passes": {"small": used(1, 1)},
        "test_suite.py::test_is_unpriced": {"nobody-has-a-price": used(1, 1)},
    }


def test_what_is_not_judged_is_not_written(pytester, suite, go, stored, document, monkeypatch):  # noqa: PLR0917
    """The end of a test's fixtures comes after its verdict: in its entry, it would be room to grow into."""
    pytester.makepyfile(
        test_suite="""
        import os, model, pytest
        @pytest.fixture
        def late():
            yield
            model.ask(100, 1, model="small")
        def test_it(late): model.ask(int(os.environ.get("SIZE", 10)), 5, model="small")
        def test_late_only(late): pass
        """
    )
    go("--token-update-baseline").assert_outcomes(passed=2)
    assert stored() == {"test_suite.py::test_it": {"small": used(10, 5)}, "test_suite.py::test_late_only": {}}
    go().assert_outcomes(passed=2)
    assert statuses(document()) == {"test_it": "within", "test_late_only": "within"}
    assert document()["total"]["input_tokens"] * 2 == suite.input_tokens == 2 * 210
    monkeypatch.setenv("SIZE", "11")
    go().assert_outcomes(passed=1, failed=1)


def test_unmeasured_tests_are_not_written(pytester, suite, go, stored):
    suite.answer(
        body={
            "id": "x",
            "object": "chat.completion",
            "model": "who-knows",
            "choices": [],
            "usage": {"prompt_tokens": -1},
        }
    )
    pytester.makepyfile(test_suite='import model\ndef test_it(): model.ask(1, 1, model="who-knows")')
    result = go("--token-update-baseline")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*no test that passed used a model*"])
    assert not (pytester.path / "token-baseline.json").exists()


def test_a_test_whose_usage_is_no_longer_known_is_not_improved(pytester, suite, go, document):
    """It has no budget of its own: its entry in the baseline is one."""
    (pytester.path / "token-baseline.json").write_text(
        json.dumps(
            {
                "schema": "pytest-tokenbudget/baseline/1",
                "tests": {"test_suite.py::test_it": {"who-knows": used(9, 9)}},
            }
        )
    )
    suite.answer(
        body={"id": "x", "object": "chat.completion", "model": "who-knows", "choices": [],
              "usage": {"prompt_tokens": -1}}
    )  # fmt: skip
    pytester.makepyfile(test_suite='import model\ndef test_it(): model.ask(1, 1, model="who-knows")')
    result = go()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*could not be measured by its token budget*", "*1 of 1 requests could not be*"])
    assert (document()["tests"][0]["verdict"], document()["baseline"]["improved"]) == ("unmeasured", [])


def test_a_part_is_merged_and_never_prunes(pytester, suite, go, stored):
    gone = {"test_suite.py::test_gone": {"small": used(1, 1)}, "test_other.py::test_it": {"small": used(1, 1)}}
    store(pytester, gone)
    go("--token-update-baseline", "-k", "test_one").assert_outcomes(passed=1)
    assert stored() == {**gone, "test_suite.py::test_one": {"small": used(10, 5)}}
    before = (pytester.path / "token-baseline.json").read_bytes()
    suite.reset()
    for part in (
        ("-k", "test_one"), ("-m", "not slow"), ("test_suite.py::test_one",), ("test_suite.py",), ("--ignore=test_x.py",),
        ("--deselect", "test_suite.py::test_one"),
    ):  # fmt: skip
        result = go("--token-update-baseline=prune", *part)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, part
        text = result.stdout.str() + result.stderr.str()
        assert "needs a whole run" in text, part
        assert "INTERNALERROR" not in text
    assert suite.bills == (), "a refusal comes before the first test"
    assert (pytester.path / "token-baseline.json").read_bytes() == before
    pytester.makeconftest("def pytest_collection_modifyitems(config, items):\n"
                          "    config.hook.pytest_deselected(items=[items.pop()])\n")  # fmt: skip
    result = go("--token-update-baseline=prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert set(stored()) >= set(gone)


def test_a_whole_run_prunes(pytester, suite, go, stored):
    """What no longer exists goes; what is skipped, or stands in a module that is skipped, stays."""
    pytester.makepyfile(test_skipped="import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass")
    stay = {"test_skipped.py::test_it": {"small": used(3, 3)}}
    store(pytester, {**stay, "test_suite.py::test_gone": {"small": used(1, 1)}, "test_lost.py::test_it": {}})
    result = go("--token-update-baseline=prune")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["token budget: wrote 4 test(s) to token-baseline.json, dropped 2"])
    assert len(stored()) == 5
    assert set(stored()) > set(stay)


def test_a_part_is_known_as_one_though_nobody_says_so(pytester, suite, go, stored, document):
    """As pytest-shard does it: nothing tells of the tests that are left out."""
    other = {"test_suite.py::test_gone": {"small": used(1, 1)}, "test_suite.py::test_idle": {"small": used(1, 1)}}
    store(pytester, other)
    before = (pytester.path / "token-baseline.json").read_bytes()
    pytester.makeconftest("def pytest_collection_modifyitems(items):\n"
                          "    items[:] = [each for each in items if 'idle' not in each.name]\n")  # fmt: skip
    result = go("--token-update-baseline=prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*needs a whole run*tests were deselected*"])
    assert (pytester.path / "token-baseline.json").read_bytes() == before
    go().assert_outcomes(passed=4)
    assert document()["baseline"]["stale"] == []
    # Others put tests in an order, or theirs in a test's place: that is a whole run.
    pytester.makeconftest("import copy\n"
                          "def pytest_collection_modifyitems(items):\n"
                          "    items.reverse()\n"
                          "    items[-1] = copy.copy(items[-1])\n")  # fmt: skip
    assert go("--token-update-baseline=prune").ret == 0
    assert len(stored()) == 5
    assert stored().keys() & other.keys() == {"test_suite.py::test_idle"}


def test_a_file_of_which_nothing_was_collected_keeps_its_entries(pytester, suite, go, stored, document):
    """Nobody has looked for its tests, or none that this run could see is left; a file that is gone has none."""
    pytester.makepyfile(test_ignored="def test_it(): pass", test_empty="")
    pytester.makeconftest("collect_ignore = ['test_ignored.py']")
    stay = {f"test_{name}.py::test_it": {"small": used(3, 3)} for name in ("ignored", "empty")}
    gone = ["test_lost.py::test_it", "test_suite.py::test_gone"]
    store(pytester, {**stay, **{key: {"small": used(1, 1)} for key in gone}})
    before = (pytester.path / "token-baseline.json").read_bytes()
    for part in (
        ("-o", "python_files=test_e*.py"), ("-o", "python_functions=test_one"), ("-o", "testpaths=test_empty.py"),
        ("-p", "no:python"),
    ):  # fmt: skip
        result = go("--token-update-baseline=prune", *part)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, part
        assert f"needs a whole run, and this is none: {' '.join(part).partition('=')[0]}" in result.stderr.str(), part
    assert suite.bills == ()
    assert (pytester.path / "token-baseline.json").read_bytes() == before
    go("-o", "python_functions=test_one").assert_outcomes(passed=1)
    assert document()["baseline"]["stale"] == []
    go().assert_outcomes(passed=5)
    assert document()["baseline"]["stale"] == gone
    result = go("--token-update-baseline=prune")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["token budget: wrote 4 test(s) to token-baseline.json, dropped 2"])
    assert set(stored()) > set(stay)


def test_an_interrupted_or_broken_run_prunes_nothing(pytester, suite, go, stored):
    store(pytester, {"test_suite.py::test_gone": {"small": used(1, 1)}})
    broken = pytester.makepyfile(test_broken="import no_such_module")
    for extra in ((), ("--continue-on-collection-errors",)):
        result = go("--token-update-baseline=prune", *extra)
        assert result.ret != 0
        assert "test_suite.py::test_gone" in stored()
    broken.unlink()
    pytester.makepyfile(test_a="def test_a(): assert 0")
    assert go("--token-update-baseline=prune", "-x").ret != 0
    assert "test_suite.py::test_gone" in stored()


def test_stale_and_new_are_told(pytester, suite, go, document):
    store(
        pytester,
        {
            "test_suite.py::test_renamed": {"small": used(1, 1)},
            "test_elsewhere.py::test_it": {"small": used(1, 1)},
            "test_suite.py::test_idle": {"small": used(1, 1)},
        },
    )
    go().assert_outcomes(passed=5)
    told = document()["baseline"]
    assert told["stale"] == ["test_elsewhere.py::test_it", "test_suite.py::test_renamed"]
    assert len(told["new"]) == 4
    assert told["improved"] == ["test_suite.py::test_idle"]
    # A part of the suite says nothing about the rest of it.
    go("test_suite.py")
    assert document()["baseline"]["stale"] == ["test_suite.py::test_renamed"]
    go("-k", "test_one")
    assert document()["baseline"]["stale"] == []


def test_a_test_that_stopped_to_use_a_model_is_remembered_so(pytester, suite, go, stored, monkeypatch):
    store(pytester, {"test_suite.py::test_idle": {"small": used(500, 500)}})
    go("--token-update-baseline").assert_outcomes(passed=5)
    assert stored()["test_suite.py::test_idle"] == {}


def test_tests_without_an_entry(pytester, suite, go, document):
    """``token_baseline_missing = fail`` holds without a file too; tests that use no model need no entry."""
    go().assert_outcomes(passed=5)
    result = go("-o", "token_baseline_missing=fail", "--token-report")
    result.assert_outcomes(passed=1, failed=4)
    result.stdout.fnmatch_lines(["*test_one*", "*no entry in the baseline*--token-update-baseline*"])
    result.stdout.no_fnmatch_line("*not measured or not priced*")
    result.stdout.fnmatch_lines(["failed for want of an entry in the baseline (4)*"])
    go("-o", "token_baseline_missing=fail", "--token-update-baseline").assert_outcomes(passed=5)
    go("-o", "token_baseline_missing=fail").assert_outcomes(passed=5)
    assert len(document()["baseline"]["new"]) == 0


@pytest.mark.parametrize("how", ["flag", "ini"])
def test_a_file_that_was_named_must_exist_unless_it_is_written(pytester, suite, go, stored, how):
    named = ("--token-baseline=sub/own.json",) if how == "flag" else ("-o", "token_baseline=sub/own.json")
    result = go(*named)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "own.json: does not exist" in result.stderr.str()
    assert suite.bills == ()
    go(*named, "--token-update-baseline").assert_outcomes(passed=5)
    assert len(stored("sub/own.json")) == 4
    go(*named).assert_outcomes(passed=5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "pytest-tokenbudget/baseline/9", "tests": {}}', "<<<<<<< a\n"]
)
def test_a_broken_file_is_refused_and_left_alone(pytester, suite, go, text):
    path = pytester.path / "token-baseline.json"
    path.write_text(text, "utf-8")
    for args in ((), ("--token-update-baseline",), ("--token-update-baseline=prune",)):
        result = go(*args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR, args
        said = [line for line in result.stderr.lines + result.stdout.lines if line.strip()]
        assert len(said) == 1, said
        assert "token-baseline.json" in said[0]
        assert path.read_text("utf-8") == text
    assert suite.bills == ()


def test_a_skipped_test_with_an_entry_is_listed_and_not_compared(pytester, suite, go, document):
    pytester.makepyfile(test_suite="import pytest\n@pytest.mark.skip\ndef test_it(): pass\ndef test_idle(): pass")
    store(pytester, {"test_suite.py::test_it": {"small": used(1, 1)}})
    go().assert_outcomes(skipped=1, passed=1)
    (test,) = document()["tests"]
    assert (test["nodeid"], test["outcome"], test["baseline"]) == ("test_suite.py::test_it", "skipped", None)
    assert document()["baseline"]["stale"] == []


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_not_enforced(pytester, suite, go, monkeypatch, mode):
    go("--token-update-baseline").assert_outcomes(passed=5)
    monkeypatch.setenv("SIZE", "99")
    result = go(f"--token-budget={mode}")
    result.assert_outcomes(passed=5)
    assert result.ret == 0
    assert ("test_one (warning only)" in result.stdout.str()) == (mode == "warn")


PARTS = {
    "-c": ("-c", "other.ini"),
    "--noconftest": ("--noconftest",),
    "-p no:unittest": ("-p", "no:unittest"),
    "-p no:doctest": ("-p", "no:doctest"),
}


@pytest.mark.parametrize("part", PARTS)
def test_what_finds_fewer_tests_prunes_nothing(pytester, suite, go, stored, part):
    go("--token-update-baseline")
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "other.ini").write_text("[pytest]\npython_functions = test_o*\n")
    before = stored()
    result = go("--token-update-baseline=prune", *PARTS[part])
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = f"*prune needs a whole run, and this is none: {part} leaves tests out; nothing was written"
    (result.stderr if "token budget" in result.stderr.str() else result.stdout).fnmatch_lines([said])
    assert stored() == before


WHOLE = {
    "the_file_that_pytest_takes_by_itself": ("-c", "pytest.ini"),
    "an_option_of_the_suite": ("--count=5",),
}


@pytest.mark.parametrize("words", WHOLE.values(), ids=WHOLE)
def test_what_finds_all_tests_prunes(pytester, suite, go, stored, words):
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    (pytester.path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npython_functions = 'none'\n")
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--count', type=int, default=10)")
    gone = ("test_suite.py::test_gone", "gone.yam::get v1.2", "docs/gone.rst::gone.rst", "gone_mod.py::gone_mod.f")
    store(pytester, {nodeid: {"small": used(1, 1)} for nodeid in gone})
    go("--token-update-baseline=prune", *words).assert_outcomes(passed=5)
    assert not {*gone} & stored().keys()


def test_repeated_tests_are_others(pytester, suite, run_live, stored):
    store(pytester, {"test_suite.py::test_gone": {"small": used(1, 1)}})
    prices = ("-o", "token_prices=prices.toml")
    result = run_live(*prices, "--token-update-baseline=prune", "--count=2", plugins=("repeat",))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "none: --count leaves tests out" in result.stdout.str() + result.stderr.str()
    assert stored().keys() == {"test_suite.py::test_gone"}


def test_a_plugin_that_is_always_off_leaves_nothing_out(pytester, suite, go, stored):
    pytester.makeini("[pytest]\naddopts = -p no:doctest\n")
    store(pytester, {"test_suite.py::test_gone": {"small": used(1, 1)}})
    go("--token-update-baseline=prune").assert_outcomes(passed=5)
    assert "test_suite.py::test_gone" not in stored()


def test_what_addopts_leaves_out_is_said_with_the_way_out(pytester, suite, go, stored):
    pytester.makeini("[pytest]\naddopts = -k 'not idle'\n")
    store(pytester, {"test_suite.py::test_gone": {"small": used(1, 1)}})
    result = go("--token-update-baseline=prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert "this is none: -k of addopts leaves tests out; -o addopts= takes it off for one run; nothing was" in said
    go("--token-update-baseline=prune", "-o", "addopts=").assert_outcomes(passed=5)
    assert "test_suite.py::test_gone" not in stored()


def test_doctests_of_modules_are_not_stale_where_nobody_looks_for_them(pytester, go, told, stored, document):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite='''
        import model
        def helper():
            """
            >>> model.ask(7, 1, model="small") and None
            """
        def test_one(): model.ask(10, 5, model="small")
        '''
    )
    go("--token-update-baseline", "--doctest-modules").assert_outcomes(passed=2)
    entries = stored()
    assert entries.keys() == {"test_suite.py::test_suite.helper", "test_suite.py::test_one"}
    go()
    assert document()["baseline"]["stale"] == []
    go("--token-update-baseline=prune")
    assert stored() == entries
    pytester.makepyfile(test_suite="import model\ndef test_one(): model.ask(10, 5, model='small')")
    go("--doctest-modules")
    assert document()["baseline"]["stale"] == ["test_suite.py::test_suite.helper"]


def test_a_link_that_leads_nowhere_is_no_missing_baseline(pytester, suite, go):
    """It was one when it was committed: a run that passes for it would be no gate."""
    (pytester.path / "token-baseline.json").symlink_to("moved.json")
    result = go()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [each for each in result.errlines + result.outlines if "token-baseline.json" in each]
    assert "does not exist" in line


@pytest.mark.parametrize("place", ["pytest.ini/x.json", f"{'z' * 300}.json"], ids=["in_a_file", "long"])
def test_a_place_where_no_baseline_can_be_is_known_before_the_tests(pytester, suite, go, place):
    (pytester.path / "pytest.ini").write_text("[pytest]\n")
    for update in ((), ("--token-update-baseline",)):
        result = go(f"--token-baseline={place}", *update)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert suite.bills == ()
        said = [each for each in result.errlines + result.outlines if "baseline" in each and place[:9] in each]
        assert len(said) == 1, said
