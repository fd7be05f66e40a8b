"""``http.client`` and what is made of it, from a cassette and to one: each way to write a request, and to connect."""

from __future__ import annotations

import array
import asyncio
import contextlib
import http.client
import io
import json
import socket
import struct
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import create_default_context
from typing import Generic, TypeVar

import aiohttp
import httpx2
import pytest
import requests
import urllib3
import yaml
from truth import CHAT, assert_billed, chat_bytes, chat_request

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.capture.attach import attached
from pytest_tokenbudget.capture.playback import Playback, insert
from pytest_tokenbudget.errors import ReplayMiss

TIMEOUT = 0.5


def send_http_client(url):
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=TIMEOUT)
    connection.request("POST", f"/v1{CHAT}", chat_bytes(), JSON)
    return connection.getresponse().read()


def send_urllib(url):
    with urllib.request.urlopen(urllib.request.Request(url, chat_bytes(), JSON), timeout=TIMEOUT) as answer:
        return answer.read()


def send_urllib3(url):
    with urllib3.PoolManager() as pool:
        return pool.request("POST", url, body=chat_bytes(), headers=JSON, timeout=TIMEOUT, retries=False).data


def send_requests(url):
    return requests.post(url, json=chat_request(), timeout=TIMEOUT).content


def send_httpx(url):
    return httpx2.post(url, json=chat_request(), timeout=TIMEOUT).content


def send_aiohttp(url):
    async def send():
        timeout = aiohttp.ClientTimeout(sock_read=TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json=chat_request()) as answer,
        ):
            return await answer.read()

    return asyncio.run(send())


FAR = "api.example.invalid"
SAID = '{"said": "é"}'
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _attached():
    with attached():
        yield


@pytest.fixture
def recorded(tmp_path):
    """A playback of these exchanges with a server that nobody can reach: ``recorded((request, response), ...)``."""

    def recorded(*exchanges):
        path = tmp_path / "x.yaml"
        interactions = [
            {
                "request": {"method": "POST", "uri": f"https://{FAR}/v1/x", "body": "{}", "headers": {}} | request,
                "response": {"status": {"code": 200, "message": "OK"}, "headers": {}, "body": {"string": SAID}}
                | response,
            }
            for request, response in exchanges
        ]
        path.write_text(yaml.safe_dump({"interactions": interactions, "version": 1}, allow_unicode=True), "utf-8")
        return Playback(path=path)

    return recorded


def by_request(connection, body):
    connection.request("POST", "/v1/x", body, JSON)


def by_text(connection, body):
    connection.request("POST", "/v1/x", body.decode(), JSON)


def by_file(connection, body):
    connection.request("POST", "/v1/x", io.BytesIO(body), JSON)  # in chunks


def by_text_file(connection, body):
    connection.request("POST", "/v1/x", io.StringIO(body.decode()), {**JSON, "content-length": str(len(body))})


def by_pieces(connection, body):
    connection.request("POST", "/v1/x", (body[start : start + 3] for start in range(0, len(body), 3)), JSON)


def by_buffer(connection, body):
    connection.request("POST", "/v1/x", array.array("B", body), {**JSON, "content-length": str(len(body))})


def by_path(connection, body):
    connection.request("POST", "v1/x", body, JSON)


def by_hand(connection, body):
    connection.putrequest("POST", "/v1/x")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    for start in range(0, len(body), 5):
        connection.send(body[start : start + 5])


@pytest.mark.parametrize(
    "write", [by_request, by_text, by_file, by_text_file, by_pieces, by_buffer, by_path, by_hand]
)
@pytest.mark.parametrize("kind", [http.client.HTTPConnection, http.client.HTTPSConnection])
def test_each_way_to_write_a_request(recorded, write, kind):
    scheme = kind.__name__[:-10].lower()
    asked = {"uri": f"{scheme}://{FAR}/v1/x", "body": '{"a": 1, "b": [2]}'}
    with insert(recorded((asked, {}), (asked, {"body": {"string": "again"}}))):
        connection = kind(FAR)
        write(connection, b'{"b":[2],"a":1}')
        answer = connection.getresponse()
        assert (answer.status, answer.reason, answer.version) == (200, "OK", 11)
        assert answer.peek(1)[:1] == b"{"
        assert answer.read() == SAID.encode()
        write(connection, b'{"b":[2],"a":1}')
        assert connection.getresponse().read() == b"again"
        with pytest.raises(ReplayMiss, match=r"\(drift\)"):
            write(connection, b'{"b":[2],"a":2}')
            connection.getresponse()


