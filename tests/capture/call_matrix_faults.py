"""What goes wrong on the way: refusals and retries, timeouts, cut streams, and LangChain's cache, which sends nothing."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json

from call_matrix import GREETING, PROMPT, ways
from model_server import Answer

RETRIES = "Retries and timeouts"
BROKEN = "Broken streams"
CACHE = "LangChain's cache"
ASK = {"model": "gpt-4o-mini", "messages": GREETING}
TOLD = {"stream": True, "stream_options": {"include_usage": True}}
SOON = {"retry-after-ms": "1"}
SOON_ENOUGH = 0.8
"""Seconds in which a loaded machine sends a request, and in which `LATE` does not answer it."""
LATE = (Answer(delay=5),)
SLOW = Answer(text="the cat sat down on the mat", chunk_delay=0.03)
LONG = Answer(text="the cat sat down on the mat")
NOBODY_KNOWS = "sent, and no answer was read: the provider may bill it"
HELLO = {"id": "c", "model": "gpt-4o-mini", "choices": [{"index": 0, "delta": {"content": "the cat"}}]}


def sse(*events, done=True):
    """The body of a stream."""
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if done else "")


FAILING = Answer(
    body=sse(HELLO, {"error": {"message": "overloaded", "type": "server_error"}}, done=False),
    headers={"content-type": "text/event-stream"},
)


def tolerant(function):
    """What raises an exception that the row is not about."""

    @functools.wraps(function)
    def tried(scene):
        with contextlib.suppress(Exception):
            function(scene)
        gc.collect()

    return tried


def tolerant_async(function):
    @functools.wraps(function)
    async def tried(scene):
        with contextlib.suppress(Exception):
            await function(scene)
        await asyncio.sleep(0)

    return tried


# Retries and timeouts


def by_sdk(**options):
    async def ask_async(scene):
        async with scene.async_sdk(**options) as client:
            await client.chat.completions.create(**ASK)

    return {
        "sync": tolerant(lambda s: s.sdk(**options).chat.completions.create(**ASK)),
        "asynchronous": tolerant_async(ask_async),
    }


def by_chat(**options):
    async def ask_async(scene):
        await scene.chat(**options).ainvoke(PROMPT)

    return {
        "sync": tolerant(lambda s: s.chat(**options).invoke(PROMPT)),
        "asynchronous": tolerant_async(ask_async),
    }


def by_legacy(**options):
    async def ask_async(scene):
        await scene.legacy(**options).ainvoke(PROMPT)

    return {
        "sync": tolerant(lambda s: s.legacy(**options).invoke(PROMPT)),
        "asynchronous": tolerant_async(ask_async),
    }


async def wait_for(scene):
    async with scene.async_sdk() as client:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.chat.completions.create(**ASK), SOON_ENOUGH)


async def wait_for_chat(scene):
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(scene.chat().ainvoke(PROMPT), SOON_ENOUGH)


async def cancelled(scene):
    async with scene.async_sdk() as client:
        task = asyncio.create_task(client.chat.completions.create(**ASK))
        await asyncio.sleep(SOON_ENOUGH)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def timeout_block(scene):
    with contextlib.suppress(TimeoutError):
        async with scene.async_sdk() as client, asyncio.timeout(SOON_ENOUGH):
            await client.chat.completions.create(**ASK)


def refused(*statuses):
    return {
        "refused": len(statuses),
        "answers": tuple(Answer(status=status, headers=SOON) for status in statuses),
    }


LOST = {"answers": LATE, "unmeasured": 1, "unread": (1,), "why": NOBODY_KNOWS}

# Broken streams


def stop_early(stream):
    for chunk in stream:
        if " cat" in str(chunk):
            break


def sdk_break(scene):
    with scene.sdk().chat.completions.create(**ASK, **TOLD) as stream:
        stop_early(stream)


def sdk_dropped(scene):
    stop_early(scene.sdk().chat.completions.create(**ASK, **TOLD))
    gc.collect()


def legacy_break(scene):
    stop_early(scene.legacy().stream(PROMPT))


def chat_break(scene):
    stop_early(scene.telling_chat().stream(PROMPT))


async def sdk_break_async(scene):
    async with scene.async_sdk() as client, await client.chat.completions.create(**ASK, **TOLD) as stream:
        async for chunk in stream:
            if " cat" in str(chunk):
                break


async def chat_break_async(scene):
    async with contextlib.aclosing(scene.telling_chat().astream(PROMPT)) as stream:
        async for chunk in stream:
            if " cat" in str(chunk):
                break


async def sdk_cut_async(scene):
    async with scene.async_sdk() as client:
        async for _ in await client.chat.completions.create(**ASK, **TOLD):
            pass


async def chat_cut_async(scene):
    async for _ in scene.telling_chat().astream(PROMPT):
        pass


async def cancelled_stream(scene):
    async with scene.async_sdk() as client:
        seen = asyncio.Event()

        async def read():
            async for chunk in await client.chat.completions.create(**ASK, **TOLD):
                if " cat" in str(chunk):
                    seen.set()

        reading = asyncio.create_task(read())
        await asyncio.wait_for(seen.wait(), 10)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading


async def events_cut(scene):
    async with contextlib.aclosing(scene.telling_chat().astream_events(PROMPT, version="v2")) as stream:
        async for event in stream:
            if " cat" in str(event.get("data", {}).get("chunk", "")):
                break


def sdk_cut(scene):
    list(scene.sdk().chat.completions.create(**ASK, **TOLD))


def chat_cut(scene):
    list(scene.telling_chat().stream(PROMPT))


def legacy_cut(scene):
    list(scene.legacy().stream(PROMPT))


def responses_cut(scene):
    list(scene.sdk().responses.create(model="gpt-4o-mini", input=PROMPT, stream=True))


STOPPED = {"answers": (SLOW,), "estimated": 1, "cut": True}
CUT = {"answers": (Answer(text=LONG.text, cut_after=4),), "estimated": 1, "cut": True}
ERROR = {"answers": (FAILING,), "estimated": 1, "told": (), "cut": True}

# LangChain's cache


def cached(function):
    """With LangChain's cache switched on, and what is asked before the block in it."""

    @functools.wraps(function)
    def run(scene):
        from langchain_core.caches import InMemoryCache
        from langchain_core.globals import set_llm_cache

        set_llm_cache(InMemoryCache())
        try:
            function(scene)
        finally:
            set_llm_cache(None)

    return run


