"""Fixtures of the tests that capture traffic: a loopback server of models, and clients that ask it."""

from __future__ import annotations

import openai
import pytest
from model_server import ModelServer


@pytest.fixture
def server():
    with ModelServer() as server:
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server):
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="any", max_retries=0) as client:
        yield client
