"""Drift: a request that no recording answers fails its test and says what changed, whatever its code made of it."""

from __future__ import annotations

import os
import re

import pytest
from test_replay import CLIENT

from pytest_tokenbudget.capture.estimate import count_prompt
from pytest_tokenbudget.usage import Prompt, PromptPart

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])

TALK = """
import os

DRIFTED = "DRIFT" in os.environ
SYSTEM = "Be brief." + " Never say more than that." * (60 if DRIFTED else 0)

def messages(text="How are you?"):
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
"""


@pytest.fixture
def drift(pytester, server, run, monkeypatch):
    """Record a file of tests, change its prompts, replay it: ``drift(source, tests) -> RunResult``."""
    pytester.makepyfile(client=CLIENT, talk=TALK)
    monkeypatch.delenv("DRIFT", raising=False)

    def drift(source, **outcomes):
        pytester.makepyfile(test_a=source)
        recorded = run("--token-record=once")
        assert recorded.ret == 0, recorded.stdout.str()
        arrived = len(server.ledger)
        monkeypatch.setenv("DRIFT", "1")
        result = run()
        result.assert_outcomes(**outcomes)
        assert result.ret == 1
        assert len(server.ledger) == arrived
        return result

    return drift


def told(result, name):
    """The first line of a test's failure."""
    text = result.stdout.str()
    lines = text[text.index(f"_ {name} _") :].splitlines()
    return next(line for line in lines[1:] if line.strip() and not line.startswith("[gw"))


def test_it_says_what_changed_in_tokens_and_money(drift):
    result = drift(
        """
        import os
        from client import httpx, URL, ask
        from talk import messages

        def test_system(usage):
            ask("first")
            body = {"model": "gpt-4o-mini", "messages": messages()}
            with httpx.Client(trust_env=False) as client:
                client.post(URL + "/chat/completions", json=body).raise_for_status()

        def test_model(usage):
            body = {"model": "gpt-4o" if "DRIFT" in os.environ else "gpt-4o-mini", "messages": messages()[1:]}
            with httpx.Client(trust_env=False) as client:
                client.post(URL + "/chat/completions", json=body).raise_for_status()

        def test_parameter(usage):
            body = {"model": "gpt-4o-mini", "messages": messages()[1:], "temperature": 1.0 * ("DRIFT" in os.environ)}
            with httpx.Client(trust_env=False) as client:
                client.post(URL + "/chat/completions", json=body).raise_for_status()

        def test_once_more(usage):
            for _ in range(2 if "DRIFT" in os.environ else 1):
                ask("same")

        def test_no_model_request(usage):
            with httpx.Client(trust_env=False) as client:
                if "DRIFT" in os.environ:
                    client.post("https://192.0.2.1/other", content=b"x")
                else:
                    ask("x")
        """,
        failed=5,
    )

    def count(text):
        return count_prompt(Prompt(parts=(PromptPart("system", text),), chat=True), "gpt-4o-mini")

    more = count("Be brief." + " Never say more than that." * 60) - count("Be brief.")
    cost = f"{more * 0.15 / 1e6:.10f}".rstrip("0")  # USD 0.15 per million tokens of input
    command = "re-record with: pytest test_a.py::{} --token-record=rewrite"
    assert told(result, "test_system") == (
        f"request 2 to /v1/chat/completions: system +{more} tokens, user unchanged; +${cost} a call; "
        + command.format("test_system")
    )
    assert told(result, "test_model").startswith(
        "request 1 to /v1/chat/completions: model gpt-4o-mini -> gpt-4o, user unchanged; +$"
    )
    assert told(result, "test_parameter").startswith(
        "request 1 to /v1/chat/completions: user unchanged, its parameters changed; +$0 a call; "
    )
    assert (
        "request 2 to /v1/chat/completions: each recording of it in cassettes/test_a/test_once_more.yaml has been played"
        in told(result, "test_once_more")
    )
    assert told(result, "test_no_model_request").startswith("request 1 to /other: no recording answers it; ")
    assert "Traceback" not in result.stdout.str()


