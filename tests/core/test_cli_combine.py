from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_strategies import PRICES, summaries

from pytest_tokenbudget import baseline as baselines
from pytest_tokenbudget import cli
from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.price_file import load_price_file
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.shards import join
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

HEAD = {"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES}


def call(tokens=1000, model="gpt-4o-mini", cost="0.00015"):
    """gpt-4o-mini's input is $0.15 per million tokens: 1000 of them are $0.00015."""
    return ModelCall(
        model=model,
        provider="openai",
        usage=Usage(input_tokens=tokens),
        cost=None if cost is None else Decimal(cost),
        replayed=True,
    )


def used(nodeid, *calls, **more):
    return UsageRecord(nodeid=nodeid, calls=calls or (call(),), **more)


@pytest.fixture
def report(tmp_path):
    def write(name, *tests, **more):
        path = tmp_path / name
        path.write_text(to_json(Summary.of(tests, more.pop("shared", ()), **{**HEAD, **more})))
        return str(path)

    return write


@pytest.fixture
def baseline(tmp_path):
    def write(**tests):
        path = tmp_path / "token-baseline.json"
        entries = {nodeid: {"gpt-4o-mini": ModelTokens(requests=1, input=tokens)} for nodeid, tokens in tests.items()}
        baselines.save(path, baselines.Baseline(tests=entries))
        return str(path)

    return write


@pytest.fixture
def combine(capsys):
    def run(*words):
        status = cli.main(["combine", *map(str, words)])
        out, err = capsys.readouterr()
        return status, json.loads(out) if out else None, err

    return run


def test_what_was_refused_outside_of_tests_fails_the_whole(report, combine):
    def refused(why):
        return [SharedRecord(fixture="", scope="session", calls=(call(),), blocked=(why,))]

    a = report("a.json", used("t_1"), shared=refused("one"))
    b = report("b.json", used("t_2"), shared=refused("two"))
    status, joined, err = combine(a, b)
    assert status == 1
    assert "a request outside of tests was not let through" in err
    assert [note["message"] for note in joined["blocked"]] == ["one", "two"]
    assert combine(b, a)[1] == joined


def test_shards_become_one_run(report, combine, tmp_path):
    fixture = SharedRecord(fixture="index", scope="session", calls=(call(),))
    a = report("a.json", used("t_2"), shared=[fixture])
    b = report("b.json", used("t_1", call(2000, cost="0.0003")), created="2026-11-22T10:05:00Z", shared=[fixture])
    status, joined, err = combine(a, b)
    assert status == 0
    assert [test["nodeid"] for test in joined["tests"]] == ["t_1", "t_2"]
    assert joined["total"]["requests"] == 4
    assert joined["total"]["total_tokens"] == 5000
    assert joined["total"]["cost_usd"] == "0.00075"
    assert joined["created"] == "2026-11-22T10:05:00Z"
    assert joined["complete"] is True
    assert "$0.00075" in err
    assert "tokenbudget:" not in err


@settings(deadline=None, max_examples=40)
@given(st.lists(summaries(st.sampled_from("abc")), min_size=1, max_size=3))
def test_neither_order_nor_grouping_matters(shards):
    def text(*some):
        return to_json(join([("r", each) for each in some]).summary)

    wanted = text(*shards)
    assert {text(*order) for order in permutations(shards)} == {wanted}
    if len(shards) == 3:
        one, two, three = shards
        left = join([("r", one), ("r", two)]).summary
        right = join([("r", two), ("r", three)]).summary
        assert text(left, three) == text(one, right) == wanted


@settings(deadline=None, max_examples=40)
@given(summaries())
def test_one_report_is_itself(summary):
    assert join([("r", summary)]).summary == summary


@settings(deadline=None, max_examples=40)
@given(st.lists(summaries(st.sampled_from("abc")), min_size=2, max_size=3))
def test_no_test_is_lost_and_none_is_there_twice(shards):
    joined = join([("r", each) for each in shards]).summary
    ids = [record.nodeid for record in joined.tests]
    assert len(ids) == len(set(ids))
    assert set(ids) == {record.nodeid for each in shards for record in each.tests}


def test_one_report_is_copied_byte_for_byte(report, tmp_path):
    path = report("a.json", used("t_2"), used("t_1"))
    out = tmp_path / "out" / "all.json"
    assert cli.main(["combine", path, "-o", str(out)]) == 0
    assert out.read_bytes() == (tmp_path / "a.json").read_bytes()


def test_the_order_of_the_files_changes_no_byte(report, tmp_path):
    paths = [report(f"{n}.json", used(f"t_{n}"), used("both", call(n))) for n in range(1, 4)]
    texts = set()
    for order in permutations(paths):
        out = tmp_path / "out.json"
        assert cli.main(["combine", *order, "-o", str(out)]) == 0
        texts.add(out.read_bytes())
    assert len(texts) == 1


def test_of_a_test_in_two_reports_the_worst_stands_and_it_is_said(report, combine):
    limit = Budget(max_tokens=500)
    bad = used("t", call(600), budget=limit, verdict="over", outcome="failed",
               violations=(Violation(limit="max_tokens", allowed=500, used=600),))  # fmt: skip
    a = report("a.json", bad)
    b = report("b.json", used("t", call(400), budget=limit, verdict="within"), created="2026-11-23T10:00:00Z")
    for order in ((a, b), (b, a)):
        status, joined, err = combine(*order)
        assert status == 1
        assert [test["verdict"] for test in joined["tests"]] == ["over"]
        assert joined["total"]["total_tokens"] == 600
        assert "t is in 2 reports" in err
        assert "1 test is over budget" in err


def test_a_file_that_is_named_twice_counts_once(report, combine, tmp_path):
    a = report("a.json", used("t"))
    status, joined, err = combine(a, tmp_path / "." / "a.json")
    assert (status, joined["total"]["requests"]) == (0, 1)
    assert "named twice" in err


@pytest.mark.parametrize(
    ("verdict", "outcome", "status"),
    [
        ("within", "passed", 0),
        ("none", "failed", 0),
        ("over", "failed", 1),
        ("unmeasured", "failed", 1),
        ("over", "passed", 1),
        ("over", "xfailed", 0),
        ("unmeasured", "skipped", 0),
    ],
)
def test_the_exit_status_is_the_runs_verdict(report, combine, verdict, outcome, status):
    a = report("a.json", used("t", verdict=verdict, outcome=outcome))
    assert combine(a, report("b.json", used("u")))[0] == status


def test_a_missing_recording_fails_the_run(report, combine):
    a = report("a.json", used("t", outcome="failed", drift=("system +312 tokens",)))
    status, joined, err = combine(a, report("b.json"))
    assert status == 1
    assert joined["drift"] == [{"nodeid": "t", "message": "system +312 tokens"}]
    assert "want of a recording" in err


def test_a_shard_that_was_cut_off_fails_the_run(report, combine):
    status, joined, err = combine(report("a.json", used("t")), report("b.json", complete=False))
    assert status == 1
    assert joined["complete"] is False
    (line,) = [line for line in err.splitlines() if "b.json" in line]
    assert "did not come to its end" in line


def test_shards_judge_stale_entries_together(report, combine):
    a = report("a.json", baseline=BaselineSummary(path="b.json", stale=("t_2", "gone")))
    b = report("b.json", baseline=BaselineSummary(path="b.json", stale=("t_1", "gone")))
    status, joined, _ = combine(a, b)
    assert (status, joined["baseline"]["stale"]) == (0, ["gone"])


def test_a_baseline_over_all_shards(report, baseline, combine):
    path = baseline(over=900, same=1000, better=1100, gone=5, skipped=7)
    a = report("a.json", used("over"), used("same"), UsageRecord(nodeid="skipped", outcome="skipped", cache_hits=1))
    b = report("b.json", used("better"), used("new"))
    status, joined, err = combine(a, b, "--baseline", path)
    assert status == 1
    assert joined["baseline"] == {
        "path": path, "new": ["new"], "over": ["over"], "improved": ["better", "skipped"], "stale": ["gone"],
    }  # fmt: skip
    tests = {test["nodeid"]: test for test in joined["tests"]}
    assert tests["over"]["verdict"] == "over"
    # 900 tokens at $0.15 per million.
    assert tests["over"]["violations"] == [
        {"limit": "baseline_tokens", "allowed": 900, "used": 1000},
        {"limit": "baseline_cost", "allowed": "0.000135", "used": "0.00015"},
    ]
    assert tests["same"]["baseline"]["status"] == "within"
    assert tests["same"]["verdict"] == "none"
    assert "1 test is over the baseline" in err
    assert combine(a, b, "--baseline", path, "--tolerance", "12%")[0] == 0


def test_a_markers_tolerance_goes_first(report, baseline, combine):
    path = baseline(t=900)
    a = report("a.json", used("t", budget=Budget(max_tokens=5000, tolerance=Decimal("0.2")), verdict="within"))
    assert combine(a, "--baseline", path, "--tolerance", "0%")[0] == 0


def test_a_shards_own_judgement_against_the_same_entry_stands(report, baseline, combine):
    """Its ini file may hold a tolerance that no report tells."""
    path = baseline(t=900)
    entry = {"gpt-4o-mini": ModelTokens(requests=1, input=900)}
    a = report("a.json", used("t", baseline=BaselineResult(status="within", tokens=900, models=entry)))
    assert combine(a, "--baseline", path)[0] == 0
    assert combine(a, "--baseline", path, "--tolerance", "1%")[0] == 1


def test_an_older_judgement_gives_way_to_the_baseline_of_today(report, baseline, combine):
    path = baseline(t=1000)
    old = BaselineResult(status="over", tokens=900, models={"gpt-4o-mini": ModelTokens(requests=1, input=900)})
    a = report(
        "a.json",
        used("t", outcome="passed", verdict="over", baseline=old,
             violations=(Violation(limit="baseline_tokens", allowed=900, used=1000),)),
    )  # fmt: skip
    status, joined, _ = combine(a, "--baseline", path)
    assert status == 0
    assert joined["tests"][0]["violations"] == []
    assert joined["tests"][0]["verdict"] == "none"


def test_a_test_that_was_skipped_is_not_compared(report, baseline, combine):
    skipped = UsageRecord(nodeid="t", outcome="skipped", budget=Budget(max_tokens=1), verdict="within")
    status, joined, _ = combine(report("a.json", skipped), "--baseline", baseline(t=1000))
    assert (status, joined["tests"][0]["baseline"]) == (0, None)
    assert joined["baseline"]["improved"] == joined["baseline"]["stale"] == []


def test_all_tests_and_calls_are_shown_with_vv(report, combine):
    a = report("a.json", *(used(f"t_{n}") for n in range(15)))
    assert combine(a)[2].count("t_") == 10
    shown = combine(a, "-vv")[2]
    assert shown.count("t_") == 15
    assert shown.count("gpt-4o-mini: $0.00015, replayed") == 15


def test_a_run_that_was_cut_off_makes_no_entry_stale(report, baseline, combine):
    status, joined, _ = combine(report("a.json", complete=False), "--baseline", baseline(t=1))
    assert (status, joined["baseline"]["stale"]) == (1, [])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--total-max-cost", "0.0003"], 0),
        (["--total-max-cost", "0.00029"], 1),
        (["--total-max-tokens", "2000"], 0),
        (["--total-max-tokens", "1999"], 1),
    ],
)
def test_the_total_over_all_shards(report, combine, words, status):
    found, _, err = combine(report("a.json", used("t")), report("b.json", used("u")), *words)
    assert found == status
    assert ("run limit" in err) == bool(status)


