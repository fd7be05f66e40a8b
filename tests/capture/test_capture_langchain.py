"""LangChain and LangGraph, every way to run a model, against what the server billed."""

from __future__ import annotations

import asyncio
import gc
import operator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, TypedDict
from uuid import uuid4

import openai
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, AzureOpenAI, ChatOpenAI, OpenAI, OpenAIEmbeddings
from model_server import Answer, ToolCall
from pydantic import BaseModel
from truth import GREETING, assert_billed

from pytest_tokenbudget import UnmeasuredUsageError, ledger, track_usage
from pytest_tokenbudget.capture import counting
from pytest_tokenbudget.ledger import Billing, Ledger
from pytest_tokenbudget.usage import ModelCall, Usage

pytestmark = [
    # langchain-openai adds token counts up, and warns of those that an answer leaves out.
    pytest.mark.filterwarnings("ignore:Unexpected type for token usage"),
    # It keeps its asynchronous clients for the whole process, and closes none.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def leaks_of_langchain_end_here():
    yield
    gc.collect()


class Person(BaseModel):
    """A person."""

    name: str


@pytest.fixture
def chat(server):
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="any", max_retries=0)


@pytest.fixture
def legacy(server):
    return OpenAI(model="gpt-3.5-turbo-instruct", base_url=server.openai_url, api_key="any", max_retries=0)


@pytest.fixture
def telling(server):
    """A chat model that asks for usage at the end of its streams."""
    return ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="any", stream_usage=True)


@pytest.fixture
def cache():
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@tool
def look(word: str) -> str:
    """Look a word up."""
    return f"{word} means a thing"


class TestChatModels:
    def test_invoke_and_batch(self, server, chat):
        with track_usage() as usage:
            chat.invoke("one two three")
            chat.batch([f"question {number}" for number in range(10)])
            chat.generate([[HumanMessage("a b")], [HumanMessage("c d e")]])
            list(chat.batch_as_completed(["x", "y"]))
        assert_billed(usage, server, requests=15)

    async def test_ainvoke_and_abatch(self, server, chat):
        with track_usage() as usage:
            await chat.ainvoke("one two three")
            await chat.abatch([f"question {number}" for number in range(10)])
            await chat.agenerate([[HumanMessage("a b")], [HumanMessage("c d e")]])
            await asyncio.gather(*(chat.ainvoke(f"q {number}") for number in range(5)))
        assert_billed(usage, server, requests=18)

    def test_stream(self, server, telling):
        with track_usage() as usage:
            list(telling.stream("one two three"))
            telling.model_copy(update={"streaming": True}).invoke("one two three")
        assert_billed(usage, server, requests=2)

    async def test_astream(self, server, telling):
        with track_usage() as usage:
            assert [chunk async for chunk in telling.astream("one two three")]
            assert [event async for event in telling.astream_events("one two three", version="v2")]
        assert_billed(usage, server, requests=2)

    def test_stream_without_usage_is_an_estimate(self, server, chat):
        server.answer("Hello world, how are you?")
        with track_usage() as usage:
            list(chat.stream("say hello to me", stream_usage=False))
        assert_billed(usage, server, requests=1, estimated=1)
        assert (usage.input_tokens, usage.output_tokens) == (11, 7)

    async def test_astream_events_without_usage(self, server, chat):
        with track_usage() as usage:
            assert [event async for event in chat.astream_events("one two", version="v2", stream_usage=False)]
        assert_billed(usage, server, requests=1, estimated=1)

    def test_stream_broken_off(self, server, telling):
        server.answer("Hello world, how are you?", chunk_delay=0.05)
        with track_usage() as usage:
            for chunk in telling.stream("say hello to me"):
                if chunk.content:
                    break
        assert (usage.requests, usage.estimated_requests, usage.input_tokens) == (1, 1, 11)

    def test_n_tools_and_structured_output(self, server, chat):
        calls = (ToolCall(name="Person", arguments={"name": "Ada"}),)
        server.script([Answer(), Answer(), Answer(tool_calls=calls), Answer(text='{"name": "Ada"}')])
        with track_usage() as usage:
            chat.model_copy(update={"n": 3}).invoke("one two")
            chat.bind_tools([look]).invoke("one two")
            chat.with_structured_output(Person, method="function_calling").invoke("who")
            chat.with_structured_output(Person, method="json_schema").invoke("who")
        assert_billed(usage, server, requests=4)

    def test_responses_api(self, server):
        chat = ChatOpenAI(model="gpt-4o-mini", base_url=server.openai_url, api_key="any", use_responses_api=True)
        with track_usage() as usage:
            chat.invoke("one two")
            list(chat.stream("one two three"))
        assert_billed(usage, server, requests=2)

    def test_azure(self, server):
        chat = AzureChatOpenAI(
            azure_deployment="gpt-4o-mini", azure_endpoint=server.url, api_key="any", api_version="2024-10-21"
        )
        with track_usage() as usage:
            chat.invoke("one two")
            list(chat.stream("one two", stream_usage=True))
        assert_billed(usage, server, requests=2)

    @pytest.mark.parametrize("kind", ["list", "manager"])
    def test_callbacks_of_the_users_own_do_not_push_ours_out(self, kind, server, chat):
        callbacks = [BaseCallbackHandler()] if kind == "list" else CallbackManager([])
        with track_usage() as usage:
            chat.invoke("one", config={"callbacks": callbacks})
            chat.model_copy(update={"callbacks": callbacks}).invoke("one")
        assert_billed(usage, server, requests=2)


