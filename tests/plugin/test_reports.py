"""Reports: every kind to every place, the JSON to the letter, and a stub that no killed run gets past."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from neighbours import without_all_but
from warm_python import cold

SCHEMA = json.loads((Path(__file__).parents[1] / "core" / "report_schema.json").read_text("utf-8"))
PRICES = '[models."small"]\ninput = 1.0\noutput = 2.0\n'
SUITE = """
import model, pytest

def test_passes(): model.ask(10, 5, model="small")

def test_fails():
    model.ask(20, 5, model="small")
    assert 0

@pytest.mark.xfail
def test_xfails():
    model.ask(1, 1, model="small")
    assert 0

@pytest.mark.xfail
def test_xpasses(): model.ask(1, 1, model="small")

def test_skips():
    model.ask(1, 1, model="small")
    pytest.skip("no")

@pytest.fixture
def broken():
    model.ask(1, 1, model="small")
    raise OSError

def test_errs(broken): pass

@pytest.fixture
def late():
    yield
    raise OSError

def test_breaks_down(late): model.ask(1, 1, model="small")

@pytest.mark.token_budget(max_tokens=1, max_cost="0.5")
def test_is_over(): model.ask(1, 1, model="small")

@pytest.mark.token_budget(max_tokens=1, min_requests=0)
def test_is_within(): pass

@pytest.mark.token_budget(max_tokens=1)
def test_is_unmeasured(): pass

@pytest.mark.skip
@pytest.mark.token_budget(max_tokens=1)
def test_is_skipped(): pass

@pytest.mark.xfail
@pytest.mark.token_budget(max_tokens=1)
def test_is_over_as_expected(): model.ask(1, 1, model="small")

def test_has_no_price(): model.ask(1, 1, model="nobody-has-a-price")

def test_idles(): pass
"""
OUTCOMES = {
    "test_passes": ("passed", "none"),
    "test_fails": ("failed", "none"),
    "test_xfails": ("xfailed", "none"),
    "test_xpasses": ("xpassed", "none"),
    "test_skips": ("skipped", "none"),
    "test_errs": ("error", "none"),
    "test_breaks_down": ("error", "none"),
    "test_is_over": ("failed", "over"),
    "test_is_within": ("passed", "within"),
    "test_is_unmeasured": ("failed", "unmeasured"),
    "test_is_over_as_expected": ("xfailed", "over"),
    "test_has_no_price": ("passed", "none"),
}


def read(path):
    return json.loads(Path(path).read_text("utf-8"))


def check(document):
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return document


class Cells(HTMLParser):
    """The cells of each row of the table of tests."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.within = [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag == "tr" and ("class", "test") in [(name, value.split()[0]) for name, value in attributes if value]:
            self.rows.append([])
            self.within = True
        elif tag == "td" and self.within:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.within = self.within and tag != "tr"

    def handle_data(self, data):
        if self.within and self.rows[-1]:
            self.rows[-1][-1] += data


