"""The report as GitHub-flavoured Markdown: for a job's summary page or a pull request's comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_tokenbudget.report.changes import Change, format_change
from pytest_tokenbudget.report.figures import count_of, format_count, tally_figures
from pytest_tokenbudget.report.findings import describe, facts, findings, model_names
from pytest_tokenbudget.report.headroom import draw_bar, format_share, headroom_of, is_estimate
from pytest_tokenbudget.report.message import input_parts, label_of
from pytest_tokenbudget.report.text import printable, shorten
from pytest_tokenbudget.summary import fixture_title, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.record import Tally, UsageRecord
    from pytest_tokenbudget.report.findings import Fact, Finding, Item
    from pytest_tokenbudget.summary import Summary

MOST = 50
"""Rows of a table and names of a finding: GitHub takes 1 MiB for all steps' summaries."""
MOST_OPEN = 10
"""Names of a grave finding that are seen at once; the rest is collapsed."""
MAX_NAME = 300

_PLAIN_CODE = re.compile(r"[^`|<>&\\]+")
# What would begin a list of its own, or a rule, where a sentence is the item of a list.
_START = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$))|(?=[-+](?:\s|$)|-[- ]*$))")
# Everything that Markdown, GitHub's mentions and references, or HTML could take for its own.
_SPECIAL = re.compile(r"[^A-Za-z0-9 .,;:/()=+%$?'\"-]")
_REFERENCE = re.compile(r"\\([@#])(?=\w)")
_ISSUE = re.compile(r"(?<=\bGH)-(?=\d)", re.IGNORECASE)
_FIGURES = ("cost", "tokens", "input", "cached", "output", "requests")


def render_markdown(summary: Summary) -> str:
    """The run as Markdown with a line break at its end; what others wrote in it can't break out of its place."""
    total = summary.total
    found = findings(summary, described=MOST)
    blocks = ["## Token budget", f"**{escape(describe(total))}**" if _used(total) else "No test used a model."]
    said = [fact for fact in facts(summary, total) if fact.label != "total"]
    if said:
        blocks.append("\n".join(map(_fact, said)))
    # What failed comes first here: a page is read from its top.
    blocks += [_finding(finding) for finding in reversed(found)]
    if summary.users:
        count = len(summary.users)
        title = "Costliest tests" + (f" ({MOST} of {count:,})" if count > MOST else "")
        blocks.append(_details(title, _tests(summary.costliest_of(MOST), compared=summary.baseline is not None)))
    models = summary.models
    if models:
        named = zip(model_names(models)[:MOST], models[:MOST], strict=True)
        rows = [[*_cells(row.tally), code(name)] for name, row in named]
        blocks.append(_details("By model", _table([*_FIGURES, "model"], [*rows, [*_cells(total), "**total**"]])))
    if summary.shared:
        rows = [
            [*_cells(tally_of(each.calls, cache_hits=each.cache_hits)), code(fixture_title(each))]
            for each in summary.shared[:MOST]
        ]
        blocks.append(_details("Shared fixtures, charged to no test", _table([*_FIGURES, "fixture"], rows)))
    return "\n\n".join(blocks) + "\n"


def code(text: str) -> str:
    """A name as code: in backticks as it is, or letter by letter where it holds something of Markdown's own."""
    shown = shorten(printable(text), MAX_NAME).strip() or "?"
    if _PLAIN_CODE.fullmatch(shown):
        return f"`{shown}`"
    return f"<code>{escape(shown)}</code>"


def escape(text: str) -> str:
    """A sentence in which nothing is Markdown or HTML."""
    shown = _SPECIAL.sub(_entity, printable(text))
    shown = _START.sub(r"\1\\", shown)
    # GitHub makes links of what looks like an address, or like a reference to an issue or a person, and it looks for
    # some of them when all escapes are gone: nothing but a comment keeps their parts apart.
    shown = _REFERENCE.sub(r"\1<!-- -->", shown)
    return _ISSUE.sub("&#45;", shown.replace("://", ":&#47;/").replace("www.", "www&#46;"))