class TestCompletions:
    def test_invoke_batch_and_generate(self, server, legacy):
        with track_usage() as usage:
            legacy.invoke("one two")
            legacy.batch(["one", "two three", "four"])  # one request: it generates for all of them
            legacy.generate([f"prompt {number}" for number in range(25)])  # 20 in the first body, 5 in the second
            legacy.model_copy(update={"n": 2, "best_of": 3}).invoke("one two")
        assert_billed(usage, server, requests=5)

    async def test_async(self, server, legacy):
        with track_usage() as usage:
            await legacy.ainvoke("one two")
            await legacy.agenerate([f"prompt {number}" for number in range(25)])
        assert_billed(usage, server, requests=3)

    async def test_streams(self, server, legacy):
        with track_usage() as usage:
            list(legacy.stream("one two", stream_options={"include_usage": True}))
            assert [chunk async for chunk in legacy.astream("one two", stream_options={"include_usage": True})]
        assert_billed(usage, server, requests=2)

    def test_the_third_fails_after_two_were_billed(self, server, legacy):
        server.script([Answer(), Answer(), Answer(status=400)])
        one_each = legacy.model_copy(update={"batch_size": 1})
        with track_usage() as usage, pytest.raises(openai.BadRequestError):
            one_each.generate(["one", "two three", "four"])
        assert_billed(usage, server, requests=2)

    def test_the_third_chat_fails_after_two_were_billed(self, server, chat):
        server.script([Answer(), Answer(), Answer(status=400)])
        with track_usage() as usage, pytest.raises(openai.BadRequestError):
            chat.generate([[HumanMessage(text)] for text in ("one", "two three", "four")])
        assert_billed(usage, server, requests=2)


async def test_embeddings(server):
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small", base_url=server.openai_url, api_key="any", check_embedding_ctx_length=False
    )
    with track_usage() as usage:
        embeddings.embed_query("one two")
        embeddings.embed_documents(["one two", "three"])
        await embeddings.aembed_documents(["one two", "three"])
    assert_billed(usage, server, requests=3)


class TestRunnables:
    def test_chains_and_parallels(self, server, chat):
        chain = ChatPromptTemplate.from_template("tell of {thing}") | chat | StrOutputParser()
        with track_usage() as usage:
            chain.invoke({"thing": "cats"})
            chain.batch([{"thing": "cats"}, {"thing": "dogs"}])
            RunnableParallel(a=chain, b=chain, c=chain).invoke({"thing": "owls"})
            RunnableLambda(lambda text: chat.invoke(text).content).batch(["x", "y", "z"])
        assert_billed(usage, server, requests=9)

    async def test_chains_and_parallels_async(self, server, chat):
        chain = ChatPromptTemplate.from_template("tell of {thing}") | chat | StrOutputParser()
        with track_usage() as usage:
            await chain.ainvoke({"thing": "cats"})
            await RunnableParallel(a=chain, b=chain).ainvoke({"thing": "owls"})
        assert_billed(usage, server, requests=3)

    def test_fallbacks_and_retries(self, server, chat):
        server.script([Answer(status=500), Answer(), Answer(status=429), Answer()])
        with track_usage() as usage:
            chat.with_fallbacks([chat]).invoke("one")
            chat.with_retry(wait_exponential_jitter=False, stop_after_attempt=2).invoke("one")
        assert len(server.ledger) == 4
        assert_billed(usage, server, requests=2)

    def test_a_threadpool_of_the_users_own(self, server, chat):
        with track_usage() as usage, ThreadPoolExecutor(4) as pool:
            list(pool.map(chat.invoke, ["a", "b", "c", "d", "e"]))
        assert_billed(usage, server, requests=5)


