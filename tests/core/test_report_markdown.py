from __future__ import annotations

import re
from decimal import Decimal
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.budget import Budget, Violation
from pytest_tokenbudget.record import BaselineResult, ModelTokens, SharedRecord, UsageRecord
from pytest_tokenbudget.report.markdown import code, escape, render_markdown
from pytest_tokenbudget.summary import BaselineSummary, Summary
from pytest_tokenbudget.usage import ModelCall, Usage

PRICES = {"source": "genai-prices", "version": "0.1.3", "date": "2026-11-18", "overrides": []}


def summarize(tests=(), shared=(), **more):
    return Summary.of(
        tests, shared, **{"plugin_version": "0.1.0", "created": "2026-11-22T10:00:00Z", "prices": PRICES, **more}
    )


def call(**more):
    return ModelCall(
        **{
            "model": "gpt-4o",
            "provider": "openai",
            "usage": Usage(input_tokens=1000, output_tokens=100),
            "cost": Decimal("0.0023"),
            "replayed": True,
            **more,
        }
    )


def test_a_page():
    record = UsageRecord(
        nodeid="test_chat.py::test_over",
        calls=(call(parts={"system": 812, "user": 188}),),
        budget=Budget(max_cost=Decimal("0.001")),
        violations=(Violation(limit="max_cost", allowed=Decimal("0.001"), used=Decimal("0.0023")),),
        verdict="over",
    )
    shared = SharedRecord(fixture="index", scope="session", calls=(call(source="estimate"),))
    assert render_markdown(summarize([record], [shared], unused_cassettes=["c/old.yaml"])) == (
        "## Token budget\n"
        "\n"
        "**\\~$0.0046 for \\~2,200 tokens in 2 requests (input \\~2,000, output \\~200)**\n"
        "\n"
        "- spent: nothing live\n"
        "- estimated: \\~ 1 of 2 requests, counted locally\n"
        "- prices: genai-prices 0.1.3 of 2026-11-18\n"
        "- **budgets**: 1 over\n"
        "\n"
        "### Over budget (1)\n"
        "\n"
        "- `test_chat.py::test_over`\n"
        "  - cost, $0.0023, limit $0.0010, +$0.0013 (+130%)\n"
        "\n"
        "If intended, raise the limit, or: pytest --token-update-baseline\n"
        "\n"
        "<details><summary>Cassettes that no test used (1)</summary>\n"
        "\n"
        "- `c/old.yaml`\n"
        "\n"
        "Delete them\n"
        "\n"
        "</details>\n"
        "\n"
        "<details><summary>Costliest tests</summary>\n"
        "\n"
        "| cost | tokens | input | cached | output | requests | budget | test | where the input went |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- | --- | --- |\n"
        "| $0.0023 | 1,100 | 1,000 | 0 | 100 | 1 | **over** 230% of cost | `test_chat.py::test_over` | system 812, user 188 |\n"
        "\n"
        "</details>\n"
        "\n"
        "<details><summary>By model</summary>\n"
        "\n"
        "| cost | tokens | input | cached | output | requests | model |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| \\~$0.0046 | \\~2,200 | \\~2,000 | \\~0 | \\~200 | 2 | `gpt-4o` |\n"
        "| \\~$0.0046 | \\~2,200 | \\~2,000 | \\~0 | \\~200 | 2 | **total** |\n"
        "\n"
        "</details>\n"
        "\n"
        "<details><summary>Shared fixtures, charged to no test</summary>\n"
        "\n"
        "| cost | tokens | input | cached | output | requests | fixture |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| \\~$0.0023 | \\~1,100 | \\~1,000 | \\~0 | \\~100 | 1 | `index (session)` |\n"
        "\n"
        "</details>\n"
    )


def test_budgets_and_the_baseline_stand_beside_each_test():
    models = {"gpt-4o": ModelTokens(requests=1, input=900, output=100)}
    entry = BaselineResult(status="within", tokens=1000, cost=Decimal("0.002"), models=models)
    within = UsageRecord(
        nodeid="t::a", calls=(call(),), budget=Budget(max_tokens=2000), verdict="within", baseline=entry
    )
    watched = UsageRecord(nodeid="t::b", calls=(call(),), budget=Budget(min_requests=1), verdict="within")
    unknown = UsageRecord(
        nodeid="t::c", calls=(call(usage=None, cost=None),), budget=Budget(max_tokens=9), verdict="unmeasured"
    )
    barely = UsageRecord(
        nodeid="t::d", calls=(call(source="estimate"),), budget=Budget(max_tokens=10**6), verdict="within"
    )
    records = [within, watched, unknown, barely]
    summary = summarize(
        records,
        baseline=BaselineSummary.of(records, path="b.json", stale=()),
        total_max_cost=Decimal("0.0092"),
    )
    page = render_markdown(summary)
    assert "| requests | baseline | budget | test |" in page
    assert "| 1 | +10% | ███░░░ 55% of tokens | `t::a` |" in page
    assert "| 1 |  | within | `t::b` |" in page
    assert "| 1 |  | **unmeasured** | `t::c` |" in page
    assert "| 1 |  | ░░░░░░ &#60;\\~1% of tokens | `t::d` |" in page
    # 3 calls whose price is known, of $0.0023 each.
    assert "- run limit: ████░░ cost \\~$0.0069 of $0.0092 (\\~75%), $0.0023 left\n" in page
    assert "<details><summary>Above the baseline, within the tolerance (1)</summary>" in page
    assert "  - 1,000 → 1,100 tokens (+10%), $0.0020 → $0.0023 (+15%)\n  - why: input +100\n" in page


