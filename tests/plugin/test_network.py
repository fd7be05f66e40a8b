"""The network is closed to a replayed test: whatever tries it is stopped and told, and fails the test.

The inner runs have a network of their own in which there is nothing but loopback, so that what the plugin missed would
go nowhere, and pass. Addresses and names are those that are reserved for documentation.
"""

from __future__ import annotations

import json

import pytest

HELPERS = '''
import asyncio, contextlib, http.client, os, queue, smtplib, socket, ssl, subprocess, sys, tempfile, threading, unittest
import urllib.request, _socket, _thread
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from socket import create_connection as early_create_connection, socket as EarlySocket
import pytest

FAR = ("192.0.2.1", 80)

def reach(address=FAR):
    socket.create_connection(address, timeout=1).close()

@contextlib.contextmanager
def sock(kind=socket.SOCK_STREAM, family=socket.AF_INET, make=socket.socket):
    s = make(family, kind)
    s.settimeout(1)
    try:
        yield s
    finally:
        s.close()

def use(call, *args, **kwargs):
    with sock(*args, **kwargs) as s:
        return call(s)

async def sock_connect(address):
    with sock() as s:
        s.setblocking(False)
        await asyncio.get_running_loop().sock_connect(s, address)

async def datagram(address):
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
    transport.close()

async def in_executor():
    await asyncio.get_running_loop().run_in_executor(None, reach)

def in_thread(work=reach, start=None):
    caught = []
    done = threading.Event()
    def run():
        try:
            work()
        except BaseException as error:
            caught.append(error)
        done.set()
    (start or (lambda run: threading.Thread(target=run).start()))(run)
    assert done.wait(10)
    if caught:
        raise caught[0]

def in_pool(pool):
    with pool:
        return pool.submit(reach).result()

def in_thread_pool():
    with ThreadPool(1) as pool:
        return pool.apply(reach)

class Worker:
    """A thread that was there before any test."""
    def __init__(self):
        self.waiting = queue.Queue()
        threading.Thread(target=self.serve, daemon=True).start()
    def serve(self):
        while True:
            self.waiting.get()()
    def put(self, work):
        in_thread(start=self.waiting.put)

EARLY_WORKER = Worker()
EARLY_POOL = ThreadPoolExecutor(1)
EARLY_POOL.submit(int).result()
EARLY_LOOP = asyncio.new_event_loop()
threading.Thread(target=EARLY_LOOP.run_forever, daemon=True).start()

def with_custom_transport():
    import httpx
    class Custom(httpx.BaseTransport):
        def handle_request(self, request):
            reach((request.url.host, request.url.port))
    with httpx.Client(transport=Custom()) as client:
        client.get("http://custom.example.invalid:81/")

async def with_async_transport():
    import httpx
    class Custom(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            await asyncio.open_connection(request.url.host, request.url.port)
    async with httpx.AsyncClient(transport=Custom()) as client:
        await client.get("http://custom.example.invalid:82/")

def with_httpcore():
    import httpcore
    with httpcore.ConnectionPool() as pool:
        pool.request("GET", "http://core.example.invalid:83/")

def with_websocket():
    from websockets.sync.client import connect
    connect("ws://socket.example.invalid:84/").close()

def with_http_client():
    connection = http.client.HTTPConnection("http.example.invalid", 85)
    try:
        connection.request("GET", "/")
    finally:
        connection.close()

def with_tls():
    context = ssl.create_default_context()
    with context.wrap_socket(socket.socket(), server_hostname="tls.example.invalid") as s:
        s.connect(("tls.example.invalid", 86))

def with_httpx():
    import httpx
    httpx.get("http://covered.example.invalid/", trust_env=False)

def with_requests():
    import requests
    requests.get("http://covered.example.invalid/")

def with_urllib3():
    import urllib3
    with urllib3.PoolManager() as pool:
        pool.request("GET", "http://covered.example.invalid/", retries=False)

def with_urllib():
    urllib.request.urlopen("http://covered.example.invalid/")

async def with_aiohttp():
    import aiohttp
    async with aiohttp.ClientSession() as session:
        await session.get("http://covered.example.invalid/")
'''

