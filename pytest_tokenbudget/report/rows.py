"""A test's line of a JSON report, read by the writer's own templates.

A report of a large suite is nearly all such lines, and nearly all of them are plain: every request measured, nothing
violated. One pattern takes such a line apart, in less time and memory than a parsed object and a look at each of its
values. Whatever differs by one character from what ``document`` writes is no plain line, and is read the careful way.
"""

from __future__ import annotations

import re
from sys import intern
from typing import TYPE_CHECKING

from pytest_tokenbudget.budget import Verdict
from pytest_tokenbudget.frozen import maker_of
from pytest_tokenbudget.patterns import COUNT, TEXT, NotPlain, count_of, pattern_of, unquote
from pytest_tokenbudget.record import BaselineStatus, ModelTokens, Outcome, UsageRecord, baseline_result
from pytest_tokenbudget.report import templates
from pytest_tokenbudget.report.call_rows import USD, name_of, object_of, one_of, usd_of
from pytest_tokenbudget.report.document import entry_models, quote
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_tokenbudget.budget import Budget
    from pytest_tokenbudget.usage import ModelCall

    Entry = Mapping[str, ModelTokens]
    ReadUsed = Callable[[str, Entry | None], tuple[tuple[ModelCall, ...] | WrittenCall, int]]

_MODELS = object_of(pattern_of(templates.entry_model, TEXT, *[COUNT] * 5))
_ENTRY = pattern_of(
    templates.entry_object, f"({one_of(BaselineStatus)})", f"(null|{COUNT})", f"({USD})", f"(null|{_MODELS})"
)
_take_test = re.compile(
    pattern_of(
        templates.test_row,
        *(f"({TEXT})", f"({one_of(Outcome)})", f"({one_of(Verdict)})", r"(null|\{[^{}]*\})", r"\[\]"),
        *(f"(?:null|{_ENTRY})", "(.*)"),
    )
).fullmatch
_take_models = re.compile(pattern_of(templates.entry_model, f"({TEXT})", *[f"({COUNT})"] * 5)).findall

_record = maker_of(UsageRecord)


def read_plain_test(
    line: str, budget_of: Callable[[str], tuple[Budget, bool]], entries: Mapping[str, Entry], read_used: ReadUsed
) -> UsageRecord | None:
    """The record that a line holds; ``None`` where it is no plain one.

    Args:
        line: one test, without the comma behind it.
        budget_of: reads the JSON text of a budget, and says whether that is what we would write.
        entries: see ``reading.load``.
        read_used: reads what the test used (see ``templates.used``), given its entry: its calls, and the number of
            its cache hits.
    """
    found = _take_test(line)
    if found is None:
        return None
    quoted, outcome, verdict, budget, status, tokens, cost, models, used = found.groups()
    try:
        nodeid = intern(unquote(quoted))  # which the baseline has too, if there is one
        known = entries.get(nodeid)
        calls, hits = read_used(used, known)
        limits, is_ours = (None, True) if budget == "null" else budget_of(budget)
        result = None
        if status is not None:
            entry, is_known = (None, True) if models == "null" else _models(models, known)
            result = baseline_result(
                status=status,  # type: ignore[arg-type]
                tokens=None if tokens == "null" else count_of(tokens),
                cost=usd_of(cost),
                models=entry,
            )
            # An amount may end with zeros.
            is_ours = is_ours and is_known and ("." not in cost or cost[-2] != "0")
    except NotPlain:
        return None
    record = _record(
        nodeid=nodeid,
        outcome=outcome,  # type: ignore[arg-type]
        verdict=verdict,  # type: ignore[arg-type]
        calls=calls,
        cache_hits=hits,
        budget=limits,
        baseline=result,
    )
    if is_ours and isinstance(calls, WrittenCall) and quoted == quote(nodeid):
        calls.stand_whole_for(record)
    return record


def _models(text: str, known: Entry | None) -> tuple[Entry, bool]:
    """The models of an entry, and whether the text is what we write of the known one: then it need not be read."""
    if known is not None and text == entry_models(known):
        return known, True
    found = _take_models(text)
    models = {name_of(name): ModelTokens(*map(count_of, counts)) for name, *counts in found}
    if len(models) < len(found):
        raise NotPlain
    return models if known is None or known != models else known, False
