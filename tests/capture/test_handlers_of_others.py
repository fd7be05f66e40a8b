"""Handlers of the user's own see what they saw before, while ours is there."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel, chat_models
from langchain_core.messages import AIMessage

from pytest_tokenbudget import track_usage

GREETING = {"input_tokens": 8, "output_tokens": 9, "total_tokens": 17}

KINDS = pytest.mark.parametrize("kind", [BaseCallbackHandler, AsyncCallbackHandler])


def watching(kind):
    """A handler that notes which events it is told of, with the run's id."""
    seen = []

    def noting(name):
        async def note_async(self, *_, run_id, **__):
            seen.append((name, run_id))

        def note(self, *_, run_id, **__):
            seen.append((name, run_id))

        return note_async if kind is AsyncCallbackHandler else note

    names = ("on_llm_start", "on_chat_model_start", "on_llm_new_token", "on_llm_end")
    return type("Watching", (kind,), {name: noting(name) for name in names})(), seen


async def run(model, handler):
    config = {"callbacks": [handler]}
    await model.ainvoke("hello", config)
    assert [chunk async for chunk in model.astream("hello", config)]
    await model.abatch(["hello", "there"], config)
    model.invoke("hello", config)


@KINDS
@pytest.mark.parametrize("chat", [False, True], ids=["completion", "chat"])
async def test_each_start_and_end_is_told(kind, chat):
    model = (
        GenericFakeChatModel(messages=(AIMessage("well then") for _ in range(9)))
        if chat
        else FakeListLLM(responses=["well"])
    )
    handler, seen = watching(kind)
    with track_usage():
        await run(model, handler)
    names = [name for name, _ in seen]
    started = "on_chat_model_start" if chat else "on_llm_start"
    assert names.count(started) == names.count("on_llm_end") == 5
    assert {run for name, run in seen if name == started} == {run for name, run in seen if name == "on_llm_end"}


async def test_events_of_a_completion_model():
    model = FakeListLLM(responses=["well"])
    with track_usage():
        events = [event["event"] async for event in model.astream_events("hello", version="v2")]
    assert events[0] == "on_llm_start"
    assert events[-1] == "on_llm_end"


def streaming():
    """A handler that has each answer streamed, as that of ``astream_events`` does, and what it was told."""
    handler, seen = watching(BaseCallbackHandler)
    kind = type(
        "Tapping", (type(handler),), {name: lambda *_: None for name in ("tap_output_iter", "tap_output_aiter")}
    )
    return kind(), seen


async def test_one_that_streams_gets_each_token():
    model = GenericFakeChatModel(messages=(AIMessage("well then") for _ in range(4)))
    handler, seen = streaming()
    with track_usage():
        model.invoke("hello")
        await model.ainvoke("hello")
        assert seen == []
        model.invoke("hello", {"callbacks": [handler]})
        await model.ainvoke("hello", {"callbacks": [handler]})
    assert [name for name, _ in seen].count("on_llm_new_token") == 2 * len(["well", " ", "then"])


async def test_no_task_is_made_to_tell_ours_alone():
    """With it, and with what is in it, telling ours is what a tracked call would take most of its time for."""
    made = []

    def make(loop, coro, **options):
        made.append(coro.__qualname__)
        return asyncio.Task(coro, loop=loop, **options)

    async def tasks_of(config):
        made.clear()
        await model.ainvoke("hello", config)
        return len(made)

    model = GenericFakeChatModel(messages=(AIMessage("well then", usage_metadata=GREETING) for _ in range(2)))
    handler, seen = watching(BaseCallbackHandler)
    handler.run_inline = True
    asyncio.get_running_loop().set_task_factory(make)
    with track_usage() as used:
        alone = await tasks_of(None)
        assert await tasks_of({"callbacks": [handler]}) == alone + 1
    assert [name for name, _ in seen] == ["on_chat_model_start", "on_llm_end"]
    assert used.input_tokens == 2 * 8


async def test_nobody_asks_ours_whether_it_streams(monkeypatch):
    """That question, of a runtime protocol, is what a tracked call would take most of its time for."""
    asked = []

    class Asking(type):
        def __instancecheck__(cls, handler):
            asked.append(handler)
            return False

    monkeypatch.setattr(chat_models, "_StreamingCallbackHandler", Asking("Streaming", (), {}))
    model = GenericFakeChatModel(messages=(AIMessage("well then") for _ in range(4)))
    handler, _ = watching(BaseCallbackHandler)
    with track_usage():
        model.invoke("hello")
        await model.ainvoke("hello")
        assert asked == []
        model.invoke("hello", {"callbacks": [handler]})
        assert handler in asked