def test_json_to_the_letter_and_the_same_in_html(pytester, suite, go):
    result = go("--token-report=json", "--token-report=html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = check(read(pytester.path / "token-report.json"))
    assert document["complete"] is True
    tests = {test["nodeid"].removeprefix("test_suite.py::"): test for test in document["tests"]}
    told = {name: (test["outcome"], test["verdict"]) for name, test in tests.items()}
    assert told.pop("test_is_skipped")[0] == "skipped"
    assert told == OUTCOMES
    assert document["plugin"]["name"] == "pytest-tokenbudget"
    (own,) = document["prices"]["overrides"]
    assert re.fullmatch(r"prices\.toml \([0-9a-f]{8}\)", own)
    assert document["drift"] == document["unplayed"] == document["unused_cassettes"] == document["blocked"] == []
    assert document["baseline"] is None

    bills = suite.bills
    total = document["total"]
    assert total["requests"] == len(bills) == 10
    assert total["input_tokens"] == sum(bill.input_tokens for bill in bills) == 38
    assert total["output_tokens"] == sum(bill.output_tokens for bill in bills) == 18
    assert total["total_tokens"] == 56
    assert total["cost_usd"] is None
    assert total["spent_usd"] is None
    assert total["unpriced_models"] == ["nobody-has-a-price"]
    models = {row["model"]: row["usage"] for row in document["models"]}
    # 37 * $1 and 17 * $2 a million.
    assert models["small"]["cost_usd"] == models["small"]["spent_usd"] == "0.000071"
    assert models["nobody-has-a-price"]["cost_usd"] is None

    over = tests["test_is_over"]
    assert over["budget"] == {"max_cost": "0.5", "max_tokens": 1, "min_requests": 1}
    assert over["violations"] == [{"limit": "max_tokens", "allowed": 1, "used": 2}]
    (call,) = tests["test_passes"]["calls"]
    assert call == {
        "model": "small",
        "provider": call["provider"],
        "endpoint": "/v1/chat/completions",
        "source": "response",
        "replayed": False,
        "request_id": next(bill.id for bill in bills if bill.input_tokens == 10),
        "input_tokens": 10,
        "cached_input_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 5,
        "reasoning_tokens": 0,
        "total_tokens": 15,
        "cost_usd": "0.00002",
        "parts": call["parts"],
    }
    assert sum((call["parts"] or {"user": 10}).values()) == 10

    page = (pytester.path / "token-report.html").read_text("utf-8")
    rows = {row[0].strip().removeprefix("test_suite.py::"): row[1:] for row in Cells(page).rows}
    assert len(rows) == len(tests)
    assert rows["test_passes"][:3] == ["", "$0.00002", "15"]
    assert rows["test_is_over failed"][:3] == ["over", "$0.000003", "2"]
    assert rows["test_has_no_price"][:3] == ["", "unknown", "2"]
    # Of the 38 and 18 tokens that were billed, the last has no price.
    assert "at least $0.000071 is what the suite costs" in re.sub(r"<[^>]+>", "", page)
    assert "<strong>56</strong> tokens: 38 input (0 cached), 18 output" in page


def test_json_is_the_same_however_it_is_spread(pytester, suite, go, spread, run):
    if not spread:
        pytest.skip("it takes a spread run to compare with")
    # The one test whose answer differs in its id is left out of both: the server numbers what arrives.
    go("--token-report=json:spread.json")
    go("--token-report=json:plain.json", "-n", "0")
    documents = [check(read(pytester.path / name)) for name in ("spread.json", "plain.json")]
    for document in documents:
        document["tests"].sort(key=lambda test: test["nodeid"])
        del document["created"]
        for test in document["tests"]:
            for call in test["calls"]:
                del call["request_id"]
    assert documents[0] == documents[1]


def test_every_kind_to_every_place(pytester, suite, go, monkeypatch):
    page = pytester.path / "page.md"
    page.write_text("before\n", "utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    result = go(
        "--token-report",
        "--token-report=json:deep/er/own.json",
        "--token-report=json:-",
        "--token-report=markdown",
        "--token-report=markdown:own.md",
        "--token-report=term:own.txt",
        "--token-report=html:deep/own.html",
        "-k",
        "passes",
    )
    assert result.ret == 0
    check(read(pytester.path / "deep" / "er" / "own.json"))
    (start,) = [number for number, line in enumerate(result.outlines) if line.startswith('{"schema"')]
    document, _ = json.JSONDecoder().raw_decode("\n".join(result.outlines[start:]))
    assert check(document) == read(pytester.path / "deep" / "er" / "own.json")
    assert sum("= token budget =" in line for line in result.outlines) == 1
    markdown = (pytester.path / "own.md").read_text("utf-8")
    assert markdown == (pytester.path / "token-report.md").read_text("utf-8")
    assert markdown.startswith("## Token budget")
    assert "$0.00002" in markdown
    # Once, and after what was there.
    assert page.read_text("utf-8") == "before\n" + markdown
    text = (pytester.path / "own.txt").read_text("utf-8")
    assert "$0.00002" in text
    assert "\x1b" not in text
    page = (pytester.path / "deep" / "own.html").read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert not (pytester.path / "token-report.json").exists()


def test_a_job_s_page_that_is_the_report_s_own_place_gets_it_once_and_keeps_what_stood_there(
    pytester, suite, go, monkeypatch
):
    page = pytester.path / "page.md"
    page.write_text("before\n", "utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert go("--token-report=markdown:page.md", "-k", "passes").ret == 0
    assert page.read_text("utf-8").count("## Token budget") == 1
    assert page.read_text("utf-8").startswith("before\n## Token budget")


def test_from_the_ini_file_where_the_command_line_says_nothing(pytester, suite, go):
    pytester.makefile(".ini", pytest="[pytest]\ntoken_report =\n    json:one.json\n    markdown:two.md\n")
    go("-k", "passes")
    assert (pytester.path / "one.json").exists()
    assert (pytester.path / "two.md").exists()
    (pytester.path / "one.json").unlink()
    go("-k", "passes", "--token-report=json:three.json")
    assert not (pytester.path / "one.json").exists()
    assert (pytester.path / "three.json").exists()


@pytest.mark.parametrize("kind", ["term", "markdown", "html"])
def test_an_output_that_takes_no_unicode_gets_its_report_and_so_does_every_file(
    pytester, suite, run_pytest, monkeypatch, kind
):
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")  # as on Windows, where output goes to a file
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.mark.token_budget(max_tokens=100)
        @pytest.mark.parametrize("name", ["\u65e5\u672c"])
        def test_passes(name): model.ask(10, 5, model="small")
        """
    )
    pytester.makeini(
        "[pytest]\ntoken_replay = off\ntoken_prices = prices.toml\n"
        "disable_test_id_escaping_and_forfeit_all_rights_to_community_support = true\n"
    )
    result = run_pytest(
        *without_all_but(), "-p", "no:cacheprovider", f"--token-report={kind}:-", "--token-report=json:r.json"
    )
    assert result.ret == 0
    assert check(read(pytester.path / "r.json"))["complete"] is True
    printed = result.stdout.str()
    assert "$0.00002" in printed
    assert ("&#26085;" if kind == "html" else r"\u65e5") in printed


@pytest.mark.parametrize("page", ["", "missing/page.md"])
def test_a_page_that_cant_be_written_is_said_before_any_test(pytester, suite, go, monkeypatch, page):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / page))
    result = go("--token-report=markdown", "-k", "passes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "can't be added to GITHUB_STEP_SUMMARY" in result.stdout.str() + result.stderr.str()
    assert not suite.bills
    assert not (pytester.path / "token-report.md").exists()


def test_a_page_that_became_unwritable_is_said_and_fails(pytester, suite, go, monkeypatch):
    page = pytester.path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    pytester.makepyfile(
        test_suite=f"""
        from pathlib import Path
        def test_it():
            Path({str(page)!r}).unlink()
            Path({str(page)!r}).mkdir()
        """
    )
    result = go("--token-report=markdown")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*can't be added to GITHUB_STEP_SUMMARY*"])


def test_the_end_of_a_shared_fixture_and_its_start_tell_where_their_input_went(pytester, told, go):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.fixture(scope="module")
        def documents():
            model.ask(10, 8, model="small")
            yield
            model.ask(20, 8, model="small")
        def test_it(documents): pass
        """
    )
    result = go("--token-report", "--token-report=json", "-vv")
    shared = read(pytester.path / "token-report.json")["shared"]
    assert [call["parts"] for each in shared for call in each["calls"]] == [{"user": 10}, {"user": 20}]
    assert sum("(user " in line for line in result.outlines) == 2


def test_a_report_that_became_unwritable_is_said_and_fails(pytester, suite, go):
    pytester.makepyfile(
        test_suite="""
        from pathlib import Path
        def test_it():
            Path("token-report.json").unlink()
            Path("token-report.json").mkdir()
        """
    )
    result = go("--token-report=json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*token-report.json can't be written*"])