def _entity(match: re.Match[str]) -> str:
    character = match[0]
    if character == "_" and match.string[match.start() - 1 : match.start()].isalnum():
        # Inside a word it means nothing, and token_prices stays readable.
        after = match.string[match.end() : match.end() + 1]
        if after.isalnum():
            return character
    if not character.isascii():
        return character
    return f"&#{ord(character)};" if character in "`|<>&\\" else f"\\{character}"


def _used(total: Tally) -> bool:
    return total.usage.requests > 0 or total.usage.cache_hits > 0


def _emphasis(label: str, *, grave: bool) -> str:
    if not label:
        return ""
    return f"**{label}**: " if grave else f"{label}: "


def _fact(fact: Fact) -> str:
    bar = f"{draw_bar(fact.headroom)} " if fact.headroom is not None else ""
    return f"- {_emphasis(fact.label, grave=fact.grave)}{bar}{escape(fact.text)}"


def _finding(finding: Finding) -> str:
    title = _capital(f"{finding.title} ({len(finding.items):,})")
    remedy = f"\n\n{_capital(escape(finding.remedy))}" if finding.remedy else ""
    if not finding.grave:
        return _details(title, _items(finding.items, most=MOST) + remedy)
    seen, rest = finding.items[:MOST_OPEN], finding.items[MOST_OPEN:]
    more = f"\n\n{_details(f'{len(rest):,} more', _items(rest, most=MOST - MOST_OPEN))}" if rest else ""
    return f"### {title}\n\n{_items(seen, most=MOST_OPEN)}{more}{remedy}"


def _items(items: Sequence[Item], *, most: int) -> str:
    lines = []
    for item in items[:most]:
        lines.append(f"- {code(item.subject)}")
        lines += [f"  - {escape(_sentence(line))}" for line in item.lines]
    if len(items) > most:
        lines.append(f"- ... and {len(items) - most:,} more")
    return "\n".join(lines)


def _sentence(line: str) -> str:
    """A line of the terminal's as running text: no columns, and an arrow that is no character of HTML's."""
    return re.sub(" {2,}", ", ", line).replace(" -> ", " \N{RIGHTWARDS ARROW} ")


def _tests(records: Sequence[UsageRecord], *, compared: bool) -> str:
    changes = [[escape(format_change(record, Change.of(record)))] if compared else [] for record in records]
    rows = [
        [
            *_cells(tally_of(record.figures, cache_hits=record.cache_hits)),
            *change,
            _budget(record),
            code(record.nodeid),
            escape(input_parts(record.calls)),
        ]
        for record, change in zip(records, changes, strict=True)
    ]
    baseline = ["baseline"] * compared
    return _table([*_FIGURES, *baseline, "budget", "test", "where the input went"], rows)


def _budget(record: UsageRecord) -> str:
    """How near the test is to its budget, or the verdict where it is not within."""
    headroom = headroom_of(record)
    word = {"none": "", "over": "**over**", "unmeasured": "**unmeasured**"}.get(record.verdict, record.verdict)
    if headroom is None:
        return word
    bar = word if record.verdict == "over" else draw_bar(headroom)
    share = format_share(headroom, estimated=is_estimate(record, headroom))
    return f"{bar} {escape(share)} of {label_of(headroom.limit)}"


def _cells(tally: Tally) -> list[str]:
    cost, tokens = tally_figures(tally)
    usage = tally.usage
    counts = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    figures = [cost, tokens, *(count_of(tally, count) for count in counts), format_count(usage.requests)]
    # Two tildes in one cell would strike out what stands between them.
    return [figure.replace("~", r"\~") for figure in figures]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---:" if title in (*_FIGURES, "baseline") else "---" for title in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, marks, *rows])


def _details(title: str, body: str) -> str:
    # The empty lines make GitHub read the body as Markdown.
    return f"<details><summary>{escape(title)}</summary>\n\n{body}\n\n</details>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