NAME = "('model.example.invalid', 443)"
NAMED = "model.example.invalid"
DATAGRAM = "socket.SOCK_DGRAM"

ATTEMPTS = {
    # sockets
    "connect": ("use(lambda s: s.connect(FAR))", "192.0.2.1:80"),
    "connect_ex": ("use(lambda s: s.connect_ex(FAR))", "192.0.2.1:80"),
    "sendto": (f"use(lambda s: s.sendto(b'x', ('192.0.2.1', 53)), {DATAGRAM})", "192.0.2.1:53"),
    "sendto with flags": (f"use(lambda s: s.sendto(b'x', 0, ('192.0.2.1', 53)), {DATAGRAM})", "192.0.2.1:53"),
    "sendmsg": (f"use(lambda s: s.sendmsg([b'x'], [], 0, ('192.0.2.1', 53)), {DATAGRAM})", "192.0.2.1:53"),
    "connected datagram": (f"use(lambda s: s.connect(('192.0.2.1', 53)), {DATAGRAM})", "192.0.2.1:53"),
    "broadcast": (f"use(lambda s: s.sendto(b'x', ('<broadcast>', 9)), {DATAGRAM})", "<broadcast>:9"),
    "create_connection": ("socket.create_connection(FAR, timeout=1)", "192.0.2.1:80"),
    "imported before": ("early_create_connection(FAR, timeout=1)", "192.0.2.1:80"),
    "class imported before": ("use(lambda s: s.connect(FAR), make=EarlySocket)", "192.0.2.1:80"),
    "_socket": ("use(lambda s: s.connect(FAR), make=_socket.socket)", "192.0.2.1:80"),
    "_socket connect_ex": ("use(lambda s: s.connect_ex(FAR), make=_socket.socket)", "192.0.2.1:80"),
    "ipv6": ("use(lambda s: s.connect(('2001:db8::1', 80)), family=socket.AF_INET6)", "2001:db8::1:80"),
    "tls": ("with_tls()", "tls.example.invalid:86"),
    # names that a socket looks up by itself
    "connect name": (f"use(lambda s: s.connect({NAME}))", f"{NAMED}:443"),
    "connect_ex name": (f"use(lambda s: s.connect_ex({NAME}))", f"{NAMED}:443"),
    "sendto name": (f"use(lambda s: s.sendto(b'x', {NAME}), {DATAGRAM})", f"{NAMED}:443"),
    "sendmsg name": (f"use(lambda s: s.sendmsg([b'x'], [], 0, {NAME}), {DATAGRAM})", f"{NAMED}:443"),
    "bind name": (f"use(lambda s: s.bind({NAME}))", f"{NAMED}:443"),
    # look-ups
    "getaddrinfo": (f"socket.getaddrinfo(*{NAME})", f"{NAMED}:443"),
    "getaddrinfo of bytes": ("socket.getaddrinfo(b'model.example.invalid', 443)", f"{NAMED}:443"),
    "gethostbyname": ("socket.gethostbyname('model.example.invalid')", NAMED),
    "gethostbyname_ex": ("socket.gethostbyname_ex('model.example.invalid')", NAMED),
    "gethostbyaddr": ("socket.gethostbyaddr('192.0.2.1')", "192.0.2.1"),
    "getnameinfo": ("socket.getnameinfo(('192.0.2.1', 80), 0)", "192.0.2.1"),
    "getfqdn": ("socket.getfqdn('model.example.invalid')", NAMED),
    # what only looks like loopback
    "name that starts so": ("reach(('localhost.example.invalid', 80))", "localhost.example.invalid:80"),
    "name that starts with its address": ("reach(('127.0.0.1.example.invalid', 80))", "127.0.0.1.example.invalid:80"),
    "mapped": ("use(lambda s: s.connect(('::ffff:192.0.2.1', 80)), family=socket.AF_INET6)", "::ffff:192.0.2.1:80"),
    "decimal": ("reach(('3221225985', 80))", "3221225985:80"),
    "hexadecimal": ("reach(('0xC0000201', 80))", "0xC0000201:80"),
    "octal": ("reach(('0300.0.2.1', 80))", "0300.0.2.1:80"),
    "octal that looks like it": ("reach(('0127.0.0.1', 80))", "0127.0.0.1:80"),
    # asyncio
    "open_connection": ("asyncio.run(asyncio.open_connection(*FAR))", "192.0.2.1:80"),
    "open_connection name": (f"asyncio.run(asyncio.open_connection(*{NAME}))", f"{NAMED}:443"),
    "sock_connect": ("asyncio.run(sock_connect(FAR))", "192.0.2.1:80"),
    "sock_connect name": (f"asyncio.run(sock_connect({NAME}))", f"{NAMED}:443"),
    "create_datagram_endpoint": ("asyncio.run(datagram(('192.0.2.1', 53)))", "192.0.2.1:53"),
    "run_in_executor": ("asyncio.run(in_executor())", "192.0.2.1:80"),
    "to_thread": ("asyncio.run(asyncio.to_thread(reach))", "192.0.2.1:80"),
    # threads
    "thread": ("in_thread()", "192.0.2.1:80"),
    "low thread": ("in_thread(start=lambda run: _thread.start_new_thread(run, ()))", "192.0.2.1:80"),
    "thread of before": ("EARLY_WORKER.put(reach)", "192.0.2.1:80"),
    "pool": ("in_pool(ThreadPoolExecutor(1))", "192.0.2.1:80"),
    "pool of before": ("EARLY_POOL.submit(reach).result()", "192.0.2.1:80"),
    "pool of multiprocessing": ("in_thread_pool()", "192.0.2.1:80"),
    "loop of before": (
        "asyncio.run_coroutine_threadsafe(asyncio.open_connection(*FAR), EARLY_LOOP).result()", "192.0.2.1:80",
    ),
    # clients that no cassette covers
    "custom transport": ("with_custom_transport()", "custom.example.invalid:81"),
    "custom async transport": ("asyncio.run(with_async_transport())", "custom.example.invalid:82"),
    "httpcore": ("with_httpcore()", "core.example.invalid:83"),
    "websocket": ("with_websocket()", "socket.example.invalid:84"),
    "http.client": ("with_http_client()", None),
    "smtplib": ("smtplib.SMTP('mail.example.invalid', 25)", "mail.example.invalid:25"),
    # clients that cassettes cover
    "httpx": ("with_httpx()", None),
    "requests": ("with_requests()", None),
    "urllib3": ("with_urllib3()", None),
    "urllib": ("with_urllib()", None),
    "aiohttp": ("asyncio.run(with_aiohttp())", None),
}  # fmt: skip
"""What a test may do -> the code, and what is said to be out of reach; ``None`` where a recording is missing."""

