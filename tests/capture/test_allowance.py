"""The ceiling at each way to a server: nothing leaves that could pass it, and what leaves is whole and paid for."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
import urllib.request
from decimal import Decimal

import aiohttp
import httpx
import httpx2
import openai
import pytest
import requests

from pytest_tokenbudget.capture.attach import attached
from pytest_tokenbudget.errors import SpendingRefused
from pytest_tokenbudget.ledger import Frame, Ledger, pop_frame, push_frame
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.spending import Account, Balance

OUTPUT = 1_000
"""Tokens that each request allows; at gpt-4o-mini's price of $0.60 per million tokens they are $0.0006."""

WORST = Decimal("0.0006")
WORDS = "one two three"
SPENT = (3 * Decimal("0.15") + 5 * Decimal("0.60")) / 1_000_000
"""What the server bills for it: 3 words, and an echo of 5."""


def body(**more):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": WORDS}], "max_tokens": OUTPUT, **more}


TEXT = json.dumps(body())
CONTENT = TEXT.encode()


class Aside(httpx.BaseTransport):
    """A transport of somebody else's making, which sends by other means."""

    def handle_request(self, request):
        connection = http.client.HTTPConnection(request.url.host, request.url.port, timeout=30)
        headers = {"content-type": "application/json"}
        connection.request("POST", request.url.path, body=request.content, headers=headers)
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.read())


class Raw(httpx.BaseTransport):
    """A transport that sends past everything that is tapped."""

    def handle_request(self, request):
        with socket.create_connection((request.url.host, request.url.port), timeout=30) as connection:
            head = f"POST {request.url.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(request.content)}\r\n"
            connection.sendall(head.encode() + b"connection: close\r\n\r\n" + request.content)
            answer = connection.makefile("rb").read()
        return httpx.Response(200, content=answer.partition(b"\r\n\r\n")[2])


def by_httpx(url, library=httpx, **options):
    with library.Client(trust_env=False, **options) as client:
        return client.post(url, json=body()).json()


def by_httpx_async(url):
    async def ask():
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.post(url, json=body())).json()

    return asyncio.run(ask())


def by_openai(url):
    client = openai.OpenAI(base_url=url.removesuffix("/chat/completions"), api_key="any")
    return client.chat.completions.create(**body()).model_dump()


def by_requests(url, **sent):
    with requests.Session() as session:
        session.trust_env = False
        return session.post(url, **(sent or {"json": body()}), timeout=30).json()


