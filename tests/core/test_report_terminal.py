from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.terminal import LABEL_WIDTH, MARKUP, render_terminal
from pytest_tokenbudget.report.text import measure
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []}


def summarize(tests=(), shared=(), **more):
    return Summary.of(
        tests, shared, **{"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES, **more}
    )


def call(tokens=1000, cost="0.002", **more):
    return ModelCall(
        **{
            "model": "gpt-4o",
            "provider": "openai",
            "usage": Usage(input_tokens=tokens, output_tokens=100),
            "cost": None if cost is None else Decimal(cost),
            "replayed": True,
            **more,
        }
    )


def text(summary, **options):
    return [line.text for line in render_terminal(summary, **options)]


GREET = UsageRecord(
    nodeid="test_chat.py::test_greet", calls=(call(),), budget=Budget(max_cost=Decimal(1)), verdict="within"
)
OVER = UsageRecord(
    nodeid="test_chat.py::test_over",
    calls=(call(cost="0.0023", parts={"system": 812, "user": 188}),),
    budget=Budget(max_cost=Decimal("0.001")),
    violations=(Violation(limit="max_cost", allowed=Decimal("0.001"), used=Decimal("0.0023")),),
    verdict="over",
    outcome="failed",
)


def test_a_run_at_80_columns():
    assert text(summarize([GREET, OVER]), width=80) == [
        "costliest tests",
        "  cost     tokens  requests  budget       test",
        "  $0.0023   1,100         1  over   230%  test_chat.py::test_over",
        "  $0.0020   1,100         1  ░░░░░░  <1%  test_chat.py::test_greet",
        "",
        "by model",
        "  cost     input  cached  output  requests  model",
        "  $0.0043  2,000       0     200         2  gpt-4o",
        "  $0.0043  2,000       0     200         2  total",
        "",
        "total       $0.0043 for 2,200 tokens in 2 requests (input 2,000, output 200)",
        "spent       nothing live",
        "prices      genai-prices 0.1.3 of 2026-11-18",
        "",
        "over budget (1)",
        "  if intended, raise the limit, or: pytest --token-update-baseline",
        "  test_chat.py::test_over",
        "    cost    $0.0023   limit $0.0010   +$0.0013 (+130%)",
        "",
        "budgets     1 within, 1 over",
    ]


def test_a_wide_terminal_shows_the_kinds_of_tokens_and_which_limit_is_near():
    lines = text(summarize([GREET]), width=200)
    assert lines[1:3] == [
        "  cost     tokens  input  cached  output  requests  budget                  test",
        "  $0.0020   1,100  1,000       0     100         1  ░░░░░░░░░░ <1% of cost  test_chat.py::test_greet",
    ]


@pytest.mark.parametrize(
    "summary",
    [
        summarize(),
        summarize([UsageRecord(nodeid="t", budget=Budget(max_tokens=1), verdict="within")]),
        summarize(baseline=BaselineSummary(path="token-baseline.json")),
        summarize(complete=False),
    ],
)
def test_nothing_to_say_is_nothing_printed(summary):
    assert render_terminal(summary) == []


def test_verbose_shows_every_test_and_call_and_where_the_input_went():
    many = [UsageRecord(nodeid=f"t::{n:02}", calls=(call(cost=f"0.00{n + 1:02}"),)) for n in range(12)]
    lines = text(summarize([*many, OVER]))
    assert lines[0] == "costliest tests (10 of 13; -vv shows all and their calls)"
    assert not any("t::00" in line for line in lines)
    lines = text(summarize([*many, OVER]), verbosity=2)
    assert lines[0] == "costliest tests"
    assert any("t::00" in line for line in lines)
    start = lines.index("  $0.0023   1,100         1  over   230%  test_chat.py::test_over")
    assert lines[start + 1 : start + 3] == [
        "      1. gpt-4o: $0.0023, replayed, input 1,000 (system 812, user 188), output",
        "         100",
    ]


def test_quiet_keeps_the_problems_and_the_total():
    lines = text(summarize([GREET, OVER]), verbosity=-1)
    assert lines[0].startswith("total ")
    assert "over budget (1)" in lines
    assert not any("costliest" in line or "by model" in line for line in lines)


def test_estimates_unknowns_and_hits_have_lines_of_their_own():
    records = [
        UsageRecord(nodeid="a", calls=(call(source="estimate", cost="0.5"),), cache_hits=2),
        UsageRecord(nodeid="b", calls=(call(usage=None, cost=None, reason="no tokenizer for 'x'", model="x"),)),
        UsageRecord(nodeid="c", calls=(call(cost=None, model="mine", replayed=False),)),
    ]
    lines = text(summarize(records))
    assert "  ~$0.5000  ~1,100         1  a" in lines
    assert "  unknown        ?         1  b" in lines
    assert "  unknown    1,100         1  c" in lines
    facts = "\n".join(lines[lines.index("by model") :])
    assert "total       unknown, at least ~$0.5000 for at least ~2,200 tokens in 3 requests" in facts
    assert "\nspent       unknown on 1 live request (1,100 tokens)\n" in facts
    assert "\nestimated   ~ 1 of 3 requests, counted locally\n" in facts
    assert "\nunmeasured  1 of 3 requests: no tokenizer for 'x'\n" in facts
    assert "\nunpriced    mine: prices go into the file that token_prices names\n" in facts
    assert "\ncache hits  2 answers from LangChain's own cache, nothing sent\n" in facts


def test_what_was_spent_live():
    lines = text(summarize([UsageRecord(nodeid="a", calls=(call(replayed=False), call(cost="7")))]))
    assert "spent       $0.0020 on 1 live request (1,100 tokens)" in lines


def test_the_baseline_and_how_to_move_it():
    improved = UsageRecord(
        nodeid="t::less",
        calls=(call(900, "0.001"),),
        baseline=BaselineResult(status="improved", tokens=1200, cost=Decimal("0.002")),
    )
    baseline = BaselineSummary(path="token-baseline.json", new=("t::new",), improved=("t::less",), stale=("t::old",))
    lines = text(summarize([improved], baseline=baseline))
    start = lines.index("new, not in the baseline (1); add with: pytest --token-update-baseline")
    assert lines[start:-2] == [
        "new, not in the baseline (1); add with: pytest --token-update-baseline",
        "  t::new",
        "",
        "improved, below the baseline (1); keep with: pytest --token-update-baseline",
        "  t::less",
        "    1,200 -> 1,000 tokens (-17%), $0.0020 -> $0.0010 (-50%)",
        "",
        "stale, in the baseline only (1); drop with: pytest --token-update-baseline=prune",
        "  t::old",
    ]
    assert lines[-1] == "baseline    1 new, 1 improved, 1 stale (token-baseline.json)"


def compared(nodeid, status, tokens, entry_cost, entry, **more):
    """A test of 1,100 tokens for $0.002, beside its entry."""
    baseline = BaselineResult(status=status, tokens=tokens, cost=Decimal(entry_cost), models=entry)
    return UsageRecord(**{"nodeid": nodeid, "calls": (call(),), "baseline": baseline, **more})


def entry(model="gpt-4o", requests=1, **tokens):
    return {model: ModelTokens(requests=requests, **tokens)}


def test_each_test_shows_how_far_it_is_from_its_baseline():
    dearer = Violation(limit="baseline_cost", allowed=Decimal("0.0001"), used=Decimal("0.002"))
    records = [
        compared("t::more", "within", 1000, "0.0018", entry(input=900, output=100)),
        compared("t::less", "improved", 1200, "0.0025", entry(requests=2, input=1000, output=200)),
        compared("t::same", "within", 1100, "0.002", entry(input=1000, output=100)),
        compared("t::model", "over", 1100, "0.0001", entry("gpt-4o-mini", input=1000, output=100),
                 violations=(dearer,), verdict="over"),
        UsageRecord(nodeid="t::new", calls=(call(source="estimate"),), baseline=BaselineResult(status="new")),
    ]  # fmt: skip
    lines = text(summarize(records, baseline=BaselineSummary.of(records, path="b.json", stale=())))
    assert lines[1:7] == [
        "  cost      tokens  requests      baseline  budget  test",
        "   $0.0020   1,100         1         -8.3%          t::less",
        "   $0.0020   1,100         1  +1,900% cost  over    t::model",
        "   $0.0020   1,100         1          +10%          t::more",
        "  ~$0.0020  ~1,100         1           new          t::new",
        "   $0.0020   1,100         1             =          t::same",
    ]
    start = lines.index("above the baseline, within the tolerance (1)")
    assert lines[start : start + 5] == [
        "above the baseline, within the tolerance (1)",
        "  accept with: pytest --token-update-baseline",
        "  t::more",
        "    1,000 -> 1,100 tokens (+10%), $0.0018 -> $0.0020 (+11%)",
        "    why: input +100",
    ]
    assert "    why: 1 fewer request, output -100" in lines
    assert "    why: gpt-4o instead of gpt-4o-mini" in lines


def test_names_have_room_before_figures():
    record = compared(
        "tests/test_long.py::test_" + "x" * 300, "within", 1000, "0.0018", entry(input=900, output=100),
        budget=Budget(max_tokens=2200), verdict="within",
    )  # fmt: skip
    summary = summarize([record], baseline=BaselineSummary(path="b.json"))
    heads = {width: text(summary, width=width)[1].split() for width in (200, 80, 60, 40)}
    assert heads[200] == ["cost", "tokens", "input", "cached", "output", "requests", "baseline", "budget", "test"]
    assert heads[80] == ["cost", "tokens", "baseline", "budget", "test"]
    assert heads[60] == ["cost", "tokens", "budget", "test"]
    assert heads[40] == ["cost", "budget", "test"]
    for width in heads:
        row = text(summary, width=width)[2]
        assert "50%" in row
        assert len(row) == width


def test_the_limits_of_the_run_and_what_they_leave():
    limits = {"total_max_cost": Decimal("0.01"), "total_max_tokens": 4400}
    lines = text(summarize([GREET, OVER], **limits))
    assert lines[-2:] == [
        "run limit   ██░░░░ cost $0.0043 of $0.0100 (43%), $0.0057 left",
        "run limit   ███░░░ tokens 2,200 of 4,400 (50%), 2,200 left",
    ]
    assert text(summarize([GREET, OVER], **limits), ascii_only=True)[-1].startswith("run limit   ###--- tokens")
    # A limit that does not hold is said once.
    broken = Violation(limit="token_total_max_cost", allowed=Decimal("0.004"), used=Decimal("0.0043"))
    lines = text(summarize([GREET, OVER], run_violations=[broken], total_max_cost=Decimal("0.004")))
    assert [line for line in lines if line.startswith("run limit")] == [
        "run limit   cost    $0.0043   limit $0.0040   +$0.0003 (+7.5%)"
    ]


def test_everything_that_went_wrong_is_named():
    record = UsageRecord(
        nodeid="t::x",
        drift=("system +312 tokens",),
        blocked=("socket to api.example:443",),
        unplayed=("request 3",),
        incidents=("handler failed",),
        budget=Budget(min_requests=1),
        violations=(Violation(limit="unmeasured", reason="a request had no recording"),),
        verdict="unmeasured",
    )
    limit = Violation(limit="token_total_max_cost", allowed=Decimal("0.04"), used=Decimal("0.05"))
    nothing = (Violation(limit="min_requests", allowed=1, used=0, reason="nothing was seen"),)
    unseen = replace(record, nodeid="t::y", drift=(), blocked=(), unplayed=(), incidents=(), violations=nothing)
    summary = summarize(
        [record, unseen],
        unused_cassettes=["c/old.yaml"],
        run_violations=[limit],
        price_change="prices changed since yesterday",
    )
    assert text(summary) == [
        "prices      prices changed since yesterday",
        "",
        "cassettes that no test used (1); delete them",
        "  c/old.yaml",
        "",
        "recordings left unplayed (1)",
        "  record those tests again with: pytest NODEID --token-record=rewrite",
        "  t::x",
        "    request 3",
        "",
        "errors while capturing (1)",
        "  t::x",
        "    handler failed",
        "",
        "drift from the recordings (1)",
        "  t::x",
        "    system +312 tokens",
        "",
        "blocked on the way to the network (1)",
        "  t::x",
        "    socket to api.example:443",
        "",
        "not measured or not priced, so not within budget (1)",  # drift says it all of the other
        "  t::y",
        "    requests  0 (at least 1): nothing was seen",
        "",
        "budgets     2 unmeasured",
        "run limit   cost    $0.0500   limit $0.0400   +$0.0100 (+25%)",
    ]


def test_shared_fixtures_and_models_of_the_same_name():
    shared = [SharedRecord(fixture="index", scope="session", calls=(call(), call(provider="azure", cost="0.004")))]
    lines = text(summarize(shared=shared))
    assert lines[0] == "shared fixtures, charged to no test"
    assert lines[2].endswith("  index (session)")
    assert lines[6].endswith("  gpt-4o (azure)")
    assert lines[7].endswith("  gpt-4o (openai)")


def test_verbose_shows_the_calls_of_shared_fixtures_too():
    unmeasured = call(usage=None, cost=None, model="x", reason="cut short", replayed=False)
    detailed = call(
        usage=Usage(input_tokens=1108, cached_input_tokens=512, output_tokens=96, reasoning_tokens=40),
        parts={"user": 1108},
        source="estimate",
    )
    shared = [SharedRecord(fixture="index", scope="session", calls=(unmeasured, call(cost=None), detailed))]
    lines = text(summarize(shared=shared), verbosity=2, width=200)
    assert lines[3:6] == [
        "      1. x: live, unmeasured: cut short",
        "      2. gpt-4o: no price, replayed, input 1,000, output 100",
        "      3. gpt-4o: ~$0.0020, replayed, input ~1,108 (~512 cached; user 1,108), output ~96 (~40 reasoning)",
    ]


def test_only_cache_hits_need_no_table_of_models():
    lines = text(summarize([UsageRecord(nodeid="t::hit", cache_hits=1)]))
    assert lines == [
        "costliest tests",
        "  cost  tokens  requests  test",
        "  $0         0         0  t::hit",
        "",
        "total       $0 for 0 tokens in 0 requests (input 0, output 0)",
        "spent       nothing live",
        "cache hits  1 answer from LangChain's own cache, nothing sent",
    ]


def test_long_lists_are_cut_unless_asked_for():
    summary = summarize(unused_cassettes=[f"c{n:02}.yaml" for n in range(12)])
    assert text(summary) == [
        "cassettes that no test used (12); delete them",
        *(f"  c{n:02}.yaml" for n in range(10)),
        "  ... and 2 more; -vv shows all",
    ]
    assert text(summary, verbosity=2)[-1] == "  c11.yaml"


def test_a_long_remedy_gets_a_line_of_its_own():
    summary = summarize(baseline=BaselineSummary(path="b.json", improved=("t::x",)))
    assert text(summary, width=60)[:3] == [
        "improved, below the baseline (1)",
        "  keep with: pytest --token-update-baseline",
        "  t::x",
    ]


def test_an_interrupted_run_says_so():
    assert "run         not complete: these are the figures of what finished" in text(
        summarize([GREET], complete=False)
    )


def test_styles_are_those_of_pytests_terminal():
    lines = render_terminal(summarize([GREET, OVER]))
    styles = {line.text: line.style for line in lines}
    assert styles["over budget (1)"] == "bad"
    assert styles["costliest tests"] == "heading"
    assert {line.style for line in lines} <= set(MARKUP)


hostile = st.text(alphabet=st.characters(), max_size=400) | st.sampled_from(
    ["x" * 300, "你" * 300, "\ud800" * 9, "\x1b[2J", "a\nb\rc", "", "test.py::" + "y" * 300 + "[z]"]
)


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(hostile, hostile, hostile),
    st.sampled_from([20, 80, 120, 200]),
    st.sampled_from([-1, 0, 2]),
    st.booleans(),
)
def test_any_text_fits_any_terminal(names, width, verbosity, ascii_only):
    nodeid, model, message = names
    record = UsageRecord(
        nodeid=nodeid,
        calls=(call(model=model), call(usage=None, cost=None, reason=message)),
        budget=Budget(max_tokens=1),
        baseline=BaselineResult(status="over", tokens=7, cost=Decimal(1), models=entry(model)),
        violations=(
            Violation(limit="unmeasured", reason=message),
            Violation(limit="max_tokens", allowed=1, used=1100),
        ),
        drift=(message,),
        verdict="over",
    )
    summary = summarize([record], unused_cassettes=[nodeid], baseline=BaselineSummary(path=message, new=(nodeid,)))
    for line in text(summary, width=width, verbosity=verbosity, ascii_only=ascii_only):
        # A word that no line holds is left whole, and nothing comes behind it.
        room = max(width, 40)
        assert measure(line) <= room or measure(line.split()[-1]) > room - LABEL_WIDTH - 2
        assert "\n" not in line
        assert "\x1b" not in line
        line.encode("ascii" if ascii_only else "utf-8")


