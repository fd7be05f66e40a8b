"""A model provider on loopback, with a ledger of what it billed: the truth that tests compare with.

It speaks OpenAI's wire format (Azure's paths too) and Anthropic's, answers what it is told to, and writes every
request down, so that a test can compare what was measured with what was billed::

    with ModelServer() as server:
        server.answer("four words, four tokens")
        openai.OpenAI(base_url=server.openai_url, api_key="any").chat.completions.create(...)
        assert server.bills[0].output_tokens == 4

With nothing scripted it echoes the prompt and bills a word as a token.
"""

from __future__ import annotations

import email.utils
import gzip
import json
import re
import socket
import threading
import zlib
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from anthropic_format import Messages
from model_answers import Answer, Bill, ToolCall, Turn, count_words
from openai_format import ChatCompletions, Completions, Embeddings, Responses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

__all__ = ["Answer", "Bill", "ModelServer", "ToolCall", "count_words"]

RECORDED_ON = "Sun, 22 Nov 2026 10:00:00 GMT"


class Format(Protocol):
    """What one endpoint must know of its wire format."""

    prefix: str

    def prompts(self, request: Mapping[str, Any]) -> list[str]: ...
    def messages(self, request: Mapping[str, Any]) -> int: ...
    def render(self, turn: Turn) -> dict[str, Any]: ...
    def stream(self, turn: Turn) -> Iterator[bytes]: ...


FORMATS: dict[str, Format] = {
    "/chat/completions": ChatCompletions(),
    "/completions": Completions(),
    "/embeddings": Embeddings(),
    "/responses": Responses(),
    "/messages": Messages(),
}
_ROUTE = re.compile(
    r"(?:/v1|/openai/v1|(?P<azure>/openai/deployments/(?P<deployment>[^/]+))|/openai)"
    r"(?P<endpoint>/chat/completions|/completions|/embeddings|/responses|/messages)"
)


