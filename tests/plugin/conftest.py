"""Inner runs of pytest: each scenario in one process, and spread over two workers of xdist."""

from __future__ import annotations

import pytest
from model_server import ModelServer

QUIET = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
"""What an inner run would say about other plugins, it shall not."""


@pytest.fixture(params=[(), ("-n", "2")], ids=["plain", "xdist"])
def spread(request):
    """The arguments that spread an inner run; empty for a run in one process."""
    return request.param


@pytest.fixture
def run(pytester, spread):
    """Run pytest inside the test, in one process or over xdist's workers: ``run(*args) -> RunResult``."""

    def run(*args):
        return pytester.runpytest_subprocess(*QUIET, *spread, *args, timeout=120)

    return run


@pytest.fixture
def server(monkeypatch):
    """A model provider on loopback; inner runs find its address in ``OPENAI_BASE_URL``."""
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback")
        yield server
