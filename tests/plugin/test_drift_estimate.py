"""``--token-drift=estimate``: the nearest recording answers, and its input is adjusted by what the prompt gained."""

from __future__ import annotations

import sys

import pytest
import tiktoken
from test_replay import CLIENT

from pytest_tokenbudget.capture.vocabulary import get_encoding

PROMPTS = {
    "grown": "How are you? Tell me all about it, in full, from the beginning to the end.",
    "shrunk": "How?",
    "same": "How are you?",
}


def tokens(text):
    """Counted by tiktoken itself; its vocabulary comes from the package, since there is no network."""
    encoding = get_encoding("o200k_base")  # gpt-4o-mini's
    assert isinstance(encoding, tiktoken.Encoding)
    return len(encoding.encode(text))


@pytest.fixture
def recorded(pytester, server, run, monkeypatch):
    """Record a test file with the prompt ``same``; afterwards the environment's ``PROMPT`` is asked."""
    pytester.makepyfile(client=CLIENT)

    def recorded(source, prompt="grown"):
        """Gives how many requests the server saw, so that a replay can be held against it."""
        pytester.makepyfile(test_a=source)
        monkeypatch.setenv("PROMPT", PROMPTS["same"])
        result = run("--token-record=once")
        assert result.ret == 0, result.stdout.str()
        monkeypatch.setenv("PROMPT", PROMPTS[prompt])
        return len(server.ledger)

    return recorded


ONE = """
import os
from client import ask

def test_it(usage):
    ask(os.environ["PROMPT"])
    print("input", usage.input_tokens, "output", usage.output_tokens, "estimated", usage.estimated_requests,
          usage.calls[0].source, usage.calls[0].replayed)
"""


in_one_process = pytest.mark.parametrize("spread", [()], ids=["plain"])
"""For what does not depend on where a test runs; others here do it over workers too."""


@in_one_process
@pytest.mark.parametrize("prompt", ["grown", "shrunk"])
@pytest.mark.parametrize("how", ["option", "ini"])
def test_the_input_changes_by_as_much_as_the_prompt(  # noqa: PLR0917 - fixtures and parameters
    pytester, server, recorded, run, document, prompt, how
):
    arrived = recorded(ONE, prompt)
    option = ("--token-drift=estimate",) if how == "option" else ("-o", "token_drift=estimate")
    result = run(*option, "-rP", "--token-report=json", "--token-report")
    result.assert_outcomes(passed=1)
    assert len(server.ledger) == arrived
    billed = len(PROMPTS["same"].split())  # the loopback server bills words
    expected = max(billed + tokens(PROMPTS[prompt]) - tokens(PROMPTS["same"]), 0)
    result.stdout.fnmatch_lines([f"*input {expected} output * estimated 1 estimate True*"])
    (line,) = document()["drift"]
    difference = tokens(PROMPTS[prompt]) - tokens(PROMPTS["same"])
    assert f"request 1 to /v1/chat/completions: user {difference:+} tokens; " in line["message"]
    assert "estimated from the nearest recording; re-record with: pytest " in line["message"]
    assert document()["total"]["estimated_requests"] == 1
    assert "~" in result.stdout.str()


def test_who_fails_all_the_same_does_not_fail_for_want_of_a_recording(recorded, run, pytester):
    recorded(ONE + "    assert os.environ['PROMPT'] == 'How are you?'\n")
    run("--token-drift=estimate", "--token-report=json").assert_outcomes(failed=1)
    combined = pytester.run(
        sys.executable, "-m", "pytest_tokenbudget", "combine", "token-report.json", "-o", "all.json"
    )
    assert combined.ret == 0, combined.stdout.str()  # what fails a test by itself, its own run has told


def test_what_is_recorded_is_measured_as_ever(recorded, run):
    recorded(ONE, "same")
    result = run("--token-drift=estimate", "-rP")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*estimated 0 response True*"])


def test_the_estimate_is_judged(recorded, run):
    recorded(ONE.replace("def test_it", "import pytest\n@pytest.mark.token_budget(max_tokens=12)\ndef test_it"))
    result = run("--token-drift=estimate")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_a.py::test_it is over its token budget.*", "*tokens*limit 12*"])
    assert "~" in result.stdout.str()


