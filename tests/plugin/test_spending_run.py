"""A ceiling on what a run spends: over all its tests, threads and workers, and said in one line. And what was spent."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pytest
from model_server import ModelServer
from test_replay import plain
from warm_python import cold

ASK = """
import os, threading
import httpx2 as httpx

URL = os.environ["OPENAI_BASE_URL"]

def ask(output_tokens=1000, *, model="gpt-4o-mini", say="", **more):
    # The server bills what the prompt says: as many tokens as the request allows, and 10 for a prompt of more.
    text = f"in=10 out={output_tokens} {say} and a few words that make the prompt longer than what it is billed as"
    request = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": output_tokens, **more}
    with httpx.Client(trust_env=False, timeout=60) as client:
        return client.post(URL + "/chat/completions", json=request).raise_for_status().json()

def try_to_ask(*args, **more):
    try:
        ask(*args, **more)
    except BaseException:
        return False
    return True

def many(times, *args):
    threads = [threading.Thread(target=try_to_ask, args=args) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
COST = Decimal("0.0006015")
"""What the server bills for one: 10 tokens at $0.15 and 1,000 at $0.60 per million."""


def count(_model, text):
    """Bill what the prompt says."""
    found = re.search(r"out=(\d+)" if text.startswith("You said:") else r"in=(\d+)", text)
    return int(found[1])


def cost_of(bills):
    return sum(bill.input_tokens * Decimal("0.15") + bill.output_tokens * Decimal("0.60") for bill in bills) / 10**6


@pytest.fixture
def told(pytester, monkeypatch):
    with ModelServer(count=count) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
        pytester.makepyfile(model=ASK)
        yield server


@pytest.fixture
def live(run):
    """Run inner tests that reach the loopback server: ``live(ceiling, *args)``."""

    def live(ceiling, *args):
        return run("-o", "token_replay=off", f"--token-max-spend={ceiling}", *args)

    return live


def lines_of(result):
    return [line for line in result.outlines if "was not sent" in line and not line.startswith(("FAILED", "ERROR"))]


@pytest.mark.parametrize("allowed", [1, 3])
def test_no_number_of_requests_at_once_passes_the_ceiling(pytester, told, live, allowed):
    """Each may cost what it does cost: the ceiling has room for so many, and for no more at the same time."""
    for _ in range(40):
        told.answer(delay=0.05)
    pytester.makepyfile(
        test_a="""
        import pytest
        from model import many

        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            many(8)
        """
    )
    ceiling = COST * allowed + COST / 2
    result = live(ceiling)
    assert len(told.bills) == len(told.ledger) == allowed
    assert cost_of(told.bills) <= ceiling
    result.assert_outcomes(failed=4)
    assert len({line.partition(":")[0] for line in lines_of(result)}) >= 1


def test_what_one_worker_spends_another_has_not(pytester, told, run):
    """One request after the other, over two workers: their sum counts."""
    pytester.makepyfile(
        test_a="""
        import pytest
        from model import ask

        @pytest.mark.parametrize("number", range(12))
        def test_it(number):
            ask()
        """
    )
    ceiling = COST * 5 + COST / 2
    result = run("-o", "token_replay=off", "-o", f"token_max_spend={ceiling}", "--token-report=json")
    assert result.parseoutcomes() == {"passed": 5, "failed": 7}
    assert len(told.ledger) == 5
    assert "spent: $0.00301 on 5 live requests (5,050 tokens), of at most $0.00331" in result.stdout.str()


def test_the_message(pytester, told, live):
    pytester.makepyfile(
        test_a="""
        from model import ask

        def test_it():
            ask(1000)
            ask(2000)
        """
    )
    result = live("0.001")
    result.assert_outcomes(failed=1)
    (line,) = lines_of(result)
    found = re.fullmatch(
        r"test_a\.py::test_it: the request to /v1/chat/completions was not sent: the run has spent \$0\.0006015, this "
        r"could cost \$(0\.0012\d+) \(gpt-4o-mini, (\d+) tokens in and 2,000 out at most\), and --token-max-spend is "
        r"\$0\.001; raise it, or lower the request's output limit \(max_tokens\)",
        line,
    )
    assert found
    assert Decimal(found[1]) == (int(found[2]) * Decimal("0.15") + 2000 * Decimal("0.60")) / 10**6


def test_without_a_limit_of_its_own_a_request_may_get_the_longest_answer(pytester, told, live):
    pytester.makepyfile(
        test_a="""
        from model import ask

        def test_it():
            ask(1000, max_tokens=None)
        """
    )
    result = live("0.009")
    result.assert_outcomes(failed=1)
    (line,) = lines_of(result)
    assert "16,384 out at most, as it sets no limit" in line
    assert line.endswith("raise it, or set an output limit in the request (max_tokens)")
    assert told.ledger == ()
    live("0.01").assert_outcomes(passed=1)


def test_nothing_may_be_spent(pytester, told, live, run):
    pytester.makepyfile(
        test_a="""
        from model import ask

        def test_it(usage):
            ask()
        """
    )
    live("0").assert_outcomes(failed=1)
    run("--token-record=once", "--token-max-spend=0").assert_outcomes(failed=1)
    assert told.ledger == ()
    run("--token-record=once", "--token-max-spend=1").assert_outcomes(passed=1)
    for mode in ("none", "once", "new_episodes"):
        run(f"--token-record={mode}", "--token-max-spend=0").assert_outcomes(passed=1)
    assert len(told.ledger) == 1


def test_no_code_gets_around_the_failure(pytester, told, live):
    """Swallowed, in a thread, in a fixture, when it is torn down: each test fails once, in one line."""
    pytester.makepyfile(
        test_a="""
        import pytest, threading
        from model import ask, try_to_ask

        def test_swallowed():
            assert not try_to_ask()

        def test_in_a_thread():
            thread = threading.Thread(target=try_to_ask)
            thread.start()
            thread.join()

        @pytest.mark.xfail(reason="known", strict=True)
        def test_expected():
            try_to_ask()

        @pytest.fixture
        def prepared():
            try_to_ask()

        def test_set_up(prepared):
            pass

        @pytest.fixture
        def tidy():
            yield
            ask()

        def test_torn_down(tidy):
            pass

        @pytest.fixture(scope="module")
        def documents():
            return try_to_ask()

        def test_shared(documents):
            pass

        def test_shared_too(documents):
            pass

        def test_fine():
            pass
        """
    )
    result = live("0.0001", "-rA")
    result.assert_outcomes(passed=2, failed=2, xfailed=1, errors=4)
    assert told.ledger == ()
    text = result.stdout.str()
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    starts = {line.partition(": the request")[0] for line in lines_of(result)}
    assert starts >= {
        f"test_a.py::{name}" for name in ("test_swallowed", "test_in_a_thread", "test_set_up", "test_torn_down")
    }
    assert "fixture documents" in starts


@pytest.mark.parametrize("where", ["import", "sessionstart", "sessionfinish", "between"])
def test_outside_of_any_test_the_run_fails(pytester, told, live, where):
    code = "from model import try_to_ask\n"
    hook = {
        "sessionstart": "def pytest_sessionstart(): try_to_ask()",
        "sessionfinish": "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(): try_to_ask()",
        "between": "def pytest_runtest_logstart(): try_to_ask()",
    }
    pytester.makeconftest(code + hook.get(where, ""))
    pytester.makepyfile(test_a=(f"{code}try_to_ask()\n" if where == "import" else "") + "def test_it(): pass")
    result = live("0.0001")
    assert result.ret == 1
    assert result.parseoutcomes()["passed"] == 1
    assert told.ledger == ()
    assert "the run: outside of any test: the request to /v1/chat/completions was not sent" in result.stdout.str()
    reported = live("0.0001", "--token-report", "--token-report=html:page.html", "--token-report=json")
    assert reported.ret == 1
    assert "<strong>does not hold</strong>" in (pytester.path / "page.html").read_text("utf-8")
    blocked = json.loads((pytester.path / "token-report.json").read_text("utf-8"))["blocked"]
    assert blocked
    assert all("was not sent" in each["message"] for each in blocked)  # one of each worker
    reported.stdout.fnmatch_lines(["blocked on the way to the network (1)", "  outside of tests, and first tries*"])


def test_a_refused_recording_leaves_the_old_one(pytester, told, run, monkeypatch):
    pytester.makepyfile(
        test_a="""
        import os
        from model import ask, try_to_ask

        def test_it(usage):
            for say in os.environ["SAY"].split():
                try_to_ask(say=say)
        """
    )
    monkeypatch.setenv("SAY", "one two")
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    good = path.read_bytes()
    monkeypatch.setenv("SAY", "new newer")
    run("--token-record=rewrite", f"--token-max-spend={COST * Decimal('1.5')}").assert_outcomes(failed=1)
    assert len(told.ledger) == 3
    assert path.read_bytes() == good
    partial = path.with_name(path.name + ".partial")
    assert partial.read_bytes().count(b"newer") == 0
    assert b"new" in partial.read_bytes()
    monkeypatch.setenv("SAY", "one two")
    run().assert_outcomes(passed=1)


@plain
def test_the_sdk_neither_retries_nor_hides_it(pytester, told, live):
    pytester.makepyfile(
        test_a="""
        import asyncio, openai
        from langchain_openai import ChatOpenAI

        ASK = {"model": "gpt-4o-mini", "max_tokens": 1000, "messages": [{"role": "user", "content": "in=1 out=1"}]}

        def test_sdk():
            try:
                openai.OpenAI(max_retries=5).chat.completions.create(**ASK)
            except Exception:
                pass

        def test_async():
            async def talk():
                async with openai.AsyncOpenAI(max_retries=5) as client:
                    await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(3)))
            asyncio.run(talk())

        def test_langchain():
            ChatOpenAI(model="gpt-4o-mini", max_tokens=1000).with_retry().with_fallbacks(
                [ChatOpenAI(model="gpt-4o-mini", max_tokens=999)]).invoke("in=1 out=1")
        """
    )
    result = live("0.0005")
    result.assert_outcomes(failed=3)
    assert told.ledger == ()
    starts = [line.partition(": the request")[0] for line in lines_of(result) if "FAILED" not in line]
    assert sorted(starts) == ["test_a.py::test_async", "test_a.py::test_langchain", "test_a.py::test_sdk"]


@plain
def test_what_failed_is_given_back_and_each_retry_asks_anew(pytester, told, live):
    """Room for one request at a time: after two that the server refuses, the third still has it."""
    for _ in range(2):
        told.answer(status=500, headers={"retry-after-ms": "1"})
    pytester.makepyfile(
        test_a="""
        import openai

        def test_it():
            client = openai.OpenAI(max_retries=2)
            client.chat.completions.create(
                model="gpt-4o-mini", max_tokens=1000, messages=[{"role": "user", "content": "in=10 out=1000"}])
        """
    )
    live(COST * Decimal("1.5")).assert_outcomes(passed=1)
    assert [entry.status for entry in told.ledger] == [500, 500, 200]


@cold
@plain
@pytest.mark.parametrize("first", ["", "import vcr.patch"], ids=["", "vcr first"])
def test_what_others_record_has_the_same_ceiling(pytester, told, run, first):
    pytester.makeconftest(first)
    pytester.makepyfile(
        test_a="""
        import pytest, requests
        from model import URL, ask

        @pytest.mark.vcr
        def test_httpx():
            ask()

        @pytest.mark.vcr
        def test_requests():
            requests.post(URL + "/chat/completions", json={"model": "gpt-4o-mini", "max_tokens": 1000,
                          "messages": [{"role": "user", "content": "in=1 out=1"}]})
        """
    )
    result = run("--record-mode=once", "--token-max-spend=0.0005", plugins=("recording",))
    result.assert_outcomes(failed=2)
    assert told.ledger == ()
    assert len(set(lines_of(result))) == 2


@plain
def test_a_model_of_the_user_s_own_needs_a_price(pytester, told, live):
    pytester.makepyfile(
        test_a="""
        from model import ask

        def test_it():
            ask(model="my-org/tuned")
        """
    )
    result = live("1")
    result.assert_outcomes(failed=1)
    (line,) = lines_of(result)
    assert "what this could cost is not known" in line
    assert 'the ini option token_prices names, for example [models."my-org/tuned"]' in line
    assert told.ledger == ()
    pytester.makefile(".toml", prices='[models."my-org/tuned"]\ninput = 1.00\noutput = 1.00\n')
    live("1", "-o", "token_prices=prices.toml").assert_outcomes(passed=1)


def test_a_worker_that_can_t_share_the_account_spends_nothing(pytester, told, live, spread):
    """As one on another machine, which xdist starts with --tx ssh=...; here one is told that it is there."""
    if not spread:
        pytest.skip("about workers")
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_configure_node(node):
            node.workerinput["token_budget_account"]["machine"] = "controller.example"
        """
    )
    pytester.makepyfile(test_a="from model import ask\ndef test_it(): ask()")
    result = live("1")
    result.assert_outcomes(failed=1)
    (line,) = lines_of(result)
    assert "nobody can tell what the run has spent of its --token-max-spend of $1: this worker runs on " in line
    assert "controller.example" in line
    assert told.ledger == ()


@plain
def test_the_account_goes_with_the_run(pytester, told, live, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pytester.makepyfile(test_a="from model import ask\ndef test_it(): ask()")
    live("1", "-n", "1").assert_outcomes(passed=1)
    live("1").assert_outcomes(passed=1)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("pytest-tokenbudget-") and any(path.iterdir())] == []  # fmt: skip


def test_each_try_of_a_test_is_paid(pytester, told, run, document):
    pytester.makepyfile(
        test_a="""
        import pytest
        from model import ask

        def test_flaky(tmp_path_factory):
            seen = tmp_path_factory.getbasetemp() / "seen"
            ask()
            if not seen.exists():
                seen.touch()
                assert False

        def test_always():
            ask()
            assert False
        """
    )
    result = run(
        "-o",
        "token_replay=off",
        "--reruns=2",
        "--token-report=json",
        "--token-max-spend=1",
        plugins=("rerunfailures",),
    )
    assert result.parseoutcomes()["rerun"] == 3
    assert len(told.bills) == 5
    total = document()["total"]
    assert Decimal(total["spent_usd"]) == Decimal(total["cost_usd"]) == cost_of(told.bills)
    assert total["requests"] == 5
    assert {test["usage"]["requests"] for test in document()["tests"]} == {1}


# -- progress, and what was spent


@pytest.fixture
def three(pytester, told):
    """Three tests that record, of 1,010, 0 and 2 x 510 tokens: $0.0012045, or $0.0012 in three digits."""
    pytester.makepyfile(
        test_a="""
        from model import ask

        def test_one(usage):
            ask(1000)

        def test_none(usage):
            pass

        def test_two(usage):
            ask(500)
            ask(500, say="again")
        """
    )
    return told


SO_FAR = re.compile(
    r"token budget: so far (?P<money>\S+) on (?P<requests>[\d,]+) live requests? \((?P<tokens>[\d,]+) tokens\)"
)


def progress(text):
    return [(found["money"], found["requests"], found["tokens"]) for found in SO_FAR.finditer(text)]


@pytest.mark.parametrize("options", [(), ("-v",), ("-s",), ("-o", "console_output_style=count")])
def test_a_run_that_records_says_what_it_has_spent(three, run, options):
    text = run("--token-record=rewrite", *options).stdout.str()
    said = progress(text)
    assert len(said) == 2
    assert said[0] in [("$0.000602", "1", "1,010"), ("$0.000603", "2", "1,020")]
    assert said[1] == ("$0.0012", "3", "2,030")
    assert "\nspent: $0.0012 on 3 live requests (2,030 tokens)" in text
    # Each stands on a line of its own; what pytest adds behind it is how far the run is.
    for line in text.splitlines():
        if "so far" in line:
            assert re.fullmatch(
                r"token budget: so far \S+ on \d live requests? \([\d,]+ tokens\)( +\[.*\])?", line
            ), line


@pytest.mark.parametrize("options", [("-q",), ("-qq",), ("--no-summary",)])
def test_quiet_runs_say_it_at_the_end_alone(three, run, options):
    text = run("--token-record=rewrite", *options).stdout.str()
    if options != ("--no-summary",):
        assert progress(text) == []
        assert "\nspent: $0.0012 on 3 live requests (2,030 tokens)" in text


def test_without_a_terminal_it_is_said_at_the_end(three, run):
    result = run("--token-record=rewrite", "-p", "no:terminal")
    assert progress(result.stderr.str() + result.stdout.str()) == []
    assert "token budget: spent: $0.0012 on 3 live requests (2,030 tokens)" in result.stderr.str()


def test_a_report_says_it_once(three, run, document):
    text = run(
        "--token-record=rewrite", "--token-max-spend=0.01", "--token-report", "--token-report=json"
    ).stdout.str()
    assert (
        text.count("$0.0012 on 3 live requests (2,030 tokens), of at most $0.0100") == 2
    )  # the last line of progress
    assert "\nspent       $0.0012 on 3 live requests (2,030 tokens), of at most $0.0100\n" in text
    total = document()["total"]
    assert (total["spent_usd"], total["requests"]) == ("0.0012045", 3)
    assert Decimal(total["spent_usd"]) == cost_of(three.bills)


def test_what_was_replayed_is_not_spent(three, run, document):
    run("--token-record=once")
    text = run("--token-record=once", "--token-report=json").stdout.str()
    assert progress(text) == []
    assert "spent: nothing live\n" in text
    assert document()["total"]["spent_usd"] == "0"
    assert "token budget" not in run().stdout.str()


def test_a_run_without_models_says_nothing_of_money(pytester, run):
    pytester.makepyfile("def test_it(): pass")
    result = run("--token-record=once", "--token-max-spend=1")
    result.assert_outcomes(passed=1)
    assert "token budget" not in result.stdout.str()


def test_shared_fixtures_are_told_of_too(pytester, told, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from model import ask

        @pytest.fixture(scope="session")
        def documents():
            ask(1000)
            yield
            ask(500)

        def test_it(usage, documents):
            pass
        """
    )
    text = run("--token-record=once").stdout.str()
    assert progress(text)[-1][1:] == ("2", "1,520")
    assert "spent: $0.000903 on 2 live requests (1,520 tokens)\n" in text
    assert cost_of(told.bills) == Decimal("0.000903")
