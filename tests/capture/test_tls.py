"""Clients that only see replays share one TLS context; all others build their own."""

from __future__ import annotations

import importlib

import pytest

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture.playback import Playback, insert


@pytest.fixture(params=["httpx", "httpx2"])
def library(request):
    return pytest.importorskip(request.param)


@pytest.fixture
def built(library, monkeypatch):
    """How many contexts were really built: counted below what is shared."""
    home = importlib.import_module(f"{library.__name__}._transports.default")
    with track_usage():  # hooks the library
        pass
    inner = home.create_ssl_context.__wrapped__
    count = []
    cell = next(cell for cell in home.create_ssl_context.__closure__ if getattr(cell, "cell_contents", None) is inner)

    def counted(*args, **kwargs):
        count.append(1)
        return inner(*args, **kwargs)

    cell.cell_contents = counted
    yield count
    cell.cell_contents = inner


def playback_of(tmp_path, record="none"):
    return Playback(path=tmp_path / "cassette.yaml", record=record)


def test_replayed_clients_share_one(library, built, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", importlib.import_module("certifi").where())
    with insert(playback_of(tmp_path)):
        clients = [library.Client() for _ in range(5)]
    for client in clients:
        client.close()
    assert len(built) <= 1


def test_a_client_with_wishes_of_its_own_gets_its_own(library, built, tmp_path):
    with insert(playback_of(tmp_path)):
        library.Client(verify=False).close()
        library.Client(verify=False).close()
    assert len(built) == 2


def test_nothing_is_shared_outside_of_a_replay(library, built, tmp_path):
    library.Client().close()
    with insert(playback_of(tmp_path, record="once")):
        library.Client().close()
    assert len(built) == 2