def test_where_estimates_fail_so_does_this_one(recorded, run):
    recorded(ONE.replace("def test_it", "import pytest\n@pytest.mark.token_budget(max_tokens=10000)\ndef test_it"))
    run("--token-drift=estimate").assert_outcomes(passed=1)
    run("--token-drift=estimate", "-o", "token_estimates=fail").assert_outcomes(failed=1)


CLIENTS = {
    "requests": """
        import requests
        def send(body):
            return requests.post(URL + "/chat/completions", json=body, timeout=10).json()
    """,
    "aiohttp": """
        import aiohttp, asyncio
        def send(body):
            async def post():
                async with aiohttp.ClientSession() as session:
                    async with session.post(URL + "/chat/completions", json=body) as answer:
                        return await answer.json()
            return asyncio.run(post())
    """,
    "langchain": """
        from langchain_openai import ChatOpenAI
        def send(body):
            return ChatOpenAI(model=body["model"], base_url=URL).invoke(body["messages"][0]["content"])
    """,
    "stream": """
        import openai
        def send(body):
            options = {"stream": True, "stream_options": {"include_usage": True}}
            with openai.OpenAI(base_url=URL).chat.completions.create(**body, **options) as chunks:
                return list(chunks)
    """,
}


@in_one_process
@pytest.mark.parametrize("client", CLIENTS)
def test_whatever_client_asks(pytester, server, recorded, run, client):
    sending = CLIENTS[client].replace("\n        ", "\n")
    arrived = recorded(
        f"import os\nURL = os.environ['OPENAI_BASE_URL']\n{sending}\n"
        "def test_it(usage):\n"
        "    send({'model': 'gpt-4o-mini', 'messages': [{'role': 'user', 'content': os.environ['PROMPT']}]})\n"
        "    print('input', usage.input_tokens, 'estimated', usage.estimated_requests, usage.requests)\n"
    )
    result = run("--token-drift=estimate", "-rP")
    result.assert_outcomes(passed=1)
    assert len(server.ledger) == arrived
    billed = len(PROMPTS["same"].split())
    expected = billed + tokens(PROMPTS["grown"]) - tokens(PROMPTS["same"])
    result.stdout.fnmatch_lines([f"*input {expected} estimated 1 1*"])


def test_another_model_endpoint_or_service_is_drift_as_ever(recorded, run, monkeypatch):
    recorded(
        """
        import os
        import pytest
        from client import httpx, URL

        @pytest.mark.parametrize("path, model", [("/chat/completions", "gpt-4o"), ("/completions", "gpt-4o-mini")])
        def test_it(usage, path, model):
            if "DRIFT" not in os.environ:
                path, model = "/chat/completions", "gpt-4o-mini"
            body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
            with httpx.Client(trust_env=False) as client:
                client.post(URL + path, json=body)
        """
    )
    monkeypatch.setenv("DRIFT", "1")
    result = run("--token-drift=estimate")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*model gpt-4o-mini -> gpt-4o*re-record with*"])


def test_without_any_recording_there_is_nothing_to_estimate_from(pytester, server, run, monkeypatch):
    pytester.makepyfile(client=CLIENT, test_a=ONE)
    monkeypatch.setenv("PROMPT", "x")
    result = run("--token-drift=estimate")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*has no recording*--token-record=once*"])
    assert not server.ledger


def test_each_question_gets_the_answer_that_is_nearest_and_no_recording_is_left(recorded, run):
    recorded(
        """
        import os
        from client import ask

        def test_it(usage):
            drifted = os.environ["PROMPT"] != "How are you?"
            texts = ["red apples fall", "green pears fall", "blue plums fall"]
            for text in reversed(texts) if drifted else texts:
                answer = ask("Be brief. " + text if drifted and "red" not in text else text)
                assert text in answer, answer
            assert usage.estimated_requests == (2 if drifted else 0)
        """
    )
    run("--token-drift=estimate", "-o", "token_unplayed=fail").assert_outcomes(passed=1)


@pytest.mark.parametrize("value", ["", "Estimate", "yes"])
def test_a_bad_value_is_one_line(pytester, run, value):
    pytester.makepyfile(test_a="def test_it(): pass")
    result = run(f"--token-drift={value}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--token-drift*{value!r} is not allowed*fail, estimate*"])
