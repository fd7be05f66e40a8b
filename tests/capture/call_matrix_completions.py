"""LangChain's completion models (``OpenAI``, ``AzureOpenAI``): every way to run one."""

from __future__ import annotations

import contextlib

from call_matrix import PROMPT, ways
from model_server import Answer

GROUP = "LangChain completions"
MANY = [f"{PROMPT} {number}" for number in range(25)]
TELL = {"stream_options": {"include_usage": True}}


async def read(stream):
    return [each async for each in stream]


def azure(scene):
    from langchain_openai import AzureOpenAI

    return scene.azure(AzureOpenAI, azure_deployment="gpt-3.5-turbo-instruct")


def generate_one_by_one(scene):
    with contextlib.suppress(Exception):
        scene.legacy(batch_size=1).generate([PROMPT, "the dog", "the mat"])


async def agenerate_one_by_one(scene):
    with contextlib.suppress(Exception):
        await scene.legacy(batch_size=1).agenerate([PROMPT, "the dog", "the mat"])


async def invoke(scene):
    await scene.legacy().ainvoke(PROMPT)


async def batch(scene):
    await scene.legacy().abatch([PROMPT, "the dog", "the mat"])


async def batch_in_twos(scene):
    await scene.legacy().abatch([PROMPT, "the dog", "the mat"], config={"max_concurrency": 2})


async def generate(scene):
    await scene.legacy().agenerate([PROMPT, "the dog", "the mat"])


async def generate_many(scene):
    await scene.legacy().agenerate(MANY)


async def invoke_n(scene):
    await scene.legacy(n=2).ainvoke(PROMPT)


async def invoke_best_of(scene):
    await scene.legacy(n=2, best_of=3).ainvoke(PROMPT)


async def stream(scene):
    await read(scene.legacy().astream(PROMPT))


async def stream_with_usage(scene):
    await read(scene.legacy().astream(PROMPT, **TELL))


async def streaming(scene):
    await scene.legacy(streaming=True).ainvoke(PROMPT)


async def events(scene):
    await read(scene.legacy().astream_events(PROMPT, version="v2"))


async def events_with_usage(scene):
    await read(scene.legacy().astream_events(PROMPT, version="v2", **TELL))


async def azure_invoke(scene):
    await azure(scene).ainvoke(PROMPT)


FAILS = {"sends": 2, "refused": 1, "answers": (Answer(), Answer(), Answer(status=400))}

ROWS = [
    *ways(GROUP, "invoke", sync=lambda s: s.legacy().invoke(PROMPT), asynchronous=invoke, thread=True),
    *ways(
        GROUP,
        "batch of three prompts, one request",
        sync=lambda s: s.legacy().batch([PROMPT, "the dog", "the mat"]),
        asynchronous=batch,
        thread=True,
    ),
    *ways(
        GROUP,
        "batch of three prompts, two at a time",
        sync=lambda s: s.legacy().batch([PROMPT, "the dog", "the mat"], config={"max_concurrency": 2}),
        asynchronous=batch_in_twos,
        sends=2,
    ),
    *ways(
        GROUP,
        "generate with three prompts",
        sync=lambda s: s.legacy().generate([PROMPT, "the dog", "the mat"]),
        asynchronous=generate,
        thread=True,
    ),
    *ways(
        GROUP,
        "generate with 25 prompts, two requests",
        sync=lambda s: s.legacy().generate(MANY),
        asynchronous=generate_many,
        thread=True,
        sends=2,
    ),
    *ways(GROUP, "n=2", sync=lambda s: s.legacy(n=2).invoke(PROMPT), asynchronous=invoke_n),
    *ways(
        GROUP,
        "n=2, best_of=3",
        sync=lambda s: s.legacy(n=2, best_of=3).invoke(PROMPT),
        asynchronous=invoke_best_of,
    ),
    *ways(
        GROUP,
        "stream without usage",
        sync=lambda s: list(s.legacy().stream(PROMPT)),
        asynchronous=stream,
        thread=True,
        estimated=1,
    ),
    *ways(
        GROUP,
        "stream with usage",
        sync=lambda s: list(s.legacy().stream(PROMPT, **TELL)),
        asynchronous=stream_with_usage,
        thread=True,
    ),
    *ways(
        GROUP,
        "streaming=True, invoke",
        sync=lambda s: s.legacy(streaming=True).invoke(PROMPT),
        asynchronous=streaming,
        estimated=1,
    ),
    *ways(GROUP, "astream_events v2 without usage", asynchronous=events, estimated=1),
    *ways(GROUP, "astream_events v2 with usage", asynchronous=events_with_usage),
    *ways(GROUP, "AzureOpenAI invoke", sync=lambda s: azure(s).invoke(PROMPT), asynchronous=azure_invoke),
    *ways(
        GROUP,
        "AzureOpenAI stream without usage",
        sync=lambda s: list(azure(s).stream(PROMPT)),
        estimated=1,
    ),
    *ways(
        GROUP,
        "generate one by one; the third fails after two were billed",
        sync=generate_one_by_one,
        asynchronous=agenerate_one_by_one,
        **FAILS,
    ),
]
