"""Local counts: of calls whose provider reported no usage, and of where a reported input went."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_tokenbudget.capture.model_encodings import always_reasons, encoding_name_for, is_newer
from pytest_tokenbudget.capture.tool_rendering import read_functions, render_tools
from pytest_tokenbudget.capture.vocabulary import count_tokens
from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from pytest_tokenbudget.capture.wire.exchange import Reading
    from pytest_tokenbudget.usage import Prompt, Role

# What the chat format adds, in tokens. Source: OpenAI Cookbook, "How to count tokens with tiktoken"; the rest was
# measured on recorded calls, see docs/estimates.md.
_PER_MESSAGE = 4
"""Three that set a message off, and its role."""
_PER_NAME = 1
_REPLY = 3
_REPLY_NEWER = 2
_TOOLS = 9
_TOOLS_IN_SYSTEM_MESSAGE = 5
"""Tools join a system message that is there already; from gpt-5 on they have a place of their own."""
_SCHEMA = 4
"""What a JSON schema for the answer costs beyond its text: between 0 (responses) and 10 (chat completions)."""
_PER_RESULT = 6
_PER_RESULT_PARALLEL = 15
_PER_RESULT_NEWER = 14
_PER_RESULT_PARALLEL_NEWER = 19
"""A result of a tool and the call that it answers, beyond their texts."""
_END_OF_RESPONSE = 1
"""The responses API counts the token that ends the answer."""
_PER_CALL = 7
_PER_CALL_PARALLEL = 14

_PROPORTIONS = "o200k_base"
"""Counts for models without an encoding of their own: good enough for shares of a known total."""


def count_prompt(prompt: Prompt, model: str) -> int | None:
    """Count the input tokens of a request, with the overhead of the chat format.

    Returns:
        The count; ``None`` where the prompt holds what can't be counted, or no tokenizer is known for the model.
    """
    encoding = encoding_name_for(model)
    if encoding is None or prompt.opaque:
        return None
    counts = _count_by_role(prompt, encoding, newer=is_newer(model))
    reply = (_REPLY_NEWER if is_newer(model) else _REPLY) if prompt.chat else 0
    return sum(counts.values()) + reply


def estimate_usage(reading: Reading) -> Usage | None:
    """Count input and output of a call whose provider reported no usage.

    Returns:
        Only the tokens; ``None`` where either can't be counted: no tokenizer for the model, a prompt or an answer
        that is not all text, or reasoning that the answer does not show.
    """
    model = reading.model or reading.request_model
    if reading.prompt is None or reading.outputs is None or always_reasons(model):
        return None
    encoding = encoding_name_for(model)
    input_tokens = count_prompt(reading.prompt, model)
    if encoding is None or input_tokens is None:
        return None
    call = _build_call_pattern(reading.prompt)
    output_tokens = _END_OF_RESPONSE if reading.endpoint.endswith("/responses") else 0
    for text in reading.outputs:
        calls = len(call.findall(text)) if call else 0
        output_tokens += count_tokens(text, encoding) + calls * (_PER_CALL if calls == 1 else _PER_CALL_PARALLEL)
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens)


def split_prompt(prompt: Prompt, model: str, reported_input_tokens: int) -> dict[str, int] | None:
    """Tell where a request's input went: tokens by role, counted locally and scaled to the reported total.

    Returns:
        Counts above 0 that add up to ``reported_input_tokens``; ``None`` where the prompt can't be counted.
    """
    if prompt.opaque or reported_input_tokens < 0:
        return None
    roles: set[Role] = {part.role for part in prompt.parts}
    if prompt.token_ids:
        roles.add("user")
    if len(roles) == 1:
        # Nothing to share: no vocabulary needs to be loaded.
        weights = dict.fromkeys(roles, 1)
    else:
        weights = _count_by_role(prompt, encoding_name_for(model) or _PROPORTIONS, newer=is_newer(model))
    total = sum(weights.values())
    if total == 0:
        return None
    exact = {role: divmod(weight * reported_input_tokens, total) for role, weight in weights.items()}
    shares: dict[str, int] = {role: whole for role, (whole, _) in exact.items()}
    missing = reported_input_tokens - sum(shares.values())
    for role in sorted(exact, key=lambda each: (-exact[each][1], each))[:missing]:
        shares[role] += 1
    return {role: share for role, share in shares.items() if share > 0}


def _count_by_role(prompt: Prompt, encoding: str, *, newer: bool) -> dict[Role, int]:
    counts: dict[Role, int] = {"user": prompt.token_ids} if prompt.token_ids else {}
    roles = [part.role for part in prompt.parts]
    # Up to gpt-4 the tools follow the first system message on a line of their own, or make one.
    first_system = roles.index("system") if not newer and "tools" in roles and "system" in roles else None
    for position, part in enumerate(prompt.parts):
        if part.role == "tools":
            tokens = _count_tools(part.text, encoding, joined=first_system is not None)
        else:
            ends_line = position != first_system or part.text.endswith("\n")
            tokens = count_tokens(part.text if ends_line else part.text + "\n", encoding)
            if prompt.chat:
                tokens += _PER_MESSAGE + _PER_NAME * part.named
        counts[part.role] = counts.get(part.role, 0) + tokens
    if prompt.chat:
        for role, group in groupby(prompt.parts, key=lambda part: part.role):
            if role == "tool":
                counts[role] += _count_result_overhead(len(list(group)), newer=newer)
    return counts


def _count_tools(definitions: str, encoding: str, *, joined: bool) -> int:
    if definitions.startswith("{"):
        return count_tokens(definitions, encoding) + _SCHEMA
    tokens = count_tokens(render_tools(definitions) or definitions, encoding)
    return tokens + (_TOOLS_IN_SYSTEM_MESSAGE if joined else _TOOLS)


def _count_result_overhead(results: int, *, newer: bool) -> int:
    """Return what a row of tool results and their calls costs; several in a row answer parallel calls."""
    if results == 1:
        return _PER_RESULT_NEWER if newer else _PER_RESULT
    return results * (_PER_RESULT_PARALLEL_NEWER if newer else _PER_RESULT_PARALLEL)


def _build_call_pattern(prompt: Prompt) -> re.Pattern[str] | None:
    """Return what finds the calls in an output's text: the name of a tool on offer, then its arguments."""
    offers = (read_functions(part.text) for part in prompt.parts if part.role == "tools")
    names = {function["name"] for functions in offers for function in functions} - {""}
    if not names:
        return None
    return re.compile(r"(?:^|(?<=\}))(?:" + "|".join(map(re.escape, sorted(names))) + r")(?=\{)")