def test_a_command_can_be_copied_however_long_its_test_is_named():
    nodeid = f"tests/test_long.py::test_it[{'x' * 200}]"
    command = f"pytest '{nodeid}' --token-record=rewrite"
    record = UsageRecord(nodeid=nodeid, outcome="failed", drift=(f"request 1 changed; re-record with: {command}",))
    said = " ".join(line.strip() for line in text(summarize([record]), width=80))
    assert command in said


def test_models_without_a_price_fill_no_screen():
    calls = tuple(call(model=f"mine-{number:02}", cost=None) for number in range(70))
    lines = text(summarize([UsageRecord(nodeid="t", calls=calls)]), width=80)
    said = " ".join(line.strip() for line in lines[next(i for i, line in enumerate(lines) if "unpriced" in line) :])
    assert "mine-00, mine-01" in said
    assert "mine-09 and 60 more: prices go into" in said
    assert "mine-10" not in said


def test_a_long_id_keeps_its_start_and_its_end():
    record = UsageRecord(nodeid="tests/test_long.py::test_" + "x" * 300 + "[last]", calls=(call(),))
    row = text(summarize([record]), width=80)[2]
    assert len(row) == 80
    assert "  tests/test_long.p" in row
    assert "…" in row
    assert row.endswith("x[last]")