def test_a_total_that_nobody_knows_holds_no_limit(report, combine):
    unpriced = report("a.json", used("t", call(model="mine", cost=None)))
    assert combine(unpriced)[0] == 0
    assert combine(unpriced, "--total-max-tokens", "1000")[0] == 0
    assert combine(unpriced, "--total-max-cost", "100")[0] == 1
    blind = report("b.json", used("t", ModelCall(model="m")))
    assert combine(blind, "--total-max-tokens", "1000")[0] == 1


def test_different_price_tables_are_said(report, combine):
    a = report("a.json", used("t"))
    b = report("b.json", used("u"), prices={**PRICES, "date": "2026-11-19"})
    c = report("c.json", used("v"), prices={**PRICES, "version": "0.0.9"})
    outputs = []
    for order in ((a, b, c), (c, b, a)):
        status, joined, err = combine(*order)
        outputs.append(joined)
        assert (status, joined["prices"]) == (0, {**PRICES, "date": "2026-11-19"})
        assert joined["total"]["requests"] == 3
        (line,) = [line for line in err.splitlines() if "different tables" in line]
        assert all(word in line for word in ("2026-11-18", "2026-11-19", "0.0.9", "a.json", "b.json", "c.json"))
    assert outputs[0] == outputs[1]


def test_a_shard_that_called_no_model_has_no_say_on_prices(report, combine):
    a = report("a.json", used("t"))
    b = report("b.json", prices={**PRICES, "version": "9", "date": None})
    for order in ((a, b), (b, a)):
        status, joined, _ = combine(*order)
        assert (status, joined["prices"]) == (0, PRICES)


