"""OpenAI's wire format, the server's side: chat completions, completions, embeddings and responses."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from typing import TYPE_CHECKING, Any

from model_answers import Turn, flatten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DONE = b"data: [DONE]\n\n"
VECTOR_LENGTH = 8


def event(data: Mapping[str, Any], *, name: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def asks_for_usage(request: Mapping[str, Any]) -> bool:
    """Whether a streaming request asks for usage at its end."""
    return bool((request.get("stream_options") or {}).get("include_usage"))


def _usage(turn: Turn) -> dict[str, Any]:
    bill = turn.bill
    return {
        "prompt_tokens": bill.input_tokens,
        "completion_tokens": bill.output_tokens,
        "total_tokens": bill.total_tokens,
        "prompt_tokens_details": {"cached_tokens": bill.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": bill.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _tier(turn: Turn) -> dict[str, Any]:
    return {"service_tier": turn.answer.service_tier} if turn.answer.service_tier else {}


class ChatCompletions:
    """``/v1/chat/completions``."""

    prefix = "chatcmpl-"

    def prompts(self, request: Mapping[str, Any]) -> list[str]:
        """The texts of the messages; tool definitions count with their JSON."""
        tools = [json.dumps(tool) for tool in request.get("tools") or ()]
        return [*flatten(request.get("messages")), *tools]

    def messages(self, request: Mapping[str, Any]) -> int:
        """How many messages the chat format's overhead is billed for."""
        return len(request.get("messages") or ())

    def render(self, turn: Turn) -> dict[str, Any]:
        """The whole answer."""
        choices = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": None if turn.answer.tool_calls else text,
                    **({"tool_calls": self._calls(turn)} if turn.answer.tool_calls else {}),
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": self._finish(turn),
            }
            for index, text in enumerate(turn.texts)
        ]
        usage = turn.with_usage(_usage(turn))
        return {**self._head(turn, "chat.completion"), "choices": choices, **usage, **_tier(turn)}

    def stream(self, turn: Turn) -> Iterator[bytes]:
        """The events: a role, the pieces, the reason for the end, and the usage where it was asked for."""
        head = self._head(turn, "chat.completion.chunk") | _tier(turn)
        asked = asks_for_usage(turn.request)
        pending: dict[str, Any] = {"usage": None} if asked else {}
        if turn.azure:
            yield event(
                {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}
            )
        for index, text in enumerate(turn.texts):
            deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None if turn.answer.tool_calls else ""}]
            if turn.answer.tool_calls:
                deltas += self._call_deltas(turn)
            else:
                deltas += [{"content": piece} for piece in turn.pieces(text)]
            for delta in deltas:
                yield event({**head, "choices": [_choice(index, delta, None)], **pending})
            yield event({**head, "choices": [_choice(index, {}, self._finish(turn))], **pending})
        last = turn.with_usage(_usage(turn), asked=asked)
        if last:
            yield event({**head, "choices": [], **last})
        yield DONE

    def _head(self, turn: Turn, kind: str) -> dict[str, Any]:
        return {
            "id": turn.bill.id,
            "object": kind,
            "created": turn.created,
            "model": turn.bill.model,
            "system_fingerprint": "fp_loopback",
        }

    def _finish(self, turn: Turn) -> str:
        return turn.answer.finish_reason or ("tool_calls" if turn.answer.tool_calls else "stop")

    def _calls(self, turn: Turn) -> list[dict[str, Any]]:
        return [
            {
                "id": f"call_{turn.bill.number}_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for place, call in enumerate(turn.answer.tool_calls)
        ]

    def _call_deltas(self, turn: Turn) -> Iterator[dict[str, Any]]:
        for place, call in enumerate(self._calls(turn)):
            opening = {**call, "index": place, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield {"tool_calls": [opening]}
            for piece in turn.pieces(call["function"]["arguments"]):
                yield {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}


def _choice(index: int, delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": dict(delta), "logprobs": None, "finish_reason": finish_reason}


class Completions:
    """``/v1/completions``, the older of the two."""

    prefix = "cmpl-"

    def prompts(self, request: Mapping[str, Any]) -> list[str]:
        """The prompt, or the prompts of a batch."""
        return flatten(request.get("prompt"))

    def messages(self, _request: Mapping[str, Any]) -> int:
        """None: there is no chat format here."""
        return 0

    def render(self, turn: Turn) -> dict[str, Any]:
        """The whole answer."""
        choices = [self._choice(turn, index, text, self._finish(turn)) for index, text in enumerate(turn.texts)]
        return {**self._head(turn), "choices": choices, **turn.with_usage(_plain_usage(turn))}

    def stream(self, turn: Turn) -> Iterator[bytes]:
        """The events: the pieces of each choice, its end, and the usage where it was asked for."""
        head = self._head(turn)
        asked = asks_for_usage(turn.request)
        pending: dict[str, Any] = {"usage": None} if asked else {}
        for index, text in enumerate(turn.texts):
            for piece in turn.pieces(text):
                yield event({**head, "choices": [self._choice(turn, index, piece, None)], **pending})
            yield event({**head, "choices": [self._choice(turn, index, "", self._finish(turn))], **pending})
        last = turn.with_usage(_plain_usage(turn), asked=asked)
        if last:
            yield event({**head, "choices": [], **last})
        yield DONE

    def _head(self, turn: Turn) -> dict[str, Any]:
        bill = turn.bill
        return {"id": bill.id, "object": "text_completion", "created": turn.created, "model": bill.model}

    def _finish(self, turn: Turn) -> str:
        return turn.answer.finish_reason or "stop"

    def _choice(self, _turn: Turn, index: int, text: str, finish_reason: str | None) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def _plain_usage(turn: Turn) -> dict[str, Any]:
    usage = _usage(turn)
    return {key: usage[key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}


class Embeddings:
    """``/v1/embeddings``; its vectors are made up from a hash of the text."""

    prefix = ""

    def prompts(self, request: Mapping[str, Any]) -> list[str]:
        """The texts; a text that came as token numbers is as many words as numbers."""
        given = request.get("input")
        if isinstance(given, list) and given and not isinstance(given[0], str):
            batch = given if isinstance(given[0], list) else [given]
            return [" ".join(map(str, numbers)) for numbers in batch]
        return flatten(given)

    def messages(self, _request: Mapping[str, Any]) -> int:
        """None: there is no chat format here."""
        return 0

    def render(self, turn: Turn) -> dict[str, Any]:
        """The whole answer, as floats or as base64 of little-endian 32-bit floats."""
        packed = turn.request.get("encoding_format") == "base64"
        length = int(turn.request.get("dimensions") or VECTOR_LENGTH)
        data = [
            {"object": "embedding", "index": index, "embedding": _pack(vector) if packed else vector}
            for index, vector in enumerate(embed(text, length) for text in self.prompts(turn.request))
        ]
        usage = {"prompt_tokens": turn.bill.input_tokens, "total_tokens": turn.bill.input_tokens}
        return {"object": "list", "data": data, "model": turn.bill.model, **turn.with_usage(usage)}

    def stream(self, turn: Turn) -> Iterator[bytes]:
        """Embeddings don't stream."""
        raise NotImplementedError(turn.bill.endpoint)


def embed(text: str, length: int = VECTOR_LENGTH) -> list[float]:
    """A vector for a text: the same text, the same vector."""
    digest = hashlib.sha256(text.encode()).digest()
    return [round(digest[place % len(digest)] / 256 - 0.5, 6) for place in range(length)]


def _pack(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


class Responses:
    """``/v1/responses``."""

    prefix = "resp_"

    def prompts(self, request: Mapping[str, Any]) -> list[str]:
        """The instructions, the input and the tools."""
        tools = [json.dumps(tool) for tool in request.get("tools") or ()]
        return [*flatten(request.get("instructions")), *flatten(request.get("input")), *tools]

    def messages(self, request: Mapping[str, Any]) -> int:
        """How many messages the chat format's overhead is billed for."""
        given = request.get("input")
        return (len(given) if isinstance(given, list) else 1) + bool(request.get("instructions"))

    def render(self, turn: Turn) -> dict[str, Any]:
        """The whole answer."""
        usage = {
            "input_tokens": turn.bill.input_tokens,
            "input_tokens_details": {"cached_tokens": turn.bill.cached_tokens},
            "output_tokens": turn.bill.output_tokens,
            "output_tokens_details": {"reasoning_tokens": turn.bill.reasoning_tokens},
            "total_tokens": turn.bill.total_tokens,
        }
        return {**self._head(turn, "completed", self._output(turn)), **turn.with_usage(usage)}

    def stream(self, turn: Turn) -> Iterator[bytes]:
        """The events from ``response.created`` to ``response.completed``, which carries the usage."""
        for number, (kind, data) in enumerate(self._events(turn)):
            yield event({"type": kind, "sequence_number": number, **data}, name=kind)

    def _events(self, turn: Turn) -> Iterator[tuple[str, dict[str, Any]]]:
        opening = {**self._head(turn, "in_progress", []), "usage": None}
        yield "response.created", {"response": opening}
        yield "response.in_progress", {"response": opening}
        for index, item in enumerate(self._output(turn)):
            place = {"item_id": item["id"], "output_index": index}
            if item["type"] == "function_call":
                empty = {**item, "arguments": "", "status": "in_progress"}
                yield "response.output_item.added", {"output_index": index, "item": empty}
                for piece in turn.pieces(item["arguments"]):
                    yield "response.function_call_arguments.delta", {**place, "delta": piece}
                done = {**place, "arguments": item["arguments"], "name": item["name"]}
                yield "response.function_call_arguments.done", done
            else:
                part = item["content"][0]
                within = {**place, "content_index": 0}
                empty = {**item, "content": [], "status": "in_progress"}
                yield "response.output_item.added", {"output_index": index, "item": empty}
                yield "response.content_part.added", {**within, "part": {**part, "text": ""}}
                for piece in turn.pieces(part["text"]):
                    yield "response.output_text.delta", {**within, "delta": piece, "logprobs": []}
                yield "response.output_text.done", {**within, "text": part["text"], "logprobs": []}
                yield "response.content_part.done", {**within, "part": part}
            yield "response.output_item.done", {"output_index": index, "item": item}
        yield "response.completed", {"response": self.render(turn)}

    def _head(self, turn: Turn, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": turn.bill.id,
            "object": "response",
            "created_at": turn.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": turn.request.get("instructions"),
            "metadata": {},
            "model": turn.bill.model,
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": list(turn.request.get("tools") or ()),
            "top_p": 1.0,
            **_tier(turn),
        }

    def _output(self, turn: Turn) -> list[dict[str, Any]]:
        if turn.answer.tool_calls:
            return [
                {
                    "id": f"fc_{turn.bill.number}_{place}",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": f"call_{turn.bill.number}_{place}",
                    "name": call.name,
                    "arguments": call.arguments_json,
                }
                for place, call in enumerate(turn.answer.tool_calls)
            ]
        content = [{"type": "output_text", "text": turn.texts[0], "annotations": [], "logprobs": []}]
        return [
            {
                "id": f"msg_{turn.bill.number}",
                "type": "message",
                "status": "completed",
                "role": "assistant",
                "content": content,
            }
        ]