def test_what_is_long_is_collapsed():
    records = [UsageRecord(nodeid=f"t::{number:02}", drift=("gone",)) for number in range(12)]
    page = render_markdown(summarize(records))
    seen, _, folded = page.partition("<details><summary>2 more</summary>")
    assert "- `t::09`" in seen
    assert "t::10" not in seen
    assert "- `t::11`" in folded.partition("</details>")[0]
    assert "more</summary>" not in render_markdown(summarize(records[:10]))


def test_a_run_without_a_model():
    assert render_markdown(summarize()) == "## Token budget\n\nNo test used a model.\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("test_a.py::test_b[c-1]", "`test_a.py::test_b[c-1]`"),
        ("a|b", "<code>a&#124;b</code>"),
        ("a`b", "<code>a&#96;b</code>"),
        ("<script>", "<code>&#60;script&#62;</code>"),
        ("a\\|b", "<code>a&#92;&#124;b</code>"),
        ("@me #1 <b>", "<code>@<!-- -->me #<!-- -->1 &#60;b&#62;</code>"),
        ("a\nb", "<code>a&#92;nb</code>"),
        ("\ud800", "<code>&#92;ud800</code>"),
        ("", "`?`"),
    ],
)
def test_names(name, shown):
    assert code(name) == shown


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("- one", r"\- one"),
        ("+ one", r"\+ one"),
        ("-", r"\-"),
        ("---", r"\---"),
        ("- - -", r"\- - -"),
        ("12. one", r"12\. one"),
        ("3) one", r"3\) one"),
        ("-5% of it", "-5% of it"),
        ("+12%", "+12%"),
        ("3.5 times", "3.5 times"),
        ("1,234. it is", "1,234. it is"),
        ("as GH-3 and gh-14 said", "as GH&#45;3 and gh&#45;14 said"),
        ("GH-x, HIGH-3", "GH-x, HIGH-3"),
    ],
)
def test_no_sentence_begins_a_list_or_names_an_issue(sentence, shown):
    assert escape(sentence) == shown


def test_sentences():
    assert escape("set token_prices to _x_ & *y* [z](u) ~1") == r"set token_prices to \_x\_ &#38; \*y\* \[z\](u) \~1"


hostile = st.text(alphabet=st.characters(), max_size=60) | st.text(alphabet="|`<>&\\\n*_[]()#@~$", max_size=30)


@settings(deadline=None)
@given(hostile, hostile, hostile)
def test_no_name_breaks_out_of_its_cell(nodeid, model, message):
    record = UsageRecord(nodeid=nodeid, calls=(call(model=model, provider=message),), drift=(message,))
    page = render_markdown(summarize([record], baseline=BaselineSummary(path=message, new=(nodeid,))))
    page.encode("utf-8")
    for line in page.split("\n"):
        if line.startswith("| $"):
            assert line.count("|") in (8, 11)
        assert line.count("`") in (0, 2)
    tags = set(re.findall(r"</?\w+", page))
    assert tags <= {"<details", "</details", "<summary", "</summary", "<code", "</code"}


def test_a_huge_run_stays_far_below_what_github_takes():
    records = [
        UsageRecord(nodeid=f"test_{n}.py::test_" + "<" * 400, calls=(call(),), drift=("x" * 500,))
        for n in range(2000)
    ]
    page = render_markdown(summarize(records))
    assert len(page.encode()) < 300_000
    assert "Costliest tests (50 of 2,000)" in page
    assert "- ... and 1,950 more" in page


class Rendered(HTMLParser):
    """The elements and the text of what GitHub's own parser makes of Markdown."""

    def __init__(self, markdown):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, Options.CMARK_OPT_UNSAFE))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


WRITTEN = [
    "see https://evil.example/x", "www.evil.example", "http://a.b", "ftp://a.b/c", "write to a@b.com or <a@b.com>",
    "mailto:a@b.com", "xmpp:a@b.com/c", "@me and #12, GH-3", "*a* _b_ __c__ ~~d~~ ~e~ `f`", "[a](b) ![c](d) [^1]",
    "<b>bold</b> <!-- gone -->", "&amp; &lt;", "a \\ b \\* c", "- one", "1. one", "# title", "> quote", "a | b",
    "$x$ :smile:",
]  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
@pytest.mark.parametrize("shown", [escape, code], ids=["sentence", "name"])
@pytest.mark.parametrize(
    ("place", "tags"),
    [("- {}", ["ul", "li"]), ("**x**: {}", ["p", "strong"]), ("| head |\n| --- |\n| {} |", ["table", "th", "td"])],
    ids=["item", "paragraph", "cell"],
)
def test_what_others_wrote_stays_text(text, shown, place, tags):
    page = Rendered(place.format(shown(text)))
    assert set(page.tags) <= {*tags, "tr", "thead", "tbody", *(["code"] if shown is code else [])}
    assert page.text.strip().removeprefix("x: ").removeprefix("head").strip() == text
