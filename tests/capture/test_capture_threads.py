"""Whose call it is: threads, pools, executors and tasks, old and new, and blocks beside and inside each other."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import requests
from model_server import Answer
from truth import CHAT, assert_billed, chat_request

from pytest_tokenbudget import track_usage
from pytest_tokenbudget.ledger import Frame, Ledger, billing, pop_frame, push_frame
from pytest_tokenbudget.pricing import PriceBook


@pytest.fixture
def ask(server):
    """Sends one request, through one client that all threads share."""
    with httpx.Client() as client:

        def ask(words="say hello"):
            messages = [{"role": "user", "content": words}]
            return client.post(server.openai_url + CHAT, json=chat_request(messages=messages)).json()

        yield ask


@pytest.fixture
def test_ledger():
    """A test that runs in a session of its own, as the gate opens one."""
    frame = Frame(PriceBook())
    push_frame(frame)
    frame.running = Ledger("a test")
    yield frame.running
    pop_frame(frame)


def run_in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


def test_threads_pools_and_executors_inside_a_block(server, ask):
    async def in_executor():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, ask)
        await asyncio.to_thread(ask)

    with track_usage() as usage:
        run_in_thread(ask)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, ["a"] * 6))
        asyncio.run(in_executor())
    assert_billed(usage, server, requests=9)


def test_a_pool_made_before_the_block(server, ask):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, ["warm", "up"]))
        server.reset()
        with track_usage() as usage:
            list(pool.map(ask, ["a"] * 5))
        before = usage.requests
        list(pool.map(ask, ["too", "late"]))
    assert before == usage.requests == 5


def test_a_thread_made_before_the_block(server, ask):
    jobs = queue.Queue()

    def work():
        while (job := jobs.get()) is not None:
            ask(job)
            jobs.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    with track_usage() as usage:
        jobs.put("one")
        jobs.put("two")
        jobs.join()
    jobs.put(None)
    thread.join()
    assert_billed(usage, server, requests=2)


def test_blocks_in_threads_beside_each_other(server, ask):
    ready = threading.Barrier(3)
    seen = {}

    def work(count):
        with track_usage() as usage:
            ready.wait(5)
            for number in range(count):
                ask(f"number {number}")
            ready.wait(5)  # all three are open until the last has asked
        seen[count] = usage.requests

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, [1, 2, 3]))
    assert seen == {1: 1, 2: 2, 3: 3}
    assert len(server.bills) == 6


async def test_blocks_in_tasks_beside_each_other(server):
    async with httpx.AsyncClient() as client:

        async def work(count):
            with track_usage() as usage:
                for _ in range(count):
                    await client.post(server.openai_url + CHAT, json=chat_request())
                    await asyncio.sleep(0)
                await asyncio.to_thread(requests.post, server.openai_url + CHAT, json=chat_request())
            return usage.requests

        async def without_a_block():
            await client.post(server.openai_url + CHAT, json=chat_request())
            await asyncio.to_thread(requests.post, server.openai_url + CHAT, json=chat_request())

        seen = await asyncio.gather(work(1), work(2), work(3), without_a_block())
    assert seen[:3] == [2, 3, 4]
    assert len(server.bills) == 11


async def test_a_task_outside_of_the_only_block_is_not_in_it(server):
    opened, asked = asyncio.Event(), asyncio.Event()

    async def outside():
        await opened.wait()
        await asyncio.to_thread(requests.post, server.openai_url + CHAT, json=chat_request())
        asked.set()

    task = asyncio.create_task(outside())
    with track_usage() as usage:
        opened.set()
        await asked.wait()
    await task
    assert (len(server.bills), usage.requests) == (1, 0)


def test_nested_blocks(server, ask):
    with track_usage() as outer:
        ask()
        with track_usage() as middle:
            ask()
            with track_usage() as inner:
                ask()
                run_in_thread(ask)
            ask()
        with outer.track("a part") as part:
            ask()
    assert [each.requests for each in (outer, middle, inner, part)] == [6, 4, 2, 1]
    assert len(server.bills) == 6


def test_a_block_that_failed_is_closed_and_its_exception_is_unchanged(server, ask):
    error = ValueError("as it was")
    with pytest.raises(ValueError) as caught, track_usage(max_requests=0) as usage:
        ask()
        raise error
    assert caught.value is error
    ask()
    assert usage.requests == 1


def test_a_block_in_a_generator_that_ends_elsewhere(server, ask):
    def fixture():
        with track_usage() as usage:
            yield usage

    generator = fixture()
    usage = next(generator)
    ask()
    run_in_thread(next, generator, None)  # a finalizer may run in another context than its fixture did
    ask()
    assert usage.requests == 1


async def test_a_block_in_an_async_generator(server):
    @contextlib.asynccontextmanager
    async def block():
        with track_usage() as usage:
            yield usage

    async with httpx.AsyncClient() as client, block() as usage:
        await client.post(server.openai_url + CHAT, json=chat_request())
    assert usage.requests == 1


def test_a_block_and_its_test_both_count(test_ledger, server, ask):
    ask()
    with track_usage() as usage:
        ask()
        run_in_thread(ask)
    assert (len(test_ledger.calls), usage.requests) == (3, 2)


def test_threads_of_an_earlier_test_work_for_the_running_one(server, ask):
    frame = Frame(PriceBook())
    push_frame(frame)
    try:
        with ThreadPoolExecutor(2) as pool, track_usage():
            first = frame.running = Ledger("first")
            list(pool.map(ask, ["a", "b"]))
            second = frame.running = Ledger("second")
            list(pool.map(ask, ["a", "b", "c"]))
    finally:
        pop_frame(frame)
    assert (len(first.calls), len(second.calls)) == (2, 3)


def test_an_answer_that_comes_after_its_test_is_the_sessions(server, ask):
    frame = Frame(PriceBook())
    push_frame(frame)
    server.script([Answer(delay=0.3)])
    try:
        with track_usage():
            first = frame.running = Ledger("first")
            thread = threading.Thread(target=ask)
            thread.start()
            while not server.ledger:
                pass
            first.settle()
            first.close()
            second = frame.running = Ledger("second")
            thread.join()
    finally:
        pop_frame(frame)
    # The first was judged without an answer: it knows that there was a request. It is nobody else's.
    assert [call.usage for call in first.calls] == [None]
    assert (second.calls, frame.rest.calls) == ((), ())


def test_nobody_counts_without_a_session_and_a_block(monkeypatch):
    from pytest_tokenbudget import ledger

    monkeypatch.setattr(ledger, "_frames", [])
    assert billing() is None
    with track_usage():
        assert billing() is not None
    assert billing() is None


def test_many_threads_lose_nothing(server, ask):
    with track_usage() as usage, ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, [f"number {number} of many" for number in range(100)]))
    assert_billed(usage, server, requests=100)
    assert len({call.request_id for call in usage.calls}) == 100
