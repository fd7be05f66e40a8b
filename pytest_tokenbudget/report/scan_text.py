"""What a look through recordings found, for people. No secret is shown: its kind, its place, its start."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pytest_tokenbudget.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_tokenbudget.inspection import FoundSecret, InspectedFile, Inspection


def render_scan(inspection: Inspection) -> str:
    """The findings by kind, the gravest first, and one line that sums up."""
    files = inspection.files
    broken = [f"{file.path}: {file.fault}" for file in files if file.fault and not file.partial]
    old = [f"{file.path}: {file.old}" for file in files if file.old]
    undated = [f"{file.path}: {_count(file.undated, 'recording')}" for file in files if file.undated]
    partial = [file.path for file in files if file.partial]
    lines = [
        *_secrets([file for file in files if file.secrets]),
        *_section("broken", broken, "restore them, or delete them and record them again"),
        *_section(f"older than {_count(inspection.max_age_days or 0, 'day')}", old, "record them again"),
        *_section("without a date", undated, "nobody knows how old they are; record them again"),
        *_use(inspection),
        *_section("left over from a recording that did not come to its end", partial, "delete them"),
        _summary(inspection),
    ]
    return "".join(f"{printable(line)}\n" for line in lines)


def _section(title: str, items: list[str], remedy: str) -> list[str]:
    return [f"{title} ({len(items)}); {remedy}", *(f"  {item}" for item in items), ""] if items else []


def _secrets(files: list[InspectedFile]) -> Iterator[str]:
    if not files:
        return
    found = [(file, list(_placed(file.secrets))) for file in files]
    total = sum(len(placed) for _, placed in found)
    yield f"secrets ({total}); revoke each where it was made, then record again or put REDACTED in its place"
    for file, placed in found:
        yield f"  {file.path}"
        for line in placed:
            yield f"    {line}"
    yield ""


def _placed(secrets: Iterable[FoundSecret]) -> Iterator[str]:
    """One line for each secret and place, with the interactions in which it stands there."""

    def same(secret: FoundSecret) -> tuple[str, str, str, int]:
        return secret.place, secret.kind, secret.start, secret.length

    for (place, kind, start, length), group in groupby(sorted(secrets, key=same), key=same):
        numbers = [secret.interaction for secret in group if secret.interaction is not None]
        where = f" ({_interactions(numbers)})" if numbers else ""
        shown = f" {start}..." if start else ""
        yield f"{place}: {kind}{shown}, {_count(length, 'character')}{where}"


def _interactions(numbers: list[int]) -> str:
    parts = []
    for _, run in groupby(enumerate(sorted(set(numbers))), key=lambda each: each[1] - each[0]):
        each = [number for _, number in run]
        parts.append(str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}")
    return f"interaction{'s' if len(set(numbers)) > 1 else ''} {', '.join(parts)}"


def _use(inspection: Inspection) -> Iterator[str]:
    use = inspection.use
    if use is None:
        guesses = [f"{file.path}: {file.unused}" for file in inspection.files if file.unused]
        yield from _section("perhaps unused", guesses, "this is a guess: the report of a whole run (--report) knows")
        return
    if not use.complete:
        yield f"{use.report} is of a run that did not come to its end, so nobody knows which cassettes are unused"
        yield ""
    yield from _section("used by no test", list(use.unused), f"says {use.report}; delete them")
    yield from _section(
        "recordings left unplayed", list(use.unplayed), f"says {use.report}; record those tests again"
    )


def _summary(inspection: Inspection) -> str:
    files = inspection.files
    recordings = sum(file.recordings for file in files)
    found = [
        (sum(len(list(_placed(file.secrets))) for file in files), "secret", "secrets"),
        (sum(file.fault is not None and not file.partial for file in files), "broken", "broken"),
        (sum(file.old is not None for file in files), "too old", "too old"),
        (sum(file.undated > 0 for file in files), "without a date", "without a date"),
    ]
    told = ", ".join(f"{number} {one if number == 1 else many}" for number, one, many in found if number)
    return (
        f"{_count(len(files), 'cassette')} with {_count(recordings, 'recording')}: {told or 'no secret, all whole'}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