@pytest.mark.parametrize(
    ("method", "response", "seen"),
    [
        (
            "GET",
            {"headers": {"Content-Length": ["999"], "X": ["1", "2"]}},
            (200, SAID.encode(), str(len(SAID.encode()))),
        ),
        ("GET", {"headers": {"Transfer-Encoding": "chunked"}}, (200, SAID.encode(), None)),
        ("HEAD", {"headers": {"content-length": "999"}, "body": {"string": ""}}, (200, b"", "999")),
        ("GET", {"status": {"code": 204, "message": None}, "body": {"string": ""}}, (204, b"", None)),
        ("GET", {"status": {"code": 429, "message": "Slow down"}}, (429, SAID.encode(), None)),
        (
            "GET",
            {"status": {"code": 302, "message": "Found"}, "headers": {"Location": ["/v1/x"]}},
            (200, b"there", None),
        ),
    ],
)
def test_each_kind_of_answer(recorded, method, response, seen):
    asked = {"method": method, "body": None}
    with insert(recorded((asked, response), (asked, {"body": {"string": "there"}}))):
        answer = requests.request(method, f"https://{FAR}/v1/x", timeout=5)
    assert (answer.status_code, answer.content, answer.headers.get("content-length")) == seen
    if "X" in response.get("headers", ()):
        assert answer.headers["X"] == "1, 2"


