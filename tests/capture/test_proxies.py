"""Whoever asks for proxies gets the answer that Python gives, also where it comes faster."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import urllib.request

import pytest

from pytest_tokenbudget import track_usage

pytestmark = pytest.mark.skipif(
    getattr(urllib.request.getproxies, "__wrapped__", urllib.request.getproxies)
    is not urllib.request.getproxies_environment,
    reason="the system's own settings count here too",
)


@pytest.fixture(params=["urllib.request", "httpx._utils", "httpx2._utils"])
def getproxies(request, monkeypatch):
    pytest.importorskip(request.param.partition(".")[0])
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with track_usage():  # hooks the libraries
        pass
    asked = importlib.import_module(request.param).getproxies
    assert asked is not urllib.request.getproxies_environment
    return asked


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "Ftp_Proxy", "no_proxy", "_proxy", "my_proxy_host"])
@pytest.mark.parametrize("value", ["http://127.0.0.1:3128", ""])
def test_each_variable_counts_as_ever(getproxies, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert getproxies() == urllib.request.getproxies_environment()


def test_a_proxy_that_a_test_sets_holds_at_once_and_no_longer(getproxies, monkeypatch):
    assert getproxies() == {}
    with monkeypatch.context() as for_a_while:
        for_a_while.setenv("https_proxy", "http://127.0.0.1:3128")
        assert getproxies() == {"https": "http://127.0.0.1:3128"}
    assert getproxies() == {}


def test_an_environment_of_somebody_elses_making_is_read_as_ever(getproxies, monkeypatch):
    monkeypatch.setattr(os, "environ", {"https_proxy": "http://127.0.0.1:3128"})
    assert getproxies() == {"https": "http://127.0.0.1:3128"}


def test_where_there_is_none_nothing_is_decoded(getproxies, monkeypatch):
    monkeypatch.setattr(os.environ, "decodekey", lambda _: pytest.fail("it was"))
    assert getproxies() == {}


def test_what_asks_may_be_imported_while_somebody_counts():
    script = (
        "import sys\n"
        "from pytest_tokenbudget import track_usage\n"
        "assert 'urllib.request' not in sys.modules\n"
        "with track_usage():\n"
        "    import urllib.request\n"
        "assert urllib.request.getproxies is not urllib.request.getproxies_environment\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
