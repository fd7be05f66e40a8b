"""The responses API and service tiers, through LangChain and through the SDK; and embeddings."""

from __future__ import annotations

from call_matrix import PROMPT, ways
from model_server import Answer, ToolCall

GROUP = "Responses API"
TIERS = "Service tiers"
VECTORS = "Embeddings"
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
ASK = {"model": "gpt-4o-mini", "input": PROMPT}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}]}
CALL = (Answer(tool_calls=(ToolCall(name="look"),)),)


async def read(stream):
    return [each async for each in stream]


def model(scene, **options):
    return scene.chat(use_responses_api=True, **options)


async def invoke(scene):
    await model(scene).ainvoke(PROMPT)


async def stream(scene):
    await read(model(scene).astream(PROMPT))


async def events(scene):
    await read(model(scene).astream_events(PROMPT, version="v2"))


async def batch(scene):
    await model(scene).abatch([PROMPT, "the dog"])


async def tools(scene):
    await model(scene).bind_tools([LOOK]).ainvoke(PROMPT)


async def reasoning(scene):
    await model(scene, model="o4-mini", reasoning={"effort": "low"}).ainvoke(PROMPT)


async def sdk_create(scene):
    async with scene.async_sdk() as client:
        await client.responses.create(**ASK)


async def sdk_stream(scene):
    async with scene.async_sdk() as client:
        await read(await client.responses.create(**ASK, stream=True))


async def sdk_helper(scene):
    async with scene.async_sdk() as client, client.responses.stream(**ASK) as stream:
        await stream.get_final_response()


async def sdk_parse(scene):
    async with scene.async_sdk() as client:
        await client.responses.parse(**ASK)


def helper(scene):
    with scene.sdk().responses.stream(**ASK) as stream:
        stream.get_final_response()


def tiers(tier):
    """A tier by each way: LangChain's key names differ, the bill does not."""
    answers = {"answers": (Answer(service_tier=tier),)}
    options = {"service_tier": tier}

    async def chat_async(scene):
        await scene.chat(**options).ainvoke(PROMPT)

    async def responses_async(scene):
        await model(scene, **options).ainvoke(PROMPT)

    async def sdk_async(scene):
        async with scene.async_sdk() as client:
            await client.responses.create(**ASK, **options)

    return [
        *ways(
            TIERS,
            f"{tier}: ChatOpenAI",
            sync=lambda s: s.chat(**options).invoke(PROMPT),
            asynchronous=chat_async,
            **answers,
        ),
        *ways(
            TIERS,
            f"{tier}: ChatOpenAI, stream with usage",
            sync=lambda s: list(s.telling_chat(**options).stream(PROMPT)),
            **answers,
        ),
        *ways(
            TIERS,
            f"{tier}: ChatOpenAI over the responses API",
            sync=lambda s: model(s, **options).invoke(PROMPT),
            asynchronous=responses_async,
            **answers,
        ),
        *ways(
            TIERS,
            f"{tier}: ChatOpenAI over the responses API, streamed",
            sync=lambda s: list(model(s, **options).stream(PROMPT)),
            **answers,
        ),
        *ways(
            TIERS,
            f"{tier}: the openai SDK, responses",
            sync=lambda s: s.sdk().responses.create(**ASK, **options),
            asynchronous=sdk_async,
            **answers,
        ),
        *ways(
            TIERS,
            f"{tier}: the openai SDK, chat",
            sync=lambda s: s.sdk().chat.completions.create(**CHAT, **options),
            **answers,
        ),
    ]


def embeddings(scene, **options):
    from langchain_openai import OpenAIEmbeddings

    options = {"model": "text-embedding-3-small", "check_embedding_ctx_length": False, **options}
    return scene.langchain(OpenAIEmbeddings, **options)


def azure_embeddings(scene):
    from langchain_openai import AzureOpenAIEmbeddings

    deployment = {"azure_deployment": "text-embedding-3-small", "check_embedding_ctx_length": False}
    return scene.azure(AzureOpenAIEmbeddings, **deployment)


