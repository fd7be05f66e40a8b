"""LangChain's chat models (``ChatOpenAI``, ``AzureChatOpenAI``): every way to run one."""

from __future__ import annotations

import asyncio
import contextlib

from call_matrix import PROMPT, in_executor, in_pool, to_thread, ways
from model_server import Answer, ToolCall

EVENTS_V3 = ("langchain_core.language_models.chat_model_stream",)
GROUP = "LangChain chat"
SOME = [PROMPT, "the dog", "the mat"]
LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"word": {"type": "string"}}}},
}
PERSON = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
CALLS = (ToolCall(name="look", arguments={"word": "x"}), ToolCall(name="look", arguments={"word": "y"}))
ADA = (ToolCall(name="Person", arguments={"name": "Ada"}),)
REFUSAL = {
    "id": "chatcmpl-refused",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, "refusal": "I can not do that."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 61, "completion_tokens": 17, "total_tokens": 78},
}


def prompts():
    from langchain_core.messages import HumanMessage

    return [[HumanMessage(text)] for text in SOME]


async def read(stream):
    return [each async for each in stream]


def azure(scene, **options):
    from langchain_openai import AzureChatOpenAI

    return scene.azure(AzureChatOpenAI, azure_deployment="gpt-4o-mini", **options)


def structured(scene, method):
    return scene.chat().with_structured_output(PERSON, method=method)


async def invoke(scene):
    await scene.chat().ainvoke(PROMPT)


async def batch(scene):
    await scene.chat().abatch(SOME)


async def batch_as_completed(scene):
    await read(scene.chat().abatch_as_completed(SOME))


async def batch_one_at_a_time(scene):
    await scene.chat().abatch(SOME, config={"max_concurrency": 1})


async def generate(scene):
    await scene.chat().agenerate(prompts())


async def gather(scene):
    chat = scene.chat()
    await asyncio.gather(*(chat.ainvoke(text) for text in SOME))


async def group(scene):
    chat = scene.chat()
    async with asyncio.TaskGroup() as tasks:
        for text in SOME:
            tasks.create_task(chat.ainvoke(text))


async def stream(scene):
    await read(scene.chat().astream(PROMPT))


async def stream_with_usage(scene):
    await read(scene.telling_chat().astream(PROMPT))


async def stream_usage_in_the_call(scene):
    await read(scene.chat().astream(PROMPT, stream_usage=True))


async def streaming(scene):
    await scene.chat(streaming=True).ainvoke(PROMPT)


async def streaming_with_usage(scene):
    await scene.telling_chat(streaming=True).ainvoke(PROMPT)


async def events(scene):
    await read(scene.chat().astream_events(PROMPT, version="v2"))


async def events_with_usage(scene):
    await read(scene.telling_chat().astream_events(PROMPT, version="v2"))


async def events_v3(scene):
    stream = await scene.chat().astream_events(PROMPT, version="v3")
    await stream.output


async def events_v3_with_usage(scene):
    stream = await scene.telling_chat().astream_events(PROMPT, version="v3")
    await stream.output


async def log(scene):
    await read(scene.telling_chat().astream_log(PROMPT))


async def n(scene):
    await scene.chat(n=3).agenerate(prompts()[:1])


async def tools(scene):
    await scene.chat().bind_tools([LOOK]).ainvoke(PROMPT)


async def tools_streamed(scene):
    await read(scene.telling_chat().bind_tools([LOOK]).astream(PROMPT))


async def by_function(scene):
    await structured(scene, "function_calling").ainvoke(PROMPT)


async def by_schema(scene):
    await structured(scene, "json_schema").ainvoke(PROMPT)


async def by_json_mode(scene):
    await structured(scene, "json_mode").ainvoke(PROMPT)


async def azure_invoke(scene):
    await azure(scene).ainvoke(PROMPT)


async def azure_batch(scene):
    await azure(scene).abatch(SOME)


async def azure_stream_with_usage(scene):
    await read(azure(scene, stream_usage=True).astream(PROMPT))


async def azure_stream(scene):
    await read(azure(scene, stream_usage=False).astream(PROMPT))


def refused(scene):
    with contextlib.suppress(Exception):  # langchain-openai raises for a refusal of a schema
        structured(scene, "json_schema").invoke(PROMPT)


async def refused_async(scene):
    with contextlib.suppress(Exception):
        await structured(scene, "json_schema").ainvoke(PROMPT)


def third_fails(scene):
    with contextlib.suppress(Exception):
        scene.chat().generate(prompts())


async def third_fails_async(scene):
    with contextlib.suppress(Exception):
        await scene.chat().agenerate(prompts())


def third_of_a_batch_fails(scene):
    assert len(scene.chat().batch(SOME, return_exceptions=True)) == 3


def plain(scene):
    scene.chat().invoke(PROMPT)


JSON = (Answer(text='{"name": "Ada"}'),)
THIRD = {"sends": 2, "refused": 1, "answers": (Answer(to=SOME[2], status=400),)}
TOLD = Answer(body=REFUSAL, input_tokens=61, output_tokens=17)

