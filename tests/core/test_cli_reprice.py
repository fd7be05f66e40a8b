from __future__ import annotations

import re
from decimal import Decimal

import pytest

from pytest_tokenbudget import cli
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.report.document import to_json
from pytest_tokenbudget.summary import Summary
from pytest_tokenbudget.usage import ModelCall, Usage

HEAD = {
    "plugin_version": "0.1.0",
    "created": "2026-11-22T10:00:00Z",
    "prices": {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []},
}

# Published, USD per million tokens: gpt-4o-mini 0.15 in, 0.075 cached, 0.60 out; gpt-4o 2.50, 1.25, 10.00.
MINI = ModelCall(
    model="gpt-4o-mini",
    provider="openai",
    usage=Usage(input_tokens=10_000, cached_input_tokens=4_000, output_tokens=1_000),
    cost=Decimal("0.0018"),  # 6,000 at 0.15, 4,000 at 0.075, 1,000 at 0.60
)
TURBO = ModelCall(
    model="gpt-4-turbo",
    provider="openai",
    usage=Usage(input_tokens=1_000, output_tokens=100),
    cost=Decimal("0.013"),  # 10 and 30
)
BLIND = ModelCall(model="llama", provider="ollama")


@pytest.fixture
def reprice(tmp_path, capsys):
    def run(tests, *words, shared=(), **more):
        path = tmp_path / "report.json"
        path.write_text(to_json(Summary.of(tests, shared, **{**HEAD, **more})))
        status = cli.main(["reprice", str(path), *words])
        out, err = capsys.readouterr()
        return status, out.splitlines(), err.splitlines()

    return run


def cells(line):
    return re.split(r" {2,}", line.strip())


def test_what_the_suite_would_cost_on_another_model(reprice):
    tests = [UsageRecord(nodeid="t", calls=(MINI, TURBO))]
    fixture = SharedRecord(fixture="index", scope="session", calls=(MINI,))
    status, out, err = reprice(tests, "--as", "gpt-4o", shared=[fixture])
    assert (status, err) == (0, [])
    # MINI there: 6,000 at 2.50, 4,000 at 1.25, 1,000 at 10 = 0.03; twice. TURBO: 0.0025 + 0.001 = 0.0035.
    assert out[0] == "on gpt-4o: $0.0635 instead of $0.0166, +$0.0469 (+283%)"
    assert cells(out[2]) == [
        "1", "1,000", "100", "$0.0130", "$0.0035", "-$0.0095 (-73%)", "openai:gpt-4-turbo",
    ]  # fmt: skip
    assert cells(out[3])[:5] == ["2", "20,000", "2,000", "$0.0036", "$0.0600"]
    assert cells(out[3])[-1] == "openai:gpt-4o-mini"
    assert cells(out[4])[:5] == ["3", "21,000", "2,100", "$0.0166", "$0.0635"]
    assert out[-1].startswith("genai-prices ")


def test_each_call_is_priced_by_itself(reprice):
    """gemini-2.5-pro's input costs $1.25 a million up to 200,000 tokens and $2.50 above: two of 150,000 stay below."""
    call = ModelCall(model="m", usage=Usage(input_tokens=150_000), cost=Decimal(1))
    status, out, _ = reprice([UsageRecord(nodeid="t", calls=(call, call))], "--as", "google:gemini-2.5-pro")
    assert status == 0
    assert "$0.3750 instead of $2.0000" in out[0]


def test_the_same_model_costs_the_same(reprice):
    status, out, _ = reprice([UsageRecord(nodeid="t", calls=(MINI,))], "--as", "gpt-4o-mini")
    assert (status, out[0]) == (0, "on gpt-4o-mini: $0.0018")


def test_what_is_estimated_or_unmeasured_is_stated(reprice):
    estimate = ModelCall(model="gpt-4o", usage=Usage(input_tokens=1000), cost=Decimal("0.0025"), source="estimate")
    status, out, _ = reprice(
        [UsageRecord(nodeid="t", calls=(estimate, BLIND))], "--as", "gpt-4o-mini", complete=False
    )
    assert status == 0
    assert out[0].startswith("on gpt-4o-mini: unknown, at least ~$0.00015 instead of ") or out[0] == (
        "on gpt-4o-mini: unknown, at least ~$0.00015"
    )
    assert "~ estimated: 1 of 2 requests" in out
    assert "unmeasured: 1 of 2 requests; they come on top" in out
    assert any("did not come to its end" in line for line in out)


def test_tokens_that_the_other_model_has_no_price_for_are_not_free(reprice):
    status, out, _ = reprice([UsageRecord(nodeid="t", calls=(MINI,))], "--as", "openai:text-embedding-3-small")
    assert status == 0
    assert out[0] == "on openai:text-embedding-3-small: unknown"
    assert any(line.startswith("unpriced on openai:text-embedding-3-small: 1 request") for line in out)


def test_a_model_without_a_price_now_can_have_one_there(reprice):
    unpriced = ModelCall(model="mine", usage=Usage(input_tokens=1000))
    status, out, _ = reprice([UsageRecord(nodeid="t", calls=(unpriced,))], "--as", "gpt-4o-mini")
    assert (status, out[0]) == (0, "on gpt-4o-mini: $0.00015")
    assert "unpriced now: mine" in out


def test_own_prices(reprice, tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text('[models."my/own"]\ninput = 1\noutput = 2\n')
    status, out, _ = reprice([UsageRecord(nodeid="t", calls=(TURBO,))], "--as", "my/own", "--prices", str(prices))
    assert status == 0
    assert "$0.0012" in out[0]


@pytest.mark.parametrize("tests", [[], [UsageRecord(nodeid="t", calls=(MINI,))]])
def test_an_unknown_model_is_one_line_and_exit_1(reprice, tests):
    status, out, err = reprice(tests, "--as", "no-such-model")
    assert (status, out, len(err)) == (1, [], 1)
    assert "no-such-model" in err[0]


def test_a_run_without_calls_costs_nothing(reprice):
    status, out, _ = reprice([], "--as", "gpt-4o")
    assert (status, out[0]) == (0, "on gpt-4o: $0")


@pytest.mark.parametrize("words", [["--date", "soon"], ["--prices", "missing.toml"]])
def test_what_cannot_be_used_is_exit_4(reprice, words):
    status, out, err = reprice([], "--as", "gpt-4o", *words)
    assert (status, out, len(err)) == (4, [], 1)


def test_a_report_that_cannot_be_used_is_exit_4(capsys, tmp_path):
    assert cli.main(["reprice", str(tmp_path / "none.json"), "--as", "gpt-4o"]) == 4
    assert capsys.readouterr().err.count("\n") == 1