async def embed_query(scene):
    await embeddings(scene).aembed_query(PROMPT)


async def embed_documents(scene):
    await embeddings(scene).aembed_documents([PROMPT, "the dog"])


async def azure_embed(scene):
    await azure_embeddings(scene).aembed_query(PROMPT)


async def sdk_embed(scene):
    async with scene.async_sdk() as client:
        await client.embeddings.create(model="text-embedding-3-small", input=[PROMPT, "the dog"])


ROWS = [
    *ways(GROUP, "ChatOpenAI invoke", sync=lambda s: model(s).invoke(PROMPT), asynchronous=invoke, thread=True),
    *ways(GROUP, "ChatOpenAI stream", sync=lambda s: list(model(s).stream(PROMPT)), asynchronous=stream, thread=True),
    *ways(GROUP, "ChatOpenAI astream_events v2", asynchronous=events),
    *ways(
        GROUP,
        "ChatOpenAI batch",
        sync=lambda s: model(s).batch([PROMPT, "the dog"]),
        asynchronous=batch,
        sends=2,
    ),
    *ways(
        GROUP,
        "ChatOpenAI with tools",
        sync=lambda s: model(s).bind_tools([LOOK]).invoke(PROMPT),
        asynchronous=tools,
        answers=CALL,
    ),
    *ways(
        GROUP,
        "ChatOpenAI with reasoning",
        sync=lambda s: model(s, model="o4-mini", reasoning={"effort": "low"}).invoke(PROMPT),
        asynchronous=reasoning,
    ),
    *ways(
        GROUP,
        "reasoning, no usage reported",
        sync=lambda s: model(s, model="o4-mini").invoke(PROMPT),
        answers=(Answer(usage="null"),),
        unmeasured=1,
        why="hidden reasoning can't be counted from outside",
    ),
    *ways(
        GROUP,
        "the openai SDK, create",
        sync=lambda s: s.sdk().responses.create(**ASK),
        asynchronous=sdk_create,
        thread=True,
    ),
    *ways(
        GROUP,
        "the openai SDK, create streamed",
        sync=lambda s: list(s.sdk().responses.create(**ASK, stream=True)),
        asynchronous=sdk_stream,
    ),
    *ways(GROUP, "the openai SDK, stream helper", sync=helper, asynchronous=sdk_helper),
    *ways(
        GROUP,
        "the openai SDK, parse",
        sync=lambda s: s.sdk().responses.parse(**ASK),
        asynchronous=sdk_parse,
    ),
    *tiers("flex"),
    *tiers("priority"),
    *ways(
        VECTORS,
        "OpenAIEmbeddings.embed_query",
        sync=lambda s: embeddings(s).embed_query(PROMPT),
        asynchronous=embed_query,
        thread=True,
    ),
    *ways(
        VECTORS,
        "OpenAIEmbeddings.embed_documents",
        sync=lambda s: embeddings(s).embed_documents([PROMPT, "the dog"]),
        asynchronous=embed_documents,
        thread=True,
    ),
    *ways(
        VECTORS,
        "OpenAIEmbeddings.embed_documents, two requests",
        sync=lambda s: embeddings(s, chunk_size=2).embed_documents([PROMPT, "the dog", "the mat"]),
        sends=2,
    ),
    *ways(
        VECTORS,
        "AzureOpenAIEmbeddings.embed_query",
        sync=lambda s: azure_embeddings(s).embed_query(PROMPT),
        asynchronous=azure_embed,
    ),
    *ways(
        VECTORS,
        "the openai SDK",
        sync=lambda s: s.sdk().embeddings.create(model="text-embedding-3-small", input=[PROMPT, "the dog"]),
        asynchronous=sdk_embed,
    ),
    *ways(
        VECTORS,
        "the openai SDK, no usage reported",
        sync=lambda s: s.sdk().embeddings.create(model="text-embedding-3-small", input=PROMPT),
        answers=(Answer(usage="omitted"),),
        estimated=1,
    ),
]
