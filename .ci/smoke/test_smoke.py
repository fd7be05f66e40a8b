"""What the built wheel must do where nothing but its own dependencies is installed."""

import importlib.metadata
import importlib.resources
from decimal import Decimal

import httpx2
import pytest

import pytest_tokenbudget

URL = "https://api.openai.com/v1/chat/completions"


@pytest.mark.token_budget(max_cost="0.0001", max_tokens=18)
def test_a_recording_plays_and_is_priced(usage):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
    answer = httpx2.post(URL, json=body).json()
    assert answer["choices"][0]["message"]["content"] == "Hello there"
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (9, 2, 1)
    # 9 x $0.15 + 2 x $0.60 per million
    assert usage.cost == Decimal("0.00000255")


def test_an_estimate_needs_no_network():
    from pytest_tokenbudget.capture.vocabulary import count_tokens

    assert count_tokens("Tell me a joke", "cl100k_base") == 4


def test_the_wheel_holds_what_it_must():
    files = importlib.resources.files(pytest_tokenbudget)
    assert (files / "py.typed").is_file()
    assert all((files / "report" / "page" / f"page.{kind}").is_file() for kind in ("html", "css", "js"))
    distribution = importlib.metadata.distribution("pytest-tokenbudget")
    names = {str(file) for file in distribution.files or ()}
    assert any("LICENSE" in name for name in names)
    assert not any(name.startswith(("tests/", "examples/", "docs/")) for name in names)
    assert pytest_tokenbudget.__version__ == distribution.version
