"""Clients that only see replays have no connection pool; one that is to send something makes its own, as it was asked."""

from __future__ import annotations

import asyncio
import importlib
import socketserver
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture.idle_transports import pool_of
from pytest_tokenbudget.capture.playback import Playback, insert

KINDS = pytest.mark.parametrize("kind", ["Client", "AsyncClient"])


@pytest.fixture(params=["httpx", "httpx2"])
def library(request, monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    found = pytest.importorskip(request.param)
    with track_usage():  # hooks the library
        pass
    return found


@pytest.fixture
def replay(tmp_path):
    """Stands for a test that replays, for as long as its block lasts."""
    return lambda record="none": insert(Playback(path=tmp_path / "cassette.yaml", record=record))


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def address_string(self):
        return "a socket"

    def log_message(self, *_):
        pass


@pytest.fixture
def serving():
    """Starts a server on loopback, or on a socket in a file, and stops it."""
    servers = []

    def start(server):
        servers.append((server, threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})))
        servers[-1][1].start()
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join(10)


def url_of(server):
    return f"http://127.0.0.1:{server.server_address[1]}/"


def has_pool(client):
    return "_pool" in vars(client._transport)


def get(client, url):
    if hasattr(client, "__enter__"):
        return client.get(url, timeout=10).text

    async def ask():
        return (await client.get(url, timeout=10)).text

    return asyncio.run(ask())


@KINDS
def test_it_has_none_however_it_is_closed(library, replay, kind):
    make = getattr(library, kind)

    async def through():
        async with make() as entered:
            assert not entered.is_closed
        left = make()
        await left.aclose()
        return entered, left

    with replay():
        if kind == "AsyncClient":
            clients = asyncio.run(through())
        else:
            with make() as entered:
                assert not entered.is_closed
            left = make()
            left.close()
            clients = entered, left
    assert all(each.is_closed and not has_pool(each) for each in clients)


@KINDS
def test_one_that_outlives_its_test_sends_by_a_pool(library, replay, serving, kind):
    url = url_of(serving(ThreadingHTTPServer(("127.0.0.1", 0), Hello)))
    with replay():
        client = getattr(library, kind)()
    assert not has_pool(client)
    assert get(client, url) == "hello"
    assert has_pool(client)
    asyncio.run(client.aclose()) if kind == "AsyncClient" else client.close()
    with pytest.raises(RuntimeError, match="closed"):
        get(client, url)


def test_threads_that_send_at_once_share_it(library, replay, serving):
    url = url_of(serving(ThreadingHTTPServer(("127.0.0.1", 0), Hello)))
    with replay():
        client = library.Client()
    start = threading.Barrier(8)

    def pool():
        start.wait(10)
        return client._transport._pool

    with ThreadPoolExecutor(8) as threads:
        pools = {id(each.result(10)) for each in [threads.submit(pool) for _ in range(8)]}
    assert len(pools) == 1
    assert get(client, url) == "hello"
    client.close()


def test_what_it_was_asked_for_holds_later(library, replay, serving, tmp_path):
    place = tmp_path / "s"
    kind = type("Unix", (socketserver.ThreadingMixIn, socketserver.UnixStreamServer), {"daemon_threads": True})
    serving(kind(str(place), Hello))
    with replay():
        transport = library.HTTPTransport(uds=str(place), retries=1)
        client = library.Client(transport=transport)
    assert not has_pool(client)
    with client:
        assert get(client, "http://nowhere.invalid/") == "hello"


def test_a_transport_that_can_t_be_made_says_so_each_time(library, replay, serving, monkeypatch, tmp_path):
    url = url_of(serving(ThreadingHTTPServer(("127.0.0.1", 0), Hello)))
    with replay():
        client = library.Client(http2=False)
    home = importlib.import_module(f"{library.__name__}._transports.default")

    def fail(*_, **__):
        raise OSError("no certificates")

    with monkeypatch.context() as broken:
        broken.setattr(home, "create_ssl_context", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="no certificates"):
                get(client, url)
    assert get(client, url) == "hello"
    client.close()


@pytest.mark.parametrize(
    "wishes", [{"verify": False}, {"proxy": "http://127.0.0.1:9"}, {"verify": ssl.create_default_context()}]
)
def test_what_may_be_wrong_is_found_at_once(library, replay, wishes):
    make = library.HTTPTransport
    with replay():
        assert "_pool" in vars(make(**wishes))


def test_named_certificates_are_those_of_its_own_time(library, replay, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", importlib.import_module("certifi").where())
    with replay(), library.Client() as asking, library.Client(trust_env=False) as other:
        assert has_pool(asking)
        assert not has_pool(other)


def test_outside_of_a_replay_it_is_made_at_once(library, replay):
    with library.Client() as client:
        assert has_pool(client)
    with replay("once"), library.Client() as client:
        assert has_pool(client)


@KINDS
def test_its_class_is_known_before(library, replay, kind):
    core = importlib.import_module(library.__name__.replace("httpx", "httpcore"))
    with replay():
        client = getattr(library, kind)()
        expected = core.ConnectionPool if kind == "Client" else core.AsyncConnectionPool
        assert pool_of(client._transport) is expected
        assert not has_pool(client)
    assert type(client._transport._pool) is expected
    assert pool_of(client._transport) is expected
    assert pool_of(object()) is None


def test_a_transport_that_was_never_made_has_none(library):
    class Own(library.HTTPTransport):
        def __init__(self):
            pass

    with pytest.raises(AttributeError, match="_pool"):
        Own()._pool  # noqa: B018 - looked at for its error
    assert pool_of(Own()) is None
