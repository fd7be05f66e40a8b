"""Models inside of chains, parallels, agents and graphs, and tools that call models themselves."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, TypedDict

import httpx
from call_matrix import GREETING, PROMPT, ways
from model_server import Answer, ToolCall

CHAINS = "Chains"
AGENTS = "Agents and graphs"
THING = {"thing": "the cat"}
LOOK = Answer(tool_calls=(ToolCall(name="look", arguments={"word": "x"}),))


async def read(stream):
    return [each async for each in stream]


def chain(scene, **options):
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    return ChatPromptTemplate.from_template("tell of {thing}") | scene.chat(**options) | StrOutputParser()


def legacy_chain(scene):
    from langchain_core.prompts import PromptTemplate

    return PromptTemplate.from_template("tell of {thing}") | scene.legacy()


def parallel(scene):
    from langchain_core.runnables import RunnableParallel

    each = chain(scene)
    return RunnableParallel(a=each, b=each, c=legacy_chain(scene))


def function(scene):
    from langchain_core.runnables import RunnableLambda

    chat = scene.chat()

    async def ask_async(text):
        return (await chat.ainvoke(text)).content

    return RunnableLambda(lambda text: chat.invoke(text).content, afunc=ask_async)


def tools(scene):
    from langchain_core.tools import tool

    chat = scene.chat()

    @tool
    def look(word: str) -> str:
        """Look a word up."""
        return f"{word} means a thing"

    @tool
    def ask(word: str) -> str:
        """Ask another model."""
        return chat.invoke(word).content

    @tool
    def ask_sdk(word: str) -> str:
        """Ask another model through the SDK."""
        return scene.sdk().chat.completions.create(model="gpt-4o", messages=GREETING).choices[0].message.content

    @tool
    def ask_httpx(word: str) -> str:
        """Ask another model by hand."""
        return httpx.post(scene.url, json={"model": "gpt-4o", "messages": GREETING}).text

    return {each.name: each for each in (look, ask, ask_sdk, ask_httpx)}


def agent(scene, name="look", **options):
    from langchain.agents import create_agent

    return create_agent(scene.chat(**options), [tools(scene)[name]])


def calls(name, times=1):
    return Answer(tool_calls=tuple(ToolCall(name=name, arguments={"word": str(place)}) for place in range(times)))


class State(TypedDict):
    said: Annotated[list, operator.add]


def graph(scene, asynchronous=False, **options):
    from langgraph.graph import END, START, StateGraph

    chat = scene.chat(**options)

    def node(_state):
        return {"said": [chat.invoke(PROMPT).content]}

    async def node_async(_state):
        return {"said": [(await chat.ainvoke(PROMPT)).content]}

    built = StateGraph(State)
    for name in "abc":
        built.add_node(name, node_async if asynchronous else node)
        built.add_edge(START, name)
        built.add_edge(name, END)
    return built.compile()


def graph_in_a_node(scene):
    from langgraph.graph import END, START, StateGraph

    built = StateGraph(State)
    built.add_node("inner", graph(scene))
    built.add_edge(START, "inner")
    built.add_edge("inner", END)
    return built.compile()


def message_graph(scene, **options):
    from langgraph.graph import END, START, MessagesState, StateGraph

    chat = scene.chat(**options)
    built = StateGraph(MessagesState)
    built.add_node("talk", lambda state: {"messages": [chat.invoke(state["messages"])]})
    built.add_edge(START, "talk")
    built.add_edge("talk", END)
    return built.compile()


def runs(make, given):
    """The ways to run a thing: as it is, and asynchronously."""

    async def run_async(scene):
        await make(scene).ainvoke(given)

    return {"sync": lambda s: make(s).invoke(given), "asynchronous": run_async}


def batches(make, given):
    async def run_async(scene):
        await make(scene).abatch(given)

    return {"sync": lambda s: make(s).batch(given), "asynchronous": run_async}


def streams(make, given, **options):
    async def run_async(scene):
        await read(make(scene).astream(given, **options))

    return {"sync": lambda s: list(make(s).stream(given, **options)), "asynchronous": run_async}


def fallback(scene):
    return scene.chat(model="gpt-4o").with_fallbacks([scene.chat()])


def retry(scene):
    return scene.chat().with_retry(wait_exponential_jitter=False, stop_after_attempt=3)


async def chain_events(scene):
    await read(chain(scene, stream_usage=True).astream_events(THING, version="v2"))


async def agent_events(scene):
    await read(agent(scene, stream_usage=True).astream_events({"messages": GREETING}, version="v2"))


async def graph_async_nodes(scene):
    await graph(scene, asynchronous=True).ainvoke({"said": []})


async def graph_events(scene):
    await read(graph(scene, asynchronous=True, stream_usage=True).astream_events({"said": []}, version="v2"))


def classic(scene):
    from langchain_classic.chains import LLMChain
    from langchain_core.prompts import PromptTemplate

    return LLMChain(llm=scene.legacy(), prompt=PromptTemplate.from_template("tell of {thing}"))


ASKED = {"messages": GREETING}
NOTHING_SAID = {"said": []}
MESSAGES = {"stream_mode": "messages"}

ROWS = [
    *ways(CHAINS, "prompt, model, parser: invoke", **runs(chain, THING), thread=True),
    *ways(CHAINS, "prompt, model, parser: batch", **batches(chain, [THING] * 3), sends=3),
    *ways(CHAINS, "prompt, model, parser: stream without usage", **streams(chain, THING), estimated=1),
    *ways(
        CHAINS,
        "prompt, model, parser: stream with usage",
        **streams(functools.partial(chain, stream_usage=True), THING),
    ),
    *ways(CHAINS, "prompt, model, parser: astream_events v2", asynchronous=chain_events),
    *ways(CHAINS, "prompt, completion model: invoke", **runs(legacy_chain, THING)),
    *ways(CHAINS, "LLMChain of langchain-classic", **runs(classic, THING), needs=("langchain_classic",)),
    *ways(CHAINS, "RunnableParallel", **runs(parallel, THING), thread=True, sends=3),
    *ways(CHAINS, "RunnableLambda.batch", **batches(function, [PROMPT, "the dog", "the mat"]), sends=3),
    *ways(CHAINS, "with_fallbacks", **runs(fallback, PROMPT), refused=1, answers=(Answer(status=500),)),
    *ways(
        CHAINS,
        "with_retry",
        **runs(retry, PROMPT),
        refused=2,
        answers=(Answer(status=429), Answer(status=500)),
    ),
    *ways(AGENTS, "create_agent without a tool call", **runs(agent, ASKED)),
    *ways(AGENTS, "create_agent with a tool", **runs(agent, ASKED), thread=True, sends=2, answers=(LOOK, Answer())),
    *ways(
        AGENTS,
        "create_agent streamed by messages",
        **streams(functools.partial(agent, stream_usage=True), ASKED, **MESSAGES),
        sends=2,
        answers=(LOOK, Answer()),
    ),
    *ways(AGENTS, "create_agent, astream_events v2", asynchronous=agent_events, sends=2, answers=(LOOK, Answer())),
    *ways(
        AGENTS,
        "a tool that calls a chat model",
        **runs(functools.partial(agent, name="ask"), ASKED),
        sends=3,
        answers=(calls("ask"),),
    ),
    *ways(
        AGENTS,
        "a tool that calls a chat model, three times at once",
        **runs(functools.partial(agent, name="ask"), ASKED),
        sends=5,
        answers=(calls("ask", times=3),),
    ),
    *ways(
        AGENTS,
        "a tool that uses the openai SDK",
        **runs(functools.partial(agent, name="ask_sdk"), ASKED),
        sends=3,
        answers=(calls("ask_sdk"),),
    ),
    *ways(
        AGENTS,
        "a tool that uses httpx",
        **runs(functools.partial(agent, name="ask_httpx"), ASKED),
        sends=3,
        answers=(calls("ask_httpx"),),
    ),
    *ways(AGENTS, "a graph with three nodes at once", **runs(graph, NOTHING_SAID), thread=True, sends=3),
    *ways(AGENTS, "a graph with three async nodes at once", asynchronous=graph_async_nodes, sends=3),
    *ways(AGENTS, "a graph with three async nodes, astream_events v2", asynchronous=graph_events, sends=3),
    *ways(AGENTS, "a graph as a node of a graph", **runs(graph_in_a_node, NOTHING_SAID), sends=3),
    *ways(
        AGENTS,
        "a graph streamed by messages, with usage",
        **streams(functools.partial(message_graph, stream_usage=True), ASKED, **MESSAGES),
    ),
    *ways(
        AGENTS,
        "a graph streamed by messages, without usage",
        **streams(message_graph, ASKED, **MESSAGES),
        estimated=1,
    ),
]
