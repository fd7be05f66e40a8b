"""The LangChain callback: registered once per process, it tells what HTTP cannot.

Imported only while LangChain itself is being imported.

Source: ``langchain_core.tracers.context.register_configure_hook`` and ``langchain_core.callbacks``.
"""

from __future__ import annotations

import copy
import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks.base import BaseCallbackHandler

from pytest_tokenbudget.capture import counting
from pytest_tokenbudget.capture.wrapping import wrap
from pytest_tokenbudget.ledger import billing
from pytest_tokenbudget.usage import Usage, make_usage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from uuid import UUID

    from langchain_core.outputs import LLMResult

MAX_TOKENS = 10**9
"""A count above this is no count."""

_DISBELIEVED = Usage(unmeasured_requests=1)
"""Stands for a report that lacks a count, or has one that is negative, no whole number, or absurd."""


def register_handler(context: ModuleType) -> None:
    """Let every callback manager of this process carry the handler."""
    if not hasattr(context, "__tokenbudget__"):
        context.__tokenbudget__ = True  # type: ignore[attr-defined]
        # A default, not a value: threads and tasks that were started long ago see it too.
        variable = ContextVar("pytest_tokenbudget_handler", default=HANDLER)
        context.register_configure_hook(variable, inheritable=True)


def watch_cache(llms: ModuleType) -> None:
    """See the cache hits of completion models, which fire no callback, and leave their other handlers alone."""
    wrap(llms.AsyncCallbackManager, "on_llm_start", _told_to_all)
    for name, make in (("get_prompts", _counted), ("aget_prompts", _counted_async)):
        original = getattr(llms, name, None)
        if original is not None and not hasattr(original, "__tokenbudget__"):
            wrapped = make(original)
            wrapped.__tokenbudget__ = True
            setattr(llms, name, wrapped)


def spare_detours(chat_models: ModuleType) -> None:
    """Keep LangChain, where our handler is the only one, from what it does for handlers and ours has no use for."""
    wrap(chat_models.BaseChatModel, "_should_stream", _unasked_of_ours)
    wrap(chat_models.AsyncCallbackManagerForLLMRun, "on_llm_end", _told_at_once)


def _is_only_ours(run_manager: Any) -> bool:
    return len(handlers := run_manager.handlers) == 1 and handlers[0] is HANDLER


def _unasked_of_ours(should_stream: Any) -> Any:
    """Tell the model that there is no handler, which gives the same answer as asking ours whether it streams.

    The question is an ``isinstance`` of a runtime protocol: before Python 3.12, that takes as long as all else that
    a tracked call takes more than an untracked one.

    Source: ``BaseChatModel._should_stream`` of langchain-core 1.0 to 1.8, which asks the run manager nothing else.
    """

    @functools.wraps(should_stream)
    def asked(self: Any, *, run_manager: Any = None, **kwargs: Any) -> Any:
        if run_manager is not None and _is_only_ours(run_manager):
            run_manager = None
        return should_stream(self, run_manager=run_manager, **kwargs)

    return asked


def _told_at_once(on_llm_end: Any) -> Any:
    """Tell our handler of an answer here, not in a task that is shielded from cancelling: it never waits.

    The task, and what finds out which handlers wait, take an asynchronous call longer than all else that is ours.

    Source: ``AsyncCallbackManagerForLLMRun.on_llm_end`` of langchain-core 1.0 to 1.8, which only tells the handlers.
    """

    @functools.wraps(on_llm_end)
    async def told(self: Any, response: LLMResult, **kwargs: Any) -> Any:
        if _is_only_ours(self):
            return HANDLER.on_llm_end(response, run_id=self.run_id)
        return await on_llm_end(self, response, **kwargs)

    return told


def _told_to_all(on_llm_start: Any) -> Any:
    """Start our handler apart: LangChain tells nobody else of a completion where one handler runs inline.

    Source: ``AsyncCallbackManager.on_llm_start`` of langchain-core 1.7, whose second branch is an ``else``.
    """

    @functools.wraps(on_llm_start)
    async def told(self: Any, serialized: Any, prompts: list[str], run_id: UUID | None = None, **kwargs: Any) -> Any:
        if not any(handler is HANDLER for handler in self.handlers):
            return await on_llm_start(self, serialized, prompts, run_id=run_id, **kwargs)
        others = copy.copy(self)
        others.handlers = [handler for handler in self.handlers if handler is not HANDLER]
        managers = await on_llm_start(others, serialized, prompts, run_id=run_id, **kwargs)
        for prompt, manager in zip(prompts, managers, strict=True):
            manager.handlers = self.handlers
            HANDLER.on_llm_start(serialized, [prompt], run_id=manager.run_id, metadata=self.metadata, **kwargs)
        return managers

    return told


def _counted(get_prompts: Any) -> Any:
    @functools.wraps(get_prompts)
    def counted(*args: Any, **kwargs: Any) -> Any:
        found = get_prompts(*args, **kwargs)
        _count_hits(found)
        return found

    return counted


