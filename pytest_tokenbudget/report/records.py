"""The tests and shared fixtures of a JSON report, value by value: whatever is wrong with one is said by its place."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.budget import LIMIT_NAMES, Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.shapes import (
    MAX_COUNT,
    as_amount,
    as_array,
    as_count,
    as_figure,
    as_flag,
    as_known_amount,
    as_object,
    as_text,
    as_word,
)
from pytest_tokenbudget.report.sums import TOKENS, cache_hits_of
from pytest_tokenbudget.strict_json import Fault, show
from pytest_tokenbudget.usage import ModelCall, Usage

if TYPE_CHECKING:
    from decimal import Decimal

_OUTCOMES = frozenset({"passed", "failed", "error", "skipped", "xfailed", "xpassed"})
_VERDICTS = frozenset({"within", "over", "unmeasured", "none"})
_STATUSES = frozenset({"new", "within", "over", "improved"})
_SOURCES = frozenset({"response", "callback", "estimate"})
_ROLES = frozenset({"system", "user", "assistant", "tool", "tools"})

_CALL_COUNTS = (*TOKENS, "total_tokens")
_UNKNOWN_TOKENS = (None,) * len(_CALL_COUNTS)
_token_counts = itemgetter(*_CALL_COUNTS)
_TEST = frozenset({"nodeid", "outcome", "verdict", "budget", "violations", "baseline", "usage", "calls"})
_SHARED = frozenset({"fixture", "scope", "usage", "calls"})
_CALL = frozenset(
    {
        "model",
        "provider",
        "endpoint",
        "source",
        "replayed",
        "request_id",
        *_CALL_COUNTS,
        "cost_usd",
        "parts",
    }
)
_ENTRY = frozenset({"status", "total_tokens", "cost_usd", "models"})
_ENTRY_MODEL = frozenset(ModelTokens._fields)


def test_of(data: Any) -> UsageRecord:
    """A test, without what is noted of it elsewhere in the document."""
    test = as_object(data, _TEST, "tests")
    nodeid = as_text(test["nodeid"], "tests: nodeid")
    own = _calls(test["calls"], nodeid)
    return UsageRecord(
        nodeid=nodeid,
        outcome=as_word(test["outcome"], _OUTCOMES, nodeid, "outcome"),
        verdict=as_word(test["verdict"], _VERDICTS, nodeid, "verdict"),
        calls=own,
        cache_hits=cache_hits_of(test, own, nodeid),
        budget=None if test["budget"] is None else budget_of(test["budget"], nodeid),
        violations=tuple(_violation(each, nodeid) for each in as_array(test["violations"], nodeid)),
        baseline=None if test["baseline"] is None else _entry(test["baseline"], nodeid),
    )


def shared_of(data: Any) -> SharedRecord:
    """A shared fixture."""
    shared = as_object(data, _SHARED, "shared")
    fixture = as_text(shared["fixture"], "shared: fixture")
    place = f"the fixture {show(fixture)}"
    own = _calls(shared["calls"], place)
    return SharedRecord(
        fixture=fixture,
        scope=as_text(shared["scope"], "shared: scope"),
        calls=own,
        cache_hits=cache_hits_of(shared, own, place),
    )


def budget_of(data: Any, nodeid: str) -> Budget:
    """A test's limits."""
    limits = as_object(data, None, f"{nodeid}: budget")
    values: dict[str, int | Decimal] = {}
    for name, value in limits.items():
        if name not in LIMIT_NAMES:
            raise Fault(f"{nodeid}: budget holds the unknown key {show(name)}")
        place = f"{nodeid}: {name}"
        values[name] = as_known_amount(value, place) if name in ("max_cost", "tolerance") else as_count(value, place)
    return Budget(**values)  # type: ignore[arg-type]


def _calls(data: Any, place: str) -> tuple[ModelCall, ...]:
    return tuple(_call(each, place) for each in as_array(data, place))


def _call(data: Any, place: str) -> ModelCall:
    call = as_object(data, _CALL, f"{place}: calls")
    request_id, parts = call["request_id"], call["parts"]
    cost = as_amount(call["cost_usd"], f"{place}: cost_usd")
    usage = _usage(call, place)
    if usage is None and cost is not None:
        raise Fault(f"contradicts itself: {place}: a call has a cost and no usage")
    if parts is not None:
        for role, tokens in as_object(parts, None, f"{place}: parts").items():
            as_word(role, _ROLES, place, "parts")
            as_count(tokens, f"{place}: {role}")
    return ModelCall(
        model=as_text(call["model"], place),
        provider=as_text(call["provider"], place),
        endpoint=as_text(call["endpoint"], place),
        usage=usage,
        cost=cost,
        source=as_word(call["source"], _SOURCES, place, "source"),
        replayed=as_flag(call["replayed"], f"{place}: replayed"),
        request_id=None if request_id is None else as_text(request_id, f"{place}: request_id"),
        parts=parts,
    )


def _usage(call: dict[str, Any], place: str) -> Usage | None:
    """A call's tokens; ``None`` where all of them are ``null``, which is the only way not to know them."""
    counts = _token_counts(call)
    if counts == _UNKNOWN_TOKENS:
        return None
    for name, count in zip(_CALL_COUNTS, counts, strict=True):
        # Asked here first: there are six in each of a hundred thousand calls.
        if type(count) is not int or not 0 <= count <= MAX_COUNT:
            as_count(count, f"{place}: {name}")
    given, cached, written, made, reasoning, total = counts
    if total != given + made:
        raise Fault(f"contradicts itself: {place}: total_tokens of a call is not its input and output")
    return Usage(
        input_tokens=given,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=made,
        reasoning_tokens=reasoning,
    )


def _violation(data: Any, nodeid: str) -> Violation:
    violation = as_object(data, frozenset({"limit", "allowed", "used"}), f"{nodeid}: violations")
    return Violation(
        limit=as_text(violation["limit"], f"{nodeid}: limit"),
        allowed=as_figure(violation["allowed"], f"{nodeid}: allowed"),
        used=as_figure(violation["used"], f"{nodeid}: used"),
    )


def _entry(data: Any, nodeid: str) -> BaselineResult:
    entry = as_object(data, _ENTRY, f"{nodeid}: baseline")
    tokens, models = entry["total_tokens"], entry["models"]
    return BaselineResult(
        status=as_word(entry["status"], _STATUSES, nodeid, "status"),
        tokens=None if tokens is None else as_count(tokens, f"{nodeid}: baseline: total_tokens"),
        cost=as_amount(entry["cost_usd"], f"{nodeid}: baseline: cost_usd"),
        models=None
        if models is None
        else {
            model: ModelTokens(
                **{
                    name: as_count(count, f"{nodeid}: baseline: {name}")
                    for name, count in as_object(counts, _ENTRY_MODEL, f"{nodeid}: baseline").items()
                }
            )
            for model, counts in as_object(models, None, f"{nodeid}: baseline").items()
        },
    )
