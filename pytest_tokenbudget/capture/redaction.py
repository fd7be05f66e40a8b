"""Takes secrets out of a text: those of this process's own key variables, and what looks like, or is called, one."""

from __future__ import annotations

import base64
import json
import os
import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

from pytest_tokenbudget.capture.secret_shapes import (
    CLEAR_IN_TEXT,
    CLEAR_SIGNS,
    FORM_PARTS,
    MAKERS_BY_SIGN,
    MEMBERS,
    MIN_RUN,
    PARAMETER_SIGNS,
    PARAMETERS,
    QUOTED_NAME,
    REDACTED,
    is_stand_in,
)
from pytest_tokenbudget.environment import DUMMY, KEYS, REPLACED, raw_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_tokenbudget.capture.secret_shapes import Rule

    Note = Callable[[str, str], None]

KEY_VARIABLE = re.compile(
    r"(?:_API_?KEY|_TOKEN|_SECRET|_KEY|_ACCESS_KEY_ID|_ACCESSKEY|_SECRETKEY|_BEARER_TOKEN_\w+|PASSWORD|PASSWD|_PWD|_PAT"
    r"|_JWT|_CREDENTIALS?)$",
    re.IGNORECASE,
)
_KNOWN_KEYS = frozenset((*KEYS, *REPLACED))

MIN_SECRET_LENGTH = 12
"""Shorter values of such variables are words that a prompt may hold."""


class _Form(NamedTuple):
    """One of the forms in which a variable's value travels."""

    text: str
    variable: str


def redact(text: str, *, of_bytes: bool = False, named: bool = True, note: Note | None = None) -> str:
    """The text with every secret replaced by ``REDACTED``; takes time in proportion to its length.

    What was redacted once stays as it is, and so does what visibly stands in for a secret.

    Args:
        text: anything.
        of_bytes: each character stands for one byte.
        named: whether what the text calls a secret is one, beside what looks like one.
        note: is told the kind of each secret and the secret itself.
    """
    for form in own_values():
        literal = form.text
        if of_bytes and not literal.isascii():
            literal = literal.encode("utf-8", "surrogateescape").decode("latin-1")
        if literal in text:
            if note is not None and form.variable:
                note(f"value of {form.variable}", form.text)
            text = text.replace(literal, REDACTED)
    for rule in _rules_for(text, named=named):
        text = rule.pattern.sub(partial(_replace, rule, note), text)
    return text


def _rules_for(text: str, *, named: bool) -> Iterator[Rule]:
    """The rules that the text may hold something of, in their order: for prose none, which is found out fast."""
    if dense := _dense_parts(text):
        for sign, rules in MAKERS_BY_SIGN:
            if sign in dense:
                yield from rules
        lowered = dense.lower() if named else ""
        clear = any(sign in lowered for sign in CLEAR_SIGNS)
        if clear:
            yield from _with_signs(CLEAR_IN_TEXT, text)
        if clear or any(sign in lowered for sign in PARAMETER_SIGNS):
            yield from _with_signs(PARAMETERS, text)
    if named and '"' in text and QUOTED_NAME.search(text.lower()):
        yield from _with_signs(MEMBERS, text)
        yield from _with_signs(FORM_PARTS, text)


def _with_signs(rules: Iterable[Rule], text: str) -> Iterator[Rule]:
    """Those rules whose sign the text holds."""
    return (rule for rule in rules if rule.sign in text)


_RUN = b"x" * MIN_RUN
_DENSE = frozenset(range(ord("!"), ord("~") + 1)) - frozenset(b"\"'`<>{}()[],;|*^")
_TO_RUNS = bytes(ord("x") if byte in _DENSE else ord(" ") for byte in range(256))
_AROUND = 96
"""Bytes in front of a long word that say what it is."""


def _dense_parts(text: str) -> str:
    """Words longer than those of prose, with a little of what stands before each: no other part can hold a key."""
    data = text.encode("utf-8", "surrogatepass")
    runs = data.translate(_TO_RUNS)
    parts = []
    end = 0
    while (start := runs.find(_RUN, end)) >= 0:
        before = max(end, start - _AROUND)
        end = runs.find(b" ", start)
        end = len(data) if end < 0 else end
        parts.append(data[before:end])
    return b" ".join(parts).decode("latin-1")


def _replace(rule: Rule, note: Note | None, match: re.Match[str]) -> str:
    whole = match[0]
    start = match.end("keep") - match.start() if "keep" in rule.pattern.groupindex else 0
    secret = whole[start:]
    if is_stand_in(secret) or (rule.accepts is not None and not rule.accepts(secret)):
        return whole
    if note is not None:
        note(rule.kind, secret)
    return whole[:start] + REDACTED


def own_values() -> tuple[_Form, ...]:
    """The values of this process's own key variables in the forms they travel in, the longest first.

    The dummy that stands for them in a replayed test is one of them, so that a replayed request looks like the
    recorded one.
    """
    return _forms(frozenset((name, value) for name, value in raw_environment().items() if _is_key(name)))


@lru_cache(maxsize=4096)
def _is_key(name: bytes | str) -> bool:
    text = os.fsdecode(name)
    return text in _KNOWN_KEYS or KEY_VARIABLE.search(text) is not None


@lru_cache(maxsize=4)
def _forms(keys: frozenset[tuple[Any, Any]]) -> tuple[_Form, ...]:
    found = dict.fromkeys(_travelling(DUMMY), "")
    for name, value in sorted((os.fsdecode(name), os.fsdecode(value)) for name, value in keys):
        if len(value) >= MIN_SECRET_LENGTH:
            for text in _travelling(value):
                found.setdefault(text, name)
    return tuple(_Form(text, found[text]) for text in sorted(found, key=lambda text: (-len(text), text)))


def _travelling(value: str) -> set[str]:
    """A value as it is, as JSON and in a string of JSON, percent-encoded, and in base64 behind anything."""
    once = json.dumps(value)[1:-1]
    data = value.encode("utf-8", "surrogateescape")
    forms = {value, once, json.dumps(once)[1:-1], quote(data, safe=""), quote(data), quote_plus(data)}
    for before in range(3):
        # The letters that the value alone decides, wherever in three bytes it starts.
        encoded = base64.b64encode(b"\0" * before + data)
        letters = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        forms |= {letters.decode(), letters.translate(bytes.maketrans(b"+/", b"-_")).decode()}
    return forms