class TestAgents:
    def test_agent(self, server, chat):
        from langchain.agents import create_agent

        server.script([Answer(tool_calls=(ToolCall(name="look", arguments={"word": "x"}),)), Answer(text="done")])
        with track_usage() as usage:
            create_agent(chat, [look]).invoke({"messages": GREETING})
        assert_billed(usage, server, requests=2)
        assert [call.model for call in usage.calls] == ["gpt-4o-mini"] * 2

    def test_a_tool_that_calls_a_model(self, server, chat):
        from langchain.agents import create_agent

        client = openai.OpenAI(base_url=server.openai_url, api_key="any")

        @tool
        def ask(question: str) -> str:
            """Ask somebody else."""
            chat.invoke(question)
            return client.chat.completions.create(model="gpt-4o", messages=GREETING).choices[0].message.content

        server.script(
            [Answer(tool_calls=(ToolCall(name="ask", arguments={"question": "x y"}),)), Answer(), Answer(), Answer()]
        )
        with client, track_usage() as usage:
            create_agent(chat, [ask]).invoke({"messages": GREETING})
        assert_billed(usage, server, requests=4)
        assert set(usage.by_model) == {"gpt-4o-mini", "gpt-4o"}

    def test_parallel_nodes_of_a_graph(self, server, chat):
        from langgraph.graph import END, START, StateGraph

        class State(TypedDict):
            said: Annotated[list, operator.add]

        def node(state):
            return {"said": [chat.invoke("one two three").content]}

        graph = StateGraph(State)
        for name in "abc":
            graph.add_node(name, node)
            graph.add_edge(START, name)
            graph.add_edge(name, END)
        compiled = graph.compile()
        with track_usage() as usage:
            compiled.invoke({"said": []})
            asyncio.run(compiled.ainvoke({"said": []}))
        assert_billed(usage, server, requests=6)

    def test_a_graph_streamed_by_messages(self, server, telling):
        from langchain.agents import create_agent

        with track_usage() as usage:
            list(create_agent(telling, []).stream({"messages": GREETING}, stream_mode="messages"))
        assert_billed(usage, server, requests=1)


@pytest.mark.usefixtures("cache")
class TestCache:
    def test_chat(self, server, chat):
        with track_usage() as usage:
            chat.invoke("one two")
            chat.invoke("one two")
            chat.batch(["one two", "three"])
        assert_billed(usage, server, requests=2)
        assert usage.cache_hits == 2

    async def test_chat_async(self, server, chat):
        with track_usage() as usage:
            await chat.ainvoke("one two")
            await chat.ainvoke("one two")
        assert_billed(usage, server, requests=1)
        assert usage.cache_hits == 1

    def test_an_answer_that_reported_nothing(self, server, chat):
        server.answer("x", usage="omitted")
        with track_usage() as usage:
            chat.invoke("one two")
            chat.invoke("one two")
        assert_billed(usage, server, requests=1, estimated=1)
        assert usage.cache_hits == 1

    async def test_completions(self, server, legacy):
        with track_usage() as usage:
            legacy.invoke("one two")
            legacy.invoke("one two")
            legacy.generate(["one two", "three", "four"])  # the first is a hit, the others are one request
            await legacy.ainvoke("three")
        assert_billed(usage, server, requests=2)
        assert usage.cache_hits == 3

    def test_only_hits_cost_nothing(self, server, chat):
        chat.invoke("one two")
        with track_usage() as usage:
            chat.invoke("one two")
        assert (usage.requests, usage.total_tokens, usage.cost, usage.cache_hits) == (0, 0, 0, 1)
        assert usage.calls == ()


class Reporting(BaseChatModel):
    """A model that uses no HTTP and reports what it used."""

    name_of_model: str = "in-house-1"
    tokens: tuple[int, int] = (7, 5)

    @property
    def _llm_type(self):
        return "in-house"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self.message(AIMessage))])

    def message(self, kind):
        into, out = self.tokens
        usage = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
        return kind("hello", usage_metadata=usage, response_metadata={"model_name": self.name_of_model})


class Streaming(Reporting):
    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        yield ChatGenerationChunk(message=AIMessageChunk("hel"))
        yield ChatGenerationChunk(message=self.message(AIMessageChunk))