SWALLOWED = """
import asyncio, threading
from concurrent.futures import ThreadPoolExecutor
import pytest
import openai
from client import URL, ask, ask_async, httpx
from talk import DRIFTED, messages

TEXT = "drifted" if DRIFTED else "recorded"

def tries(send):
    # What code under test may do: try again, swallow everything, fall back.
    made = []
    for _ in range(5):
        try:
            made.append(1)
            return send()
        except Exception:
            continue
    return "a fallback"

def test_except_exception(usage):
    made = []
    try:
        made.append(1)
        ask(TEXT)
        made.append(2)
    except Exception:
        made.append("swallowed")
    assert "swallowed" not in made

def test_retries(usage):
    tries(lambda: ask(TEXT))

def test_bare_except(usage):
    try:
        ask(TEXT)
    except:
        pass

def test_openai(usage):
    attempts = []
    client = openai.OpenAI(base_url=URL, api_key="any", max_retries=5)
    send = client._client.send
    def counted(*args, **kwargs):
        attempts.append(1)
        return send(*args, **kwargs)
    client._client.send = counted
    try:
        client.chat.completions.create(model="gpt-4o-mini", messages=messages())
    except Exception:
        pass
    finally:
        assert len(attempts) == 1

def test_async_openai(usage):
    async def talk():
        async with openai.AsyncOpenAI(base_url=URL, api_key="any") as client:
            try:
                await client.chat.completions.create(model="gpt-4o-mini", messages=messages())
            except Exception:
                pass
    asyncio.run(talk())

def test_stream(usage):
    client = openai.OpenAI(base_url=URL, api_key="any")
    try:
        for event in client.chat.completions.create(model="gpt-4o-mini", messages=messages(), stream=True):
            pass
    except Exception:
        pass

def test_task(usage):
    async def talk():
        return await asyncio.gather(ask_async(TEXT), ask_async("same"), return_exceptions=True)
    asyncio.run(talk())

def test_thread(usage):
    def swallow():
        try:
            ask(TEXT)
        except BaseException:
            pass
    thread = threading.Thread(target=swallow)
    thread.start()
    thread.join()

def test_pool(usage):
    with ThreadPoolExecutor(2) as pool:
        pool.submit(ask, TEXT)  # whose result nobody asks for

def test_langchain_fallbacks(usage):
    from langchain_openai import ChatOpenAI
    first = ChatOpenAI(model="gpt-4o-mini", base_url=URL)
    spare = ChatOpenAI(model="gpt-4o", base_url=URL)
    chain = first.with_retry(stop_after_attempt=4).with_fallbacks([spare])
    try:
        chain.invoke(TEXT)
    except Exception:
        pass

@pytest.mark.xfail(strict=False)
def test_expected_to_fail(usage):
    try:
        ask(TEXT)
    except BaseException:
        pass

@pytest.fixture
def asking():
    try:
        return ask(TEXT)
    except Exception:
        return None

def test_set_up(usage, asking):
    pass

@pytest.fixture
def leaving():
    yield
    try:
        ask(TEXT)
    except BaseException:
        pass

def test_tear_down(usage, leaving):
    pass

@pytest.fixture(scope="module")
def index():
    try:
        yield ask(TEXT)
    except BaseException:
        yield None

def test_shared(usage, index):
    pass

@pytest.mark.token_budget(max_tokens=1000)
def test_budget():
    try:
        ask(TEXT)
    except BaseException:
        pass

def test_fine(usage):
    ask("the same")
"""


def test_no_code_hides_it(drift):
    """Every one of them fails; whoever retries does so once, since a miss is no ``Exception``."""
    result = drift(SWALLOWED, failed=11, xfailed=1, passed=2, errors=3)
    text = result.stdout.str()
    for name in re.findall(r"def (test_\w+)", SWALLOWED):
        if name in ("test_fine", "test_expected_to_fail"):
            continue
        line = next(line for line in text.splitlines() if line.startswith("request ") and f"::{name} --" in line)
        assert re.match(r"request \d+ to /v1/chat/completions: ", line), name
        assert line.endswith(f"re-record with: pytest test_a.py::{name} --token-record=rewrite")
    assert "During handling" not in text
    assert "AssertionError" not in text


@plain
def test_recording_again_is_the_way_out(drift, run, server):
    source = """
        from client import ask
        from talk import TEXT_NOW as text

        def test_it(usage):
            ask(text)
        """
    drift(source.replace("TEXT_NOW", "SYSTEM"), failed=1)
    run("--token-record=once").assert_outcomes(failed=1)  # once is for what is missing
    assert len(server.ledger) == 1
    run("test_a.py::test_it", "--token-record=rewrite").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)
    del os.environ["DRIFT"]
    run().assert_outcomes(failed=1)  # the old recording is gone
    run("--token-record=new_episodes").assert_outcomes(passed=1)
    run("-o", "token_unplayed=warn").assert_outcomes(passed=1)
    assert len(server.ledger) == 3
