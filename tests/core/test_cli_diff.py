from __future__ import annotations

import io
import re
import sys
import unicodedata
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from report_strategies import PRICES, summaries

from pytest_tokenbudget import cli
from pytest_tokenbudget.budget import Budget
from pytest_tokenbudget.price_file import load_price_file
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import BaselineResult, SharedRecord, UsageRecord
from pytest_tokenbudget.report.difference import compare
from pytest_tokenbudget.report.difference_text import MARKER, MAX_COMMENT, render_markdown, render_text
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.summary import Summary
from pytest_tokenbudget.usage import ModelCall, Usage

HEAD = {"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES}


def call(tokens=1000, cost="0.00015", model="gpt-4o-mini", **more):
    return ModelCall(
        model=model,
        provider="openai",
        usage=Usage(input_tokens=tokens, **more.pop("usage", {})),
        cost=None if cost is None else Decimal(cost),
        **more,
    )


def used(nodeid, *calls, **more):
    return UsageRecord(nodeid=nodeid, calls=calls or (call(),), **more)


def summary(*tests, shared=(), **more):
    return Summary.of(tests, shared, **{**HEAD, **more})


def lines(old, new):
    return render_text(compare(old, new)).splitlines()


def section(shown, title):
    """The lines below a section's title, up to the next empty one."""
    start = next(number for number, line in enumerate(shown) if line.startswith(f"{title} ("))
    rest = shown[start + 1 :]
    return rest[: rest.index("")] if "" in rest else rest


@pytest.fixture
def report(tmp_path):
    def write(name, run):
        path = tmp_path / name
        path.write_text(to_json(run))
        return str(path)

    return write


def test_identical_runs_are_one_line(report, capsys):
    old = report("old.json", summary(used("t")))
    later = summary(used("t"), created="2026-11-23T10:00:00Z", plugin_version="0.2.0")
    assert cli.main(["diff", old, report("new.json", later)]) == 0
    assert capsys.readouterr().out == "no change\n"
    assert cli.main(["diff", old, old, "--format", "markdown"]) == 0
    assert capsys.readouterr().out == f"{MARKER}\nToken budget: no change\n"


@settings(deadline=None, max_examples=30)
@given(summaries())
def test_a_run_differs_from_itself_in_nothing_but_being_cut_off(run):
    difference = compare(run, run)
    assert not (difference.changed or difference.rejudged or difference.new or difference.gone)
    assert difference.silent == run.complete


@settings(deadline=None, max_examples=30)
@given(summaries(), summaries())
def test_there_and_back_is_the_same_set_of_changes(one, two):
    there, back = compare(one, two), compare(two, one)
    assert {each.subject for each in there.changed} == {each.subject for each in back.changed}
    assert [each.subject for each in there.new] == [each.subject for each in back.gone]


@settings(deadline=None, max_examples=30)
@given(summaries(), summaries())
def test_any_name_leaves_the_page_whole(one, two):
    difference = compare(one, two)
    page = render_markdown(difference)
    assert page.startswith(f"{MARKER}\n")
    assert page.replace("<!-- -->", "").count("<!--") == 1  # the marker, and no other place
    assert len(page) <= MAX_COMMENT
    for line in render_text(difference).splitlines():
        assert not {unicodedata.category(each) for each in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for line in page.splitlines():
        if line.startswith("|"):
            assert line.count("|") == 7  # six cells: no name makes one of its own


def test_replayed_or_live_and_the_order_of_tests_make_no_difference():
    old = summary(used("a", call(replayed=True)), used("b"))
    new = summary(used("b"), used("a", call(replayed=False)))
    assert lines(old, new) == ["no change"]


def test_the_biggest_change_in_cost_comes_first_then_in_tokens():
    old = summary(used("a"), used("b"), used("c"), used("d"), used("same"))
    new = summary(
        used("a", call(1100, "0.00016")),
        used("b", call(500, "0.00005")),
        used("c", call(1500)),
        used("d", call(1200)),
        used("same"),
    )
    assert [each.subject for each in compare(old, new).changed] == ["b", "a", "c", "d"]


def test_figures_before_and_after_with_sign_and_percent():
    shown = lines(summary(used("t"), used("u")), summary(used("t", call(1500, "0.000225")), used("u")))
    assert re.split(r" {2,}", shown[1]) == [
        "total", "$0.000300 -> $0.000375", "+$0.000075 (+25%)", "2,000 -> 2,500", "+500 (+25%)",
    ]  # fmt: skip
    header, row, details = section(shown, "changed")
    assert re.split(r" {2,}", header.strip())[-1] == "test"
    assert re.split(r" {2,}", row.strip()) == [
        "$0.000150 -> $0.000225", "+$0.000075 (+50%)", "1,000 -> 1,500", "+500 (+50%)", "t",
    ]  # fmt: skip
    assert details.strip() == "input 1,000 -> 1,500"


def test_a_figure_that_moves_behind_the_same_cost_and_tokens_is_told():
    shown = lines(summary(used("t")), summary(used("t", call(usage={"cached_input_tokens": 7}))))
    assert section(shown, "changed")[-1].strip() == "cached 0 -> 7"
    shown = lines(summary(used("t")), summary(used("t", call(model="gpt-4o"))))
    assert section(shown, "changed")[-1].strip() == "model gpt-4o-mini -> gpt-4o"
    shown = lines(summary(used("t")), summary(used("t", call(source="estimate"))))
    assert "estimated requests 0 -> 1" in section(shown, "changed")[-1]


def test_new_and_gone_tests_and_shared_fixtures():
    fixture = SharedRecord(fixture="index", scope="session", calls=(call(10, "0.0000015"),))
    shown = lines(summary(used("old_one")), summary(used("new_one", call(3, "0.1")), shared=[fixture]))
    assert [line.split()[-1] for line in section(shown, "gone")] == ["test", "old_one"]
    new = section(shown, "new")
    assert re.split(r" {2,}", new[1].strip())[-1] == "new_one"
    assert "$0.1000" in new[1]
    assert re.split(r" {2,}", new[2].strip())[-1] == "index (session)"


def test_a_fixture_and_a_test_of_one_name_are_two():
    fixture = SharedRecord(fixture="index", scope="session", calls=(call(10, "0.0000015"),))
    old = summary(used("index (session)"), shared=[fixture])
    difference = compare(old, summary(used("index (session)", call(1001)), shared=[fixture]))
    assert [each.was.usage.total_tokens for each in difference.changed] == [1000]
    assert not (difference.new or difference.gone)


def test_unknown_is_said_and_never_a_saving():
    old = summary(used("t"), used("u"))
    new = summary(used("t", call(model="mine", cost=None)), used("u", ModelCall(model="llama")))
    shown = lines(old, new)
    assert section(shown, "unpriced") == ["  t: mine"]
    assert section(shown, "unmeasured") == ["  u: 1 of 1 request"]
    assert "$0.0003 -> unknown" in shown[1]
    assert "%" not in shown[1]


UNPRICED, UNMEASURED = call(model="mine", cost=None), ModelCall(model="llama")


@pytest.mark.parametrize(
    ("before", "after", "total"),
    [
        ([call()], [UNPRICED], "$0.00015 \N{RIGHTWARDS ARROW} unknown; 1,000 tokens, no change"),
        ([UNPRICED], [UNPRICED], "unknown; 1,000 tokens, no change"),
        (
            [call()],
            [call(), UNMEASURED],
            "$0.00015 \N{RIGHTWARDS ARROW} unknown, at least $0.00015; 1,000 \N{RIGHTWARDS ARROW} 1,000+ tokens",
        ),
        ([call(), UNMEASURED], [call(), UNMEASURED], "unknown, at least $0.00015; 1,000+ tokens"),
        ([call()], [call()], "$0.00015, no change; 1,000 tokens, no change"),
    ],
)
def test_what_is_not_known_is_not_called_unchanged(before, after, total):
    page = render_markdown(compare(summary(used("t", *before)), summary(used("t", *after, verdict="over"))))
    assert page.splitlines()[3] == f"**Total**: {total}"


def test_verdicts_that_changed():
    old = summary(used("t", verdict="within", baseline=BaselineResult(status="within")), used("u", verdict="over"))
    new = summary(used("t", verdict="over", baseline=BaselineResult(status="over")), used("u", verdict="within"))
    assert section(lines(old, new), "verdicts that changed") == [
        "  t: budget within -> over, over the baseline",
        "  u: budget over -> within",
    ]


def test_a_baseline_that_is_new_is_no_news():
    old, new = summary(used("t")), summary(used("t", baseline=BaselineResult(status="within")))
    assert lines(old, new) == ["no change"]


def own_prices(path, usd):
    """The price table of a run with a file of its own."""
    path.parent.mkdir()
    path.write_text(f'[models."gpt-4o-mini"]\ninput = {usd}\noutput = 1\n')
    return PriceBook(load_price_file(path), date(2026, 11, 18)).describe()


def test_where_a_checkout_lies_makes_no_difference(tmp_path):
    a, b = (own_prices(tmp_path / folder / "prices.toml", 3) for folder in "ab")
    assert lines(summary(used("t"), prices=a), summary(used("t"), prices=b)) == ["no change"]
    assert "with your own for prices.toml" in lines(summary(used("t")), summary(used("t"), prices=b))[0]


def test_a_price_file_with_other_prices_is_no_regression(tmp_path):
    a, b = (own_prices(tmp_path / f"{usd}" / "prices.toml", usd) for usd in (3, 300))
    old, new = summary(used("t"), prices=a), summary(used("t", call(cost="0.015")), prices=b)
    (said,) = [line for line in lines(old, new) if "the prices differ" in line]
    assert all(own in said for own in (*a["overrides"], *b["overrides"]))
    assert str(tmp_path) not in said


def test_other_prices_and_a_run_that_was_cut_off_are_said():
    new = summary(used("t", call(cost="0.0003")), prices={**PRICES, "version": "0.2.0"}, complete=False)
    shown = lines(summary(used("t")), new)
    assert any("the new run did not come to its end" in line for line in shown)
    assert any("0.1.3 of 2026-11-18 -> genai-prices 0.2.0" in line for line in shown)


def test_markdown_is_stable_and_escapes_what_others_wrote():
    nodeid = "t[<img src=x>|`@everyone`\n# big]"
    old, new = summary(used(nodeid)), summary(used(nodeid, call(1500, "0.000225")))
    page = render_markdown(compare(old, new))
    assert page.splitlines()[0] == "<!-- pytest-tokenbudget -->"
    assert "<img" not in page
    assert "\n# big" not in page
    assert "`@everyone`" not in page
    assert "2026" not in page
    assert page == render_markdown(compare(old, summary(*new.tests, created="2027-01-01T00:00:00Z")))


def test_a_comment_is_never_too_long():
    nodeids = [f"tests/{'|`' * 500}::test_{n}" for n in range(300)]
    old = summary(*(used(nodeid) for nodeid in nodeids))
    new = summary(*(used(nodeid, call(1001 + n, "0.1")) for n, nodeid in enumerate(nodeids)))
    page = render_markdown(compare(old, new))
    assert 1000 < len(page) <= MAX_COMMENT
    assert "of 300)" in page
    assert len(section(lines(old, new), "changed")) == 601  # the text has all of them, each with its details


def test_a_report_that_cannot_be_used_is_exit_4(report, capsys, tmp_path):
    good = report("old.json", summary(used("t")))
    bad = tmp_path / "new.json"
    bad.write_text('{"schema"')
    for words in ((good, str(bad)), (str(bad), good), (good, str(tmp_path / "none.json"))):
        assert cli.main(["diff", *words]) == 4
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)


def test_a_terminal_that_knows_ascii_alone(report, monkeypatch):
    old, new = report("old.json", summary()), report("new.json", summary(used("test_größe")))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["diff", old, new]) == 0
    assert b"test_gr\\xf6\\xdfe" in stream.buffer.getvalue()


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped", "xfailed"])
def test_a_test_that_may_not_have_made_all_of_its_calls_is_no_saving(outcome):
    old = summary(used("fails", call(9000, "0.00135")), used("same"))
    new = summary(UsageRecord(nodeid="fails", outcome=outcome, budget=Budget(max_tokens=9)), used("same"))
    shown = lines(old, new)
    assert shown[0].startswith(
        "1 test failed or skipped in one of the runs alone, so a part of the change may be calls"
    )
    assert f"{outcome} in the new run, " in "\n".join(section(shown, "changed"))
    assert f"{outcome} in the old run, " in "\n".join(section(lines(new, old), "changed"))
    assert "in one of the runs alone" in render_markdown(compare(old, new))


def test_a_test_that_fails_for_its_budget_made_its_calls():
    old, new = summary(used("t")), summary(used("t", call(2000, "0.0003"), outcome="failed", verdict="over"))
    assert "runs alone" not in render_text(compare(old, new))
    again = summary(used("t", call(2000, "0.0003"), outcome="failed"))
    assert "runs alone" not in render_text(compare(summary(used("t", outcome="failed")), again)), "in both runs"