class Wrapping(Reporting):
    """A model that asks through the SDK, and reports the usage as its own."""

    client: object = None

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        answer = self.client.chat.completions.create(model="gpt-4o-mini", messages=GREETING)
        self.tokens = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
        return super()._generate(messages)


class Routing(BaseChatModel):
    """A model under a name of its own that hands each question to another, and its usage back."""

    inner: BaseChatModel

    @property
    def _llm_type(self):
        return "router"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        usage = self.inner.invoke(messages).usage_metadata
        answer = AIMessage("routed", usage_metadata=usage, response_metadata={"model_name": "router-1"})
        return ChatResult(generations=[ChatGeneration(message=answer)])


class Threading(Wrapping):
    """One whose worker threads know nothing of the run that they work for."""

    name_of_model: str = "in-house-2"
    asks: int = 1

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        with ThreadPoolExecutor(2) as pool:
            create = self.client.chat.completions.create
            jobs = [pool.submit(create, model="gpt-4o-mini", messages=GREETING) for _ in range(self.asks)]
            told = [job.result().usage for job in jobs]
        self.tokens = (sum(each.prompt_tokens for each in told), sum(each.completion_tokens for each in told))
        return Reporting._generate(self, messages)


def test_a_model_around_a_model_counts_once(server, chat):
    with track_usage() as usage:
        Routing(inner=chat).invoke("one two")
        Routing(inner=Routing(inner=chat)).batch(["one", "two three"])
    assert_billed(usage, server, requests=3)


def test_a_model_around_one_without_http_counts_once():
    with track_usage() as usage:
        Routing(inner=Reporting()).invoke("one two")
        Routing(inner=Reporting()).batch(["one", "two"])
        Reporting().generate([[HumanMessage("one")], [HumanMessage("two")]])
        asyncio.run(Reporting().agenerate([[HumanMessage("one")], [HumanMessage("two")]]))
    assert [(call.model, call.usage.input_tokens) for call in usage.calls] == [("in-house-1", 7)] * 7


async def test_a_model_around_a_model_counts_once_async(server, chat):
    with track_usage() as usage:
        await asyncio.gather(*(Routing(inner=chat).ainvoke(f"question {number}") for number in range(3)))
    assert_billed(usage, server, requests=3)


@pytest.mark.parametrize("asks", [1, 3])
def test_a_model_whose_threads_ask_counts_once(asks, server):
    with openai.OpenAI(base_url=server.openai_url, api_key="any") as client, track_usage() as usage:
        Threading(client=client, asks=asks).invoke("hi")
        Reporting().invoke("hi")
    assert [call.source for call in usage.calls] == ["response"] * asks + ["callback"]
    assert usage.input_tokens == server.input_tokens + 7


def test_a_batch_of_completions_under_the_name_of_a_deployment(server):
    server.answer(model="gpt-35-turbo-instruct-0914")
    model = AzureOpenAI(azure_endpoint=server.url, azure_deployment="mine", api_key="any", api_version="2024-10-21")
    with track_usage() as usage:
        model.generate(["one two", "three", "four"])
    assert_billed(usage, server, requests=1)


