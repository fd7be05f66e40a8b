"""Clients that only see replays have no connection pool; one that is to send something makes its own, as it was asked."""

from __future__ import annotations

import asyncio
import importlib
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from hello_server import Hello

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture import idle_transports
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
    # These tests' own process has imported it for long.
    monkeypatch.setattr(idle_transports, "_is_loaded", lambda _: False)
    return found


@pytest.fixture
def replay(tmp_path):
    """Stands for a test that replays, for as long as its block lasts."""
    return lambda record="none": insert(Playback(path=tmp_path / "cassette.yaml", record=record))


@pytest.fixture
def serving():
    """Starts a server, and stops it."""
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


def test_what_it_was_asked_for_holds_later(library, replay):
    with replay():
        client = library.Client(limits=library.Limits(max_connections=7, max_keepalive_connections=3))
    assert not has_pool(client)
    pool = client._transport._pool
    assert (pool._max_connections, pool._max_keepalive_connections) == (7, 3)


def test_a_pool_of_somebody_elses_is_the_one(library, replay):
    closed = []
    pool = SimpleNamespace(close=lambda: closed.append(True), __exit__=None)
    with replay():
        client = library.Client()
        client._transport._pool = pool
        assert pool_of(client._transport) is SimpleNamespace
        client.close()
    assert closed == [True]
    assert client._transport._pool is pool


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


WISHES = {
    "verify": {"verify": False},
    "context": {"verify": ssl.create_default_context()},
    "proxy": {"proxy": "http://127.0.0.1:9"},
    "socket": {"uds": "somewhere", "retries": 1},
    "by hand": {},
}


@pytest.mark.parametrize("wishes", WISHES.values(), ids=WISHES)
def test_what_may_be_wrong_is_found_at_once(library, replay, wishes):
    """A transport that code makes by hand is made there and then, and so are all that ask for more than a client."""
    with replay():
        assert "_pool" in vars(library.HTTPTransport(**wishes))


@pytest.mark.parametrize("wishes", [{"retry": 3}, {"limits": None}, {"limits": 7}])
def test_what_is_wrong_is_told_where_it_is(library, replay, wishes):
    with replay(), pytest.raises((TypeError, AttributeError)):
        library.HTTPTransport(**wishes)


@pytest.mark.parametrize("place", [None, "a slot"])
def test_a_transport_of_ones_own_is_made_at_once(library, replay, place):
    class Own(library.HTTPTransport):
        if place:
            __slots__ = ("_pool",)
        else:
            _pool = None

    with replay():
        own = Own(limits=library.Limits())
        assert own._pool is not None
        own.__enter__()
        own.__exit__(exc_type=None, exc_value=None, traceback=None)
        own.close()


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
def test_nobody_waits_whose_pool_somebody_may_have_replaced(library, replay, kind, monkeypatch):
    """httpcore was imported: mocks put themselves into its classes' place."""
    core = importlib.import_module(library.__name__.replace("httpx", "httpcore"))
    expected = core.ConnectionPool if kind == "Client" else core.AsyncConnectionPool
    with replay():
        before = getattr(library, kind)()
        assert pool_of(before._transport) is None
        monkeypatch.setattr(idle_transports, "_is_loaded", lambda name: name == core.__name__)
        assert pool_of(before._transport) is expected
        assert has_pool(before)
        assert has_pool(getattr(library, kind)())


def test_a_transport_that_was_never_made_has_none(library):
    class Own(library.HTTPTransport):
        def __init__(self):
            pass

    with pytest.raises(AttributeError, match="_pool"):
        Own()._pool  # noqa: B018 - looked at for its error
    assert pool_of(Own()) is None
