from __future__ import annotations

from decimal import Decimal

import pytest

from pytest_tokenbudget.budget import Budget, Violation, judge
from pytest_tokenbudget.record import BaselineResult, ModelTokens, Tally, UsageRecord
from pytest_tokenbudget.report.block import render_usage
from pytest_tokenbudget.report.junit import junit_properties
from pytest_tokenbudget.report.message import render_verdict
from pytest_tokenbudget.usage import ModelCall, Usage

MINI = ModelCall(
    model="gpt-4o-mini",
    provider="openai",
    usage=Usage(input_tokens=1108, cached_input_tokens=512, output_tokens=96),
    cost=Decimal("0.000185"),
    replayed=True,
    parts={"user": 76, "system": 812, "tools": 220},
)
LARGE = ModelCall(
    model="gpt-4o",
    provider="openai",
    usage=Usage(input_tokens=500, output_tokens=86),
    cost=Decimal("0.002115"),
    replayed=True,
    parts={},
)
NODE = "test_chat.py::test_greet"


def test_a_test_over_its_cost():
    record = UsageRecord(
        nodeid=NODE,
        calls=(MINI, LARGE),
        budget=Budget.from_limits({"max_cost": 0.001}, origin="@pytest.mark.token_budget on test_greet"),
        violations=(Violation(limit="max_cost", allowed=Decimal("0.001"), used=Decimal("0.0023")),),
    )
    assert render_verdict(record) == (
        "test_chat.py::test_greet is over its token budget.\n"
        "  cost    $0.0023   limit $0.0010   +$0.0013 (+130%)\n"
        "  #  model              input  cached  output  cost\n"
        "  1  gpt-4o-mini        1,108     512      96  $0.000185   replayed\n"
        "  2  gpt-4o               500       0      86  $0.00212    replayed\n"
        "  where the input went: system 812, tools 220, user 76\n"
        "If this is intended, raise @pytest.mark.token_budget(max_cost=...) or run pytest --token-update-baseline."
    )


def over(limits, calls, *, origin="@pytest.mark.token_budget on test_greet", **more):
    budget = Budget.from_limits(limits, origin=origin)
    tally = Tally.of(calls)
    return render_verdict(
        UsageRecord(nodeid=NODE, calls=calls, budget=budget, violations=judge(tally, budget), **more)
    ).split("\n")


def test_several_limits_line_up_and_are_all_named_in_the_remedy():
    lines = over({"max_cost": "0.001", "max_tokens": 500}, (MINI, LARGE))
    assert lines[1:3] == [
        "  cost    $0.0023   limit $0.0010   +$0.0013 (+130%)",
        "  tokens  1,790     limit 500       +1,290 (+258%)",
    ]
    assert lines[-1] == (
        "If this is intended, raise @pytest.mark.token_budget(max_cost=..., max_tokens=...) "
        "or run pytest --token-update-baseline."
    )


def test_a_limit_on_tokens_alone():
    assert over({"max_tokens": 500}, (MINI,))[1] == "  tokens  1,204   limit 500   +704 (+141%)"


def test_a_limit_of_zero_has_no_percentage():
    lines = over({"max_cost": 0, "max_reasoning_tokens": 0, "max_requests": 0}, (reasoned(),))
    assert lines[1:4] == [
        "  cost       $0.0020   limit $0   +$0.0020",
        "  reasoning  7         limit 0    +7",
        "  requests   1         limit 0    +1",
    ]


def reasoned():
    return ModelCall(model="o3", usage=Usage(output_tokens=9, reasoning_tokens=7), cost=Decimal("0.002"))


def test_estimates_are_marked_and_explained_but_a_count_of_requests_is_none():
    guess = ModelCall(model="m", usage=Usage(input_tokens=20), cost=Decimal("0.002"), source="estimate")
    lines = over({"max_cost": "0.001", "max_tokens": 10, "max_requests": 0}, (guess,))
    assert lines[1:5] == [
        "  cost      ~$0.0020   limit $0.0010   ~+$0.0010 (+100%)",
        "  tokens    ~20        limit 10        ~+10 (+100%)",
        "  requests  1          limit 0         +1",
        "  ~ marks an estimate: tokens counted locally, because no provider reported them.",
    ]
    assert lines[6] == "  1  m                    ~20      ~0      ~0  ~$0.0020   live"


def test_a_close_call_shows_the_digits_that_tell_it_apart():
    call = ModelCall(model="m", usage=Usage(input_tokens=1), cost=Decimal("0.0010000001"))
    assert over({"max_cost": "0.001"}, (call,))[1] == (
        "  cost    $0.0010000001   limit $0.0010000000   +$0.0000000001 (less than +0.01%)"
    )


