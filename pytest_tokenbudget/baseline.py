"""The baseline: what each test used when its usage was last accepted, and how a test stands against it."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation, Overflow
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.budget import Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.files import locked, real_path, write_atomically
from pytest_tokenbudget.record import BaselineResult, ModelTokens, baseline_result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pytest_tokenbudget.record import BaselineStatus

    Price = Callable[[str, ModelTokens], Decimal | None]

SCHEMA = "pytest-tokenbudget/baseline/1"
MAX_BYTES = 64 * 1024 * 1024
"""A baseline of 300,000 tests is smaller; a larger file is another file."""

_LARGE = 256 * 1024
"""From this size on the file is worth the patterns that read what is written as we write it: of 1,000 tests or so."""

MAX_COUNT = 10**15
"""No test uses more tokens of one model; a larger number is a typing error."""

_FIELDS = frozenset(ModelTokens._fields)
# With this many digits the products of money and tolerances are exact, whatever the test's own context says.
_EXACT = Context(prec=10_000, traps=[InvalidOperation, Overflow])
_CONFLICT = re.compile(rb"^(?:<<<<<<<|\|\|\|\|\|\|\||=======|>>>>>>>)", re.MULTILINE)
_TOO_LARGE = f"larger than {MAX_BYTES // 1024**2} MiB"
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The accepted usage of a suite.

    Attributes:
        tests: per test id and model, the requests and tokens. A test that used no model may stand here with none.
    """

    tests: Mapping[str, Mapping[str, ModelTokens]] = field(default_factory=dict)