def _counted_async(aget_prompts: Any) -> Any:
    @functools.wraps(aget_prompts)
    async def counted(*args: Any, **kwargs: Any) -> Any:
        found = await aget_prompts(*args, **kwargs)
        _count_hits(found)
        return found

    return counted


def _count_hits(found: Any) -> None:
    if (bill := billing()) is not None:
        for _ in found[0]:
            bill.add_cache_hit()


class UsageHandler(BaseCallbackHandler):
    """Tells the counting which runs there are and what they report."""

    run_inline = True  # else every async event is a hop into an executor, in another context
    raise_error = False
    # LangChain asks before every event, and its own are properties.
    ignore_llm = False
    ignore_chat_model = False
    # A handler that sees chains slows every chain.
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True
    ignore_retry = True
    ignore_custom_event = True

    # LangChain copies handlers with their runnables; there is to be one.

    def __copy__(self) -> UsageHandler:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> UsageHandler:
        return self

    def __reduce__(self) -> str:
        return "HANDLER"

    def on_chat_model_start(self, *_: Any, run_id: UUID, **kwargs: Any) -> None:
        """Note that a chat model's run starts. Without this method LangChain renders every message to text."""
        _start(run_id, kwargs)

    def on_llm_start(self, *_: Any, run_id: UUID, **kwargs: Any) -> None:
        """Note that a completion model's run starts."""
        _start(run_id, kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Count what the run reports, unless HTTP told already."""
        run = counting.end_run(run_id)
        if run is None:
            return
        try:
            _count(run, response)
        except Exception as error:  # noqa: BLE001 - LangChain would swallow it; silence is not success
            run.bill.add_incident(f"the LangChain callback failed: {error!r}")

    def on_llm_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        """Forget a run that failed; what it sent, HTTP saw."""
        counting.end_run(run_id)


HANDLER = UsageHandler()


def _start(run_id: UUID, told: Mapping[str, Any]) -> None:
    if (bill := billing()) is None:
        return
    try:
        metadata = told.get("metadata") or {}
        model = metadata.get("ls_model_name") or _model_of(told.get("invocation_params") or {})
        provider = metadata.get("ls_provider") or ""
        counting.start_run(run_id, bill, str(model or ""), str(provider))
    except Exception as error:  # noqa: BLE001 - as above
        bill.add_incident(f"the LangChain callback failed: {error!r}")


def _model_of(params: Mapping[str, Any]) -> str:
    return str(params.get("model") or params.get("model_name") or "")


def _count(run: counting.Run, response: LLMResult) -> None:
    reported, model = None, ""
    request_ids: list[str] = []
    for generations in response.generations:
        for generation in generations:
            message = getattr(generation, "message", None)
            if message is None:
                continue
            described = message.response_metadata
            reported = reported or getattr(message, "usage_metadata", None)
            model = model or _model_of(described)
            if isinstance(identity := described.get("id"), str):
                request_ids.append(identity)
            if isinstance(message.id, str):
                request_ids.append(message.id)
    output = response.llm_output or {}
    usage = _usage_of(reported or output.get("token_usage") or output.get("usage"))
    counting.count_run(
        run,
        usage=None if usage is _DISBELIEVED else usage,
        disbelieved=usage is _DISBELIEVED,
        # LangChain zeroes the cost of what comes from its cache, and marks nothing else so.
        cache_hit=reported is not None and reported.get("total_cost") == 0,
        model=model or _model_of(output),
        request_ids=request_ids,
    )


def _usage_of(reported: Any) -> Usage | None:
    """LangChain's usage metadata, or OpenAI's token usage, read strictly; ``None`` where there is none."""
    if not isinstance(reported, dict):
        return None
    inputs = reported.get("input_tokens", reported.get("prompt_tokens"))
    outputs = reported.get("output_tokens", reported.get("completion_tokens"))
    if inputs is None or outputs is None:
        # Something was used, and it can't be told what: that is not nothing.
        return _DISBELIEVED if inputs or outputs or reported.get("total_tokens") else None
    counts = {"input_tokens": inputs, "output_tokens": outputs}
    if into := reported.get("input_token_details") or reported.get("prompt_tokens_details"):
        counts["cached_input_tokens"] = _first(
            into, "cache_read", "flex_cache_read", "priority_cache_read", "cached_tokens"
        )
        counts["cache_write_tokens"] = _first(into, "cache_creation")
        counts["input_audio_tokens"] = _first(into, "audio", "audio_tokens")
    if out := reported.get("output_token_details") or reported.get("completion_tokens_details"):
        counts["reasoning_tokens"] = _first(
            out, "reasoning", "flex_reasoning", "priority_reasoning", "reasoning_tokens"
        )
        counts["output_audio_tokens"] = _first(out, "audio", "audio_tokens")
    for count in counts.values():
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            return _DISBELIEVED
    return make_usage(**counts) if inputs or outputs else None


def _first(details: Any, *names: str) -> Any:
    if isinstance(details, dict):
        for name in names:
            if (value := details.get(name)) is not None:
                return value
    return 0