class TestModelsWithoutHttp:
    async def test_one_that_reports_is_counted(self):
        with track_usage() as usage:
            Reporting().invoke("hi")
            await Reporting().ainvoke("hi")
            list(Streaming().stream("hi"))
            assert [chunk async for chunk in Streaming().astream("hi")]
            Reporting().batch(["a", "b"])
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (6, 42, 30)
        assert {(call.model, call.source, call.endpoint) for call in usage.calls} == {("in-house-1", "callback", "")}

    def test_one_that_reports_nothing_is_no_model(self):
        with track_usage() as usage:
            GenericFakeChatModel(messages=iter([AIMessage("x")])).invoke("hi")
            FakeListLLM(responses=["x", "y"]).batch(["hi", "ho"])
        assert (usage.requests, usage.cost) == (0, 0)

    def test_one_that_asks_through_the_sdk_and_reports_counts_once(self, server):
        with openai.OpenAI(base_url=server.openai_url, api_key="any") as client, track_usage() as usage:
            Wrapping(client=client).invoke("hi")
            Wrapping(client=client).batch(["hi", "ho"])
        assert_billed(usage, server, requests=3)

    async def test_one_that_asks_through_the_sdk_counts_once_async(self, server):
        with openai.OpenAI(base_url=server.openai_url, api_key="any") as client, track_usage() as usage:
            await Wrapping(client=client).ainvoke("hi")
            await asyncio.gather(*(Wrapping(client=client).ainvoke("hi") for _ in range(4)))
        assert_billed(usage, server, requests=5)

    def test_models_beside_each_other_do_not_explain_each_other(self, server, chat):
        with track_usage() as usage:
            chat.invoke("one")
            Reporting().invoke("hi")
            chat.invoke("two")
            Reporting().invoke("hi")
        assert [call.source for call in usage.calls] == ["response", "callback"] * 2
        assert usage.requests == 4

    @pytest.mark.parametrize("tokens", [(-1, 5), (10**12, 5), (5, -1)])
    def test_one_that_reports_nonsense_is_unmeasured(self, tokens):
        with track_usage() as usage:
            Reporting(tokens=tokens).invoke("hi")
        assert (usage.requests, usage.unmeasured_requests, usage.total_tokens) == (1, 1, 0)
        with pytest.raises(UnmeasuredUsageError, match="can't be believed"):
            _ = usage.cost

    @pytest.mark.parametrize(
        ("told", "unmeasured"),
        [
            ({"total_tokens": 5}, 1),
            ({"prompt_tokens": 5}, 1),
            ({"prompt_tokens": "5", "completion_tokens": 2}, 1),
            ({}, 0),
            ({"total_tokens": 0}, 0),
            ({"characters": 9}, 0),
        ],
    )
    def test_one_that_reports_a_part_is_unmeasured(self, told, unmeasured):
        class Partial(Reporting):
            def _generate(self, *args, **kwargs):
                answer = ChatGeneration(message=AIMessage("hello"))
                return ChatResult(generations=[answer], llm_output={"token_usage": told})

            def _combine_llm_outputs(self, outputs):
                return outputs[0]

        with track_usage() as usage:
            Partial().invoke("hi")
        assert (usage.requests, usage.unmeasured_requests, usage.total_tokens) == (unmeasured, unmeasured, 0)

    def test_one_that_reports_only_zeros_reports_nothing(self):
        with track_usage() as usage:
            Reporting(tokens=(0, 0)).invoke("hi")
        assert usage.requests == 0

    def test_a_fault_of_the_handler_is_recorded(self, monkeypatch):
        def broken(*_, **__):
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(counting, "count_run", broken)
        with track_usage() as usage:
            assert Reporting().invoke("hi").content == "hello"
        with pytest.raises(UnmeasuredUsageError, match="broken on purpose"):
            _ = usage.cost

    def test_a_fault_of_the_handler_at_the_start_is_recorded(self, monkeypatch):
        monkeypatch.setattr(counting, "start_run", lambda *_: 1 / 0)
        with track_usage() as usage:
            assert Reporting().invoke("hi").content == "hello"
        with pytest.raises(UnmeasuredUsageError, match="ZeroDivisionError"):
            _ = usage.cost


def test_a_block_inside_a_model_of_a_script(server, monkeypatch):
    """Without a pytest session, the run belongs to the outer block and the request to the inner one as well."""
    monkeypatch.setattr(ledger, "_frames", [])

    class Counting(Wrapping):
        def _generate(self, *args, **kwargs):
            with track_usage():
                return super()._generate(*args, **kwargs)

    with openai.OpenAI(base_url=server.openai_url, api_key="any") as client, track_usage() as usage:
        Counting(client=client).invoke("hi")
    assert_billed(usage, server, requests=1)


def test_nested_blocks_leave_nothing_behind(server, chat):
    for _ in range(20):
        with track_usage() as outer, track_usage() as inner:
            chat.invoke("one")
        assert (outer.requests, inner.requests) == (1, 1)
    manager = CallbackManager.configure()
    assert sum("pytest_tokenbudget" in type(handler).__module__ for handler in manager.handlers) == 1


def test_a_request_that_began_before_the_run_and_ended_after_its_own_hides_it_not():
    """Of requests at the same time, the order of their ends is not that of their starts."""
    call = ModelCall(model="mine", usage=Usage(input_tokens=3, output_tokens=4))
    run = counting.Run(uuid4(), Billing((Ledger("x"),)), "mine", "", started=10.0)
    own = counting.Seen(11.0, frozenset({"mine"}), call, has_run=False, ended=12.0)
    other = counting.Seen(9.0, frozenset({"other"}), replace(call, model="other"), has_run=False, ended=13.0)
    earlier = counting.Seen(8.0, frozenset({"mine"}), call, has_run=False, ended=8.5)
    assert counting._explained_by_time(run, "mine", call.usage, counting.Traces(all=[earlier, own, other]))
    assert not counting._explained_by_time(run, "mine", None, counting.Traces(all=[earlier, other]))