def test_no_price_names_the_model_and_the_way_out():
    lines = over({"max_cost": "0.001"}, (ModelCall(model="my-model", usage=Usage(input_tokens=5)),))
    assert lines[0] == "test_chat.py::test_greet could not be priced, so its token budget is not kept."
    assert lines[1] == (
        "  cost    unknown (limit $0.0010): no price for 'my-model'; "
        "give it one in the file that the ini option token_prices names"
    )
    assert lines[3] == "  1  my-model               5       0       0  unknown   live, no price"
    assert '[models."my-model"]' in lines[-1]


def test_unmeasured_calls_are_never_zero():
    lines = over({"max_tokens": 10}, (ModelCall(model="m", reason="no tokenizer for 'm'", replayed=True),))
    assert lines[0].endswith("could not be measured by its token budget.")
    assert lines[1] == "  usage   unknown: the usage of 1 of 1 requests is not known: no tokenizer for 'm'"
    assert (
        lines[3]
        == "  1  m                      ?       ?       ?  unknown   replayed, unmeasured: no tokenizer for 'm'"
    )


def test_a_budget_that_watched_nothing():
    lines = over({"min_requests": 1}, ())
    assert lines == [
        "test_chat.py::test_greet could not be measured by its token budget.",
        "  requests  0 (at least 1): no model request and no cache hit was seen, so nothing was measured; if that is right, say min_requests=0",
        "If this is intended, lower @pytest.mark.token_budget(min_requests=...).",
    ]


def test_over_with_an_unpriced_part_is_a_lower_bound():
    lines = over({"max_cost": "0.0001"}, (MINI, ModelCall(model="x", usage=Usage(input_tokens=5))))
    assert lines[2] == "  no price for 'x': its cost comes on top"
    assert lines[-2] == "  where the input went: system 812, tools 220, user 76 (known for 1 of 2 requests)"


def test_limits_from_elsewhere_say_where_and_the_ini_key_is_named():
    lines = over({"max_tokens": 5}, (MINI,), origin="token_test_max_tokens in pyproject.toml")
    assert lines[2] == "  max_tokens: set by token_test_max_tokens in pyproject.toml"
    assert lines[-1] == (
        "If this is intended, raise the ini option token_test_max_tokens or run pytest --token-update-baseline."
    )
    lines = over({"max_tokens": 5}, (MINI,), origin="@pytest.mark.token_budget on TestChat")
    assert lines[2] == "  max_tokens: set by @pytest.mark.token_budget on TestChat"


@pytest.mark.parametrize("own", ["@pytest.mark.token_budget", "@pytest.mark.token_budget on test_greet"])
def test_the_tests_own_marker_needs_no_line(own):
    assert not any("set by" in line for line in over({"max_tokens": 5}, (MINI,), origin=f"{NODE}: {own}"))
    assert not any("set by" in line for line in over({"max_tokens": 5}, (MINI,), origin=NODE))


def test_a_wider_markers_line_leaves_out_the_tests_own_name():
    lines = over({"max_tokens": 5}, (MINI,), origin=f"{NODE}: @pytest.mark.token_budget on test_chat.py")
    assert lines[2] == "  max_tokens: set by @pytest.mark.token_budget on test_chat.py"


def test_a_missing_entry_is_said_as_such():
    record = UsageRecord(nodeid=NODE, violations=(Violation(limit="baseline", reason="it has no entry"),))
    assert render_verdict(record).split("\n") == [
        "test_chat.py::test_greet is not in the token baseline.",
        "  baseline  it has no entry",
        "If this is intended, run pytest --token-update-baseline.",
    ]


def test_an_error_while_capturing_is_said_once():
    record = UsageRecord(
        nodeid=NODE,
        violations=(Violation(limit="unmeasured", reason="handler failed"),),
        incidents=("handler failed",),
    )
    assert render_verdict(record).split("\n") == [
        "test_chat.py::test_greet could not be measured by its token budget.",
        "  usage   unknown: handler failed",
        "What is not known can't be judged, so it fails.",
    ]


