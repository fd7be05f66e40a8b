"""The message of a test that is over its budget: facts first, then the remedy."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from pytest_tokenbudget.record import ModelTokens
from pytest_tokenbudget.report.figures import (
    UNKNOWN,
    format_count,
    format_excess,
    format_pair,
    format_percent,
    format_usd,
    mark,
    plural,
)
from pytest_tokenbudget.report.text import align, measure, pad, printable, shorten
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.record import Tally, UsageRecord
    from pytest_tokenbudget.usage import ModelCall

MAX_CALLS = 20
MAX_MODEL_WIDTH = 40
MIN_MODEL_WIDTH = 17
MIN_LABEL_WIDTH = 6

LABELS = {
    "max_cost": "cost",
    "max_tokens": "tokens",
    "max_input_tokens": "input",
    "max_output_tokens": "output",
    "max_reasoning_tokens": "reasoning",
    "max_requests": "requests",
    "min_requests": "requests",
    "baseline_tokens": "tokens",
    "baseline_cost": "cost",
    "unmeasured": "usage",
}
INI_KEYS = {
    "max_cost": "token_test_max_cost",
    "max_tokens": "token_test_max_tokens",
    "max_requests": "token_test_max_requests",
}
ESTIMATE_NOTE = "~ marks an estimate: tokens counted locally, because no provider reported them."
UNMEASURED_REMEDY = (
    "What is not known can't be judged, so it fails: "
    "let the provider report its usage (for a stream: stream_usage=True), or run with --token-budget=warn."
)


def render_verdict(
    record: UsageRecord,
    *,
    replay_command: str | None = None,
    subject: str | None = None,
    remedy: str | None = None,
) -> str:
    """Say why a test, or a block, does not hold its budget.

    Args:
        record: what was used, the limits, and those that do not hold.
        replay_command: how to run it again; left out where there is none.
        subject: what is over, where it is not the test itself, for example ``the block 'summary'``.
        remedy: the last line, where the one that the violated limits suggest does not fit.

    Returns:
        Several lines without a line break at the end; empty where every limit holds.
    """
    if not record.violations:
        return ""
    tally = tally_of(record.figures, cache_hits=record.cache_hits)
    lines = [f"{printable(subject or record.nodeid)} {_claim(record.violations)}"]
    lines += [f"  {line}" for line in limit_lines(record.violations, tally, record)]
    lines += [f"  {line}" for line in _origins(record)]
    lines += [f"  {line}" for line in call_lines(tuple(record.calls))]
    lines += [f"  {line}" for line in _comparison(record)]
    lines += [f"  while capturing: {printable(incident)}" for incident in _unsaid(record)]
    if replay_command:
        lines.append(f"  again: {replay_command}")
    lines.append(_remedy(record, tally) if remedy is None else remedy)
    return "\n".join(lines)


def limit_lines(
    violations: Iterable[Violation], tally: Tally, record: UsageRecord | None = None, *, explain: bool = True
) -> list[str]:
    """One line for each limit that does not hold: what was used, the limit, the difference.

    Args:
        violations: the limits.
        tally: what was used, which tells whether the figures are estimates or lower bounds.
        record: the test, for its baseline.
        explain: whether lines follow that say what ``~`` means, and what the figures leave out.
    """
    estimated = tally.usage.estimated_requests > 0
    judged, unknown = [], []
    for violation in violations:
        if violation.over and violation.allowed is not None and violation.used is not None:
            used, allowed, difference = format_pair(violation.used, violation.allowed)
            exact = not estimated or LABELS.get(violation.limit) == "requests"
            excess = format_excess(
                mark(difference, estimated=not exact), format_percent(violation.used, violation.allowed)
            )
            word, note = _limit_word(violation, record)
            judged.append(
                (label_of(violation.limit), mark(used, estimated=not exact), f"{word} {allowed}", excess + note)
            )
        else:
            unknown.append(violation)
    width = max([MIN_LABEL_WIDTH, *(len(row[0]) for row in judged), *(len(label_of(each.limit)) for each in unknown)])
    judged = [(pad(row[0], width), *row[1:]) for row in judged]
    lines = [f"{row[:width]}  {row[width + 3 :]}" for row in align(judged, gap="   ")]
    lines += [f"{pad(label_of(each.limit), width)}  {_unknown_line(each)}" for each in unknown]
    return [*lines, *_caveats(tally, unknown)] if judged and explain else lines


def _caveats(tally: Tally, unknown: list[Violation]) -> list[str]:
    """What keeps the figures from being the whole truth."""
    lines = []
    if tally.unpriced_models:
        lines.append(f"no price for {_names(tally.unpriced_models)}: its cost comes on top")
    if tally.usage.unmeasured_requests and not any(each.limit == "unmeasured" for each in unknown):
        lines.append(
            f"the usage of {plural(tally.usage.unmeasured_requests, 'request')} is not known: it comes on top"
        )
    if tally.usage.estimated_requests:
        lines.append(ESTIMATE_NOTE)
    return lines


def call_lines(calls: tuple[ModelCall, ...], *, most: int = MAX_CALLS) -> list[str]:
    """A table of model requests in order of completion, and the line that tells where their input went."""
    if not calls:
        return []
    cells = [
        ("model", "input", "cached", "output", "cost", ""),
        *(_cells(call) for call in calls[:most]),
    ]
    width = max(MIN_MODEL_WIDTH, *(measure(row[0]) for row in cells))
    numbers = ["#", *(str(number) for number in range(1, len(cells)))]
    rows = [(number, pad(model, width), *rest) for number, (model, *rest) in zip(numbers, cells, strict=True)]
    # The cost stands at the left and what follows it a little apart, as in the limits above.
    lines = align([(*row[:-1], f" {row[-1]}" if row[-1] else "") for row in rows], rights=(0, 2, 3, 4))
    if len(calls) > most:
        lines.append(f"... and {len(calls) - most:,} more")
    went = input_parts(calls)
    return [*lines, f"where the input went: {went}"] if went else lines


def input_parts(calls: Iterable[ModelCall]) -> str:
    """Input tokens by who spoke, the most first: ``system 812, tools 220, user 76``; empty where not known."""
    calls = tuple(calls)
    known = [call.parts for call in calls if call.parts is not None]
    sums: dict[str, int] = {}
    for parts in known:
        for role, tokens in parts.items():
            sums[role] = sums.get(role, 0) + tokens
    shown = ", ".join(
        f"{printable(role)} {tokens:,}" for role, tokens in sorted(sums.items(), key=lambda each: (-each[1], each[0]))
    )
    partly = f" (known for {len(known):,} of {plural(len(calls), 'request')})" if len(known) < len(calls) else ""
    return shown + partly if shown else ""


def _claim(violations: tuple[Violation, ...]) -> str:
    if any(violation.over for violation in violations):
        return "is over its token budget."
    if all(violation.limit == "baseline" for violation in violations):
        return "is not in the token baseline."
    if all(violation.limit == "max_cost" for violation in violations):
        return "could not be priced, so its token budget is not kept."
    return "could not be measured by its token budget."


def _unsaid(record: UsageRecord) -> list[str]:
    """Errors while capturing that no violation gives as its reason."""
    reasons = " ".join(violation.reason or "" for violation in record.violations)
    return [incident for incident in record.incidents if incident not in reasons]


def label_of(limit: str) -> str:
    """The word for a limit at the start of its line."""
    if limit in LABELS:
        return LABELS[limit]
    return "cost" if limit.endswith("max_cost") else "tokens" if limit.endswith("max_tokens") else printable(limit)


def _limit_word(violation: Violation, record: UsageRecord | None) -> tuple[str, str]:
    """What the allowed figure is called, and what is added where a tolerance stands between it and the baseline."""
    if not violation.limit.startswith("baseline") or record is None or record.baseline is None:
        return "limit", ""
    money = violation.limit == "baseline_cost"
    entry = record.baseline.cost if money else record.baseline.tokens
    if entry is None or entry == violation.allowed:
        return "baseline", ""
    shown = format_usd(entry) if isinstance(entry, Decimal) else format_count(entry)
    return "limit", f"   baseline {shown} and its tolerance"


def _unknown_line(violation: Violation) -> str:
    used, allowed = violation.used, violation.allowed
    reason = printable(violation.reason or "not known")
    if allowed is None:
        # An entry that is missing from the baseline is no figure that nobody knows.
        return reason if violation.limit == "baseline" else f"{UNKNOWN}: {reason}"
    limit = format_usd(allowed) if isinstance(allowed, Decimal) else format_count(allowed)
    if violation.limit == "min_requests":
        return f"{0 if used is None else used:,} (at least {limit}): {reason}"
    return f"{UNKNOWN} (limit {limit}): {reason}"


def _origins(record: UsageRecord) -> list[str]:
    """Where the violated limits were set, unless on the test itself: that is where one looks first."""
    places: dict[str, list[str]] = {}
    for violation in record.violations:
        origin = _origin(record, violation)
        if origin and not _is_own_marker(origin, record.nodeid):
            places.setdefault(origin, []).append(violation.limit)
    return [f"{', '.join(limits)}: set by {printable(origin)}" for origin, limits in places.items()]


def _origin(record: UsageRecord, violation: Violation) -> str:
    origin = record.budget.origins.get(violation.limit, "") if record.budget is not None else ""
    # The message begins with the test's name; here it would only be in the way.
    return origin.removeprefix(f"{record.nodeid}: ")


def _is_own_marker(origin: str, nodeid: str) -> bool:
    marker, _, place = origin.partition(" on ")
    plain = nodeid.partition("[")[0]
    own = ("", nodeid, plain, nodeid.rpartition("::")[2], plain.rpartition("::")[2])
    return origin == nodeid or (marker.endswith("token_budget") and place in own)


def _cells(call: ModelCall) -> tuple[str, str, str, str, str, str]:
    model = shorten(printable(call.model) or "?", MAX_MODEL_WIDTH)
    how = "replayed" if call.replayed else "live"
    usage = call.usage
    if usage is None:
        return (
            model,
            "?",
            "?",
            "?",
            UNKNOWN,
            f"{how}, unmeasured: {printable(call.reason or 'no usage was reported')}",
        )
    counts = [
        format_count(count, estimated=call.estimated)
        for count in (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    ]
    if call.cost is None:
        how += ", no price"
    return model, counts[0], counts[1], counts[2], format_usd(call.cost, estimated=call.estimated), how


def _comparison(record: UsageRecord) -> list[str]:
    """The baseline's figures per model beside the new ones, where the baseline is what does not hold."""
    entry = None if record.baseline is None else record.baseline.models
    if entry is None or not any(violation.limit.startswith("baseline") for violation in record.violations):
        return []
    return compare_models(entry, record.models)


