"""Clients that only see replays share one TLS context, or need none; all others build their own."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import ssl
import subprocess
import threading
from http.server import ThreadingHTTPServer

import pytest
from hello_server import Hello

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


@pytest.fixture
def _no_certificates(monkeypatch):
    """The environment names no certificates, whatever this machine's does."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def playback_of(tmp_path, record="none"):
    return Playback(path=tmp_path / "cassette.yaml", record=record)


def test_replayed_clients_share_one(library, built, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", importlib.import_module("certifi").where())
    with insert(playback_of(tmp_path)):
        clients = [library.Client() for _ in range(5)]
    for client in clients:
        client.close()
    assert len(built) <= 1


@pytest.mark.usefixtures("_no_certificates")
def test_no_context_is_built_where_a_connection_makes_the_same(library, built, tmp_path):
    with insert(playback_of(tmp_path)):
        clients = [library.Client(), library.Client(proxy="http://127.0.0.1:9")]
    for client in clients:
        client.close()
    assert not built or library.__name__ == "httpx"


@pytest.fixture
def tls_server(tmp_path):
    """A server on loopback with a certificate that it wrote for itself: its URL, and the certificate's file."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs the command openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=own -addext"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made.split(), "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/", certificate
        server.shutdown()
        thread.join(10)


def get(client, url):
    if hasattr(client, "__enter__"):
        with client:
            return client.get(url, timeout=10).text

    async def ask():
        async with client:
            return (await client.get(url, timeout=10)).text

    return asyncio.run(ask())


@pytest.mark.usefixtures("_no_certificates")
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_client_that_outlives_its_test_looks_at_certificates(library, tls_server, tmp_path, monkeypatch, kind):
    """A server for whose certificate nobody vouches is refused; one that is trusted is talked to."""
    url, certificate = tls_server
    with insert(playback_of(tmp_path)):
        client = getattr(library, kind)()
    with pytest.raises(library.ConnectError, match=r"(?i)certificate.verify.failed"):
        get(client, url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with insert(playback_of(tmp_path)):
        client = getattr(library, kind)()
    assert get(client, url) == "hello"


@pytest.mark.usefixtures("_no_certificates")
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_a_client_that_does_not_ask_the_environment_does_not_later(library, tls_server, tmp_path, monkeypatch, kind):
    url, certificate = tls_server
    with insert(playback_of(tmp_path)):
        client = getattr(library, kind)(trust_env=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with pytest.raises(library.ConnectError, match=r"(?i)certificate.verify.failed"):
        get(client, url)


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