ROWS = [
    *ways(
        GROUP,
        "invoke",
        sync=plain,
        asynchronous=invoke,
        thread=True,
        also={"pool": in_pool(plain), "to_thread": to_thread(plain), "executor": in_executor(plain)},
    ),
    *ways(GROUP, "batch", sync=lambda s: s.chat().batch(SOME), asynchronous=batch, thread=True, sends=3),
    *ways(
        GROUP,
        "batch, one at a time",
        sync=lambda s: s.chat().batch(SOME, config={"max_concurrency": 1}),
        asynchronous=batch_one_at_a_time,
        sends=3,
    ),
    *ways(
        GROUP,
        "batch as completed",
        sync=lambda s: list(s.chat().batch_as_completed(SOME)),
        asynchronous=batch_as_completed,
        sends=3,
    ),
    *ways(
        GROUP,
        "generate",
        sync=lambda s: s.chat().generate(prompts()),
        asynchronous=generate,
        thread=True,
        sends=3,
    ),
    *ways(GROUP, "gather", asynchronous=gather, sends=3),
    *ways(GROUP, "task group", asynchronous=group, sends=3),
    *ways(
        GROUP,
        "stream without usage",
        sync=lambda s: list(s.chat().stream(PROMPT)),
        asynchronous=stream,
        thread=True,
        estimated=1,
    ),
    *ways(
        GROUP,
        "stream with usage",
        sync=lambda s: list(s.telling_chat().stream(PROMPT)),
        asynchronous=stream_with_usage,
        thread=True,
    ),
    *ways(
        GROUP,
        "stream with usage asked for in the call",
        sync=lambda s: list(s.chat().stream(PROMPT, stream_usage=True)),
        asynchronous=stream_usage_in_the_call,
    ),
    *ways(
        GROUP,
        "streaming=True, invoke without usage",
        sync=lambda s: s.chat(streaming=True).invoke(PROMPT),
        asynchronous=streaming,
        estimated=1,
    ),
    *ways(
        GROUP,
        "streaming=True, invoke with usage",
        sync=lambda s: s.telling_chat(streaming=True).invoke(PROMPT),
        asynchronous=streaming_with_usage,
    ),
    *ways(GROUP, "astream_events v2 without usage", asynchronous=events, estimated=1),
    *ways(GROUP, "astream_events v2 with usage", asynchronous=events_with_usage),
    *ways(
        GROUP,
        "stream_events v3 without usage",
        sync=lambda s: s.chat().stream_events(PROMPT, version="v3").output,
        asynchronous=events_v3,
        estimated=1,
        needs=EVENTS_V3,
    ),
    *ways(
        GROUP,
        "stream_events v3 with usage",
        sync=lambda s: s.telling_chat().stream_events(PROMPT, version="v3").output,
        asynchronous=events_v3_with_usage,
        needs=EVENTS_V3,
    ),
    *ways(GROUP, "astream_log with usage", asynchronous=log),
    *ways(GROUP, "n=3", sync=lambda s: s.chat(n=3).generate(prompts()[:1]), asynchronous=n),
    *ways(
        GROUP,
        "n=3, stream without usage",
        sync=lambda s: list(s.chat(n=3).stream(PROMPT)),
        estimated=1,
    ),
    *ways(
        GROUP,
        "tools",
        sync=lambda s: s.chat().bind_tools([LOOK]).invoke(PROMPT),
        asynchronous=tools,
        answers=(Answer(tool_calls=CALLS),),
    ),
    *ways(
        GROUP,
        "tools, stream with usage",
        sync=lambda s: list(s.telling_chat().bind_tools([LOOK]).stream(PROMPT)),
        asynchronous=tools_streamed,
        answers=(Answer(tool_calls=CALLS),),
    ),
    *ways(
        GROUP,
        "structured output by a function",
        sync=lambda s: structured(s, "function_calling").invoke(PROMPT),
        asynchronous=by_function,
        answers=(Answer(tool_calls=ADA),),
    ),
    *ways(
        GROUP,
        "structured output by a schema",
        sync=lambda s: structured(s, "json_schema").invoke(PROMPT),
        asynchronous=by_schema,
        answers=JSON,
    ),
    *ways(
        GROUP,
        "structured output by JSON mode",
        sync=lambda s: structured(s, "json_mode").invoke(PROMPT),
        asynchronous=by_json_mode,
        answers=JSON,
    ),
    *ways(GROUP, "a refusal", sync=refused, asynchronous=refused_async, answers=(TOLD,)),
    *ways(
        GROUP,
        "generate; the third fails after two were billed",
        sync=third_fails,
        asynchronous=third_fails_async,
        **THIRD,
    ),
    *ways(GROUP, "batch; one of three fails", sync=third_of_a_batch_fails, **THIRD),
    *ways(
        GROUP,
        "AzureChatOpenAI invoke",
        sync=lambda s: azure(s).invoke(PROMPT),
        asynchronous=azure_invoke,
        thread=True,
    ),
    *ways(GROUP, "AzureChatOpenAI batch", sync=lambda s: azure(s).batch(SOME), asynchronous=azure_batch, sends=3),
    *ways(
        GROUP,
        "AzureChatOpenAI stream with usage",
        sync=lambda s: list(azure(s, stream_usage=True).stream(PROMPT)),
        asynchronous=azure_stream_with_usage,
    ),
    *ways(
        GROUP,
        "AzureChatOpenAI stream without usage",
        sync=lambda s: list(azure(s, stream_usage=False).stream(PROMPT)),
        asynchronous=azure_stream,
        estimated=1,
    ),
]