def test_without_a_terminal(pytester, suite, go):
    result = go("-p", "no:terminal", "--token-report=json", "--token-report=term:own.txt", "-k", "passes")
    assert result.ret == 0
    assert check(read(pytester.path / "token-report.json"))["complete"] is True
    assert "$0.00002" in (pytester.path / "own.txt").read_text("utf-8")


@cold
def test_killed(pytester, suite, run, spread):
    """The whole run is killed in its first test: what lies there says that it is not complete."""
    (pytester.path / "token-report.json").write_text('{"complete": true}', "utf-8")
    (pytester.path / "token-report.md").write_text("an older, cheaper run", "utf-8")
    pytester.makepyfile(
        test_suite=f"""
        import os, signal
        def test_it():
            os.kill({"os.getppid()" if spread else "os.getpid()"}, signal.SIGKILL)
        """
    )
    result = run("--token-report=json", "--token-report=markdown", "--token-report=html")
    assert result.ret == -9
    document = check(read(pytester.path / "token-report.json"))
    assert document["complete"] is False
    assert document["tests"] == []
    assert "cheaper" not in (pytester.path / "token-report.md").read_text("utf-8")
    assert "not complete" in (pytester.path / "token-report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "end", "args"),
    [
        ("first_failure", "assert 0", ("-x",)),
        ("keyboard", "raise KeyboardInterrupt", ()),
        ("exit", "pytest.exit('enough')", ()),
        ("collection", None, ()),
        ("continued", None, ("--continue-on-collection-errors",)),
    ],
)
def test_not_complete(pytester, suite, go, spread, name, end, args):  # noqa: PLR0917
    """What finished is reported, and the file says that it is not all."""
    pytester.makepyfile(
        test_suite=f"""
        import model, pytest
        def test_before(): model.ask(10, 5, model="small")
        def test_end():
            import time; time.sleep({1.5 if spread else 0})
            {end or "pass"}
        def test_after(): pass
        def test_after_2(): pass
        def test_after_3(): pass
        """
    )
    if end is None:
        pytester.makepyfile(test_broken="import no_such_module")
    result = go("--token-report=json", *args)
    assert result.ret != 0
    assert "INTERNALERROR" not in result.stdout.str()
    document = check(read(pytester.path / "token-report.json"))
    assert document["complete"] is False
    if name != "collection":
        assert [test["usage"]["total_tokens"] for test in document["tests"]] == [15]
        assert document["total"]["total_tokens"] == 15


