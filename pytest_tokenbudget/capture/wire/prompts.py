"""A request's input as parts that can be counted locally, in the formats that several families share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.wire.traffic import read_objects, read_text
from pytest_tokenbudget.usage import Prompt, PromptPart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_tokenbudget.usage import Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
_TEXT_TYPES = frozenset({"", "text", "input_text", "output_text", "refusal"})


def read_role(role: Any) -> Role:
    """Return who speaks, in our words; whoever is unknown is the user."""
    return _ROLES.get(role, "user") if isinstance(role, str) else "user"


def read_content(content: Any) -> tuple[str, bool]:
    """Return the text of a message's content, and whether it holds anything that is not text."""
    if content is None:
        return "", False
    if isinstance(content, str):
        return content, False
    if not isinstance(content, list):
        return "", True
    texts, opaque = [], False
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and read_text(part, "type") in _TEXT_TYPES:
            texts.append(read_text(part, "text") or read_text(part, "refusal"))
        else:
            opaque = True
    return "".join(texts), opaque


def read_tool_calls(message: Mapping[str, Any]) -> str:
    """Return name and arguments of each tool call in a chat message, as the model wrote them."""
    calls = [read_details_of_call(each) for each in read_objects(message, "tool_calls")]
    old = message.get("function_call")
    if isinstance(old, dict):
        calls.append(read_details_of_call({"function": old}))
    return "".join(calls)


def read_details_of_call(call: Mapping[str, Any]) -> str:
    """Return name and arguments of one tool call."""
    function = call.get("function")
    if not isinstance(function, dict):
        function = call.get("custom")
    if not isinstance(function, dict):
        return ""
    arguments = function.get("arguments", function.get("input"))
    if isinstance(arguments, dict):
        arguments = write_json(arguments) or ""
    return read_text(function, "name") + (arguments if isinstance(arguments, str) else "")


def write_json(value: Any) -> str | None:
    """Return a value as compact JSON; ``None`` where it is nested too deep to be written."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return None


def build_tools(tools: list[dict[str, Any]]) -> tuple[list[PromptPart], bool]:
    """Return the one part that holds tool definitions, and whether there are some that nobody sees in full."""
    if not tools:
        return [], False
    text = write_json(tools)
    if text is None:
        return [], True
    return [PromptPart("tools", text)], False


def build_schema(wanted: Any) -> list[PromptPart]:
    """Return the part that holds the JSON schema that the answer must follow, if the request asks for one."""
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    text = write_json(schema) if isinstance(schema, dict) else None
    return [] if text is None else [PromptPart("tools", text)]


def build_chat_prompt(request: Mapping[str, Any]) -> Prompt | None:
    """Read the input of a request in the format of OpenAI's chat completions."""
    messages = request.get("messages")
    if not isinstance(messages, list):
        return None
    parts: list[PromptPart] = []
    opaque = False
    for message in messages:
        if not isinstance(message, dict):
            opaque = True
            continue
        text, hidden = read_content(message.get("content"))
        opaque = opaque or hidden or bool(message.get("audio")) or bool(message.get("images"))
        text += read_tool_calls(message)
        name = read_text(message, "name")
        parts.append(PromptPart(read_role(message.get("role")), f"{name} {text}" if name else text, bool(name)))
    tools = read_objects(request, "tools")
    tools += [{"type": "function", "function": each} for each in read_objects(request, "functions")]
    built, hidden = build_tools(tools)
    hidden = hidden or bool(request.get("web_search_options"))
    wanted = request.get("response_format")
    schema = build_schema(wanted.get("json_schema") if isinstance(wanted, dict) else None)
    return Prompt(parts=(*parts, *built, *schema), chat=True, opaque=opaque or hidden)


def build_text_prompt(given: Any) -> Prompt | None:
    """Read an input that is a text, texts, token numbers or lists of these, as completions and embeddings take it."""
    if isinstance(given, str):
        return Prompt(parts=(PromptPart("user", given),))
    if not isinstance(given, list):
        return None
    texts: list[str] = []
    numbers = 0
    opaque = False
    for each in given:
        if isinstance(each, str):
            texts.append(each)
        elif _is_token(each):
            numbers += 1
        elif isinstance(each, list) and all(_is_token(one) for one in each):
            numbers += len(each)
        else:
            opaque = True
    return Prompt(parts=tuple(PromptPart("user", text) for text in texts), token_ids=numbers, opaque=opaque)


def _is_token(value: object) -> bool:
    return type(value) is int


def join_outputs(texts: Mapping[int, Iterable[str]]) -> tuple[str, ...]:
    """Return the text of each choice, in the order of their numbers."""
    return tuple("".join(texts[index]) for index in sorted(texts))
