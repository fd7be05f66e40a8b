"""LangSmith on loopback, as far as its pytest plugin asks: a data set, an experiment, and whatever is traced to it."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

DATASET = "11111111-1111-4111-8111-111111111111"
"""The id of every data set here, by which langsmith's test cache names its file."""

TIME = "2026-11-22T10:00:00+00:00"


class LangSmithServer:
    """A server that takes whatever langsmith sends, and writes down what that was.

    Attributes:
        requests: ``(method, path)`` of each.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self._listener = _Listener(("127.0.0.1", 0), _Handler)
        self._listener.requests = self.requests
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """What ``LANGSMITH_ENDPOINT`` is set to."""
        return f"http://127.0.0.1:{self._listener.server_address[1]}"


class _Listener(ThreadingHTTPServer):
    requests: list[tuple[str, str]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    server: _Listener

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        self._read_body()
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path))
        status, content = _content_of(self.command, path)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _read_body(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline() or b"0", 16):
                self.rfile.read(size + 2)

    do_GET = do_POST = do_PATCH = do_PUT = _answer  # noqa: N815 - the names that the library calls


def _content_of(method: str, path: str) -> tuple[int, Any]:
    if path == "/datasets":
        dataset = {"id": DATASET, "name": "suite", "created_at": TIME, "modified_at": TIME, "data_type": "kv"}
        return 200, [dataset] if method == "GET" else dataset
    if path.startswith("/sessions"):
        session = {"id": str(uuid.uuid4()), "name": "experiment", "start_time": TIME, "tenant_id": DATASET}
        return 200, [] if method == "GET" else session | {"reference_dataset_id": DATASET}
    if path.startswith("/examples") and method == "GET":
        return 404, {"detail": "there is none"}
    if path == "/examples":
        return 200, {"id": str(uuid.uuid4()), "dataset_id": DATASET, "inputs": {}, "created_at": TIME}
    return 200, {}