def load(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        ConfigurationError: it is missing, broken, or of a newer version; one line with the path and the reason.
            A baseline is taken as a whole: no entry is ever skipped.
    """
    data = _read(path)
    try:
        return _parse(data)
    except _Fault as fault:
        raise _refusal(path, str(fault)) from None


def check_place(path: Path) -> None:
    """Find out before the tests run, and cost something, whether the file can be written where it is to be.

    Raises:
        ConfigurationError: it can't; one line with the path and the reason.
    """
    try:
        with suppress(FileNotFoundError):
            os.stat(path)  # noqa: PTH116 - as below
        target = real_path(path)  # writing follows a link
        places = (target, *target.parents)
        there = [each for each in places if os.path.lexists(each)]
        folder = next(each for each in there if each != target)
        if not all(os.access(each, os.W_OK) for each in {there[0], folder}):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        raise _refusal(path, f"can't be written: {_reason(error)}") from error


def dump(baseline: Baseline) -> str:
    """The file's text."""
    from pytest_tokenbudget.baseline_text import write  # noqa: PLC0415 - most runs write none

    return write(SCHEMA, baseline.tests)


def save(path: Path, baseline: Baseline) -> None:
    """Write a baseline file, whole or not at all, whatever it held before.

    Raises:
        ConfigurationError: it can't be written; one line with the path and the reason.
    """
    try:
        with locked(path):
            _write(path, baseline)
    except OSError as error:
        raise _refusal(path, f"can't be written: {_reason(error)}") from error


def update(
    path: Path, records: Mapping[str, Mapping[str, ModelTokens]], *, prune_to: Collection[str] | None = None
) -> Baseline:
    """Merge what tests used into a baseline file, made if it is missing, and not written if nothing changes.

    Args:
        path: the file. It is read anew under a lock, so that runs that update it at once lose nothing.
        records: the tests that ran and passed, each with ``UsageRecord.models``. Leave out tests with unmeasured
            calls, and those that use no model, unless an empty entry is meant to say so.
        prune_to: the ids of all tests that exist; entries of others are dropped. ``None`` keeps them.

    Returns:
        What the file now holds.

    Raises:
        ConfigurationError: the file is broken or can't be written, or a figure can't be remembered; one line with
            the path and the reason. The file is as it was.
    """
    try:
        with locked(path):
            exists = path.exists()
            before = load(path) if exists else Baseline()
            after = merge(before, records, prune_to=prune_to)
            if after != before or not exists:
                _write(path, after)
            return after
    except OSError as error:
        raise _refusal(path, f"can't be updated: {_reason(error)}") from error


def merge(
    baseline: Baseline,
    records: Mapping[str, Mapping[str, ModelTokens]],
    *,
    prune_to: Collection[str] | None = None,
) -> Baseline:
    """The baseline with the records' entries in place of its own; see ``update``."""
    tests = {**baseline.tests, **records}
    if prune_to is not None:
        alive = {*prune_to, *records}
        tests = {nodeid: models for nodeid, models in tests.items() if nodeid in alive}
    return Baseline(tests=tests)


def stale(baseline: Baseline, known_ids: Iterable[str]) -> tuple[str, ...]:
    """The entries whose test is not among those that exist, sorted."""
    known = set(known_ids)
    return tuple(sorted([nodeid for nodeid in baseline.tests if nodeid not in known]))


def compare(
    models: Mapping[str, ModelTokens],
    entry: Mapping[str, ModelTokens] | None,
    *,
    tolerance: Decimal,
    price: Price,
) -> BaselineResult:
    """Hold what a test used against its entry.

    ``over``: its tokens or its cost exceed the entry by more than the tolerance. ``improved``: it is below the
    entry in one and above in none. ``within``: anything else. Where the cost of either side is not known, tokens
    alone decide.

    Both sides are priced from their sums per model, with the same table. The costs of the single calls would not do:
    a provider's tiers make the price of a sum differ from the sum of the prices, and the entry knows only sums. So
    the same usage always costs the same here, and a change of prices alone makes no test over.

    Args:
        models: the test's ``UsageRecord.models``. Unmeasured calls are not in it; judge them elsewhere.
        entry: the test's entry; ``None`` where it has none, which makes it ``new``.
        tolerance: as a fraction; ``Decimal("0.1")`` is 10%.
        price: USD of a sum of tokens of a model at today's prices; ``None`` where it has no price.
    """
    if entry is None:
        return BaselineResult(status="new")
    tokens, cost = _tokens(entry), _cost(entry, price)
    status: BaselineStatus = "within"
    if models != entry:
        used_tokens, used_cost = _tokens(models), _cost(models, price)
        more, less = used_tokens > tokens, used_tokens < tokens
        over = more and _exceeds(used_tokens, tokens, tolerance)
        if cost is not None and used_cost is not None:
            more, less = more or used_cost > cost, less or used_cost < cost
            over = over or _exceeds(used_cost, cost, tolerance)
        if over:
            status = "over"
        elif less and not more:
            status = "improved"
    return baseline_result(status=status, tokens=tokens, cost=cost, models=entry)


def violations(
    result: BaselineResult, models: Mapping[str, ModelTokens], *, tolerance: Decimal, price: Price
) -> tuple[Violation, ...]:
    """Why a test is over its baseline; empty unless it is.

    Args:
        result: what ``compare`` made of the same ``models``, ``tolerance`` and ``price``.
        models: the test's ``UsageRecord.models``.
        tolerance: as a fraction.
        price: USD of a sum of tokens of a model at today's prices; ``None`` where it has no price.

    Returns:
        ``baseline_tokens`` (allowed is the largest whole number of tokens that the tolerance allows) and
        ``baseline_cost`` (USD, exact), as far as they are exceeded.
    """
    if result.status != "over" or result.tokens is None:
        return ()
    found = []
    used_tokens, used_cost = _tokens(models), _cost(models, price)
    if _exceeds(used_tokens, result.tokens, tolerance):
        # Tokens are whole: above 9.45 is above 9.
        allowed = int(_allowance(result.tokens, tolerance))
        found.append(Violation(limit="baseline_tokens", allowed=allowed, used=used_tokens))
    if result.cost is not None and used_cost is not None and _exceeds(used_cost, result.cost, tolerance):
        found.append(Violation(limit="baseline_cost", allowed=_allowance(result.cost, tolerance), used=used_cost))
    return tuple(found)


def _exceeds(used: int | Decimal, accepted: int | Decimal, tolerance: Decimal) -> bool:
    return used > accepted and used > _allowance(accepted, tolerance)


def _allowance(accepted: int | Decimal, tolerance: Decimal) -> Decimal:
    return _EXACT.multiply(accepted, _EXACT.add(1, tolerance))


def _tokens(models: Mapping[str, ModelTokens]) -> int:
    total = 0
    for each in models.values():
        total += each.input + each.output
    return total


def _cost(models: Mapping[str, ModelTokens], price: Price) -> Decimal | None:
    total = None
    for model, tokens in models.items():
        cost = price(model, tokens)
        if cost is None:
            return None
        total = cost if total is None else _EXACT.add(total, cost)
    return Decimal(0) if total is None else total


def _write(path: Path, baseline: Baseline) -> None:
    try:
        for nodeid, models in baseline.tests.items():
            for model, used in models.items():
                _check(used._asdict(), nodeid, model)
    except _Fault as fault:
        raise _refusal(path, f"is left as it was, since it can't remember this usage: {fault}") from None
    data = dump(baseline).encode("utf-8")
    if len(data) > MAX_BYTES:
        raise _refusal(path, f"is left as it was, since it would be {_TOO_LARGE}")
    write_atomically(path, data)


class _Fault(Exception):  # noqa: N818 - it never leaves this module
    """Why a baseline file is refused."""


def _read(path: Path) -> bytes:
    try:
        # Asked first: opening a pipe waits for somebody to write to it.
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path.stat is this and an import of nothing new
        if stat.S_ISDIR(mode):
            raise _refusal(path, "is a directory, not a file")
        if not stat.S_ISREG(mode):
            raise _refusal(path, "is not a regular file")
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _refusal(path, "does not exist; pytest --token-update-baseline writes it") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise _refusal(path, f"can't be read: {_reason(error)}") from error
    if len(data) > MAX_BYTES:
        raise _refusal(path, f"is {_TOO_LARGE}")
    return data


def _parse(data: bytes) -> Baseline:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Fault(f"is not UTF-8 (byte {error.start + 1})") from None
    if not text.strip():
        raise _Fault("is empty")
    if len(data) >= _LARGE and (tests := _read_plain(text)) is not None:
        return Baseline(tests=tests)
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError, _Fault) as error:
        raise _Fault(_syntax(data, text, error)) from None
    return Baseline(tests=_tests(document))


