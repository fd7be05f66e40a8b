"""The plain form of records: what a worker sends of them (str, int, bool, list, dict) survives JSON and execnet."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.usage import ModelCall, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Value = TypeVar("Value")

_TEXTS = ("incidents", "drift", "blocked", "unplayed", "unfit", "cassettes")
_TOKEN_FIELDS = tuple(each.name for each in fields(Usage) if each.name.endswith("_tokens"))
_PLAIN_CALL_FIELDS = (
    "model", "provider", "endpoint", "source", "replayed", "request_id", "service_tier", "request_model", "reason",
)  # fmt: skip

_texts_of: Callable[[ModelCall], tuple[str | None, ...]] = attrgetter(
    *(name for name in _PLAIN_CALL_FIELDS if name != "replayed")
)


def plain_record(record: UsageRecord) -> dict[str, Any]:
    """A test's record as plain data; money as strings."""
    return {
        "nodeid": sendable(record.nodeid),
        "outcome": record.outcome,
        "verdict": record.verdict,
        "calls": [plain_call(call) for call in record.calls],
        "late_calls": record.late_calls,
        "cache_hits": record.cache_hits,
        "budget": None if record.budget is None else record.budget.to_dict(),
        "violations": [_plain_violation(violation) for violation in record.violations],
        "baseline": None if record.baseline is None else _plain_result(record.baseline),
        **{name: [sendable(line) for line in getattr(record, name)] for name in _TEXTS},
    }


def record_of(plain: Mapping[str, Any]) -> UsageRecord:
    """The inverse of ``plain_record``."""
    return UsageRecord(
        nodeid=plain["nodeid"],
        outcome=plain["outcome"],
        verdict=plain["verdict"],
        calls=tuple(call_of(call) for call in plain["calls"]),
        late_calls=plain["late_calls"],
        cache_hits=plain["cache_hits"],
        budget=None if plain["budget"] is None else Budget.from_dict(plain["budget"]),
        violations=tuple(_violation_of(violation) for violation in plain["violations"]),
        baseline=None if plain["baseline"] is None else _result_of(plain["baseline"]),
        **{name: tuple(plain[name]) for name in _TEXTS},
    )


def survives_as_it_is(record: UsageRecord) -> bool:
    """Whether ``record_of`` gives the same record again, but for the origins of its limits.

    Quick to answer, and ``False`` too for a few that it would give again: such as have more to tell.
    """
    notes = (record.incidents, record.drift, record.blocked, record.unplayed, record.unfit)
    if record.violations or record.baseline is not None or any(notes):
        return False
    texts: list[str | None] = [record.nodeid, *record.cassettes]
    for call in record.calls:
        if call.prompt is not None:
            return False
        texts += _texts_of(call)
    return "".join(filter(None, texts)).isascii()


def plain_shared(record: SharedRecord) -> dict[str, Any]:
    """A shared fixture's record as plain data."""
    return {
        "fixture": sendable(record.fixture),
        "scope": sendable(record.scope),
        "calls": [plain_call(call) for call in record.calls],
        "cache_hits": record.cache_hits,
        "incidents": [sendable(line) for line in record.incidents],
        "blocked": [sendable(line) for line in record.blocked],
    }


def shared_of(plain: Mapping[str, Any]) -> SharedRecord:
    """The inverse of ``plain_shared``."""
    return SharedRecord(
        fixture=plain["fixture"],
        scope=plain["scope"],
        calls=tuple(call_of(call) for call in plain["calls"]),
        cache_hits=plain["cache_hits"],
        incidents=tuple(plain["incidents"]),
        blocked=tuple(plain["blocked"]),
    )


def plain_call(call: ModelCall) -> dict[str, Any]:
    """One call as plain data; unmeasured token counts are ``None``."""
    usage = call.usage
    return {
        **{name: sendable(getattr(call, name)) for name in _PLAIN_CALL_FIELDS},
        **{name: None if usage is None else getattr(usage, name) for name in _TOKEN_FIELDS},
        "cost_usd": None if call.cost is None else format(call.cost, "f"),
        "parts": None if call.parts is None else dict(call.parts),
    }


def call_of(plain: Mapping[str, Any]) -> ModelCall:
    """The inverse of ``plain_call``."""
    measured = plain["input_tokens"] is not None
    return ModelCall(
        **{name: plain[name] for name in _PLAIN_CALL_FIELDS},
        usage=Usage(**{name: plain[name] for name in _TOKEN_FIELDS}) if measured else None,
        cost=None if plain["cost_usd"] is None else Decimal(plain["cost_usd"]),
        parts=plain["parts"],
    )


def sendable(value: Value) -> Value:
    """The same text without lone surrogates: an answer may hold them, and execnet dies of them."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()  # type: ignore[return-value]


def _plain_violation(violation: Violation) -> dict[str, Any]:
    return {
        "limit": violation.limit,
        "allowed": _text(violation.allowed),
        "used": _text(violation.used),
        "reason": sendable(violation.reason),
    }


def _violation_of(plain: Mapping[str, Any]) -> Violation:
    return Violation(
        limit=plain["limit"],
        allowed=_number(plain["allowed"]),
        used=_number(plain["used"]),
        reason=plain["reason"],
    )


def _plain_result(result: BaselineResult) -> dict[str, Any]:
    models = result.models
    return {
        "status": result.status,
        "tokens": result.tokens,
        "cost_usd": _text(result.cost),
        "models": None if models is None else {sendable(name): tokens._asdict() for name, tokens in models.items()},
    }


def _result_of(plain: Mapping[str, Any]) -> BaselineResult:
    models = plain["models"]
    return BaselineResult(
        status=plain["status"],
        tokens=plain["tokens"],
        cost=None if plain["cost_usd"] is None else Decimal(plain["cost_usd"]),
        models=None if models is None else {name: ModelTokens(**tokens) for name, tokens in models.items()},
    )


def _number(value: str | int | None) -> int | Decimal | None:
    return Decimal(value) if isinstance(value, str) else value


def _text(value: Decimal | int | None) -> str | int | None:
    return format(value, "f") if isinstance(value, Decimal) else value