@pytest.mark.parametrize("proxy", ["http://user:pw@proxy.example.invalid:3128", "http://127.0.0.1:9"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_is_asked(recorded, scheme, proxy):
    with insert(recorded(({"uri": f"{scheme}://{FAR}/v1/x"}, {}))):
        answer = requests.post(f"{scheme}://{FAR}/v1/x", b"{}", proxies={scheme: proxy}, timeout=5)
    assert answer.text == "{}" or json.loads(answer.content) == json.loads(SAID)


def test_a_connection_that_is_opened_first_reaches_nobody(recorded):
    with insert(recorded(({}, {}))) as playback:
        connection = http.client.HTTPSConnection(FAR, context=create_default_context())
        connection.connect()
        by_request(connection, b"{}")
        assert connection.getresponse().read() == SAID.encode()
    assert not playback.failed


def test_a_class_that_connects_on_its_own_reaches_nobody_either(recorded):
    class Own(http.client.HTTPSConnection):
        def connect(self):
            raise AssertionError("it connects")

    with insert(recorded(({}, {}))):
        connection = Own(FAR)
        connection.connect()
        by_request(connection, b"{}")
        assert connection.getresponse().read() == SAID.encode()
    with pytest.raises(AssertionError, match="it connects"):
        Own(FAR).connect()


T = TypeVar("T")


class Mixin(Generic[T]):
    """Of a connection, and of something else."""

    def connect(self):
        return "of its own"


def test_only_connections_of_http_are_kept_from_connecting(recorded):
    class Traced(Mixin[str], http.client.HTTPSConnection):
        pass

    class Database(Mixin[str]):
        pass

    with insert(recorded()):
        assert Traced(FAR).connect() is None
        assert Database().connect() == Mixin().connect() == "of its own"
    assert Traced(FAR).connect() == "of its own"


def then_nothing(connection):
    connection.close()


def then_around_the_client(connection):
    connection.sock.sendall(b"POST /v1/x HTTP/1.1\r\n\r\n")


def then_who_is_there(connection):
    connection.sock.getpeercert()


def then_half_a_request(connection):
    connection.putrequest("POST", "/v1/x")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{}")


@pytest.mark.parametrize(
    "then",
    [then_nothing, then_around_the_client, then_who_is_there, then_half_a_request],
    ids=lambda then: then.__name__,
)
@pytest.mark.parametrize("kind", [http.client.HTTPSConnection, urllib3.connection.HTTPSConnection])
def test_to_connect_past_the_cassette_is_an_attempt_whoever_swallows_it(recorded, then, kind):
    with insert(recorded(({}, {}))) as playback:
        connection = kind(FAR)
        connection.connect()
        with contextlib.suppress(BaseException):
            then(connection)
    assert {(miss.reason, miss.url) for miss in playback.misses} == {("blocked", f"{FAR}:443")}


def test_a_server_of_this_machine_is_connected_to_as_ever(server, recorded):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
    host, _, port = server.openai_url.split("/")[2].partition(":")
    with insert(recorded()) as playback:
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection("127.0.0.1", nobody).connect()
        connection = http.client.HTTPConnection(host, int(port))
        connection.connect()
        assert connection.sock.getpeername() == (host, int(port))
        connection.close()
    assert not playback.failed


def test_what_a_replayed_test_has_opened_works_after_it(server, recorded):
    connection = urllib3.connection.HTTPConnection(*server.openai_url.split("/")[2].split(":"))
    connection.host, real = FAR, connection.host
    with insert(recorded(({}, {}))):
        connection.connect()
    connection.host = real
    connection.request("POST", f"/v1{CHAT}", chat_bytes(), JSON)
    assert json.loads(connection.getresponse().data)["choices"]


def test_a_request_whose_answer_nobody_reads_is_asked_for_all_the_same(recorded):
    with insert(recorded()) as playback:
        connection = http.client.HTTPSConnection(FAR)
        with pytest.raises(ReplayMiss):
            by_request(connection, b"{}")
        connection.close()
    assert [miss.reason for miss in playback.misses] == ["drift"]


def test_a_connection_of_before_is_used_neither_in_a_replay_nor_lost_for_later(server, recorded):
    pool = urllib3.PoolManager()

    def ask():
        return pool.request("POST", server.openai_url + CHAT, body=chat_bytes(), headers=JSON).data

    live = ask()
    request = {"uri": server.openai_url + CHAT, "body": chat_bytes().decode()}
    with insert(recorded((request, {}))), track_usage() as usage:
        assert ask() == SAID.encode()
    assert usage.requests == 1
    assert json.loads(ask())["choices"] == json.loads(live)["choices"]
    assert len(server.bills) == 2


@pytest.mark.parametrize("read", [True, False])
def test_what_is_sent_while_it_is_recorded_is_billed_once(server, tmp_path, read):
    path = tmp_path / "x.yaml"
    with insert(Playback(path=path, record="once")) as playback, track_usage() as usage:
        connection = http.client.HTTPConnection(server.openai_url.split("/")[2], timeout=5)
        connection.request("POST", f"/v1{CHAT}", chat_bytes(), JSON)
        if read:
            connection.getresponse().read()
        connection.close()
    deadline = time.monotonic() + 10
    while not server.bills and time.monotonic() < deadline:
        time.sleep(0.01)  # it answers in a thread of its own
    assert len(server.bills) == 1
    playback.save(whole=True)
    if read:
        assert_billed(usage, server, requests=1)
        assert [each["request"]["body"] for each in yaml.safe_load(path.read_text("utf-8"))["interactions"]] == [
            chat_bytes().decode()
        ]
    else:
        assert usage.unmeasured_requests == 1  # it was sent, and nobody knows what it used


def asked_twice(url):
    with requests.Session() as session:
        answers = [session.post(url, json=chat_request(), stream=True, timeout=5) for _ in range(2)]
        return [answer.content for answer in answers]


def read_elsewhere(url):
    answer = requests.post(url, json=chat_request(), stream=True, timeout=5)
    reader = threading.Thread(target=lambda: answer.content)
    reader.start()
    reader.join()


@pytest.mark.parametrize(("ask", "bills"), [(asked_twice, 2), (read_elsewhere, 1)])
def test_each_request_counts_once_whoever_reads_its_answer_and_when(server, tmp_path, ask, bills):
    with insert(Playback(path=tmp_path / "x.yaml", record="once")) as playback, track_usage() as usage:
        ask(server.openai_url + CHAT)
    playback.save(whole=True)
    assert_billed(usage, server, requests=bills)
    assert len(yaml.safe_load((tmp_path / "x.yaml").read_text("utf-8"))["interactions"]) == bills


HEAD = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CUTS = {
    "short": HEAD + "content-length: 252\r\n\r\n" + "x" * 60,
    "empty": HEAD + "content-length: 252\r\n\r\n",
    "chunk": HEAD + "transfer-encoding: chunked\r\n\r\n40\r\n" + "x" * 0x20,
    "between chunks": HEAD + "transfer-encoding: chunked\r\n\r\n20\r\n" + "x" * 0x20 + "\r\n",
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("how", ["hang up", "reset", "silence"])
@pytest.mark.parametrize(
    "send", [send_http_client, send_urllib, send_urllib3, send_requests, send_httpx, send_aiohttp]
)
def test_an_answer_that_breaks_off_is_recorded_by_no_client(tmp_path, cut, how, send):
    with (
        Broken(CUTS[cut].encode(), how) as url,
        insert(Playback(path=tmp_path / "x.yaml", record="once")) as playback,
        pytest.raises(Exception),  # noqa: B017 - each client has its own
    ):
        send(url)
    playback.save(whole=True)
    assert playback.failed
    assert not (tmp_path / "x.yaml").exists()


def test_a_tunnel_is_dug_before_the_request_and_is_no_part_of_it(server, tmp_path):
    """What a proxy is told comes before the request: it is neither counted nor recorded."""
    host, _, port = server.openai_url.split("/")[2].partition(":")
    with Proxy() as proxy, track_usage() as usage:
        for playback in (None, Playback(path=tmp_path / "x.yaml", record="once")):
            connection = http.client.HTTPConnection("127.0.0.1", proxy.server_port, timeout=5)
            connection.set_tunnel(host, int(port))
            if playback is None:
                connection.request("POST", f"/v1{CHAT}", chat_bytes(), JSON)
                connection.getresponse().read()
                continue
            with insert(playback):
                connection.request("POST", f"/v1{CHAT}", chat_bytes(), JSON)
                connection.getresponse().read()
            playback.save(whole=True)
        assert proxy.asked == [f"{host}:{port}"] * 2
    assert_billed(usage, server, requests=2)
    (interaction,) = yaml.safe_load((tmp_path / "x.yaml").read_text("utf-8"))["interactions"]
    assert json.loads(interaction["request"]["body"]) == chat_request()
    assert interaction["request"]["uri"] == server.openai_url + CHAT


class Broken:
    """A server whose answer ends before its end: by a hang-up, a reset or silence."""

    def __init__(self, answer, how):
        self._answer, self._how = answer, how
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1{CHAT}"

    def __exit__(self, *_):
        self._over.set()
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(self._answer)
                    if self._how == "silence":
                        self._over.wait(10)
                    elif self._how == "reset":
                        time.sleep(0.1)
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Proxy(ThreadingHTTPServer):
    """A proxy on loopback that digs tunnels."""

    def __init__(self):
        self.asked = []
        super().__init__(("127.0.0.1", 0), Tunnel)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Tunnel(BaseHTTPRequestHandler):
    def do_CONNECT(self):
        import select

        self.server.asked.append(self.path)
        host, _, port = self.path.partition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            while True:
                for ready in select.select([self.connection, far], [], [], 5)[0]:
                    data = ready.recv(65536)
                    if not data:
                        self.close_connection = True
                        return
                    (far if ready is self.connection else self.connection).sendall(data)

    def log_message(self, *_):
        pass


def test_a_server_of_the_tests_own_is_asked_itself(recorded):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"mine")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with insert(recorded()) as playback:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=5) as answer:
                assert answer.read() == b"mine"
            session = requests.Session()
            for _ in range(2):
                assert session.get(f"http://127.0.0.1:{server.server_port}/", timeout=5).text == "mine"
        assert not playback.failed
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("client", ["httpx", "requests", "aiohttp", "aiohttp form"])
def test_a_hook_of_the_users_that_fails_is_not_swallowed(recorded, client):
    def fail(request):
        raise KeyError("boom")

    async def form():
        data = aiohttp.FormData()
        data.add_field("file", b"x" * 100, filename="a.mp3")
        async with aiohttp.ClientSession() as session:
            await session.post(f"https://{FAR}/v1/x", data=data)

    playback = recorded()
    playback.configure = lambda: {"before_record_request": fail}
    ask = {
        "httpx": lambda: httpx2.post(f"https://{FAR}/v1/x"),
        "requests": lambda: requests.post(f"https://{FAR}/v1/x", timeout=5),
        "aiohttp": lambda: send_aiohttp(f"https://{FAR}/v1/x"),
        "aiohttp form": lambda: asyncio.run(form()),
    }[client]
    with insert(playback), contextlib.suppress(BaseException):
        ask()
    assert "boom" in (playback.fault or "")


def test_a_form_of_aiohttp_is_recorded_and_replayed(server, tmp_path):
    async def ask(name):
        data = aiohttp.FormData()
        data.add_field("model", "whisper-1")
        data.add_field("file", b"x" * 100, filename=name)
        base = server.openai_url + "/"
        async with aiohttp.ClientSession(base) as session, session.post("audio/transcriptions", data=data) as answer:
            return answer.status, await answer.read()

    path = tmp_path / "x.yaml"
    with insert(Playback(path=path, record="once")) as playback:
        live = asyncio.run(ask("a.mp3"))
    playback.save(whole=True)
    assert not playback.failed
    (interaction,) = yaml.safe_load(path.read_text("utf-8"))["interactions"]
    assert interaction["request"]["uri"] == f"{server.openai_url}/audio/transcriptions"
    with insert(Playback(path=path)) as playback:
        assert asyncio.run(ask("a.mp3")) == live
        with pytest.raises(ReplayMiss):
            asyncio.run(ask("b.mp3"))
    assert [miss.reason for miss in playback.misses] == ["drift"]


def test_a_session_of_aiohttp_with_a_base_counts_once_and_replays(server, tmp_path):
    async def ask():
        base, body = server.openai_url + "/", chat_request()
        async with aiohttp.ClientSession(base) as session, session.post("chat/completions", json=body) as answer:
            return await answer.json()

    path = tmp_path / "x.yaml"
    with insert(Playback(path=path, record="once")) as playback, track_usage() as usage:
        live = asyncio.run(ask())
    playback.save(whole=True)
    assert_billed(usage, server, requests=1)
    with insert(Playback(path=path)), track_usage() as replayed:
        assert asyncio.run(ask()) == live
    assert (replayed.requests, replayed.input_tokens) == (1, usage.input_tokens)
