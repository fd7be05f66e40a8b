"""Ways to call a model, one row each, and how a row is run and held against the server's ledger.

A row's program talks to a loopback server that bills each request a different amount, far from what any local count
would come to, and, where the answer reports nothing, exactly what OpenAI's rules say of plain words.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from model_server import Answer, ModelServer
from openai_format import asks_for_usage

from pytest_tokenbudget import UnmeasuredUsageError, track_usage
from pytest_tokenbudget.ledger import Frame, Ledger, pop_frame, push_frame
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.tracking import UsageTracker

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = [
    "the",
    "cat",
    "sat",
    "down",
    "on",
    "the",
    "mat",
    "and",
    "the",
    "dog",
    "ran",
    "to",
    "the",
    "big",
    "red",
    "house",
    "with",
    "a",
    "small",
    "blue",
    "door",
]
"""One token each, behind a blank, in every encoding of OpenAI's: what a server that counts words bills is exact."""

PROMPT = "tell me of the cat"
GREETING = [{"role": "user", "content": PROMPT}]


class Tokens(NamedTuple):
    """What one answer reports."""

    input: int
    output: int
    cached: int = 0
    written: int = 0
    reasoning: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to call a model, and what is right for it.

    Attributes:
        group: what it is about.
        name: the way.
        form: ``sync``, ``async``, ``thread``, ...
        program: does it; takes a `Scene`, and may be a coroutine function.
        sends: how many requests the server bills.
        refused: how many it answers with an error, and does not bill.
        answers: the script; plain texts of different lengths follow.
        estimated: how many requests are rightly estimates.
        unmeasured: how many nobody can know.
        hits: LangChain's cache hits.
        reports: what models without HTTP report.
        told: what the answers report, where the server does not know it: it was given their bodies as they are.
        unread: bills, by number, whose answer the client never read to its end.
        cut: the streams end before the text does: an estimate is of what came, and can't be above the bill.
        place: ``block`` for a block around the program, ``test`` for a running test, ``own`` where the program opens
            the block.
        needs: modules that must be installed.
        why: why it can't be measured.
    """

    group: str
    name: str
    form: str
    program: Callable
    sends: int = 1
    refused: int = 0
    answers: tuple[Answer, ...] = ()
    estimated: int = 0
    unmeasured: int = 0
    hits: int = 0
    reports: tuple[Tokens, ...] = ()
    told: tuple[Tokens, ...] | None = None
    unread: tuple[int, ...] = ()
    cut: bool = False
    place: str = "block"
    needs: tuple[str, ...] = ()
    why: str = ""

    @property
    def id(self):
        return f"{self.group}: {self.name} ({self.form})"

    @property
    def missing(self):
        return tuple(each for each in self.needs if find_spec(each) is None)

    @property
    def expected(self):
        measured = self.sends + len(self.reports) - self.estimated - self.unmeasured
        return describe(measured, self.estimated, self.unmeasured, self.hits)


def describe(measured, estimated, unmeasured, hits):
    """An outcome in words.

    >>> describe(2, 0, 1, 0)
    'measured + unmeasured'
    """
    kinds = {"measured": measured, "estimated": estimated, "unmeasured": unmeasured, "cache hit": hits}
    return " + ".join(kind for kind, count in kinds.items() if count) or "nothing"


def ways(group, name, *, also=(), thread=False, asynchronous=None, sync=None, **facts):
    """Rows for the forms of one way: the same program in a thread, its asynchronous twin, and others by name."""
    forms = {"sync": sync, "async": asynchronous, **dict(also)}
    if thread:
        forms["thread"] = in_thread(sync)
    return [Row(group=group, name=name, form=form, program=each, **facts) for form, each in forms.items() if each]


def in_thread(program):
    """The same in a bare thread, which knows nothing of the block that it was started in."""

    @functools.wraps(program)
    def threaded(scene):
        failures = []

        def work():
            try:
                program(scene)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    return threaded


def in_pool(program):
    """The same in the worker of a pool."""

    def pooled(scene):
        with ThreadPoolExecutor(2) as pool:
            pool.submit(program, scene).result()

    return pooled


def to_thread(program):
    """The same through ``asyncio.to_thread``."""

    async def passed(scene):
        await asyncio.to_thread(program, scene)

    return passed


def in_executor(program):
    """The same in an event loop's executor, which copies no context."""

    async def passed(scene):
        await asyncio.get_running_loop().run_in_executor(None, program, scene)

    return passed


class Server(ModelServer):
    """The loopback server, with an odd bill for each answer that reports it."""

    def __init__(self, row):
        super().__init__(tokens_per_message=4, tokens_per_chat=3)  # 3 and the role; 3 that prime the reply
        self.row = row
        self.script(row.answers)

    def open_turn(self, path, request):
        opened = super().open_turn(path, request)
        if opened is None:
            return None
        form, turn = opened
        answer, bill = turn.answer, turn.bill
        told = not bill.stream or asks_for_usage(request) or path.endswith(("/responses", "/messages"))
        scripted = answer.input_tokens is not None or answer.body is not None or answer.usage != "reported"
        if bill.billed and told and not scripted and not self.row.cut:
            bill = replace(bill, **odd_figures(path, bill.number))
            self.settle(bill)
            turn = replace(turn, bill=bill)
        return form, turn

    def _take(self, prompt):
        answer = super()._take(prompt)
        if answer.text is None and not answer.tool_calls and answer.body is None:
            answer = replace(answer, text=" ".join(WORDS[: 2 + self._arrived]))
        return answer


