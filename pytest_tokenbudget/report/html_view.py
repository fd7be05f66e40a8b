"""What the HTML page shows of a run, as texts and figures that its template only has to place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget.budget import Headroom, headrooms
from pytest_tokenbudget.failures import failures, is_spared, warnings
from pytest_tokenbudget.report.bars import Bar, LimitBar, call_bar, limit_bar, share
from pytest_tokenbudget.report.changes import Change, describe_change, format_change
from pytest_tokenbudget.report.figures import (
    count_of,
    format_cost,
    format_count,
    format_pair,
    format_usd,
    mark,
    plain_usd,
    tally_figures,
)
from pytest_tokenbudget.report.findings import model_names
from pytest_tokenbudget.report.headroom import format_share, headroom_of, is_estimate
from pytest_tokenbudget.report.message import label_of, limit_lines
from pytest_tokenbudget.report.repricing import format_move, format_there
from pytest_tokenbudget.summary import fixture_title, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.record import SharedRecord, Tally, UsageRecord
    from pytest_tokenbudget.repricing import Repriced
    from pytest_tokenbudget.summary import ModelRow, Summary
    from pytest_tokenbudget.usage import ModelCall

COLUMNS = ("cost", "tokens", "input", "cached", "output", "requests")

_UNKNOWN = "Infinity"
"""What is not known is sorted to where it gets attention: above all that is."""

_HELD = "budgets, baseline, limits of the run"


class RunVerdict(NamedTuple):
    """Whether the run holds what was set: in a word or two, what of, or why not, and how it is coloured."""

    word: str
    said: str
    kind: str


class Figure(NamedTuple):
    """A figure as it is shown, and the number that it is sorted by; empty to stand last either way."""

    text: str
    key: str


class Call(NamedTuple):
    """One model request; ``said`` tells in words what the bar shows, or why there is none."""

    model: str
    endpoint: str
    how: str
    cost: str
    bar: Bar | None
    said: str


class Limit(NamedTuple):
    """One limit of a budget, and how far the test is on its way to it."""

    label: str
    used: str
    allowed: str
    share: str
    bar: LimitBar


class Row(NamedTuple):
    """One row of the table of tests, and what opens below it; ``nearness`` to its limits is what they sort it by."""

    name: str
    outcome: str
    verdict: str
    spared: bool
    status: str
    words: str
    figures: dict[str, Figure]
    nearest: Limit | None
    nearness: str
    change: Figure
    limits: tuple[Limit, ...]
    lines: tuple[str, ...]
    calls: tuple[Call, ...]


class Fixture(NamedTuple):
    """A shared fixture: charged to no test."""

    name: str
    figures: dict[str, Figure]
    calls: tuple[Call, ...]


class Model(NamedTuple):
    """What one model was used for, and its part of the known cost."""

    name: str
    figures: dict[str, Figure]
    width: int


class Elsewhere(NamedTuple):
    """What the suite would cost on another model, or costs as it is."""

    model: str
    cost: str
    change: str
    dearer: bool
    width: int


def figures_of(tally: Tally) -> dict[str, Figure]:
    """The figures of a tally, by column."""
    usage = tally.usage
    cost, tokens = tally_figures(tally)
    known = not usage.unmeasured_requests
    counts = {
        "input": usage.input_tokens,
        "cached": usage.cached_input_tokens,
        "output": usage.output_tokens,
    }
    return {
        "cost": Figure(cost, _UNKNOWN if tally.cost is None else plain_usd(tally.cost)),
        "tokens": Figure(tokens, str(usage.total_tokens) if known else _UNKNOWN),
        **{name: Figure(count_of(tally, count), str(count) if known else _UNKNOWN) for name, count in counts.items()},
        "requests": Figure(format_count(usage.requests), str(usage.requests)),
    }


def view_test(record: UsageRecord, *, enforced: bool = True) -> Row:
    """A test's row; ``enforced`` is whether a verdict fails its test."""
    tally = tally_of(record.figures, cache_hits=record.cache_hits)
    judged = tally_of(record.judged_calls) if record.late_calls else tally
    nearest = headroom_of(record)
    change = Change.of(record)
    return Row(
        name=record.nodeid,
        outcome=record.outcome,
        verdict="" if record.verdict == "none" else record.verdict,
        spared=is_spared(record, enforced=enforced),
        status="" if record.baseline is None else record.baseline.status,
        words=" ".join((*dict.fromkeys(call.model for call in record.calls), *_traits(record, tally))),
        figures=figures_of(tally),
        nearest=None if nearest is None else _limit(nearest, judged, record),
        nearness=_nearness(record, nearest),
        change=Figure(format_change(record, change), _change_key(record, change)),
        limits=tuple(_limit(each, judged, record) for each in (*headrooms(judged, record.budget), *_zeros(record))),
        lines=(
            *limit_lines(record.violations, tally, record),
            *describe_change(change),
            *_late(record),
            *(f"while capturing: {line}" for line in record.incidents),
            *record.drift,
            *record.blocked,
            *(record.unfit or record.unplayed),
        ),
        calls=_calls(tuple(record.calls)),
    )


