"""Who asks: threads, pools, executors and tasks, made in the block, before it, or before the test."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from call_matrix import PROMPT, in_executor, in_pool, in_thread, to_thread, ways

GROUP = "Threads and tasks"
SOME = [PROMPT, "the dog", "the mat"]


def sdk_ask(scene):
    client = scene.sdk()
    return lambda text: client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": text}]
    )


def chat_ask(scene):
    return scene.chat().invoke


ASKERS = {"the openai SDK": sdk_ask, "ChatOpenAI": chat_ask}


@contextmanager
def worker(ask):
    """A thread that lives before and after what it is asked."""
    jobs = queue.Queue()

    def work():
        while (job := jobs.get()) is not None:
            ask(job)
            jobs.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield jobs
    finally:
        jobs.put(None)
        thread.join()


def rows_of(name, make):
    def pool(scene):
        with ThreadPoolExecutor(3) as executor:
            list(executor.map(make(scene), SOME))

    def pool_with_context(scene):
        ask = make(scene)
        with ThreadPoolExecutor(3) as executor:
            jobs = [executor.submit(contextvars.copy_context().run, ask, text) for text in SOME]
            assert all(job.result() for job in jobs)

    def pool_before(scene):
        with ThreadPoolExecutor(3) as executor:
            list(executor.map(str, SOME))
            ask = make(scene)
            with scene.run_test() if "test" in scene.row.name else scene.track():
                list(executor.map(ask, SOME))

    def thread_before(scene):
        ask = make(scene)
        with worker(ask) as jobs, scene.run_test() if "test" in scene.row.name else scene.track():
            for text in SOME:
                jobs.put(text)
            jobs.join()

    def daemon(scene):
        thread = threading.Thread(target=make(scene), args=(PROMPT,), daemon=True)
        thread.start()
        thread.join()

    def timer(scene):
        thread = threading.Timer(0.01, make(scene), args=(PROMPT,))
        thread.start()
        thread.join()

    def thread_in_thread(scene):
        in_thread(in_thread(lambda each: make(each)(PROMPT)))(scene)

    def loop_in_thread(scene):
        ask = make(scene)

        def run():
            asyncio.run(asyncio.to_thread(ask, PROMPT))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

    async def threads_at_once(scene):
        ask = make(scene)
        await asyncio.gather(*(asyncio.to_thread(ask, text) for text in SOME))

    def once(scene):
        make(scene)(PROMPT)

    before = {"place": "own", "sends": 3}
    return [
        *ways(
            GROUP,
            f"{name}, once",
            also={
                "thread": in_thread(once),
                "pool": in_pool(once),
                "to_thread": to_thread(once),
                "executor": in_executor(once),
            },
        ),
        *ways(GROUP, f"{name}, ThreadPoolExecutor.map", also={"pool": pool}, sends=3),
        *ways(GROUP, f"{name}, a pool that is given the context", also={"pool": pool_with_context}, sends=3),
        *ways(GROUP, f"{name}, to_thread three times at once", also={"to_thread": threads_at_once}, sends=3),
        *ways(GROUP, f"{name}, a daemon thread", also={"thread": daemon}),
        *ways(GROUP, f"{name}, a timer", also={"thread": timer}),
        *ways(GROUP, f"{name}, a thread of a thread", also={"thread": thread_in_thread}),
        *ways(GROUP, f"{name}, an event loop in a thread", also={"thread": loop_in_thread}),
        *ways(GROUP, f"{name}, a pool made before the block", also={"pool": pool_before}, **before),
        *ways(GROUP, f"{name}, a pool made before the test", also={"pool": pool_before}, **before),
        *ways(GROUP, f"{name}, a thread made before the block", also={"thread": thread_before}, **before),
        *ways(GROUP, f"{name}, a thread made before the test", also={"thread": thread_before}, **before),
    ]


async def ask_async(scene):
    async with scene.async_sdk() as client:
        await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": PROMPT}])


async def in_a_task(scene):
    await asyncio.create_task(ask_async(scene))


async def in_an_empty_context(scene):
    await asyncio.create_task(ask_async(scene), context=contextvars.Context())


def task_before(scene):
    async def run():
        started = asyncio.Event()

        async def wait():
            await started.wait()
            await ask_async(scene)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        with scene.run_test():
            started.set()
            await task

    asyncio.run(run())


def from_another_thread(scene):
    """A loop in a thread of its own, made before, that is handed a coroutine."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with scene.run_test() if "test" in scene.row.name else scene.track():
            asyncio.run_coroutine_threadsafe(ask_async(scene), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


ROWS = [
    *(row for name, make in ASKERS.items() for row in rows_of(name, make)),
    *ways(GROUP, "a task", also={"task": in_a_task}),
    *ways(GROUP, "a task with an empty context", also={"task": in_an_empty_context}, place="test"),
    *ways(GROUP, "a task made before the test", also={"task": task_before}, place="own"),
    *ways(GROUP, "run_coroutine_threadsafe in the block", also={"thread": from_another_thread}, place="own"),
    *ways(GROUP, "run_coroutine_threadsafe in the test", also={"thread": from_another_thread}, place="own"),
]
