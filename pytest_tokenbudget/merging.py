"""Joins the summaries of one run's shards, in any order, into that of the whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.plain_record import plain_call, plain_record
from pytest_tokenbudget.summary import BaselineSummary, Summary, join_shared

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_tokenbudget.budget import Violation
    from pytest_tokenbudget.record import Tally, UsageRecord
    from pytest_tokenbudget.usage import ModelCall


def merge(summaries: Iterable[Summary]) -> Summary:
    """Join the summaries of the shards of one run; their order does not matter.

    Tests are sorted by node id, and none is dropped. An entry or a cassette is stale or unused only where every shard
    says so. Limits on the whole run are held against the joined total.

    Raises:
        ConfigurationError: the shards were priced with different tables, so that their costs do not add up.
        ValueError: there is nothing to merge.
    """
    summaries = list(summaries)
    if not summaries:
        raise ValueError("no summaries to merge")
    tables = sorted({json.dumps([each.prices["source"], each.prices["version"], each.prices["date"]])
                     for each in summaries})  # fmt: skip
    if len(tables) > 1:
        raise ConfigurationError(f"the reports were priced with different tables: {', '.join(tables)}")
    baselines = [each.baseline for each in summaries if each.baseline is not None]
    notes = sorted({each.price_change for each in summaries if each.price_change is not None})
    merged = Summary(
        plugin_version=max(each.plugin_version for each in summaries),
        created=max(each.created for each in summaries),
        complete=all(each.complete for each in summaries),
        prices={
            **summaries[0].prices,
            "overrides": sorted({model for each in summaries for model in each.prices["overrides"]}),
        },
        tests=_in_order([record for each in summaries for record in each.tests]),
        shared=tuple(
            replace(
                record,
                calls=tuple(sorted(record.calls, key=_canonical_call)),
                incidents=_sorted(record.incidents),
                blocked=_sorted(record.blocked),
            )
            for record in join_shared(record for each in summaries for record in each.shared)
        ),
        baseline=_merge_baselines(baselines) if baselines else None,
        price_change=notes[-1] if notes else None,
        unused_cassettes=_sorted(set.intersection(*(set(each.unused_cassettes) for each in summaries))),
    )
    limits = [violation for each in summaries for violation in each.run_violations]
    return replace(merged, run_violations=_hold_against(merged.total, limits)) if limits else merged


def _merge_baselines(baselines: Sequence[BaselineSummary]) -> BaselineSummary:
    return BaselineSummary(
        path=min(each.path for each in baselines),
        new=_sorted({nodeid for each in baselines for nodeid in each.new}),
        over=_sorted({nodeid for each in baselines for nodeid in each.over}),
        improved=_sorted({nodeid for each in baselines for nodeid in each.improved}),
        # A test that another shard ran is not stale: only what every shard misses is.
        stale=_sorted(set.intersection(*(set(each.stale) for each in baselines))),
    )


def _hold_against(total: Tally, violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """The strictest of each limit on the run beside what the joined run used."""
    strictest: dict[str, Violation] = {}
    for violation in sorted(violations, key=lambda each: (each.limit, each.allowed is None, each.allowed or 0)):
        strictest.setdefault(violation.limit, violation)
    found = []
    for limit, violation in sorted(strictest.items()):
        used = total.known_cost if limit.endswith("max_cost") else total.usage.total_tokens
        known = violation.used is not None and limit.endswith(("max_cost", "max_tokens"))
        found.append(replace(violation, used=used) if known else violation)
    return tuple(found)


def _sorted(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts))


def _in_order(records: Sequence[UsageRecord]) -> tuple[UsageRecord, ...]:
    """Sorted by node id; records of one test, which are rare, by all that they hold."""
    ordered = sorted(records, key=attrgetter("nodeid"))
    same_test = (list(same) for _, same in groupby(ordered, key=attrgetter("nodeid")))
    return tuple(chain.from_iterable(sorted(same, key=_canonical) if len(same) > 1 else same for same in same_test))


def _canonical(record: UsageRecord) -> str:
    return json.dumps(plain_record(record), sort_keys=True)


def _canonical_call(call: ModelCall) -> str:
    return json.dumps(plain_call(call), sort_keys=True)