def by_urllib(url):
    request = urllib.request.Request(url, CONTENT, {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read())


def by_http_client(url, content=CONTENT, **headers):
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", f"/{path}", body=content, headers=headers)
    return json.loads(connection.getresponse().read())


def by_pieces(url):
    """The head by itself, then the body in two sends."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.putrequest("POST", f"/{path}")
    connection.putheader("Content-Length", str(len(TEXT)))
    connection.endheaders()
    connection.send(TEXT[:20].encode())
    connection.send(memoryview(bytearray(TEXT[20:].encode())))
    return json.loads(connection.getresponse().read())


def by_aiohttp(url):
    async def ask():
        async with aiohttp.ClientSession() as session, session.post(url, json=body()) as answer:
            return await answer.json()

    return asyncio.run(ask())


WAYS = {
    "httpx": by_httpx,
    "httpx2": lambda url: by_httpx(url, httpx2),
    "httpx2, async": by_httpx_async,
    "httpx, transport over http.client": lambda url: by_httpx(url, transport=Aside()),
    "httpx, transport over a socket": lambda url: by_httpx(url, transport=Raw()),
    "openai": by_openai,
    "requests": by_requests,
    "requests, file": lambda url: by_requests(url, data=io.BytesIO(CONTENT)),
    "requests, chunked": lambda url: by_requests(url, data=(each.encode() for each in (TEXT[:9], TEXT[9:]))),
    "urllib": by_urllib,
    "http.client": by_http_client,
    "http.client, pieces": by_pieces,
    "http.client, text": lambda url: by_http_client(url, TEXT),
    "aiohttp": by_aiohttp,
}
CHUNKED = {"requests, chunked"}
"""The loopback server reads no chunked bodies: of these, only what is not sent can be looked at."""


class Sink:
    """A server that writes down each byte that it is sent, and hangs up."""

    def __init__(self):
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/chat/completions"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                connection.settimeout(1)
                with connection, contextlib.suppress(OSError):
                    self.received += connection.recv(65536)


@pytest.fixture
def ceiling():
    """Open a session with a ceiling, as the gate does: ``ceiling("0.01") -> (Account, Ledger)``."""
    with contextlib.ExitStack() as stack:

        def ceiling(amount):
            account = Account.open(Decimal(amount))
            stack.callback(account.close)
            frame = Frame(PriceBook(), account)
            push_frame(frame)
            stack.callback(pop_frame, frame)
            stack.enter_context(attached())
            frame.running = Ledger("test_it.py::test_it")
            return account, frame.running

        yield ceiling


@pytest.mark.parametrize("way", WAYS)
def test_what_could_pass_the_ceiling_is_not_sent(way, ceiling):
    account, ledger = ceiling(WORST / 2)
    with Sink() as sink, pytest.raises(SpendingRefused, match="was not sent"):
        WAYS[way](sink.url)
    assert sink.received == b""
    (line,) = ledger.take_refusals()
    assert line.startswith("test_it.py::test_it: the request to /v1/chat/completions was not sent: ")
    assert account.balance == Balance()
    assert ledger.calls == ()


@pytest.mark.parametrize("way", sorted(WAYS.keys() - CHUNKED))
def test_what_is_below_it_is_sent_whole_and_paid_with_its_price(way, ceiling, server):
    account, ledger = ceiling(WORST * 2)
    for turn in (1, 2, 3):
        assert (
            WAYS[way](f"{server.openai_url}/chat/completions")["choices"][0]["message"]["content"]
            == f"You said: {WORDS}"
        )
        assert account.balance == Balance(turn * SPENT, Decimal(0))
    assert [bill.prompt for bill in server.bills] == [WORDS] * 3
    assert ledger.take_refusals() == []
    assert len(ledger.calls) == 3


def test_a_chunked_body_is_read_before_it_leaves(ceiling):
    account, ledger = ceiling("1")
    with Sink() as sink, contextlib.suppress(requests.RequestException):
        WAYS["requests, chunked"](sink.url)
    assert sink.received.startswith(b"POST /v1/chat/completions")
    assert ledger.take_refusals() == []
    # It was sent and got no answer, so it may be billed: it stays held.
    assert account.balance.spent == 0
    assert WORST < account.balance.held < 2 * WORST


def test_a_body_that_is_made_while_it_is_sent_is_refused(ceiling):
    _, ledger = ceiling("1")

    async def pieces():
        yield CONTENT

    async def ask(url):
        async with aiohttp.ClientSession() as session, session.post(url, data=pieces()):
            pass

    with Sink() as sink:
        with pytest.raises(SpendingRefused, match="its body can't be read"):
            asyncio.run(ask(sink.url))
        with pytest.raises(SpendingRefused, match="its body can't be read"):
            httpx.post(sink.url, content=iter([CONTENT]), trust_env=False)
        connection = http.client.HTTPConnection(sink.url[7:].partition("/")[0])
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", str(len(TEXT)))
        connection.endheaders()
        with pytest.raises(SpendingRefused, match="its body can't be read"):
            connection.send(io.BytesIO(CONTENT))
    assert sink.received == b""
    assert len(ledger.take_refusals()) == 3


def test_an_answer_is_not_waited_for_before_the_request_is_whole(ceiling):
    ceiling("1")
    with Sink() as sink:
        connection = http.client.HTTPConnection(sink.url[7:].partition("/")[0])
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", str(len(TEXT)))
        connection.endheaders()
        connection.send(TEXT[:20].encode())
        with pytest.raises(SpendingRefused, match="its body can't be read"):
            connection.getresponse()
    assert sink.received == b""


@pytest.mark.parametrize(
    "way", sorted(WAYS.keys() - {"httpx, transport over a socket", "httpx, transport over http.client"})
)
def test_what_reached_no_server_is_given_back(way, ceiling):
    account, ledger = ceiling(WORST * 2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for _ in range(3):
        with pytest.raises((OSError, httpx.HTTPError, httpx2.HTTPError, openai.OpenAIError, aiohttp.ClientError)):
            WAYS[way](f"http://127.0.0.1:{port}/v1/chat/completions")
        assert account.balance == Balance()
    assert ledger.take_refusals() == []


@pytest.mark.parametrize(
    "way", ["httpx", "httpx2, async", "requests", "aiohttp", "http.client", "httpx, transport over http.client"]
)
def test_what_the_server_refuses_is_given_back(way, ceiling, server):
    account, ledger = ceiling(WORST * 2)
    for _ in range(3):
        server.answer(status=429)
        assert "error" in WAYS[way](f"{server.openai_url}/chat/completions")
        assert account.balance == Balance()
    assert ledger.take_refusals() == []


def test_each_retry_is_a_request_of_its_own(ceiling, server):
    account, _ = ceiling(WORST * 2)
    for _ in range(2):
        server.answer(status=500, headers={"retry-after-ms": "1"})
    by_openai(f"{server.openai_url}/chat/completions")
    assert [entry.status for entry in server.ledger] == [500, 500, 200]
    assert account.balance == Balance(SPENT, Decimal(0))
    # Cut off after it was sent, an answer may be billed, and so may its retries: two of them fill the ceiling.
    for _ in range(3):
        server.answer(cut_after=10)
    client = openai.OpenAI(base_url=server.openai_url, api_key="any", max_retries=2)
    with pytest.raises((SpendingRefused, openai.OpenAIError)):
        client.chat.completions.create(**body())
    assert account.balance.total <= WORST * 2
    assert len(server.ledger) <= 3 + 2


def test_a_redirect_is_a_request_of_its_own(ceiling, server):
    account, _ = ceiling(WORST * 2)
    target = f"{server.openai_url}/chat/completions"
    server.answer(status=307, headers={"location": target})
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert client.post(target, json=body()).status_code == 200
    assert account.balance == Balance(SPENT, Decimal(0))


def test_an_estimate_takes_the_place_of_what_is_held(ceiling, server):
    account, _ = ceiling(WORST * 2)
    server.answer(usage="omitted")
    by_httpx(f"{server.openai_url}/chat/completions")
    assert account.balance.held == 0
    assert 0 < account.balance.spent < WORST / 10


def test_what_can_t_be_measured_stays_held(ceiling, server):
    account, ledger = ceiling(WORST * 2)
    url = f"{server.openai_url}/chat/completions"
    server.answer(usage={"prompt_tokens": -1, "completion_tokens": 5, "total_tokens": 4})
    by_httpx(url)
    held = account.balance.held
    assert account.balance.spent == 0
    assert WORST < held < WORST * 2
    with pytest.raises(SpendingRefused, match="is held for requests whose cost is not known yet"):
        by_httpx(url)
    assert len(server.ledger) == 1
    assert len(ledger.calls) == 1


def stream(url, read):
    asked = body(stream=True, stream_options={"include_usage": True})
    with httpx.stream("POST", url, json=asked, trust_env=False) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if number == read:
                break


def test_a_stream_is_paid_when_it_has_ended(ceiling, server):
    account, _ = ceiling(WORST * 2)
    stream(f"{server.openai_url}/chat/completions", read=1_000)
    assert account.balance == Balance(SPENT, Decimal(0))


def test_of_a_stream_that_was_left_nobody_knows_what_was_written(ceiling, server):
    account, ledger = ceiling(WORST * 2)
    stream(f"{server.openai_url}/chat/completions", read=3)
    assert account.balance.spent == 0
    assert account.balance.held > WORST
    assert ledger.calls[0].estimated
    with pytest.raises(SpendingRefused):
        stream(f"{server.openai_url}/chat/completions", read=3)


def test_fakes_of_the_client_library_s_own_cost_nothing(ceiling):
    account, ledger = ceiling("0")
    answer = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}  # fmt: skip
    fake = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    by_httpx("http://127.0.0.1/v1/chat/completions", transport=fake)
    assert ledger.take_refusals() == []
    assert account.balance == Balance()


def test_a_model_without_http_is_counted_when_it_has_answered(ceiling):
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    class WithoutHttp(GenericFakeChatModel):
        def _get_ls_params(self, stop=None, **kwargs):
            return {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini", "ls_model_type": "chat"}

    account, _ = ceiling("1")
    usage = {"input_tokens": 1_000, "output_tokens": 1_000, "total_tokens": 2_000}
    answer = AIMessage("hi", usage_metadata=usage, response_metadata={"model_name": "gpt-4o-mini"})
    WithoutHttp(messages=iter([answer])).invoke("hi")
    assert account.balance == Balance(Decimal("0.00075"), Decimal(0))


def test_other_traffic_is_free(ceiling):
    account, ledger = ceiling("0")
    with Sink() as sink, contextlib.suppress(httpx.HTTPError):
        httpx.post(sink.url.replace("/v1/chat/completions", "/orders"), json={"a": 1}, trust_env=False)
    assert sink.received.startswith(b"POST /orders")
    assert ledger.take_refusals() == []
    assert account.balance == Balance()


def test_an_account_that_can_t_be_used_lets_nothing_pass(ceiling):
    account, ledger = ceiling("1")
    account.close()
    with Sink() as sink, pytest.raises(SpendingRefused, match="nobody can tell what the run has spent"):
        by_httpx(sink.url)
    assert sink.received == b""
    assert len(ledger.take_refusals()) == 1


def test_without_a_price_the_message_says_how_to_give_one(ceiling):
    _, ledger = ceiling("1")
    with Sink() as sink, httpx.Client(trust_env=False) as client, pytest.raises(SpendingRefused):
        client.post(sink.url, json=body(model="my-org/tuned"))
    (line,) = ledger.take_refusals()
    assert line == (
        "test_it.py::test_it: the request to /v1/chat/completions was not sent: the run has spent $0, what this could "
        "cost is not known, and --token-max-spend is $1: no price for 'my-org/tuned' by its name alone; add it to the "
        'file that the ini option token_prices names, for example [models."my-org/tuned"] input = 3.00, output = 15.00 '
        "(USD per million tokens)"
    )
    assert sink.received == b""
