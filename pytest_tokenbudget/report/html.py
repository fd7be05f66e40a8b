"""The report as one HTML file for a browser: no network, no framework, readable without its script too.

Every text and figure is made in ``html_view``; the template says where it stands, and escapes it. The page's own
rules (its content security policy) let no script but its own run, and nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from pytest_tokenbudget.report.bars import limit_bar, sum_bar
from pytest_tokenbudget.report.changes import Change, describe_change
from pytest_tokenbudget.report.figures import format_count, format_usd, plural
from pytest_tokenbudget.report.findings import facts, findings
from pytest_tokenbudget.report.html_view import (
    COLUMNS,
    figures_of,
    verdict_of_run,
    view_elsewhere,
    view_fixture,
    view_models,
    view_test,
)
from pytest_tokenbudget.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_tokenbudget.repricing import Repriced
    from pytest_tokenbudget.summary import Summary

MOST = 100
"""Items of one finding, and tests that got dearer: the table of tests has all."""

SHOWN = 200
"""Tests that the page shows at once: thousands of rows take a browser seconds, each time that they are sorted."""


def render_html(summary: Summary, elsewhere: Sequence[tuple[str, Repriced]] = ()) -> str:
    """The run as one HTML document.

    Args:
        summary: the run.
        elsewhere: other models, and what the whole run would cost on each.
    """
    total = summary.total
    found = findings(summary, described=MOST)
    style, script = _source("page.css"), _source("page.js")
    listed = [*summary.costliest, *(each for each in summary.tests if not (each.calls or each.cache_hits))]
    upwards = ((record, Change.upwards(record)) for record in summary.tests)
    changes = [(record, change) for record, change in upwards if change is not None and change.dearer]
    changes.sort(key=lambda each: each[1].relative, reverse=True)
    return _template().render(
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - likewise
        style_hash=_digest(style),
        script_hash=_digest(script),
        version=summary.plugin_version,
        created=summary.created,
        used=total.usage.requests > 0 or total.usage.cache_hits > 0,
        verdict=verdict_of_run(summary),
        total=figures_of(total),
        least=format_usd(total.known_cost, estimated=total.usage.estimated_requests > 0)
        if total.cost is None and total.known_cost
        else "",
        unmeasured=total.usage.unmeasured_requests,
        facts=[
            (fact, None if fact.headroom is None else limit_bar(fact.headroom.used, fact.headroom.allowed))
            for fact in facts(summary, total)
            if fact.label != "total"
        ],
        findings=found[::-1],  # what fails the run first: a page is read from its top
        dearer=[(record.nodeid, describe_change(change)) for record, change in changes[:MOST]],
        dearer_count=len(changes),
        went=sum_bar(call for part in summary.parts for call in part.calls),
        models=view_models(summary.models, total),
        elsewhere=view_elsewhere(elsewhere, total),
        tests=[view_test(record, enforced=summary.enforced) for record in listed],
        shown=SHOWN,
        fixtures=[view_fixture(record) for record in summary.shared],
        columns=COLUMNS,
        most=MOST,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("pytest_tokenbudget.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=printable, count=format_count, one_line=_one_line, named=_named)
    environment.globals.update(plural=plural)
    return environment.get_template("page.html")


def _named(nodeid: str) -> Markup:
    """A node id that may be broken where a reader would break it."""
    return escape(printable(nodeid)).replace("::", Markup("::<wbr>")).replace("/", Markup("/<wbr>"))


def _one_line(markup: Markup) -> Markup:
    return markup.replace("\n", "")


def _source(name: str) -> str:
    return (files("pytest_tokenbudget.report") / "page" / name).read_text("utf-8")


def _digest(source: str) -> str:
    """The hash by which a content security policy knows what stands in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