def test_an_exit_with_status_zero_is_not_complete(pytester, suite, go, spread):
    if spread:
        pytest.skip("xdist takes a worker's exit with status 0 for its end")
    pytester.makepyfile(test_suite="import pytest\ndef test_it(): pytest.exit('enough', returncode=0)")
    assert go("--token-report=json").ret == 0
    assert check(read(pytester.path / "token-report.json"))["complete"] is False


def test_a_crashed_worker(pytester, suite, go, spread):
    if not spread:
        pytest.skip("it takes a worker to crash one")
    pytester.makepyfile(
        test_suite="""
        import os, time
        import model
        def test_before(): model.ask(10, 5, model="small")
        def test_crashes(): time.sleep(1.5); os._exit(1)
        def test_after(): model.ask(20, 5, model="small")
        def test_after_2(): pass
        """
    )
    result = go("--token-report=json", "--token-report")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "INTERNALERROR" not in result.stdout.str()
    document = check(read(pytester.path / "token-report.json"))
    assert document["complete"] is False
    used = {test["nodeid"].partition("::")[2]: test["usage"]["total_tokens"] for test in document["tests"]}
    assert used == {"test_before": 15, "test_after": 25}
    result.stdout.fnmatch_lines(["*not complete*"])


def test_complete_where_tests_failed_or_none_were_found(pytester, suite, go):
    go("--token-report=json", "-k", "fails")
    assert check(read(pytester.path / "token-report.json"))["complete"] is True
    result = go("--token-report=json", "-k", "no_such_test")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert check(read(pytester.path / "token-report.json"))["complete"] is True


@pytest.mark.parametrize(
    "option", ["--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan", "--cache-show"]
)
def test_a_question_writes_nothing(pytester, suite, run, option):
    extra = ("-p", "cacheprovider") if option == "--cache-show" else ()
    result = run("--token-report=json", "--token-report=markdown", "--token-update-baseline", option, *extra)
    assert result.ret == 0
    assert not list(pytester.path.glob("token-*"))
    assert suite.bills == ()


def test_junit_carries_the_figures(pytester, suite, go):
    from xml.etree import ElementTree as ET

    go("--junitxml=junit.xml", "-k", "passes or idles or within")
    cases = {
        case.get("name"): {each.get("name"): each.get("value") for each in case.iter("property")}
        for case in ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    }
    own = {name: value for name, value in cases["test_passes"].items() if name.startswith("token_budget.")}
    assert own["token_budget.total_tokens"] == "15"
    assert own["token_budget.cost_usd"] == "0.00002"
    assert not any(name.startswith("token_budget.") for name in cases["test_idles"])


def test_reports_are_written_into_the_folder_of_the_call(pytester, suite, run, monkeypatch):
    folder = pytester.mkdir("sub")
    pytester.makefile(".ini", pytest="[pytest]\n")
    monkeypatch.chdir(folder)
    result = run("--rootdir", str(pytester.path), "--token-report=json", "-o", "token_replay=off",
                  str(pytester.path / "test_suite.py"), "-k", "idles")  # fmt: skip
    assert result.ret == 0
    assert check(read(folder / "token-report.json"))["complete"] is True


def test_names_that_no_encoding_likes(pytester, suite, go, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.mark.parametrize("word", ["\\u00e9", "a|b<c>`d`", "\\U0001f600", "x" * 300], ids=lambda word: word)
        def test_it(word): model.ask(1, 1, model="small")
        """
    )
    result = go("--token-report", "--token-report=json:-", "--token-report=json", "--token-report=markdown")
    assert result.ret == 0, result.stdout.str() + result.stderr.str()
    assert len(check(read(pytester.path / "token-report.json"))["tests"]) == 4