def compare_models(before: Mapping[str, ModelTokens], now: Mapping[str, ModelTokens]) -> list[str]:
    """A table of tokens per model, ``baseline -> now``."""
    rows = [("baseline -> now", "requests", "input", "cached", "cache write", "output")]
    for model in sorted({*before, *now}):
        old, new = before.get(model, ModelTokens()), now.get(model, ModelTokens())
        rows.append(
            (
                shorten(printable(model), MAX_MODEL_WIDTH),
                _change(old.requests, new.requests),
                _change(old.input, new.input),
                _change(old.cached, new.cached),
                _change(old.cache_write, new.cache_write),
                _change(old.output, new.output),
            )
        )
    if all(row[4] == "0" for row in rows[1:]):
        rows = [(*row[:4], row[5]) for row in rows]  # type: ignore[misc]
    return align(rows, rights=range(1, 6))


def _change(old: int, new: int) -> str:
    return f"{new:,}" if old == new else f"{old:,} -> {new:,}"


def _remedy(record: UsageRecord, tally: Tally) -> str:
    over = [violation for violation in record.violations if violation.over]
    if not over:
        return _remedy_of_unknown(record, tally)
    own, ini = [], []
    for violation in over:
        if violation.limit.startswith("baseline"):
            continue
        key = INI_KEYS.get(violation.limit, "")
        if key and key in _origin(record, violation):
            ini.append(key)
        else:
            own.append(f"{violation.limit}=...")
    raised = []
    if own:
        raised.append(f"@pytest.mark.token_budget({', '.join(own)})")
    if ini:
        raised.append(f"the ini option {' and '.join(ini)}")
    update = "run pytest --token-update-baseline."
    return (
        f"If this is intended, raise {' and '.join(raised)} or {update}"
        if raised
        else f"If this is intended, {update}"
    )


def _remedy_of_unknown(record: UsageRecord, tally: Tally) -> str:
    limits = {violation.limit for violation in record.violations}
    if limits == {"baseline"}:
        return "If this is intended, run pytest --token-update-baseline."
    if tally.usage.unmeasured_requests or tally.usage.estimated_requests:
        return UNMEASURED_REMEDY
    if tally.unpriced_models:
        tables = ", ".join(f"[models.{_toml_key(model)}]" for model in tally.unpriced_models)
        return (
            f"A price is three lines of that file: {tables}, input = 3.00, output = 15.00 (USD per million tokens)."
        )
    if "min_requests" in limits:
        return "If this is intended, lower @pytest.mark.token_budget(min_requests=...)."
    return "What is not known can't be judged, so it fails."


def _toml_key(model: str) -> str:
    escaped = printable(model).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _names(models: Iterable[str]) -> str:
    return ", ".join(f"'{printable(model)}'" for model in models)
