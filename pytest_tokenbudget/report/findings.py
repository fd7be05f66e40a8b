"""What a report says beside its tables, in every format: the facts of the run, and what wants attention."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pytest_tokenbudget.budget import REFUSED, UNANSWERED, Headroom
from pytest_tokenbudget.failures import EXCUSED, is_over_baseline_alone
from pytest_tokenbudget.report.changes import Change, describe_change, explain_change
from pytest_tokenbudget.report.figures import (
    describe_prices,
    format_cost,
    format_count,
    format_pair,
    format_usd,
    mark,
    plural,
)
from pytest_tokenbudget.report.headroom import format_share
from pytest_tokenbudget.report.message import input_parts, label_of, limit_lines
from pytest_tokenbudget.report.spending import describe_spending
from pytest_tokenbudget.spending import Spending
from pytest_tokenbudget.summary import tally_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tokenbudget.record import Tally, UsageRecord
    from pytest_tokenbudget.summary import ModelRow, Note, Summary
    from pytest_tokenbudget.usage import ModelCall

UPDATE = "pytest --token-update-baseline"


class Item(NamedTuple):
    """One subject of a finding (a test, a file), and what is said about it, line by line."""

    subject: str
    lines: tuple[str, ...] = ()


class Finding(NamedTuple):
    """One thing that wants attention.

    Attributes:
        title: what it is, in a few words.
        items: whom it is about.
        grave: whether the run fails, or should, because of it.
        remedy: what to do about it; empty where the items say so.
    """

    title: str
    items: tuple[Item, ...]
    grave: bool = False
    remedy: str = ""


class Fact(NamedTuple):
    """One line about the whole run: its label and its text; and a limit of the run, which a bar may show."""

    label: str
    text: str
    grave: bool = False
    headroom: Headroom | None = None


REWRITE = "pytest NODEID --token-record=rewrite"

MOST_NAMED = 10
"""Models that one line names; a document has all."""


def findings(summary: Summary, *, described: int | None = None) -> tuple[Finding, ...]:
    """All that wants attention: what passed unseen first, what failed last, next to the run's own result.

    Args:
        summary: the run.
        described: of how many items of a finding the change is told; ``None`` for all. There may be thousands.
    """
    baseline = summary.baseline
    enforced = summary.enforced
    warned = "" if enforced else ", warning only"
    violated = [record for record in summary.tests if record.violations]
    judged = [record for record in violated if record.outcome not in EXCUSED]
    expected = [record for record in violated if record.outcome in EXCUSED]
    over = [record for record in judged if any(violation.over for violation in record.violations)]
    # What drift or a closed network kept from being measured is told there, and a missing entry is no missing figure.
    unknown = [
        record
        for record in judged
        if not any(violation.over for violation in record.violations)
        and any(
            violation.limit != "baseline" and violation.reason not in (UNANSWERED, REFUSED)
            for violation in record.violations
        )
    ]
    missing = [record for record in judged if any(violation.limit == "baseline" for violation in record.violations)]
    found = []
    if baseline is not None:
        said = {record.nodeid for record in over}
        moved = {*baseline.improved, *baseline.over}
        known = {record.nodeid: record for record in summary.tests if record.nodeid in moved} if moved else {}
        found = [
            Finding("new, not in the baseline", _named(baseline.new), remedy=f"add with: {UPDATE}"),
            Finding(
                "improved, below the baseline",
                _changed(baseline.improved, known, described),
                remedy=f"keep with: {UPDATE}",
            ),
            Finding("stale, in the baseline only", _named(baseline.stale), remedy=f"drop with: {UPDATE}=prune"),
            Finding(
                "above the baseline, within the tolerance",
                _risen((record for record in summary.tests if record.nodeid not in said), described),
                remedy=f"accept with: {UPDATE}",
            ),
            Finding(
                f"over the baseline{warned}",
                _changed([nodeid for nodeid in baseline.over if nodeid not in said], known, described),
                grave=enforced,
                remedy=f"if intended: {UPDATE}",
            ),
        ]
    found += [
        Finding("over budget or not measured, in tests that may fail or were skipped", tuple(map(_judged, expected))),
        Finding("cassettes that no test used", _named(summary.unused_cassettes), remedy="delete them"),
        Finding(
            "recordings left unplayed",
            tuple(Item(each.nodeid, each.unplayed) for each in summary.tests if each.unplayed and not each.unfit),
            remedy=f"record those tests again with: {REWRITE}",
        ),
        Finding("errors while capturing", _noted(summary.incidents), grave=True),
        Finding("drift from the recordings", _noted(summary.drift), grave=True),
        Finding("blocked on the way to the network", _noted(summary.blocked), grave=True),
        Finding(
            "recordings too old, or left unplayed where that fails",
            tuple(
                Item(each.nodeid, each.unfit) for each in summary.tests if each.unfit and each.outcome not in EXCUSED
            ),
            grave=True,
        ),
        Finding(
            "failed for want of an entry in the baseline" if enforced else f"not in the baseline{warned}",
            _named(record.nodeid for record in missing),
            grave=enforced,
            remedy=f"add with: {UPDATE}",
        ),
        Finding(
            f"not measured or not priced, so not within budget{warned}", tuple(map(_judged, unknown)), grave=enforced
        ),
        Finding(
            f"{_over_what(over)}{warned}",
            tuple(map(_judged, over)),
            grave=enforced,
            remedy=f"if intended: {UPDATE}"
            if all(map(is_over_baseline_alone, over))
            else f"if intended, raise the limit, or: {UPDATE}",
        ),
    ]
    return tuple(finding for finding in found if finding.items)


def facts(summary: Summary, total: Tally) -> tuple[Fact, ...]:
    """The run as a whole, from its total to the baseline; only lines that say something."""
    return (*cost_facts(summary, total), *verdict_facts(summary, total))


def cost_facts(summary: Summary, total: Tally) -> tuple[Fact, ...]:
    """What the run costs, how far that is known, and at whose prices."""
    usage = total.usage
    said = []
    if not summary.complete:
        said.append(Fact("run", "not complete: these are the figures of what finished", grave=True))
    if usage.requests or usage.cache_hits:
        said += [Fact("total", describe(total)), Fact("spent", _spent(summary))]
    if usage.estimated_requests:
        said.append(Fact("estimated", f"~ {_share(usage.estimated_requests, usage.requests)}, counted locally"))
    if usage.unmeasured_requests:
        reasons = "; ".join(total.unmeasured_reasons)
        said.append(Fact("unmeasured", f"{_share(usage.unmeasured_requests, usage.requests)}: {reasons}", grave=True))
    if total.unpriced_models:
        models = _some(total.unpriced_models)
        said.append(Fact("unpriced", f"{models}: prices go into the file that token_prices names", grave=True))
    if usage.cache_hits:
        said.append(
            Fact("cache hits", f"{plural(usage.cache_hits, 'answer')} from LangChain's own cache, nothing sent")
        )
    if usage.requests:
        said.append(Fact("prices", describe_prices(summary.prices)))
    if summary.price_change:
        said.append(Fact("" if usage.requests else "prices", summary.price_change))
    return tuple(said)


def verdict_facts(summary: Summary, total: Tally) -> tuple[Fact, ...]:
    """How the run stands against budgets, baseline and its own limits."""
    enforced = summary.enforced
    said = [Fact(label, text, grave=grave and enforced) for label, text, grave in _verdicts(summary)]
    warned = "" if enforced else " (warning only)"
    said += [
        Fact("run limit", line + warned, grave=enforced)
        for line in limit_lines(summary.run_violations, total, explain=False)
    ]
    violated = {label_of(each.limit) for each in summary.run_violations}
    said += [_kept(each, total) for each in _run_limits(summary, total) if label_of(each.limit) not in violated]
    return tuple(said)


def describe(tally: Tally) -> str:
    """Money, tokens and requests in one line: ``$0.0023, 1,204 tokens (input 1,108, ...) in 1 request``."""
    usage = tally.usage
    estimated = usage.estimated_requests > 0

    def count(tokens: int) -> str:
        return format_count(tokens, estimated=estimated)

    cost = format_cost(tally.cost, tally.known_cost, estimated=estimated)
    cached = f" of which {count(usage.cached_input_tokens)} cached" if usage.cached_input_tokens else ""
    reasoning = f" of which {count(usage.reasoning_tokens)} reasoning" if usage.reasoning_tokens else ""
    if usage.requests and usage.unmeasured_requests == usage.requests:
        return f"unknown, in {plural(usage.requests, 'request')}"
    least = "at least " if usage.unmeasured_requests else ""
    return (
        f"{cost} for {least}{count(usage.total_tokens)} tokens in {plural(usage.requests, 'request')} "
        f"(input {count(usage.input_tokens)}{cached}, output {count(usage.output_tokens)}{reasoning})"
    )


def describe_call(call: ModelCall) -> str:
    """One request in one line: its model, tokens, cost, whether it was replayed, and where its input went."""
    model, how = call.model or "?", "replayed" if call.replayed else "live"
    usage = call.usage
    if usage is None:
        return f"{model}: {how}, unmeasured: {call.reason or 'no usage was reported'}"

    def count(tokens: int) -> str:
        return format_count(tokens, estimated=call.estimated)

    went = input_parts([call])
    details = [f"{count(usage.cached_input_tokens)} cached"] * bool(usage.cached_input_tokens) + [went] * bool(went)
    source = f" ({'; '.join(details)})" if details else ""
    reasoning = f" ({count(usage.reasoning_tokens)} reasoning)" if usage.reasoning_tokens else ""
    cost = "no price" if call.cost is None else format_usd(call.cost, estimated=call.estimated)
    return (
        f"{model}: {cost}, {how}, input {count(usage.input_tokens)}{source}, "
        f"output {count(usage.output_tokens)}{reasoning}"
    )


def model_names(rows: Iterable[ModelRow]) -> list[str]:
    """The models' names, with the provider where two have a model of the same name."""
    rows = tuple(rows)
    times = Counter(row.model for row in rows)
    return [
        f"{row.model or '?'} ({row.provider or 'unknown provider'})" if times[row.model] > 1 else row.model or "?"
        for row in rows
    ]


