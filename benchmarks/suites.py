"""Writes what is measured: cassettes in the layout of vcrpy, and suites of tests that replay them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

URL = "https://api.openai.com/v1/chat/completions"
MODEL = "gpt-4o-mini"

_HEAD = {
    "floor": "import httpx2\nfrom answers import answer\nfrom langchain_openai import ChatOpenAI\n",
    "ours": "import pytest\nfrom langchain_openai import ChatOpenAI\n",
    "recording": "import pytest\nfrom langchain_openai import ChatOpenAI\n",
}
_MARKS = {"floor": "", "ours": "@pytest.mark.token_budget(max_cost=1)\n", "recording": "@pytest.mark.vcr\n"}


def body(number: int) -> bytes:
    """What langchain-openai sends for a prompt."""
    messages = [{"content": f"Say hello {number}", "role": "user"}]
    return json.dumps({"model": MODEL, "stream": False, "messages": messages}, separators=(",", ":")).encode()


def plain_body(number: int) -> bytes:
    """What the openai client sends for the same prompt."""
    messages = [{"role": "user", "content": f"Say hello {number}"}]
    return json.dumps({"model": MODEL, "messages": messages}, separators=(",", ":")).encode()


def answer(number: int | str) -> str:
    """The provider's answer to a prompt, which says whose it is."""
    text = f"Hello {number}. " + "Hello there, this is a fine answer. " * 60
    usage = {"prompt_tokens": 11, "completion_tokens": 480, "total_tokens": 491}
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    head = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1700000000,
        "model": f"{MODEL}-2024-07-18",
    }
    return json.dumps(head | {"choices": [choice], "usage": usage, "service_tier": "default"})


def write_cassette(path: Path, numbers: Iterable[int], *, of=body) -> None:
    """Write a cassette with an interaction of about 3.7 KB for each prompt."""
    import yaml

    mark = 900000001
    interaction = {
        "request": {
            "method": "POST",
            "uri": URL,
            "body": of(mark).decode(),
            "headers": {"accept": ["application/json"], "content-type": ["application/json"]},
        },
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-type": ["application/json"], "date": ["Mon, 23 Nov 2026 10:00:00 GMT"]},
            "body": {"string": answer(mark)},
        },
    }
    one = yaml.safe_dump([interaction])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("interactions:\n")
        file.writelines(one.replace(str(mark), str(number)) for number in numbers)
        file.write("version: 1\n")


def write_empty(folder: Path) -> Path:
    """A test file without a test."""
    return _write(folder, "")


def write_idle(folder: Path, tests: int) -> Path:
    """Tests that call no model."""
    return _write(folder, "\n".join(f"def test_{number}():\n    assert True\n" for number in range(tests)))


def write_replays(folder: Path, tests: int, kind: str) -> Path:
    """Tests that each replay one chat completion through LangChain.

    Args:
        folder: where to.
        tests: how many.
        kind: ``ours``, ``recording``, or ``floor``: no cassette, a transport of httpx2 that answers by itself.
    """
    client = "http_client=httpx2.Client(transport=httpx2.MockTransport(answer))" if kind == "floor" else ""
    parts = [_HEAD[kind]]
    for number in range(tests):
        call = f"ChatOpenAI(model='{MODEL}', {client}).invoke('Say hello {number}')"
        parts.append(f"{_MARKS[kind]}def test_{number}():\n    assert {call}.content.startswith('Hello')\n")
        if kind != "floor":
            write_cassette(folder / "cassettes" / "test_suite" / f"test_{number}.yaml", [number])
    if kind == "floor":
        served = (
            f"httpx2.Response(200, headers={{'content-type': 'application/json'}}, content={answer(0).encode()!r})"
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "answers.py").write_text(f"import httpx2\n\ndef answer(request):\n    return {served}\n")
    return _write(folder, "\n".join(parts))


def write_clients(folder: Path, tests: int, kind: str) -> Path:
    """Tests that each make a client of their own, ``openai.OpenAI()``, and replay one chat completion."""
    parts = ["import pytest\nfrom openai import OpenAI\n"]
    for number in range(tests):
        messages = [{"role": "user", "content": f"Say hello {number}"}]
        call = f"OpenAI().chat.completions.create(messages={messages}, model='{MODEL}')"
        parts.append(f"{_MARKS[kind]}def test_{number}():\n    assert {call}.usage.total_tokens == 491\n")
        write_cassette(folder / "cassettes" / "test_suite" / f"test_{number}.yaml", [number], of=plain_body)
    return _write(folder, "\n".join(parts))


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_suite.py").write_text(text)
    return folder