def _read_plain(text: str) -> dict[str, dict[str, ModelTokens]] | None:
    from pytest_tokenbudget.baseline_text import read  # noqa: PLC0415 - for large baselines alone

    return read(SCHEMA, text)


def _syntax(data: bytes, text: str, error: Exception) -> str:
    """What to say of a text that is no JSON; a merge in progress explains any other fault."""
    if conflict := _CONFLICT.search(data):
        line = data.count(b"\n", 0, conflict.start()) + 1
        return f"holds an unresolved merge conflict (line {line}); take either side and update the baseline again"
    if isinstance(error, RecursionError):
        return "is nested too deep"
    if not isinstance(error, json.JSONDecodeError):
        # Ours, or an integer that is longer than Python reads.
        return str(error) if isinstance(error, _Fault) else "holds a number that is too long"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"is cut short (line {error.lineno})"
    return f"is no JSON: {error.msg} (line {error.lineno}, column {error.colno})"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = min(name for name in found if names.count(name) > 1)
        raise _Fault(f"holds {_show(twice)} twice")
    return found


def _tests(document: Any) -> dict[str, dict[str, ModelTokens]]:
    if not isinstance(document, dict):
        raise _Fault(f"must hold a JSON object, not {_kind(document)}")
    schema = document.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, str) and _is_newer(schema):
            raise _Fault(f"was written by a newer pytest-tokenbudget (schema {_show(schema)}); upgrade it here")
        named = "no schema" if "schema" not in document else f"the schema {_show(schema)}"
        raise _Fault(f"has {named}, where {SCHEMA!r} is expected")
    if unknown := sorted(document.keys() - {"schema", "tests"}):
        raise _Fault(f"holds the unknown key {_show(unknown[0])}")
    tests = document.get("tests")
    if not isinstance(tests, dict):
        raise _Fault(f'must hold an object under "tests", not {_kind(tests)}')
    return {nodeid: _models(nodeid, models) for nodeid, models in tests.items()}


def _is_newer(schema: str) -> bool:
    name, _, version = SCHEMA.rpartition("/")
    found = re.fullmatch(rf"{name}/([0-9]{{1,99}})", schema)
    return found is not None and int(found[1]) > int(version)


def _models(nodeid: str, models: Any) -> dict[str, ModelTokens]:
    if not isinstance(models, dict):
        raise _Fault(f"{_show(nodeid)} must hold an object of models, not {_kind(models)}")
    for model, counts in models.items():
        if not isinstance(counts, dict):
            raise _Fault(f"{_show(nodeid)}, {_show(model)} must hold an object of counts, not {_kind(counts)}")
        _check(counts, nodeid, model)
    return {model: ModelTokens(**counts) for model, counts in models.items()}


def _check(counts: dict[str, Any], nodeid: str, model: str) -> None:
    if counts.keys() != _FIELDS:
        unknown = sorted(counts.keys() - _FIELDS)
        missing = ", ".join(sorted(_FIELDS - counts.keys()))
        what = f"holds the unknown key {_show(unknown[0])}" if unknown else f"lacks {missing}"
    elif wrong := [name for name, value in counts.items() if type(value) is not int or not 0 <= value <= MAX_COUNT]:
        shown = f"{wrong[0]} = {_show(counts[wrong[0]])}"
        what = f"has {shown}, where a whole number from 0 to {MAX_COUNT} is expected"
    elif counts["cached"] + counts["cache_write"] > counts["input"]:
        parts = f"cached ({counts['cached']}) and cache_write ({counts['cache_write']})"
        what = f"has more {parts} than input ({counts['input']})"
    else:
        return
    raise _Fault(f"{_show(nodeid)}, {_show(model)} {what}")


def _refusal(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(_line(f"baseline {os.fspath(path)}: {reason}"))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _line(text: str) -> str:
    """The text on one line that any terminal can show."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _show(value: object) -> str:
    if isinstance(value, dict | list):  # however large or deep
        return _kind(value)
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
