"""The report as GitHub-flavoured Markdown: for a job's summary page or a pull request's comment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import count_of, format_count, tally_figures
from pytest_tokenbudget.report.findings import describe, facts, findings, model_names
from pytest_tokenbudget.report.message import input_parts
from pytest_tokenbudget.report.text import printable, shorten
from pytest_tokenbudget.summary import fixture_title, tally_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.record import Tally, UsageRecord
    from pytest_tokenbudget.report.findings import Finding
    from pytest_tokenbudget.summary import Summary

MOST = 50
"""Rows of a table and names of a finding: GitHub takes 1 MiB for all steps' summaries."""
MAX_NAME = 300

_PLAIN_CODE = re.compile(r"[^`|<>&\\]+")
# Everything that Markdown, GitHub's mentions and references, or HTML could take for its own.
_SPECIAL = re.compile(r"[^A-Za-z0-9 .,;:/()=+%$?'\"-]")
_FIGURES = ("cost", "tokens", "input", "cached", "output", "requests")


def render_markdown(summary: Summary) -> str:
    """The run as Markdown with a line break at its end; what others wrote in it can't break out of its place."""
    total = summary.total
    found = findings(summary)
    blocks = ["## Token budget", f"**{escape(describe(total))}**" if _used(total) else "No test used a model."]
    said = [fact for fact in facts(summary, total) if fact.label != "total"]
    if said:
        blocks.append("\n".join(f"- {_emphasis(fact.label, grave=fact.grave)}{escape(fact.text)}" for fact in said))
    # What failed comes first here: a page is read from its top.
    blocks += [_finding(finding) for finding in reversed(found)]
    costliest = summary.costliest
    if costliest:
        title = "Costliest tests" + (f" ({MOST} of {len(costliest):,})" if len(costliest) > MOST else "")
        blocks.append(_details(title, _tests(costliest[:MOST])))
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
    return _SPECIAL.sub(_entity, printable(text))


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


def _finding(finding: Finding) -> str:
    lines = []
    for item in finding.items[:MOST]:
        lines.append(f"- {code(item.subject)}")
        lines += [f"  - {escape(re.sub(' {2,}', ', ', line))}" for line in item.lines]
    if len(finding.items) > MOST:
        lines.append(f"- ... and {len(finding.items) - MOST:,} more")
    if finding.remedy:
        lines += ["", _capital(escape(finding.remedy))]
    title = f"{finding.title} ({len(finding.items):,})"
    body = "\n".join(lines)
    return f"### {_capital(title)}\n\n{body}" if finding.grave else _details(_capital(title), body)


def _tests(records: Sequence[UsageRecord]) -> str:
    rows = []
    for record in records:
        verdict = {"none": "", "over": "**over**", "unmeasured": "**unmeasured**"}.get(record.verdict, record.verdict)
        tally = tally_of(record.calls, cache_hits=record.cache_hits)
        rows.append([*_cells(tally), verdict, code(record.nodeid), escape(input_parts(record.calls))])
    return _table([*_FIGURES, "budget", "test", "where the input went"], rows)


def _cells(tally: Tally) -> list[str]:
    cost, tokens = tally_figures(tally)
    usage = tally.usage
    counts = (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    figures = [cost, tokens, *(count_of(tally, count) for count in counts), format_count(usage.requests)]
    # Two tildes in one cell would strike out what stands between them.
    return [figure.replace("~", r"\~") for figure in figures]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marks = ["---:" if title in _FIGURES else "---" for title in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, marks, *rows])


def _details(title: str, body: str) -> str:
    # The empty lines make GitHub read the body as Markdown.
    return f"<details><summary>{escape(title)}</summary>\n\n{body}\n\n</details>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
