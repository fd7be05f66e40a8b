"""What is loopback, and whose the code is that runs."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_tokenbudget.capture import attach, guard, ward
from pytest_tokenbudget.capture.playback import Playback, active_playback, insert
from pytest_tokenbudget.capture.ward import Ward, entered, responsible
from pytest_tokenbudget.errors import ReplayMiss


@pytest.mark.parametrize(
    "host",
    [
        None, "", "localhost", "LocalHost", b"localhost", "127.0.0.1", b"127.0.0.1", bytearray(b"127.0.0.1"), "127.1",
        "127.255.255.254", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "::1", "0:0:0:0:0:0:0:1",
        "::ffff:127.0.0.1", "::ffff:7f00:1", "0.0.0.0", "0", "::", "::ffff:0.0.0.0",
    ],
)  # fmt: skip
def test_this_machine_however_it_is_spelled(host):
    assert guard.is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1",
        "example.invalid", "localhost.example.invalid", "127.0.0.1.example.invalid", "localhost.", "localhost ",
        "127.0.0.1 example.invalid", "127.0.0.1\n", "127.0.0.1:80", "[::1]", "0127.0.0.1", "3221225985", "0xC0000201",
        "0300.0.2.1", "128.0.0.1", "1", "127.0.0.1.", "127.0.0.1.1", "127.0.0.256", "4294967296",
        "\u0661\u0662\u0667.\u0660.\u0660.\u0661", "\uff4cocalhost", "<broadcast>", "255.255.255.255", "224.0.0.1", 2130706433, ("127.0.0.1",), b"\xff",
    ],
)  # fmt: skip
def test_what_may_be_another_machine(host):
    assert not guard.is_loopback(host)


@pytest.fixture
def tests():
    """Two wards, and what was told of each."""
    told = {"a": [], "b": []}
    attach.attach()
    try:
        yield Ward(told["a"].append), Ward(told["b"].append), told
    finally:
        attach.detach()


def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_nobody_answers_where_no_test_runs():
    assert responsible() is None
    assert in_thread(responsible) is None


def test_code_belongs_to_the_innermost_test(tests):
    a, b, _ = tests
    with entered(a):
        assert responsible() is a
        with entered(b):
            assert responsible() is b
        assert responsible() is a
    assert responsible() is None


def test_a_thread_belongs_to_who_started_it(tests):
    a, b, _ = tests
    go, found = threading.Event(), []

    def work():
        go.wait()
        found.extend([responsible(), in_thread(responsible), contextvars.copy_context().run(responsible)])

    with entered(a):
        thread = threading.Thread(target=work)
        thread.start()
    with entered(b):
        go.set()
        thread.join()
    assert found == [a, a, a]


def test_a_low_thread_belongs_to_who_started_it_and_its_tasks_to_who_made_them(tests):
    a, b, _ = tests
    go, done, found = threading.Event(), threading.Event(), []

    def work(context):
        go.wait()
        found.extend([responsible(), context[0].run(responsible)])
        done.set()

    context = []
    with entered(a):
        _thread.start_new_thread(work, (context,))
    with entered(b):
        context.append(contextvars.copy_context())
        go.set()
        done.wait()
    assert found == [a, b]


def test_a_thread_of_before_works_for_who_runs(tests):
    a, _, _ = tests
    go, found = threading.Event(), []
    thread = threading.Thread(target=lambda: (go.wait(), found.append(responsible())))
    thread.start()
    with entered(a):
        go.set()
        thread.join()
    assert found == [a]


def test_a_job_belongs_to_who_submitted_it(tests):
    a, b, _ = tests
    with ThreadPoolExecutor(1) as pool:
        with entered(a):
            assert pool.submit(responsible).result() is a
        with entered(b):
            assert pool.submit(responsible).result() is b
        assert pool.submit(responsible).result() is None


def test_a_task_belongs_to_the_test_that_made_it(tests):
    a, b, _ = tests

    async def ask():
        await asyncio.sleep(0)
        return responsible()

    with asyncio.Runner() as runner:
        with entered(a):
            task = runner.run(_make(ask), context=contextvars.copy_context())
        with entered(b):
            assert runner.run(_wait(task)) is a
            assert runner.run(ask(), context=contextvars.copy_context()) is b


async def _make(work):
    return asyncio.get_running_loop().create_task(work())


async def _wait(task):
    return await task


def test_a_thread_of_a_fixture_works_for_who_runs_and_answers_for_itself_when_nobody_does(tests):
    a, b, told = tests
    a.is_shared = True
    steps, found = [threading.Event() for _ in range(3)], []
    done = threading.Semaphore(0)

    def work():
        for step in steps:
            step.wait()
            found.append(responsible())
            done.release()

    with entered(a):
        thread = threading.Thread(target=work)
        thread.start()
    with entered(b):
        steps[0].set()
        done.acquire()
    steps[1].set()
    done.acquire()
    a.end(told["a"].append)
    with entered(b):
        steps[2].set()
        done.acquire()
    thread.join()
    assert found == [b, a, a]


def test_an_event_loop_that_a_fixture_made_is_nobodys(tests):
    a, b, _ = tests
    a.is_shared = True
    with entered(a):
        context = contextvars.copy_context()
    assert context.run(responsible) is None
    with entered(b):
        assert context.run(responsible) is b


@pytest.mark.parametrize("record", ["none", "once"])
def test_only_its_own_test_is_answered_from_a_cassette(tmp_path, record):
    """What another test left behind, whether it was replayed or recorded, finds no playback of this one."""
    first, second = (Playback(path=tmp_path / f"{name}.yaml", record=record) for name in "ab")
    with insert(first):
        assert active_playback() is first
        left = contextvars.copy_context()
    first.ward.end([].append)
    with insert(second):
        assert active_playback() is second
        assert left.run(active_playback) is None


def test_a_miss_does_not_kill_the_thread_of_a_pool_that_waits_for_it(tests):
    from multiprocessing.pool import ThreadPool

    a, _, _ = tests

    def miss(*_):
        raise ReplayMiss("no recording")

    with ThreadPool(1) as pool, entered(a):
        with pytest.raises(RuntimeError, match="no recording"):
            pool.apply(miss)
        with pytest.raises(RuntimeError, match="no recording"):
            pool.map(miss, [1])
        with pytest.raises(RuntimeError, match="no recording"):
            list(pool.imap_unordered(func=miss, iterable=[1]))
        assert pool.starmap(max, [(1, 2)]) == [2]
        assert pool.apply(responsible) is a


def test_jobs_are_left_alone_where_no_test_was_tracked(monkeypatch):
    submit = ward._owned_jobs(lambda _pool, *args: args, ward._Job)
    monkeypatch.setattr(ward, "_top", -1)
    assert submit(None, int, 1) == (int, 1)
    monkeypatch.setattr(ward, "_top", 0)
    job, argument = submit(None, int, 1)
    assert job is not int
    assert job(argument) == 1