def test_different_prices_of_ones_own_are_said(report, combine):
    a = report("a.json", used("t"))
    b = report("b.json", used("u"), prices={**PRICES, "overrides": ["prices.toml"]})
    status, joined, err = combine(a, b)
    assert (status, joined["prices"]["overrides"]) == (0, ["prices.toml"])
    assert "different prices" in err


def test_prices_of_ones_own_are_compared_by_what_they_are(report, combine, tmp_path):
    """Two runners have the same file in two folders; a third has other prices in a file of that name."""
    tables = []
    for folder, usd in (("a", 3), ("b", 3), ("c", 300)):
        path = tmp_path / folder / "prices.toml"
        path.parent.mkdir()
        path.write_text(f'[models."gpt-4o-mini"]\ninput = {usd}\noutput = 1\n')
        own = PriceBook(load_price_file(path)).describe()["overrides"]
        tables.append({**PRICES, "overrides": own})
    a, b, c = (report(f"{n}.json", used(f"t{n}"), prices=table) for n, table in enumerate(tables))
    status, joined, err = combine(a, b)
    assert (status, joined["prices"]) == (0, tables[0])
    assert "different prices" not in err
    status, joined, err = combine(a, b, c)
    (line,) = [line for line in err.splitlines() if "different prices of your own" in line]
    assert all(each in line for each in joined["prices"]["overrides"])
    assert len(joined["prices"]["overrides"]) == 2


def test_the_report_as_markdown_for_a_jobs_page(report, combine, tmp_path):
    page = tmp_path / "summary.md"
    status, joined, _ = combine(report("a.json", used("t")), "--markdown", page, "-o", "-")
    assert (status, joined["total"]["requests"]) == (0, 1)
    assert page.read_text().startswith("## Token budget")


def test_the_page_of_all_shards(report, combine, tmp_path):
    page = tmp_path / "page.html"
    over = used("t_2", verdict="over", outcome="failed")
    status, _, _ = combine(report("a.json", used("t_1")), report("b.json", over), "--html", page)
    html = page.read_text("utf-8")
    assert status == 1
    assert "<title>Token budget: $0.0003, does not hold</title>" in html
    assert html.count("data-words") == 2
    assert "On other models" in html
    status, _, err = combine(report("a.json", used("t_1")), "--html", tmp_path)
    assert status == 4
    assert err.count("\n") == 1
    assert f"{tmp_path} can't be written" in err


BAD_WORDS = [
    ["--tolerance", "5"],
    ["--total-max-cost", "-1"],
    ["--total-max-cost", "nan"],
    ["--total-max-tokens", "1.5"],
    ["--baseline", "missing.json"],
    ["--prices", "missing.toml"],
    ["missing-report.json"],
]