def _spent(summary: Summary) -> str:
    spending = Spending().plus(call for part in summary.parts for call in part.figures)
    return describe_spending(spending, max_spend=summary.max_spend)


def _verdicts(summary: Summary) -> list[tuple[str, str, bool]]:
    said = []
    # What nothing but the baseline makes over is counted in the baseline's line.
    verdicts = Counter(
        (record.verdict, record.outcome in EXCUSED)
        for record in summary.tests
        if not (record.violations and is_over_baseline_alone(record))
    )
    within, over, unmeasured = (verdicts[verdict, False] for verdict in ("within", "over", "unmeasured"))
    counts = {
        "within": within + verdicts["within", True],
        "over": over,
        "unmeasured": unmeasured,
        "over or unmeasured in tests that may fail or were skipped": verdicts["over", True]
        + verdicts["unmeasured", True],
    }
    if counted := ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count):
        said.append(("budgets", counted, bool(over or unmeasured)))
    baseline = summary.baseline
    if baseline is not None:
        within = sum(record.baseline is not None and record.baseline.status == "within" for record in summary.tests)
        counts = {
            "within": within,
            "new": len(baseline.new),
            "over": len(baseline.over),
            "improved": len(baseline.improved),
            "stale": len(baseline.stale),
        }
        shown = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
        if shown:
            said.append(("baseline", f"{shown} ({baseline.path})", bool(baseline.over)))
    return said


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {plural(whole, 'request')}"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def _over_what(records: Sequence[UsageRecord]) -> str:
    alone = sum(map(is_over_baseline_alone, records))
    if not alone:
        return "over budget"
    return "over the baseline" if alone == len(records) else "over budget or baseline"