def odd_figures(path, number):
    """A bill that is like no other, and like no count of any text."""
    figures = {"input_tokens": 1000 + 137 * number, "output_tokens": 300 + 31 * number}
    if path.endswith("/embeddings"):
        return figures | {"output_tokens": 0}
    if path.endswith("/completions") and not path.endswith("/chat/completions"):
        return figures
    figures["cached_tokens"] = 10 + number
    if path.endswith("/messages"):
        return figures | {"cache_write_tokens": 5 + number}
    return figures | {"reasoning_tokens": 20 + number}


@dataclass
class Scene:
    """What a program works with.

    Attributes:
        row: what runs.
        server: who answers.
        stack: what it opens is closed at the end of the row.
        usage: what was measured.
    """

    row: Row
    server: Server
    stack: ExitStack
    usage: UsageTracker | None = None
    made: dict = field(default_factory=dict)

    @property
    def url(self):
        return self.server.openai_url + "/chat/completions"

    @contextmanager
    def track(self):
        """The block that the row is judged by."""
        with track_usage() as self.usage:
            yield self.usage

    @contextmanager
    def run_test(self):
        """A running test that the row is judged by."""
        book = PriceBook()
        frame = Frame(book)
        push_frame(frame)
        try:
            with track_usage():  # attaches, as a session of pytest does
                frame.running = Ledger("a test")
                self.usage = UsageTracker(frame.running, book)
                yield self.usage
                frame.running.settle()
        finally:
            pop_frame(frame)

    def sdk(self, **options):
        import openai

        options = {"max_retries": 0, "base_url": self.server.openai_url, "api_key": "any", **options}
        return self.stack.enter_context(openai.OpenAI(**options))

    def async_sdk(self, **options):
        import openai

        options = {"max_retries": 0, "base_url": self.server.openai_url, "api_key": "any", **options}
        return openai.AsyncOpenAI(**options)

    def langchain(self, kind, **options):
        options = {"base_url": self.server.openai_url, "api_key": "any", "max_retries": 0, **options}
        return kind(**options)

    def chat(self, **options):
        from langchain_openai import ChatOpenAI

        return self.langchain(ChatOpenAI, **{"model": "gpt-4o-mini", **options})

    def telling_chat(self, **options):
        return self.chat(stream_usage=True, **options)

    def legacy(self, **options):
        from langchain_openai import OpenAI

        return self.langchain(OpenAI, **{"model": "gpt-3.5-turbo-instruct", **options})

    def azure(self, kind, **options):
        options = {"azure_endpoint": self.server.url, "api_key": "any", "api_version": "2024-10-21", **options}
        return kind(max_retries=0, **options)


def run_row(row):
    """Run a row, hold it against the ledger, and give the outcome.

    Raises:
        AssertionError: it came out wrong.
    """
    with Server(row) as server, ExitStack() as stack:
        scene = Scene(row, server, stack)
        around = {"block": scene.track, "test": scene.run_test, "own": ExitStack}[row.place]
        if inspect.iscoroutinefunction(row.program):

            async def run():
                with around():
                    await row.program(scene)

            asyncio.run(run())
        else:
            with around():
                row.program(scene)
        usage = scene.usage
        check(row, server, usage)
        measured = usage.requests - usage.estimated_requests - usage.unmeasured_requests
        return describe(measured, usage.estimated_requests, usage.unmeasured_requests, usage.cache_hits)


def check(row, server, usage):
    """Each request that was billed was counted once, as what it is, with what was reported."""
    bills = server.bills
    assert len(bills) == row.sends, f"the row itself is wrong: {bills}"
    assert len(server.ledger) == row.sends + row.refused, server.ledger
    counts = (usage.requests, usage.estimated_requests, usage.unmeasured_requests, usage.cache_hits)
    assert counts == (row.sends + len(row.reports), row.estimated, row.unmeasured, row.hits), usage.calls
    calls = {source: [call for call in usage.calls if call.source == source and call.usage] for source in SOURCES}
    bare = [bill for bill in bills if bill.number not in row.unread]
    if row.told is None:
        told = [
            (bill.model, Tokens(*(getattr(bill, f"{each}_tokens") for each in FIGURES)))
            for bill in bare
            if bill.reported
        ]
        bare = [bill for bill in bare if not bill.reported]
        seen = [(call.model, tokens_of(call.usage)) for call in calls["response"]]
    else:
        told, seen = list(row.told), [tokens_of(call.usage) for call in calls["response"]]
    assert Counter(seen) == Counter(told)
    assert Counter(tokens_of(call.usage) for call in calls["callback"]) == Counter(row.reports)
    if not row.unmeasured and len(bare) == row.estimated:
        check_estimates(row, bare, calls["estimate"])
    known = [tokens_of(call.usage) for kind in calls.values() for call in kind]
    assert (usage.input_tokens, usage.output_tokens) == (
        sum(each.input for each in known),
        sum(each.output for each in known),
    )
    if row.unmeasured:
        try:
            raise AssertionError(f"an unknown usage has a cost: {usage.cost}")
        except UnmeasuredUsageError:
            pass
    elif not usage.requests:
        assert usage.cost == 0


def check_estimates(row, bills, estimates):
    """Of plain words the local count is the bill; of a stream that was cut, no more than that."""
    if row.cut:
        assert sorted(call.usage.input_tokens for call in estimates) == sorted(bill.input_tokens for bill in bills)
        assert 0 < sum(call.usage.output_tokens for call in estimates) < sum(bill.output_tokens for bill in bills)
        return
    assert Counter((call.model, call.usage.input_tokens, call.usage.output_tokens) for call in estimates) == Counter(
        (bill.model, bill.input_tokens, bill.output_tokens) for bill in bills
    )


SOURCES = ("response", "callback", "estimate")
FIGURES = ("input", "output", "cached", "cache_write", "reasoning")


def tokens_of(usage):
    return Tokens(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )
