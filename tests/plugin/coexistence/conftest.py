"""Inner runs beside one plugin of somebody else's, with ours and without, and what they leave on the disk."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from model_server import Bill, ModelServer
from neighbours import ASYNCIO, without_all_but

VENDORED = Path(__file__).parents[2] / "support" / "vendored"

OURS = "pytest_tokenbudget"

CLIENT = '''
import asyncio, json, os

URL = os.environ["OPENAI_BASE_URL"]
CHAT = URL + "/chat/completions"

def body(text, **options):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **options}

STREAM = {"stream": True, "stream_options": {"include_usage": True}}

def said(text):
    """What an answer says, whole or streamed."""
    if not text.startswith("data: "):
        return json.loads(text)["choices"][0]["message"]["content"]
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return "".join(each["choices"][0]["delta"].get("content") or "" for each in events if each["choices"])

def by_httpx(text, **options):
    import httpx
    with httpx.Client(trust_env=False) as client:
        return said(client.post(CHAT, json=body(text, **options)).raise_for_status().text)

async def async_by_httpx(text, **options):
    import httpx
    async with httpx.AsyncClient(trust_env=False) as client:
        return said((await client.post(CHAT, json=body(text, **options))).raise_for_status().text)

def by_async_httpx(text, **options):
    return asyncio.run(async_by_httpx(text, **options))

def by_httpx2(text, **options):
    import httpx2
    with httpx2.Client(trust_env=False) as client:
        return said(client.post(CHAT, json=body(text, **options)).raise_for_status().text)

def by_openai(text, **options):
    import openai
    with openai.OpenAI(base_url=URL) as client:
        answer = client.chat.completions.create(**body(text, **options))
        return joined(answer) if options else answer.choices[0].message.content

def by_async_openai(text, **options):
    import openai
    async def send():
        async with openai.AsyncOpenAI(base_url=URL) as client:
            answer = await client.chat.completions.create(**body(text, **options))
            return joined([each async for each in answer]) if options else answer.choices[0].message.content
    return asyncio.run(send())

def joined(events):
    return "".join(each.choices[0].delta.content or "" for each in events if each.choices)

def by_requests(text, **options):
    import requests
    if not options:
        return said(requests.post(CHAT, json=body(text)).text)
    with requests.post(CHAT, json=body(text, **options), stream=True) as answer:
        return said("\\n".join(line.decode() for line in answer.iter_lines()))

def by_aiohttp(text, **options):
    import aiohttp
    async def send():
        async with aiohttp.ClientSession() as session, session.post(CHAT, json=body(text, **options)) as answer:
            if not options:
                return said(await answer.text())
            return said("".join([line.decode() async for line in answer.content]))
    return asyncio.run(send())

CLIENTS = {
    "openai": by_openai, "async-openai": by_async_openai, "httpx": by_httpx, "async-httpx": by_async_httpx,
    "httpx2": by_httpx2, "requests": by_requests, "aiohttp": by_aiohttp,
}
WAYS = {
    **CLIENTS,
    **{f"{name}-stream": (lambda text, send=send: send(text, **STREAM)) for name, send in CLIENTS.items()},
}
'''

OUTCOMES = """
import json, os

def pytest_configure(config):
    global writes
    writes = not hasattr(config, "workerinput")

def pytest_runtest_logreport(report):
    if not writes:
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else str(report.longrepr or "")
    with open(os.environ["OUTCOMES"], "a") as file:
        file.write(json.dumps([report.nodeid, report.when, report.outcome, message]) + "\\n")
"""
"""A conftest that writes down each report, as the process that reports sees it."""

KEYS = {"OPENAI_API_KEY": "sk-of-the-developer", "ANTHROPIC_API_KEY": "sk-ant-of-the-developer"}


@pytest.fixture
def server(monkeypatch):
    """A model provider on loopback, and a developer's environment."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("LANGSMITH_API_KEY", raising=False)
        yield server


@pytest.fixture
def client(pytester, server):
    """A module ``client`` for inner tests; gives the server that it asks."""
    pytester.makepyfile(client=CLIENT)
    return server


@pytest.fixture
def with_pytest_vcr(pytester, monkeypatch):
    """Have pytest-vcr installed for the inner runs: pytest-recording refuses to run where it is installed for all."""
    site = pytester.path / "site"
    information = site / "pytest_vcr-1.0.2.dist-info"
    information.mkdir(parents=True)
    shutil.copy(VENDORED / "pytest_vcr.py", site)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-vcr\nVersion: 1.0.2\n")
    (information / "entry_points.txt").write_text("[pytest11]\nvcr = pytest_vcr\n")
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":" if sys.platform != "win32" else ";")


class Side(NamedTuple):
    """What one run left behind.

    Attributes:
        outcomes: ``{(test, phase): (outcome, message)}``.
        files: what lies in its folder.
        usage: from our report, ``{test: usage}``; empty without our plugin.
        bills: what the server billed in it.
    """

    outcomes: dict[tuple[str, str], tuple[str, str]]
    files: dict[str, str]
    usage: dict[str, dict[str, object]]
    bills: tuple[Bill, ...]


@pytest.fixture
def same_with_and_without(pytester, run_pytest, spread, monkeypatch):
    """Run the same tests with our plugin and without it, and compare everything that a user could see of them.

    ``same_with_and_without(*runs, plugins=..., **modules) -> [Side, ...]``, one for each run beside our plugin. Each
    of the two has a folder, a server and runs of its own; what the server numbers itself is not compared.
    """

    def same(*runs, plugins, **modules):
        without = both("without", runs, plugins, modules)
        with_ours = both("with", runs, plugins, modules)
        for one, other in zip(with_ours, without, strict=True):
            assert one.outcomes == other.outcomes
            assert one.files == other.files
            assert len(one.bills) == len(other.bills)
        return with_ours

    def both(name, runs, plugins, modules):
        folder = pytester.path / name
        folder.mkdir()
        (folder / "pytest.ini").write_text("[pytest]\n" + (ASYNCIO if "asyncio" in plugins else ""))
        (folder / "conftest.py").write_text(OUTCOMES)
        for module, source in {"client": CLIENT, **modules}.items():
            (folder / f"{module}.py").write_text(textwrap.dedent(source))
        with ModelServer() as server, monkeypatch.context() as patch:
            for variable, value in {**KEYS, "OPENAI_BASE_URL": server.openai_url}.items():
                patch.setenv(variable, value)
            patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
            patch.chdir(folder)
            return [one(folder, plugins, arguments, server, patch) for arguments in runs]

    def one(folder, plugins, arguments, server, patch):
        server.reset()
        outcomes, report = (pytester.path / f"{folder.name}.{kind}" for kind in ("outcomes", "report"))
        outcomes.unlink(missing_ok=True)
        patch.setenv("OUTCOMES", str(outcomes))
        ours = (f"--token-report=json:{report}",)
        if folder.name == "without":
            arguments = [each for each in arguments if not each.startswith(("--token-", "-otoken_"))]
            ours = ("-p", f"no:{OURS}")
        result = run_pytest("-p", "no:cacheprovider", *without_all_but(*plugins), *spread, *ours, *arguments)
        assert result.ret in (0, 1), result.stdout.str()
        return Side(
            {
                (nodeid, when): (outcome, _masked(message, folder))
                for nodeid, when, outcome, message in map(json.loads, outcomes.read_text().splitlines())
            },
            {
                path.relative_to(folder).as_posix(): _masked(path.read_text("utf-8"), folder)
                for path in folder.rglob("*")
                if path.is_file()
            },
            {
                each["nodeid"].rpartition("::")[2]: each["usage"]
                for each in (json.loads(report.read_text()) if report.exists() else {"tests": ()})["tests"]
            },
            server.bills,
        )

    return same


def _masked(text, folder):
    text = text.replace(str(folder), "FOLDER")
    text = re.sub(r"127\.0\.0\.1:\d+", "LOOPBACK", text)
    text = re.sub(r"(chatcmpl-|req_)\d{24}", r"\1N", text)
    return re.sub(r"0x[0-9a-f]{6,}", "0x", text)