ALLOWED = {
    **{
        f"server on {name}": f"serve({family}, {address!r}, {spelled!r})"
        for name, family, address, spelled in (
            ("127.0.0.1", "socket.AF_INET", "127.0.0.1", "127.0.0.1"),
            ("127.8.9.10", "socket.AF_INET", "127.8.9.10", "127.8.9.10"),
            ("localhost", "socket.AF_INET", "127.0.0.1", "localhost"),
            ("LOCALHOST", "socket.AF_INET", "127.0.0.1", "LOCALHOST"),
            ("old spelling", "socket.AF_INET", "127.0.0.1", "127.1"),
            ("decimal", "socket.AF_INET", "127.0.0.1", "2130706433"),
            ("unspecified", "socket.AF_INET", "0.0.0.0", "0.0.0.0"),
            ("no address", "socket.AF_INET", "", ""),
            ("::1", "socket.AF_INET6", "::1", "::1"),
            ("mapped", "socket.AF_INET6", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        )
    },
    "bytes": "serve(socket.AF_INET, '127.0.0.1', b'127.0.0.1')",
    "datagrams": "use(lambda s: s.sendto(b'x', ('127.0.0.1', 9)), socket.SOCK_DGRAM)",
    "pair": "[s.close() for s in socket.socketpair()]",
    "file": "serve(socket.AF_UNIX, tempfile.mktemp())",
    "own name": "socket.getfqdn()",
    "asyncio": "asyncio.run(serve_async())",
}
SERVE = """
def serve(family, address, spelled=None):
    with sock(family=family) as server:
        server.bind((address, 0) if family != socket.AF_UNIX else address)
        server.listen()
        port = server.getsockname()[1]
        with sock(family=family) as s:
            s.connect(address if family == socket.AF_UNIX else (spelled, port))

async def serve_async():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        await writer.wait_closed()
"""


def table(rows):
    return "{\n" + "".join(f"    {name!r}: lambda: {code},\n" for name, code in rows.items()) + "}\n"


def read(pytester):
    return json.loads((pytester.path / "token-report.json").read_text("utf-8"))


def said_of(document):
    """What the report says of each test beside its figures."""
    said = {}
    for note in (*document["blocked"], *document["drift"]):
        said.setdefault(note["nodeid"], []).append(note["message"])
    return said


def test_every_way_out_is_closed_and_told_of(pytester, run_alone):
    pytester.makepyfile(
        test_ways=HELPERS
        + SERVE
        + f"ATTEMPTS = {table({name: code for name, (code, _) in ATTEMPTS.items()})}"
        + f"ALLOWED = {table(ALLOWED)}"
        + """
@pytest.mark.parametrize("way", ATTEMPTS)
def test_raised(usage, way):
    ATTEMPTS[way]()

@pytest.mark.parametrize("way", ATTEMPTS)
def test_swallowed(usage, way):
    try:
        ATTEMPTS[way]()
    except BaseException:
        pass

@pytest.mark.parametrize("way", ALLOWED)
def test_allowed(usage, way):
    ALLOWED[way]()

def test_not_replayed():
    with pytest.raises(OSError):
        reach()
"""
    )
    result = run_alone("--token-report=json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2 * len(ATTEMPTS), passed=len(ALLOWED) + 1)
    document = read(pytester)
    said = said_of(document)
    for kind in ("raised", "swallowed"):
        for way, (_, target) in ATTEMPTS.items():
            nodeid = f"test_ways.py::test_{kind}[{way}]"
            lines = said.pop(nodeid)
            if target is None:
                assert len(lines) == 1, way
                assert lines[0].startswith(f"{nodeid} has no recording: "), way
            else:
                expected = f"{nodeid} tried to reach {target} past its cassette, and the network is closed"
                assert any(line.startswith(expected) for line in lines), (way, lines)
            assert lines[0] in result.stdout.str()
    assert said == {}
    assert len(document["blocked"]) >= 2 * sum(target is not None for _, target in ATTEMPTS.values())


FIXTURES = """
def swallowed(port):
    try:
        reach(("192.0.2.1", port))
    except BaseException:
        pass

@pytest.fixture
def function_up(): swallowed(1)

@pytest.fixture
def function_down():
    yield
    swallowed(2)

@pytest.fixture(scope="class")
def class_up(): swallowed(3)

@pytest.fixture(scope="class")
def class_down():
    yield
    swallowed(4)

@pytest.fixture(scope="module")
def module_up(): swallowed(5)

@pytest.fixture(scope="module")
def module_down():
    yield
    swallowed(6)

@pytest.fixture(scope="package")
def package_up(): swallowed(7)

@pytest.fixture(scope="session")
def session_up(): swallowed(8)

@pytest.fixture(scope="session")
def session_down():
    yield
    swallowed(9)

def test_function_up(usage, function_up): pass
def test_function_down(usage, function_down): pass
def test_class_up(usage, class_up): pass
class TestDown:
    def test_class_down(self, usage, class_down): pass
def test_module_up(usage, module_up): pass
def test_package_up(usage, package_up): pass
def test_session_up(usage, session_up): pass

@pytest.mark.token_budget(min_requests=0)
class TestUnitUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): swallowed(10)
    def test_it(self): pass

@pytest.mark.token_budget(min_requests=0)
class TestUnitDown(unittest.TestCase):
    @classmethod
    def tearDownClass(cls): swallowed(11)
    def test_it(self): pass

@pytest.mark.token_budget(min_requests=0)
class TestUnitEach(unittest.TestCase):
    def setUp(self): swallowed(12)
    def tearDown(self): swallowed(13)
    def test_it(self): pass

@pytest.mark.token_budget(min_requests=0)
class TestPlain:
    def setup_method(self): swallowed(14)
    def teardown_method(self): swallowed(15)
    def test_it(self): pass

# The last test of the module, and of the run.
def test_module_down(usage, module_down, session_down): pass
"""


def test_set_up_and_tear_down_of_every_scope_are_closed(pytester, run_alone, spread):
    pytester.makepyfile(test_scopes=HELPERS + FIXTURES)
    # All in one worker, so that it is known which test the last one is.
    result = run_alone("--token-report=json", *(("--dist=loadfile",) if spread else ()))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = said_of(read(pytester))
    told = {
        name: sorted(
            int(line.partition("192.0.2.1:")[2].split()[0]) for line in said.get(f"test_scopes.py::{name}", ())
        )
        for name in (
            "test_function_up", "test_function_down", "test_class_up", "TestDown::test_class_down", "test_module_up",
            "test_package_up", "test_session_up", "TestUnitUp::test_it", "TestUnitDown::test_it",
            "TestUnitEach::test_it", "TestPlain::test_it", "test_module_down",
        )
    }  # fmt: skip
    assert told == {
        "test_function_up": [1],
        "test_function_down": [2],
        "test_class_up": [3],
        "TestDown::test_class_down": [4],
        "test_module_up": [5],
        "test_package_up": [7],
        "test_session_up": [8],
        "TestUnitUp::test_it": [10],
        "TestUnitDown::test_it": [11],
        "TestUnitEach::test_it": [12, 13],
        "TestPlain::test_it": [14, 15],
        "test_module_down": [6, 9],
    }
    outcomes = {test["nodeid"].partition("::")[2]: test["outcome"] for test in read(pytester)["tests"]}
    assert {name: outcomes[name] for name in told if outcomes[name] not in ("failed", "error")} == {}
    assert "the fixture session_down of test_scopes.py::test_module_down tried to reach" in result.stdout.str()


def test_an_expected_failure_stands_and_the_attempt_is_in_the_report(pytester, run_alone):
    pytester.makepyfile(
        test_x=HELPERS
        + """
@pytest.mark.xfail(strict=True)
def test_blocked(usage):
    with contextlib.suppress(BaseException):
        reach()

@pytest.mark.xfail(strict=True)
def test_missed(usage):
    with contextlib.suppress(BaseException):
        with_httpx()

@pytest.mark.xfail(strict=True, raises=ZeroDivisionError)
def test_of_another_kind(usage):
    with contextlib.suppress(BaseException):
        reach()

def test_skipped(usage):
    with contextlib.suppress(BaseException):
        reach()
    pytest.skip("all the same")
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(xfailed=2, failed=2)
    document = read(pytester)
    assert {each["nodeid"] for each in document["blocked"]} == {
        "test_x.py::test_blocked", "test_x.py::test_of_another_kind", "test_x.py::test_skipped",
    }  # fmt: skip
    assert [each["nodeid"] for each in document["drift"]] == ["test_x.py::test_missed"]
    outcomes = {test["nodeid"].partition("::")[2]: test["outcome"] for test in document["tests"]}
    assert outcomes == {
        "test_blocked": "xfailed",
        "test_missed": "xfailed",
        "test_of_another_kind": "failed",
        "test_skipped": "failed",
    }
