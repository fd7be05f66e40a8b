"""The user's own prices and aliases hold for the name that the request gave, deployment or model."""

from __future__ import annotations

import json

import pytest
from model_server import ModelServer

PRICES = """
    [models."my-tuned"]
    input = 1000
    output = 2000

    [aliases]
    "my-deployment" = "azure:gpt-4o"
"""

SUITE = """
    import os
    import httpx2, pytest

    def ask(model):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        httpx2.post(os.environ["MODEL_URL"] + "/chat/completions", json=body)

    def test_tuned(usage):
        ask("my-tuned")

    def test_deployment(usage):
        ask("my-deployment")
"""


@pytest.fixture
def server(monkeypatch):
    with ModelServer() as server:
        monkeypatch.setenv("MODEL_URL", server.openai_url)
        yield server


def test_prices_hold_for_the_name_in_the_request(pytester, server, run):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(test_named=SUITE)
    # The answers name other models than the requests, one of them unknown to every price list.
    server.answer("a b", to="hi", input_tokens=1, output_tokens=1, model="tuned-0007")
    server.answer("a b", to="hi", input_tokens=1, output_tokens=1, model="weights-x")
    arguments = ("-o", "token_prices=prices.toml", "-o", "token_replay=off", "-p", "no:randomly")
    run(*arguments, "--token-report=json")
    tests = json.loads((pytester.path / "token-report.json").read_text())["tests"]
    costs = {test["nodeid"].partition("::")[2]: test["usage"]["cost_usd"] for test in tests}
    # $1,000 and $2,000 a million; gpt-4o: $2.50 and $10.00
    assert costs == {"test_tuned": "0.003", "test_deployment": "0.0000125"}