@pytest.mark.parametrize("words", BAD_WORDS, ids=" ".join)
def test_what_cannot_be_used_is_one_line_and_exit_4_and_nothing_written(report, capsys, tmp_path, words):
    out = tmp_path / "out.json"
    out.write_text("as it was")
    assert cli.main(["combine", report("a.json", used("t")), *words, "-o", str(out)]) == 4
    stdout, err = capsys.readouterr()
    assert (stdout, err.count("\n")) == ("", 1)
    assert words[-1] in err
    assert out.read_text() == "as it was"


def test_a_place_that_cannot_be_written_to_is_exit_4(report, capsys, tmp_path):
    assert cli.main(["combine", report("a.json", used("t")), "-o", str(tmp_path)]) == 4
    assert str(tmp_path) in capsys.readouterr().err


def test_the_output_may_be_one_of_the_inputs(report, tmp_path):
    a, b = report("a.json", used("t")), report("b.json", used("u"))
    assert cli.main(["combine", a, b, "-o", a]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["total"]["requests"] == 2


def test_a_hostile_test_name_cannot_write_to_the_terminal(report, combine):
    a = report("a.json", used("t\n\x1b[31m"))
    _, _, err = combine(a, report("b.json", used("t\n\x1b[31m")))
    assert "\x1b" not in err
    assert "is in 2 reports" in err


def test_a_test_that_must_have_an_entry_and_has_none_still_fails(report, baseline, combine):
    missing = used(
        "t",
        outcome="failed",
        verdict="unmeasured",
        baseline=BaselineResult(status="new"),
        violations=(Violation(limit="baseline"),),
    )
    assert combine(report("a.json", missing), "--baseline", baseline(u=1), "--tolerance", "5%")[0] == 1
    assert combine(report("a.json", missing), "--baseline", baseline(t=1000), "--tolerance", "5%")[0] == 0


def test_of_a_test_in_two_reports_an_unknown_cost_is_the_worst(report, combine):
    a, b = (
        report("a.json", used("t", call(model="mine", cost=None))),
        report("b.json", used("t", call(9000, cost="1"))),
    )
    for order in ((a, b), (b, a)):
        assert combine(*order)[1]["total"]["cost_usd"] is None


def test_an_expected_failure_excuses_the_baseline_too(report, baseline, combine):
    path = baseline(t=900)
    assert combine(report("a.json", used("t", outcome="xfailed")), "--baseline", path)[0] == 0
    assert combine(report("a.json", used("t")), "--baseline", path)[0] == 1


def test_drift_that_did_not_fail_its_test_fails_no_run(report, combine):
    assert combine(report("a.json", used("t", drift=("system +312 tokens",))))[0] == 0


def test_of_a_test_in_two_reports_one_that_fails_the_run_is_the_worst(report, combine):
    """Whatever it cost: what is excused, or was never asked, does not hide it."""
    over = {"verdict": "over", "violations": (Violation(limit="max_tokens", allowed=1, used=1000),)}
    dear = used("t", call(9000, cost="9"), outcome="xfailed", **over)
    cheap = used("t", outcome="failed", **over)
    drifted = UsageRecord(nodeid="u", outcome="failed", drift=("no recording",))
    for bad, good in ((cheap, dear), (drifted, used("u"))):
        bad_path, good_path = report("bad.json", bad), report("good.json", good)
        for order in ((bad_path, good_path), (good_path, bad_path)):
            status, joined, err = combine(*order)
            assert status == 1, err
            assert joined["tests"][0]["outcome"] == "failed"


def test_the_worst_is_chosen_when_all_were_compared(report, baseline, combine):
    """The one has more tokens than its entry, the other costs more."""
    path = baseline(t=1000)
    more = report("more.json", used("t", call(1001, cost="0.0001")))
    dearer = report("dearer.json", used("t", call(1000, cost="0.0009")))
    for order in ((more, dearer), (dearer, more)):
        status, joined, _ = combine(*order, "--baseline", path)
        assert (status, joined["baseline"]["over"]) == (1, ["t"])


def test_usage_that_is_not_known_is_within_no_baseline(report, baseline, combine):
    path = baseline(t=1000)
    blind = report("a.json", used("t", ModelCall(model="gpt-4o-mini", reason="no usage was reported")))
    status, joined, err = combine(blind, "--baseline", path)
    assert status == 1
    assert (joined["tests"][0]["verdict"], joined["tests"][0]["baseline"]) == ("unmeasured", None)
    assert joined["baseline"]["improved"] == []
    assert "1 test is not measured or not priced" in err


def test_a_test_over_its_baseline_alone_is_told_once(report, baseline, combine):
    path = baseline(t=1)
    status, _, err = combine(report("a.json", used("t")), "--baseline", path)
    assert status == 1
    assert "1 test is over the baseline" in err
    assert "over budget" not in err.partition("tokenbudget:")[2]


def test_a_broken_escape_is_refused(report, capsys):
    path = Path(report("a.json", used("test_a")))
    path.write_text(path.read_text().replace("test_a", r"test\_a"))
    assert cli.main(["combine", str(path)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


PLACES = {
    "baseline": (("-o", "base.json"), "--baseline and -o have one place, base.json"),
    "markdown": (
        ("-o", "out.json", "--markdown", "base.json"),
        "--baseline and --markdown have one place, base.json",
    ),
    "linked": (("-o", "link.json"), "--baseline and -o have one place, link.json"),
    "outputs": (("-o", "out.json", "--html", "./out.json"), "-o and --html have one place, ./out.json"),
}


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize(("words", "said"), PLACES.values(), ids=PLACES)
def test_nothing_is_written_over_the_baseline_or_another_output(report, tmp_path, capsys, words, said):
    report("a.json", used("t"))
    baselines.save(tmp_path / "base.json", baselines.Baseline(tests={"t": used("t").models}))
    (tmp_path / "link.json").symlink_to("base.json")
    before = (tmp_path / "base.json").read_bytes()
    assert cli.main(["combine", "a.json", "--baseline", "base.json", *words]) == cli.EXIT_USAGE
    assert capsys.readouterr().err == f"tokenbudget: {said}; give each its own\n"
    assert (tmp_path / "base.json").read_bytes() == before
    assert not (tmp_path / "out.json").exists()


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("words", [("loop.json", "a.json"), ("a.json", "-o", "loop.json")], ids=["read", "written"])
def test_a_link_to_itself_is_one_line(report, tmp_path, capsys, words):
    report("a.json", used("t"))
    (tmp_path / "loop.json").symlink_to("loop.json")
    assert cli.main(["combine", *words]) == cli.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tokenbudget: ")
    assert "loop.json" in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="takes a device that is full")
@pytest.mark.parametrize("command", [("combine", "a.json"), ("diff", "a.json", "a.json")], ids=["combine", "diff"])
def test_an_output_that_takes_nothing_is_no_verdict(report, tmp_path, command):
    report("a.json", used("t"))
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest_tokenbudget", *command],
            cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ran.returncode == cli.EXIT_USAGE
    assert ran.stderr == "tokenbudget: the output can't be written: No space left on device\n"


def test_an_output_that_is_closed_is_no_verdict(report, capsys, monkeypatch):
    path = report("a.json", used("t"))
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["combine", path]) == cli.EXIT_USAGE
    assert capsys.readouterr().err.splitlines()[-1] == "tokenbudget: the output can't be written: Bad file descriptor"
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["combine", path]) == cli.EXIT_USAGE
    assert cli.main(["combine", path, "-o", f"{path}.out"]) == 0