def cached_async(function):
    @functools.wraps(function)
    async def run(scene):
        from langchain_core.caches import InMemoryCache
        from langchain_core.globals import set_llm_cache

        set_llm_cache(InMemoryCache())
        try:
            await function(scene)
        finally:
            set_llm_cache(None)

    return run


def twice(make):
    @cached
    def run(scene):
        model = make(scene)
        model.invoke(PROMPT)
        model.invoke(PROMPT)

    @cached_async
    async def run_async(scene):
        model = make(scene)
        await model.ainvoke(PROMPT)
        await model.ainvoke(PROMPT)

    return {"sync": run, "asynchronous": run_async, "thread": True}


def mixed(make):
    @cached
    def run(scene):
        model = make(scene)
        model.invoke(PROMPT)
        model.batch([PROMPT, "the dog"])

    @cached_async
    async def run_async(scene):
        model = make(scene)
        await model.ainvoke(PROMPT)
        await model.abatch([PROMPT, "the dog"])

    return {"sync": run, "asynchronous": run_async}


@cached
def generate_mixed(scene):
    from langchain_core.messages import HumanMessage

    model = scene.chat()
    model.invoke(PROMPT)
    model.generate([[HumanMessage(text)] for text in (PROMPT, "the dog", PROMPT)])


@cached
def only_hits(scene):
    from langchain_openai import ChatOpenAI

    body = {**ASK, "id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "well"}}]}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    scene.server.script([Answer(body={**body, "usage": usage})])
    model = ChatOpenAI(model="gpt-4o-mini", base_url=scene.server.openai_url, api_key="any")
    model.invoke(PROMPT)
    scene.server.reset()
    with scene.track():
        model.invoke(PROMPT)
        model.invoke(PROMPT)


HIT = {"hits": 1}

ROWS = [
    *ways(RETRIES, "429, the SDK retries", **by_sdk(max_retries=2), **refused(429)),
    *ways(RETRIES, "500, the SDK retries", **by_sdk(max_retries=2), **refused(500)),
    *ways(RETRIES, "429 and 500, ChatOpenAI retries", **by_chat(max_retries=3), **refused(429, 500)),
    *ways(RETRIES, "500, OpenAI retries", **by_legacy(max_retries=2), **refused(500)),
    *ways(RETRIES, "429 to the last", **by_sdk(max_retries=1), sends=0, **refused(429, 429)),
    *ways(RETRIES, "400", **by_chat(), sends=0, **refused(400)),
    *ways(
        RETRIES,
        "timeout, the SDK retries: billed twice",
        **by_sdk(max_retries=1, timeout=SOON_ENOUGH),
        sends=2,
        **LOST,
    ),
    *ways(
        RETRIES,
        "timeout, ChatOpenAI retries: billed twice",
        **by_chat(max_retries=1, timeout=SOON_ENOUGH),
        sends=2,
        **LOST,
    ),
    *ways(RETRIES, "timeout without a retry", **by_sdk(timeout=SOON_ENOUGH), **LOST),
    *ways(RETRIES, "wait_for cut the request off", asynchronous=wait_for, **LOST),
    *ways(RETRIES, "wait_for cut ChatOpenAI off", asynchronous=wait_for_chat, **LOST),
    *ways(RETRIES, "asyncio.timeout cut the request off", asynchronous=timeout_block, **LOST),
    *ways(RETRIES, "a task that was cancelled", asynchronous=cancelled, **LOST),
    *ways(
        BROKEN, "by the user, the openai SDK", sync=sdk_break, asynchronous=sdk_break_async, thread=True, **STOPPED
    ),
    *ways(BROKEN, "by the user, who drops the stream", sync=sdk_dropped, **STOPPED),
    *ways(BROKEN, "by the user, ChatOpenAI", sync=chat_break, asynchronous=chat_break_async, **STOPPED),
    *ways(BROKEN, "by the user, ChatOpenAI, astream_events v2", asynchronous=events_cut, **STOPPED),
    *ways(BROKEN, "by the user, OpenAI", sync=legacy_break, **STOPPED),
    *ways(BROKEN, "by a task that is cancelled", asynchronous=cancelled_stream, **STOPPED),
    *ways(
        BROKEN,
        "by the socket, the openai SDK",
        sync=tolerant(sdk_cut),
        asynchronous=tolerant_async(sdk_cut_async),
        **CUT,
    ),
    *ways(
        BROKEN,
        "by the socket, ChatOpenAI",
        sync=tolerant(chat_cut),
        asynchronous=tolerant_async(chat_cut_async),
        **CUT,
    ),
    *ways(BROKEN, "by the socket, OpenAI", sync=tolerant(legacy_cut), **CUT),
    *ways(
        BROKEN,
        "by the socket, responses",
        sync=tolerant(responses_cut),
        answers=(Answer(text=LONG.text, cut_after=7),),
        estimated=1,
        cut=True,
    ),
    *ways(
        BROKEN,
        "by an error event, the openai SDK",
        sync=tolerant(sdk_cut),
        asynchronous=tolerant_async(sdk_cut_async),
        **ERROR,
    ),
    *ways(
        BROKEN,
        "by an error event, ChatOpenAI",
        sync=tolerant(chat_cut),
        asynchronous=tolerant_async(chat_cut_async),
        **ERROR,
    ),
    *ways(CACHE, "ChatOpenAI, a hit after a miss", **twice(lambda s: s.chat()), **HIT),
    *ways(CACHE, "OpenAI, a hit after a miss", **twice(lambda s: s.legacy()), **HIT),
    *ways(CACHE, "ChatOpenAI, hit and miss in one batch", **mixed(lambda s: s.chat()), sends=2, **HIT),
    *ways(CACHE, "OpenAI, hit and miss in one batch", **mixed(lambda s: s.legacy()), sends=2, **HIT),
    *ways(CACHE, "ChatOpenAI, generate of hit, miss and hit", sync=generate_mixed, sends=2, hits=2),
    *ways(CACHE, "only hits", sync=only_hits, sends=0, hits=2, place="own"),
    *ways(
        CACHE,
        "an answer that reported nothing, then a hit",
        **twice(lambda s: s.chat()),
        answers=(Answer(usage="omitted"),),
        estimated=1,
        **HIT,
    ),
]