def _named(names: Iterable[str]) -> tuple[Item, ...]:
    return tuple(Item(name) for name in names)


def _noted(notes: Iterable[Note]) -> tuple[Item, ...]:
    by_test: dict[str, list[str]] = {}
    for note in notes:
        by_test.setdefault(note["nodeid"], []).append(note["message"])
    return tuple(Item(nodeid, tuple(messages)) for nodeid, messages in by_test.items())


def _judged(record: UsageRecord) -> Item:
    tally = tally_of(record.figures, cache_hits=record.cache_hits)
    lines = limit_lines(record.violations, tally, record, explain=False)
    if any(each.limit.startswith("baseline") for each in record.violations) and (change := Change.of(record)):
        lines += explain_change(change)
    return Item(record.nodeid, tuple(lines))


def _changed(nodeids: Iterable[str], known: dict[str, UsageRecord], described: int | None) -> tuple[Item, ...]:
    return _moved([(nodeid, Change.of(known[nodeid]) if nodeid in known else None) for nodeid in nodeids], described)


def _risen(records: Iterable[UsageRecord], described: int | None) -> tuple[Item, ...]:
    """Tests that are dearer than their baseline, and that only the tolerance keeps from being over."""
    changes = [
        (record.nodeid, change)
        for record in records
        if record.baseline is not None
        and record.baseline.status == "within"
        and (change := Change.upwards(record)) is not None
    ]
    return _moved(changes, described)


def _moved(changes: Sequence[tuple[str, Change | None]], described: int | None) -> tuple[Item, ...]:
    """Each test and its change; those that nobody will see are only named."""
    seen = len(changes) if described is None else described
    return tuple(
        Item(nodeid, describe_change(change) if place < seen else ())
        for place, (nodeid, change) in enumerate(changes)
    )


def _run_limits(summary: Summary, total: Tally) -> tuple[Headroom, ...]:
    """The limits on the whole run; one of 0 has no way to go."""
    limits = (
        ("total_max_cost", summary.total_max_cost, total.known_cost),
        ("total_max_tokens", summary.total_max_tokens, total.usage.total_tokens),
    )
    return tuple(Headroom(limit=limit, allowed=allowed, used=used) for limit, allowed, used in limits if allowed)


def _kept(headroom: Headroom, total: Tally) -> Fact:
    """A limit on the whole run that holds, and what it leaves."""
    estimated = total.usage.estimated_requests > 0
    used, allowed, left = format_pair(headroom.used, headroom.allowed)
    share = format_share(headroom, estimated=estimated)
    text = f"{label_of(headroom.limit)} {mark(used, estimated=estimated)} of {allowed} ({share})"
    return Fact("run limit", text if used == allowed else f"{text}, {left.lstrip('-')} left", headroom=headroom)