def _nearness(record: UsageRecord, nearest: Headroom | None) -> str:
    if nearest is not None:
        return str(share(nearest.used, nearest.allowed))
    return _UNKNOWN if record.verdict in ("over", "unmeasured") else ""


def _zeros(record: UsageRecord) -> list[Headroom]:
    """Limits of 0 that are broken: there is no way to them, and the other limits do not say why the test is over."""
    return [
        Headroom(limit=each.limit, allowed=0, used=each.used)
        for each in record.violations
        if each.over and each.used is not None and each.allowed == 0
    ]


def _late(record: UsageRecord) -> list[str]:
    """That a part of the figures was not judged."""
    count = record.late_calls
    if not count:
        return []
    last = "the last request is" if count == 1 else f"the last {format_count(count)} requests are"
    return [f"{last} of its fixtures' end: counted here, and not judged"]


def _change_key(record: UsageRecord, change: Change | None) -> str:
    if record.baseline is None or record.baseline.status == "new":
        return ""
    return "0" if change is None else str(change.relative)


def view_fixture(record: SharedRecord) -> Fixture:
    """A shared fixture's row."""
    return Fixture(
        name=fixture_title(record),
        figures=figures_of(tally_of(record.figures, cache_hits=record.cache_hits)),
        calls=_calls(tuple(record.calls)),
    )


def view_models(rows: Sequence[ModelRow], total: Tally) -> list[Model]:
    """A row for each model."""
    return [
        Model(name=name, figures=figures_of(row.tally), width=share(row.tally.known_cost, total.known_cost))
        for name, row in zip(model_names(rows), rows, strict=True)
    ]


def view_elsewhere(others: Sequence[tuple[str, Repriced]], total: Tally) -> list[Elsewhere]:
    """The run as it is and on other models, the cheapest first; their bars have one scale."""
    most = max([total.known_cost, *(row.known_cost for _, row in others)])
    if not others or not most:  # of what nobody measured, no other model's cost is known
        return []
    known = total.cost is not None
    cost = format_cost(total.cost, total.known_cost, estimated=total.usage.estimated_requests > 0)
    now = Elsewhere("as it is", cost, "", dearer=False, width=share(total.known_cost, most))
    rows = [(not known, total.known_cost, now)]
    for model, row in others:
        dearer = known and row.cost is not None and row.cost > total.known_cost
        width = share(row.known_cost, most)
        view = Elsewhere(model, format_there(row), format_move(row), dearer=dearer, width=width)
        rows.append((row.cost is None, row.known_cost, view))
    # What has no price there must not stand as the cheapest.
    return [view for _, _, view in sorted(rows, key=lambda each: (each[0], each[1], each[2].model))]


def verdict_of_run(summary: Summary) -> RunVerdict:
    """Whether the run holds what was set."""
    if reasons := failures(summary):
        return RunVerdict("does not hold", "; ".join(reasons), "bad")
    if reasons := warnings(summary):
        return RunVerdict("warns only", f"{'; '.join(reasons)}: limits are not enforced in this run", "warned")
    limits = (summary.baseline, summary.total_max_cost, summary.total_max_tokens)
    if any(each is not None for each in limits) or any(record.verdict != "none" for record in summary.tests):
        return RunVerdict("holds", _HELD, "good")
    return RunVerdict("no limit", _HELD, "good")


def _traits(record: UsageRecord, tally: Tally) -> list[str]:
    """Words that the table can be searched for, beside names."""
    traits = (
        (record.outcome, True),
        (record.verdict, record.verdict != "none"),
        ("" if record.baseline is None else record.baseline.status, record.baseline is not None),
        ("estimated", tally.usage.estimated_requests),
        ("unmeasured", tally.usage.unmeasured_requests and record.verdict != "unmeasured"),
        ("unpriced", tally.unpriced_models),
        ("live", any(not call.replayed for call in record.calls)),
        ("drift", record.drift),
        ("blocked", record.blocked),
    )
    return [name for name, holds in traits if holds]


def _limit(headroom: Headroom, tally: Tally, record: UsageRecord) -> Limit:
    estimated = is_estimate(record, headroom)
    used, allowed, _ = format_pair(headroom.used, headroom.allowed)
    unpriced = headroom.limit == "max_cost" and tally.unpriced_models
    least = "at least " if unpriced or (tally.usage.unmeasured_requests and headroom.limit != "max_requests") else ""
    return Limit(
        label=label_of(headroom.limit),
        used=least + mark(used, estimated=estimated),
        allowed=allowed,
        share=least + format_share(headroom, estimated=estimated),
        bar=limit_bar(headroom.used, headroom.allowed),
    )


def _calls(calls: Sequence[ModelCall]) -> tuple[Call, ...]:
    longest = max((call.usage.total_tokens for call in calls if call.usage is not None), default=0)
    return tuple(_call(call, longest) for call in calls)


def _call(call: ModelCall, longest: int) -> Call:
    bar = call_bar(call, longest=longest)
    return Call(
        model=call.model or "?",
        endpoint=call.endpoint,
        how="replayed" if call.replayed else "live",
        cost="no price" if call.cost is None and bar else format_usd(call.cost, estimated=call.estimated),
        bar=bar,
        said=bar.label or "0 tokens" if bar else f"unmeasured: {call.reason or 'no usage was reported'}",
    )