class ModelServer:
    """A loopback server that answers what it is told and bills for it.

    Args:
        count: ``count(model, text)`` says how many tokens a text is billed as; a word is a token unless told else.
        tokens_per_message: billed on top for every chat message.
        tokens_per_chat: billed on top for every chat request.
        date: the ``date`` header of every answer.
        keep_alive: whether connections stay open for the next request.
    """

    def __init__(
        self,
        *,
        count: Callable[[str, str], int] = count_words,
        tokens_per_message: int = 0,
        tokens_per_chat: int = 0,
        date: str = RECORDED_ON,
        keep_alive: bool = True,
    ) -> None:
        self.count = count
        self.tokens_per_message = tokens_per_message
        self.tokens_per_chat = tokens_per_chat
        self.date = date
        self.created = int(email.utils.parsedate_to_datetime(date).timestamp())
        self.keep_alive = keep_alive
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._script: list[Answer] = []
        self._ledger: dict[int, Bill] = {}
        self._arrived = 0
        self._listener = _Listener(("127.0.0.1", 0), _Handler, self)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown()
        self._listener.hang_up()
        self._listener.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._listener.server_address[1])

    @property
    def url(self) -> str:
        """The server's root: Anthropic's base URL, and Azure's endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        """OpenAI's base URL."""
        return f"{self.url}/v1"

    @property
    def ledger(self) -> tuple[Bill, ...]:
        """Every request, in order of arrival, those that were refused too."""
        with self._lock:
            return tuple(self._ledger[number] for number in sorted(self._ledger))

    @property
    def bills(self) -> tuple[Bill, ...]:
        """The requests that were billed."""
        return tuple(bill for bill in self.ledger if bill.billed)

    @property
    def input_tokens(self) -> int:
        """All input that was billed."""
        return sum(bill.input_tokens for bill in self.bills)

    @property
    def output_tokens(self) -> int:
        """All output that was billed."""
        return sum(bill.output_tokens for bill in self.bills)

    @property
    def unplayed(self) -> tuple[Answer, ...]:
        """What is left of the script."""
        with self._lock:
            return tuple(self._script)

    def answer(self, text: str | tuple[str, ...] | None = None, **options: Any) -> Self:
        """Put one answer at the end of the script; the options are those of `Answer`."""
        return self.script([Answer(text=text, **options)])

    def script(self, answers: Iterable[Answer]) -> Self:
        """Put answers at the end of the script; each is used once, in order."""
        with self._lock:
            self._script.extend(answers)
        return self

    def reset(self) -> None:
        """Forget the script and the ledger; ids go on counting."""
        with self._lock:
            self._script.clear()
            self._ledger.clear()

    def open_turn(self, path: str, request: Mapping[str, Any]) -> tuple[Format, Turn] | None:
        """Choose the answer to a request and write its bill; ``None`` for a path that is no model's."""
        match = _ROUTE.fullmatch(path)
        if match is None:
            return None
        form = FORMATS[match["endpoint"]]
        prompts = form.prompts(request)
        with self._lock:
            self._arrived += 1
            number = self._arrived
            answer = self._take("\n".join(prompts))
        asked_for = str(request.get("model") or match["deployment"] or "")
        model = answer.model or asked_for
        choices, candidates = self._candidates(form, request, prompts, answer)
        input_tokens = sum(self.count(asked_for, prompt) for prompt in prompts)
        if isinstance(form, Embeddings):
            candidates = ()
        if form.messages(request):
            input_tokens += self.tokens_per_chat + self.tokens_per_message * form.messages(request)
        calls = [f"{call.name} {call.arguments_json}" for call in answer.tool_calls]
        output_tokens = sum(self.count(asked_for, text) for text in (calls or candidates)) + answer.reasoning_tokens
        bill = Bill(
            number=number,
            id=f"{form.prefix}{number:024d}",
            endpoint=path,
            model=model,
            requested_model=asked_for,
            prompt="\n".join(prompts),
            texts=candidates,
            input_tokens=input_tokens if answer.input_tokens is None else answer.input_tokens,
            output_tokens=output_tokens if answer.output_tokens is None else answer.output_tokens,
            cached_tokens=answer.cached_tokens,
            cache_write_tokens=answer.cache_write_tokens,
            reasoning_tokens=answer.reasoning_tokens,
            status=answer.status,
            stream=bool(request.get("stream")),
        )
        if not bill.billed:
            free = dict.fromkeys(
                ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens"), 0
            )
            bill = replace(bill, **free, texts=())  # type: ignore[arg-type]
        self.settle(bill)
        texts = tuple((candidates * choices)[:choices]) if candidates else ()
        turn = Turn(
            request=request, answer=answer, bill=bill, texts=texts, created=self.created, azure=bool(match["azure"])
        )
        return form, turn

    def settle(self, bill: Bill) -> None:
        """Write a bill into the ledger, or a newer state of it."""
        with self._lock:
            self._ledger[bill.number] = bill

    def _take(self, prompt: str) -> Answer:
        for place, answer in enumerate(self._script):
            if answer.to is None or answer.to in prompt:
                return self._script.pop(place)
        return Answer()

    def _candidates(
        self, form: Format, request: Mapping[str, Any], prompts: list[str], answer: Answer
    ) -> tuple[int, tuple[str, ...]]:
        """How many choices are answered, and all texts that were generated for them and are billed."""
        batch = len(prompts) if isinstance(form, Completions) else 1
        wanted = int(request.get("n") or 1)
        made = max(wanted, int(request.get("best_of") or 1))
        if isinstance(answer.text, tuple):
            return wanted * batch, answer.text
        if answer.text is not None:
            return wanted * batch, (answer.text,) * made * batch
        echoed = prompts if isinstance(form, Completions) else prompts[-1:]
        return wanted * batch, tuple(f"You said: {prompt}" for prompt in echoed for _ in range(made))


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], server: ModelServer) -> None:
        self.model_server = server
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the game, and no news on standard error."""

    def hang_up(self) -> None:
        """Break the connections that are still open, so that their threads end."""
        for connection in tuple(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # a connection that nobody uses ends by itself
    disable_nagle_algorithm = True
    server: _Listener
    _settled = 0  # the number of the bill that is final
    junk_headers: ClassVar[dict[str, str]] = {
        "openai-organization": "org-loopback",
        "openai-processing-ms": "7",
        "openai-version": "2020-10-01",
        "set-cookie": "__cf_bm=not-a-secret-but-looks-like-one; path=/; HttpOnly; Secure",
        "cf-ray": "8f0000000000loop-AMS",
        "x-ratelimit-remaining-tokens": "149999",
    }

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def version_string(self) -> str:
        return "loopback"

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.server.model_server.date

    def do_GET(self) -> None:
        self._refuse(404, f"Unknown request URL: GET {self.path}.")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        try:
            request = json.loads(body)
        except ValueError:
            self._refuse(400, "We could not parse the JSON body of your request.")
            return
        opened = self.server.model_server.open_turn(path, request)
        if opened is None:
            self._refuse(404, f"Unknown request URL: POST {path}.")
            return
        form, turn = opened
        try:
            self._wait(turn.answer.delay)
            if turn.bill.stream and turn.answer.body is None and turn.bill.billed:
                self._stream(form, turn)
            else:
                self._send(form, turn)
        except OSError:  # the client hung up, or the server stops
            self.close_connection = True
            if self._settled != turn.bill.number:  # else it hung up when all was sent
                self._settle(turn, complete=False)

    def _send(self, form: Format, turn: Turn) -> None:
        answer = turn.answer
        content: Any = answer.body
        if content is None:
            content = form.render(turn) if turn.bill.billed else _error(answer.status, "Scripted failure.")
        reported = turn.bill.billed and isinstance(content, dict) and bool(content.get("usage"))
        raw = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
        data = raw if raw is not None else json.dumps(content).encode()
        if answer.gzip:
            data = gzip.compress(data, mtime=0)
        self._settle(turn, complete=answer.cut_after is None, reported=reported and answer.cut_after is None)
        self._head(turn, "application/json", {"content-length": str(len(data))})
        self.wfile.write(data[: answer.cut_after])
        if answer.cut_after is not None:
            self._break_off()

    def _stream(self, form: Format, turn: Turn) -> None:
        """Send real chunks, one event each; the bill knows before the last byte leaves whether it was whole."""
        answer = turn.answer
        pack = zlib.compressobj(wbits=31) if answer.gzip else None
        events = list(form.stream(turn))
        reported = b'"usage": {' in b"".join(events)  # inside a text the quotes would be escaped
        self._head(turn, "text/event-stream; charset=utf-8", {"transfer-encoding": "chunked"})
        for number, data in enumerate(events):
            if number == answer.cut_after:
                self._settle(turn, complete=False)
                self._break_off()
                return
            self._wait(answer.chunk_delay)
            if number == len(events) - 1:
                self._settle(turn, complete=True, reported=reported)
            self._chunk(data if pack is None else pack.compress(data) + pack.flush(zlib.Z_SYNC_FLUSH))
        if pack is not None:
            self._chunk(pack.flush())
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _head(self, turn: Turn, content_type: str, framing: Mapping[str, str]) -> None:
        headers = {"content-type": content_type, "x-request-id": f"req_{turn.bill.number:024d}"} | self.junk_headers
        headers |= {"content-encoding": "gzip"} if turn.answer.gzip else {}
        self._start(turn.answer.status, headers | dict(framing) | dict(turn.answer.headers))

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not self.server.model_server.keep_alive:
            self.send_header("connection", "close")  # BaseHTTPRequestHandler reads this, and closes
        self.end_headers()

    def _refuse(self, status: int, message: str) -> None:
        data = json.dumps(_error(status, message)).encode()
        self._start(status, {"content-type": "application/json", "content-length": str(len(data))})
        self.wfile.write(data)

    def _settle(self, turn: Turn, *, complete: bool, reported: bool = False) -> None:
        self._settled = turn.bill.number
        self.server.model_server.settle(replace(turn.bill, complete=complete, reported=reported))

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _wait(self, seconds: float) -> None:
        if seconds and self.server.model_server.stopping.wait(seconds):
            raise ConnectionAbortedError("the server stops")


def _error(status: int, message: str) -> dict[str, Any]:
    kind = {429: "rate_limit_exceeded", 500: "server_error"}.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}
