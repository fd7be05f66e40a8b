"""A baseline's text, and the short way to read one back that is written as we write it.

One figure per line, sorted, and ``requests``, which seldom changes, last: git needs one unchanged line between two
changes to merge them, and so neither edits of neighbours nor a test added beside an edited one conflict. A test
without models takes two lines for the same reason.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from json.encoder import encode_basestring
from sys import intern
from typing import TYPE_CHECKING

from pytest_tokenbudget.patterns import COUNT, TEXT, NotPlain, count_of, pattern_of, unquote
from pytest_tokenbudget.record import ModelTokens, model_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_END = "\n  }\n}\n"


def write(schema: str, tests: Mapping[str, Mapping[str, ModelTokens]]) -> str:
    """What ``json.dumps(..., indent=2, sort_keys=True)`` makes of a baseline, in a third of its time.

    Args:
        schema: the document's.
        tests: per test id and model, the requests and tokens.
    """
    if not tests:
        return f'{{\n  "schema": "{schema}",\n  "tests": {{}}\n}}\n'
    rows = ",\n".join([_test(encode_basestring(nodeid), _models(tests[nodeid])) for nodeid in sorted(tests)])
    # A file name that is no UTF-8 reaches a test's id as lone surrogates, which JSON can only write as escapes.
    return (_begin(schema) + rows + _END).encode("utf-8", "backslashreplace").decode("utf-8")


def read(schema: str, text: str) -> dict[str, dict[str, ModelTokens]] | None:
    """The tests of a baseline; ``None`` where it differs by one character from what ``write`` makes of them.

    Args:
        schema: the one that is known.
        text: the document.
    """
    begin = _begin(schema)
    if not (text.startswith(begin) and text.endswith(_END)):
        return None
    take_test, take_models = _takers()
    tests: dict[str, dict[str, ModelTokens]] = {}
    position, end, count = len(begin), len(text) - len(_END), 0
    try:
        while position < end:
            if (found := take_test(text, position, end)) is None:
                return None
            quoted, name, written, cached, given, made, requests, others = found.groups()
            nodeid = intern(unquote(quoted))  # where reports are read as well, each id is in memory once
            models = {} if name is None else {_name(name): _tokens_of(written, cached, given, made, requests)}
            if others:
                _add(models, take_models(others))
            tests[nodeid] = models
            count += 1
            position = found.end()
    except NotPlain:
        return None
    return tests if len(tests) == count else None


@cache
def _takers() -> tuple[Callable[[str, int, int], re.Match[str] | None], Callable[[str], list[tuple[str, ...]]]]:
    """What takes a test with its first model, which most often is its only one, and what takes the models behind."""
    any_model = pattern_of(_model, TEXT, *[COUNT] * 5)
    model = pattern_of(_model, f"({TEXT})", *[f"({COUNT})"] * 5)
    test = pattern_of(_test, f"({TEXT})", f"(?:{model}((?:,{any_model})*))?")
    return re.compile(test + r"(?:,\n(?=.)|\Z)").match, re.compile(model).findall


def _add(models: dict[str, ModelTokens], others: Sequence[Sequence[str]]) -> None:
    """Add the other models of a test to its first one."""
    models |= {_name(name): _tokens_of(*counts) for name, *counts in others}
    if len(models) <= len(others):
        raise NotPlain


def _tokens_of(written: str, cached: str, given: str, made: str, requests: str) -> ModelTokens:
    """One model's tokens, in the order in which they stand in the file."""
    new, reused, whole = count_of(written), count_of(cached), count_of(given)
    if new + reused > whole:
        raise NotPlain
    return model_tokens((count_of(requests), whole, reused, new, count_of(made)))


_name = lru_cache(maxsize=1024)(unquote)
"""For what many tests have in common."""


def _begin(schema: str) -> str:
    return f'{{\n  "schema": "{schema}",\n  "tests": {{\n'


def _test(nodeid: str, models: str) -> str:
    return f"    {nodeid}: {{{models}\n    }}"


def _models(models: Mapping[str, ModelTokens]) -> str:
    return ",".join([_model(encode_basestring(name), *models[name]) for name in sorted(models)])


def _model(  # noqa: PLR0913, PLR0917 - the fields of a tuple
    name: str, requests: int | str, given: int | str, cached: int | str, written: int | str, made: int | str
) -> str:
    return (
        f'\n      {name}: {{\n        "cache_write": {written},\n        "cached": {cached},\n'
        f'        "input": {given},\n        "output": {made},\n        "requests": {requests}\n      }}'
    )