def test_a_baseline_stands_beside_the_new_figures():
    entry = {
        "gpt-4o-mini": ModelTokens(requests=1, input=1108, cached=512, output=96),
        "old": ModelTokens(requests=1, input=7),
    }
    record = UsageRecord(
        nodeid=NODE,
        calls=(MINI, MINI),
        violations=(
            Violation(limit="baseline_tokens", allowed=Decimal("1264.20"), used=2408),
            Violation(limit="baseline_cost", allowed=Decimal("0.000185"), used=Decimal("0.00037")),
        ),
        baseline=BaselineResult(status="over", tokens=1204, cost=Decimal("0.000185"), models=entry),
    )
    assert render_verdict(record).split("\n") == [
        "test_chat.py::test_greet is over its token budget.",
        "  tokens  2,408       limit 1,264.2        +1,143.8 (+90%)   baseline 1,204 and its tolerance",
        "  cost    $0.000370   baseline $0.000185   +$0.000185 (+100%)",
        "  #  model              input  cached  output  cost",
        "  1  gpt-4o-mini        1,108     512      96  $0.000185   replayed",
        "  2  gpt-4o-mini        1,108     512      96  $0.000185   replayed",
        "  where the input went: system 1,624, tools 440, user 152",
        "  baseline -> now  requests           input        cached     output",
        "  gpt-4o-mini        1 -> 2  1,108 -> 2,216  512 -> 1,024  96 -> 192",
        "  old                1 -> 0          7 -> 0             0          0",
        "If this is intended, run pytest --token-update-baseline.",
    ]


def test_a_long_list_of_calls_is_cut():
    lines = over({"max_tokens": 5}, (MINI,) * 25)
    assert lines[3].startswith("   1  gpt-4o-mini")
    assert lines[22].startswith("  20  gpt-4o-mini")
    assert lines[23] == "  ... and 5 more"


def test_incidents_command_and_own_words():
    record = UsageRecord(
        nodeid=NODE,
        violations=(Violation(limit="max_tokens", allowed=1, used=2),),
        incidents=("handler failed\nbadly",),
    )
    assert render_verdict(record, replay_command="pytest x", subject="block 'a'", remedy="Use less.").split("\n") == [
        "block 'a' is over its token budget.",
        "  tokens  2   limit 1   +1 (+100%)",
        "  while capturing: handler failed\\nbadly",
        "  again: pytest x",
        "Use less.",
    ]
    assert render_verdict(UsageRecord(nodeid=NODE)) == ""


def test_hostile_names_stay_on_their_line():
    call = ModelCall(model="m\x1b[2J\n" + "x" * 300 + "\ud800", usage=Usage(input_tokens=9), cost=Decimal(1))
    record = UsageRecord(
        nodeid="t.py::t[\ud800\n]", calls=(call,), violations=(Violation(limit="max_tokens", allowed=1, used=9),)
    )
    text = render_verdict(record)
    assert "\x1b" not in text
    assert len(text.split("\n")) == 5
    text.encode("utf-8")


LANGCHAIN_BLOCK = (
    "Tokens Used: 37\n"
    "\tPrompt Tokens: 4\n"
    "\t\tPrompt Tokens Cached: 0\n"
    "\tCompletion Tokens: 33\n"
    "\t\tReasoning Tokens: 0\n"
    "Successful Requests: 1\n"
    "Total Cost (USD): $7.2e-05"
)
SEED = Usage(input_tokens=4, output_tokens=33, requests=1)


def test_the_printed_block():
    assert render_usage(SEED, Decimal("0.000072")) == LANGCHAIN_BLOCK


def test_the_printed_block_says_what_it_does_not_know():
    assert render_usage(SEED, None, unpriced_models=["my-model"]).endswith(
        "\nTotal Cost (USD): unknown (no price for 'my-model')"
    )
    blind = Usage(requests=2, unmeasured_requests=2)
    assert render_usage(blind, None).endswith("unknown (the usage of 2 requests is not known)")
    assert render_usage(Usage(), Decimal(0)).endswith("Total Cost (USD): $0.0")
    guessed = Usage(input_tokens=4, output_tokens=14, requests=1, estimated_requests=1)
    assert render_usage(guessed, Decimal("0.000034")).startswith("Tokens Used: ~18\n\tPrompt Tokens: ~4\n")
    assert render_usage(guessed, Decimal("0.000034")).endswith("Successful Requests: 1\nTotal Cost (USD): ~$3.4e-05")


def test_junit_properties():
    record = UsageRecord(nodeid="t", verdict="within", calls=(MINI,))
    assert junit_properties(record) == [
        ("token_budget.verdict", "within"),
        ("token_budget.input_tokens", "1108"),
        ("token_budget.cached_input_tokens", "512"),
        ("token_budget.output_tokens", "96"),
        ("token_budget.total_tokens", "1204"),
        ("token_budget.requests", "1"),
        ("token_budget.cost_usd", "0.000185"),
        ("token_budget.estimated_requests", "0"),
        ("token_budget.unmeasured_requests", "0"),
    ]
    blind = dict(junit_properties(UsageRecord(nodeid="\ud800", calls=(ModelCall(model="\ud800"),))))
    assert blind["token_budget.cost_usd"] == "unknown"
    assert blind["token_budget.unmeasured_requests"] == "1"
    assert junit_properties(UsageRecord(nodeid="t")) == []
    assert dict(junit_properties(UsageRecord(nodeid="t", budget=Budget())))["token_budget.cost_usd"] == "0"
