"""Record the examples' cassettes anew, from a model server on loopback instead of OpenAI.

Run it from the project's root, in an environment with the development extras::

    python examples/record_examples.py

The server speaks OpenAI's wire format, answers what `scripted_answers.py` says, and bills what OpenAI's own
tokenizers count. The examples are ordinary code that talks to https://api.openai.com; while this script runs, every
connection to that host ends at the server. No provider is asked, and no key is needed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

EXAMPLES = Path(__file__).resolve().parent
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES.parent / "tests" / "support")]

from model_server import ModelServer  # noqa: E402 - found in tests/support
from scripted_answers import ANSWERS  # noqa: E402 - found beside this file

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "api.openai.com"
RECORDED_ON = ("2026-11-23", "Mon, 23 Nov 2026 08:00:00 GMT")
HEAD = (
    f"# Recorded on {RECORDED_ON[0]} from a loopback server that speaks OpenAI's wire format,\n"
    "# by examples/record_examples.py. No provider was asked: examples/README.md says more.\n"
)
LEDGER = {
    # test: requests, input tokens, output tokens
    "test_two_jokes_in_one_request": (1, 4, 33),
    "test_the_same_twice": (2, 8, 64),
    "test_two_jokes_of_an_older_model": (1, 4, 38),
    "test_one_joke": (1, 4, 14),
    "test_one_joke_streamed": (1, 4, 14),
    "test_birds_and_fish": (2, 12, 38),
    "test_gpt_4": (1, 11, 13),
    "test_agent": (4, 2053, 152),
    "test_agent_older_run": (4, 1350, 156),
}
"""Published figures of these programs, which the server's bills must come to."""


@functools.cache
def count(model: str, text: str) -> int:
    """Count a text as the model's own tokenizer does."""
    from tiktoken.model import encoding_name_for_model

    from pytest_tokenbudget.capture.vocabulary import get_encoding  # pytest wants to import its plugins itself

    return len(get_encoding(encoding_name_for_model(model)).encode(text, disallowed_special=()))


@contextlib.contextmanager
def redirect(redirected: str, local_port: int) -> Iterator[None]:
    """Let every connection of httpx and httpx2 to a host end, in plain text, at a port on loopback.

    It happens where the socket is opened, below all that a recording sees.
    """
    with contextlib.ExitStack() as stack:
        for name in ("httpcore", "httpcore2"):
            try:
                sync = importlib.import_module(name).SyncBackend
                automatic = importlib.import_module(f"{name}._backends.auto").AutoBackend
            except ModuleNotFoundError:
                continue
            for backend, change in ((sync, _redirect_sync), (automatic, _redirect_async)):
                changed = change(backend.connect_tcp, redirected, local_port)
                stack.enter_context(mock.patch.object(backend, "connect_tcp", changed))
        yield


def _redirect_sync(connect: Any, redirected: str, local_port: int) -> Any:
    def connect_tcp(self: Any, host: str, port: int, **options: Any) -> Any:
        if host != redirected:
            return connect(self, host, port, **options)
        stream = connect(self, "127.0.0.1", local_port, **options)
        stream.start_tls = lambda *_, **__: stream
        return stream

    return connect_tcp


def _redirect_async(connect: Any, redirected: str, local_port: int) -> Any:
    async def connect_tcp(self: Any, host: str, port: int, **options: Any) -> Any:
        if host != redirected:
            return await connect(self, host, port, **options)
        stream = await connect(self, "127.0.0.1", local_port, **options)

        async def start_tls(*_: Any, **__: Any) -> Any:
            return stream

        stream.start_tls = start_tls
        return stream

    return connect_tcp


class Recorder:
    """Tells the server before each test what to answer, and looks after it at what it billed."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.redirection = contextlib.ExitStack()
        self.recorded: list[pytest.Item] = []
        self.complaints: list[str] = []

    def pytest_sessionstart(self) -> None:
        """Lead the way to the server."""
        self.redirection.enter_context(redirect(HOST, self.server.port))

    def pytest_sessionfinish(self) -> None:
        """Lead it back."""
        self.redirection.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Start a new ledger."""
        self.server.reset()
        self.server.script(ANSWERS.get(item.name, ()))

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """Compare the ledger with the script and with the published figures."""
        bills = self.server.bills
        if bills:
            self.recorded.append(item)
        if self.server.unplayed or len(self.server.ledger) != len(ANSWERS.get(item.name, ())):
            self.complaints.append(f"{item.name}: the requests are not those of the script")
        figures = (len(bills), self.server.input_tokens, self.server.output_tokens)
        print(f"\n{item.name}: {figures[0]} requests, {figures[1]:,} tokens in, {figures[2]:,} out")
        if figures != LEDGER.get(item.name, figures):
            self.complaints.append(f"{item.name}: billed {figures}, published is {LEDGER[item.name]}")


def put_head(item: pytest.Item) -> str | None:
    """Say in a cassette's first lines where it comes from; returns what is wrong, if anything is."""
    cassette = EXAMPLES / "cassettes" / item.path.stem / f"{item.name}.yaml"
    if not cassette.is_file():
        return f"{item.name}: no {cassette.relative_to(EXAMPLES.parent)}"
    text = cassette.read_text(encoding="utf-8")
    if f"https://{HOST}/v1/" not in text or "127.0.0.1" in text:
        return f"{item.name}: the cassette does not show https://{HOST}"
    if not text.startswith(HEAD):
        cassette.write_text(HEAD + text, encoding="utf-8", newline="\n")
    return None


def main() -> int:
    """Record, check and sign; returns the exit status."""
    for name in [name for name in os.environ if name.startswith("OPENAI_") or name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ["OPENAI_API_KEY"] = "no key: the loopback server asks for none"
    server = ModelServer(
        count=count,
        tokens_per_message=3 + 1,  # OpenAI's chat format, and the role's name
        tokens_per_chat=3,  # the answer is primed with these
        date=RECORDED_ON[1],
        keep_alive=False,  # LangChain keeps one async client for the process, and each test has its own event loop
    )
    with server:
        recorder = Recorder(server)
        options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "--token-record=rewrite"]
        status = int(pytest.main([str(EXAMPLES), *options, *sys.argv[1:]], plugins=[recorder]))
    complaints = [*recorder.complaints, *filter(None, map(put_head, recorder.recorded))]
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return status or int(bool(complaints))


if __name__ == "__main__":
    sys.exit(main())
