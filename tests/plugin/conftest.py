"""Inner runs of pytest: each scenario in one process, and spread over two workers of xdist."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from functools import cache

import pytest
from model_server import ModelServer
from neighbours import without_all_but


@pytest.fixture(autouse=True)
def _as_at_a_desk(monkeypatch):
    """Where a CI system runs the suite, pytest's inner runs would print their lines at other lengths."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=[(), ("-n", "2")], ids=["plain", "xdist"])
def spread(request):
    """The arguments that spread an inner run; empty for a run in one process."""
    return request.param


@pytest.fixture
def run_pytest(pytester, python):
    """Run pytest with just these arguments: ``run_pytest(*args) -> RunResult``."""
    numbers = itertools.count()

    def run_pytest(*args):
        own = f"--basetemp={pytester.path / f'inner-{next(numbers)}'}"
        return pytester.run(python, "-mpytest", own, *args, timeout=120)

    return run_pytest


@pytest.fixture
def run(run_pytest, spread):
    """Run pytest inside the test, in one process or over xdist's workers: ``run(*args, plugins=()) -> RunResult``.

    Of others' plugins it has those that are named, and no more: their imports take longer than most scenarios.
    """

    def run(*args, plugins=()):
        return run_pytest(*_only(plugins), *spread, *args)

    return run


def _only(plugins):
    """The arguments that let no other plugin in than these, and keep them from saying what is not to the point."""
    loops = ("-o", "asyncio_default_fixture_loop_scope=function") if "asyncio" in plugins else ()
    return ("-p", "no:cacheprovider", *without_all_but(*plugins), *loops)


ALONE = ("unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Runs a command in a network of its own, in which there is nothing but loopback."""


@cache
def can_be_alone():
    """Whether this system gives a command a network of its own."""
    tools = sys.platform == "linux" and all(map(shutil.which, ("unshare", "ip")))
    return tools and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.fixture
def run_alone(pytester, spread):
    """As ``run``, where no network can be reached, so that what the plugin lets pass goes nowhere."""
    if not can_be_alone():
        pytest.skip("needs a network of its own (unshare -rn), which this system does not give")

    def run_alone(*args, plugins=()):
        return pytester.run(*ALONE, sys.executable, "-m", "pytest", *_only(plugins), *spread, *args, timeout=120)

    return run_alone


@pytest.fixture
def server(monkeypatch):
    """A model provider on loopback; inner runs find its address in ``OPENAI_BASE_URL``."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
        yield server


MODEL = """
try:
    import httpx2 as httpx
except ImportError:
    import httpx

URL = {url!r}

def body(input_tokens=10, output_tokens=5, *, model="gpt-4o-mini", say=""):
    text = f"in={{input_tokens}} out={{output_tokens}} {{say}}"
    return {{"model": model, "messages": [{{"role": "user", "content": text}}]}}

def ask(*args, **kwargs):
    with httpx.Client(trust_env=False) as client:
        answer = client.post(URL + "/chat/completions", json=body(*args, **kwargs))
    return answer.raise_for_status().json()

async def ask_async(*args, **kwargs):
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(URL + "/chat/completions", json=body(*args, **kwargs))
    return answer.raise_for_status().json()
"""


def count_told(_model, text):
    """Bill what the prompt says, ``in=10 out=5``; the server echoes it, so that the answer says so too."""
    found = re.search(r"out=(\d+)" if text.startswith("You said:") else r"in=(\d+)", text)
    return int(found[1]) if found else len(text.split())


@pytest.fixture
def told(pytester):
    """A server that bills what a prompt says; inner tests ask it by ``model.ask(input_tokens, output_tokens)``."""
    with ModelServer(count=count_told) as server:
        pytester.makepyfile(model=MODEL.format(url=server.openai_url))
        yield server


@pytest.fixture
def run_live(run):
    """As ``run``, and the requests of the inner tests really reach the loopback server; with a JSON report."""

    def run_live(*args, plugins=()):
        return run("-o", "token_replay=off", "--token-report=json", *args, plugins=plugins)

    return run_live


@pytest.fixture
def suite(request, pytester, told):
    """The ``SUITE`` of the test's own module as an inner project, with its ``PRICES``; the server that it asks."""
    pytester.makefile(".toml", prices=request.module.PRICES)
    pytester.makepyfile(test_suite=request.module.SUITE)
    return told


@pytest.fixture
def go(run):
    """Run an inner project live, at the prices that it brings."""

    def go(*args, plugins=()):
        return run("-o", "token_replay=off", "-o", "token_prices=prices.toml", *args, plugins=plugins)

    return go


@pytest.fixture
def document(pytester):
    """Read the JSON report of the inner run: ``document() -> dict``."""
    return lambda: json.loads((pytester.path / "token-report.json").read_text("utf-8"))


@pytest.fixture
def reported(document):
    """Read the tests of the JSON report by name: ``reported()["test_x"]``."""
    return lambda: {test["nodeid"].partition("::")[2]: test for test in document()["tests"]}
