"""Anthropic's wire format, the server's side: messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from model_answers import Turn, flatten
from openai_format import event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Messages:
    """``/v1/messages``. Its ``input_tokens`` leave out what was read from or written to the cache."""

    prefix = "msg_"

    def prompts(self, request: Mapping[str, Any]) -> list[str]:
        """The system prompt, the messages and the tools."""
        tools = [json.dumps(tool) for tool in request.get("tools") or ()]
        return [*flatten(request.get("system")), *flatten(request.get("messages")), *tools]

    def messages(self, request: Mapping[str, Any]) -> int:
        """How many messages the chat format's overhead is billed for."""
        return len(request.get("messages") or ())

    def render(self, turn: Turn) -> dict[str, Any]:
        """The whole answer."""
        content = self._content(turn)
        return {**self._head(turn, content), "stop_reason": self._stop(turn), **turn.with_usage(self._usage(turn))}

    def stream(self, turn: Turn) -> Iterator[bytes]:
        """The events; ``message_start`` tells the input, ``message_delta`` the final counts."""
        usage = self._usage(turn)
        opening = turn.with_usage({**usage, "output_tokens": min(1, usage["output_tokens"])})
        yield self._event("message_start", message={**self._head(turn, []), "stop_reason": None, **opening})
        for index, block in enumerate(self._content(turn)):
            if block["type"] == "text":
                empty, deltas = (
                    {**block, "text": ""},
                    [{"type": "text_delta", "text": piece} for piece in turn.pieces(block["text"])],
                )
            else:
                arguments = json.dumps(block["input"])
                empty, deltas = (
                    {**block, "input": {}},
                    [{"type": "input_json_delta", "partial_json": piece} for piece in turn.pieces(arguments)],
                )
            yield self._event("content_block_start", index=index, content_block=empty)
            for delta in deltas:
                yield self._event("content_block_delta", index=index, delta=delta)
            yield self._event("content_block_stop", index=index)
        ending = {"stop_reason": self._stop(turn), "stop_sequence": None}
        yield self._event("message_delta", delta=ending, **turn.with_usage(usage))
        yield self._event("message_stop")

    def _event(self, kind: str, **data: Any) -> bytes:
        return event({"type": kind, **data}, name=kind)

    def _usage(self, turn: Turn) -> dict[str, int]:
        bill = turn.bill
        return {
            "input_tokens": bill.input_tokens - bill.cached_tokens - bill.cache_write_tokens,
            "cache_creation_input_tokens": bill.cache_write_tokens,
            "cache_read_input_tokens": bill.cached_tokens,
            "output_tokens": bill.output_tokens,
        }

    def _head(self, turn: Turn, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": turn.bill.id,
            "type": "message",
            "role": "assistant",
            "model": turn.bill.model,
            "content": content,
            "stop_sequence": None,
        }

    def _stop(self, turn: Turn) -> str:
        return turn.answer.finish_reason or ("tool_use" if turn.answer.tool_calls else "end_turn")

    def _content(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.answer.tool_calls:
            return [
                {
                    "type": "tool_use",
                    "id": f"toolu_{turn.bill.number}_{place}",
                    "name": call.name,
                    "input": dict(call.arguments),
                }
                for place, call in enumerate(turn.answer.tool_calls)
            ]
        return [{"type": "text", "text": turn.texts[0]}]
