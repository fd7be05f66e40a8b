"""The HTML report, as a browser shows it and as its readers use it."""

from __future__ import annotations

import re

import pytest
from report_samples import call, summarise, varied

from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import SharedRecord, UsageRecord
from pytest_tokenbudget.report.html import render_html
from pytest_tokenbudget.repricing import reprice
from pytest_tokenbudget.usage import ModelCall

HEADS = {"test": 0, "budget": 1, "cost": 2, "tokens": 3, "input": 4, "cached": 5, "output": 6, "requests": 7,
         "of its limit": 8, "baseline": 9}  # fmt: skip


def names(page, *, whole=False):
    """The tests in the order in which they stand, by the end of their names."""
    if whole:
        return page.locator("#tests tr.test td:first-child").all_inner_texts()
    return [
        re.search(r"::test_(\w+)", text)[1]
        for text in page.locator("#tests tr.test td:first-child").all_inner_texts()
    ]


def sort(page, head):
    page.locator("#tests thead th").nth(HEADS[head]).get_by_role("button").click()


def test_it_answers_what_the_suite_costs_what_got_dearer_and_what_to_do_in_that_order(show):
    page = show(varied())
    # 0.0035 + 0.00175 + 0.000024 + 0.000605 + 0.0000045 + 0.00000014, and one request that nobody measured
    assert "at least ~$0.00588 is what the suite costs" in page.inner_text(".tiles")
    assert page.title() == "Token budget: unknown, does not hold"
    assert (
        "1 test is over budget; 1 test is not measured or not priced; 1 test is over the baseline"
        in page.inner_text(".tiles")
    )
    assert "without 1 request that could not be measured" in page.inner_text("main")
    headings = page.locator("h2").all_inner_texts()
    assert headings == [
        "Where the tokens went", "What got dearer, and why", "What to do", "By model",
        "Shared fixtures, charged to no test", "Tests",
    ]  # fmt: skip
    dearer = page.locator("section", has=page.get_by_role("heading", name="What got dearer")).locator("tbody tr")
    assert dearer.count() == 1
    said = dearer.inner_text()
    assert "test_weather" in said
    assert "1,350 -> 1,650 tokens (+22%)" in said
    assert "input +300" in said
    facts = page.inner_text(".facts")
    assert "$0.000024 on 1 live request" in facts
    assert "~ 1 of 7 requests" in facts
    assert "1 of 7 requests: the stream was cut" in facts
    assert "genai-prices 0.2.3 of 2026-11-03" in facts
    todo = page.locator("details.finding summary").all_inner_texts()
    assert todo[0].startswith("over budget (1)")
    assert any(text.startswith("stale, in the baseline only (1)") and "prune" in text for text in todo)


def test_models_and_tests_have_the_figures_of_their_calls(show):
    page = show(varied())
    rows = page.locator("section", has=page.get_by_role("heading", name="By model")).locator("tbody tr")
    assert rows.first.inner_text().split()[:7] == ["gpt-4o", "$0.00525", "1,650", "1,500", "400", "150", "2"]
    weather = page.locator("#tests tr.test").filter(has_text="test_weather")
    cells = weather.locator("td").all_inner_texts()
    assert cells[1:8] == ["over", "$0.00525", "1,650", "1,500", "400", "150", "2"]
    assert "150% of cost" in cells[8]
    assert cells[9] == "+22%"
    cut = page.locator("#tests tr.test").filter(has_text="test_cut_off").locator("td").all_inner_texts()
    assert cut[1:4] == ["unmeasured", "unknown", "?"]
    assert cut[8] == ""
    page.locator("#tests tr.test").filter(has_text="test_cut_off").get_by_role("button").click()
    assert "at least $0 of $0.0100, at least 0%" in page.inner_text("#tests tr.detail")
    guessed = page.locator("#tests tr.test").filter(has_text="test_guessed").locator("td").all_inner_texts()
    assert guessed[2:4] == ["~$0.0000045", "~15"]


COLUMNS = {
    # What is not known stands above all that is.
    "tokens": ["cut_off", "weather", "thinks", "hello", "guessed"],
    "input": ["cut_off", "weather", "hello", "thinks", "guessed"],
    "cached": ["cut_off", "weather"],
    "output": ["cut_off", "thinks", "weather", "hello", "guessed"],
    "requests": ["weather"],
    "test": ["weather", "hello", "thinks", "cut_off", "guessed"],
    # Those without a budget, or an entry, come last either way.
    "budget": ["weather", "cut_off", "hello"],
    "of its limit": ["cut_off", "weather", "hello"],
    "baseline": ["weather", "hello"],
}
NAMES = ("test", "budget")
"""Columns that are sorted from their first name on; the others begin with the greatest figure."""


def test_each_column_sorts_both_ways(show):
    page = show(varied())
    for head, expected in COLUMNS.items():
        known = len(expected)
        ways = ["descending", "ascending"]
        orders = [expected, expected[::-1]]
        if head in NAMES:
            ways.reverse()
        for way, order in zip(ways, orders, strict=True):
            sort(page, head)
            found = names(page)
            assert page.locator("#tests th[aria-sort]").count() == 1
            assert page.locator("#tests thead th").nth(HEADS[head]).get_attribute("aria-sort") == way
            if head in ("cached", "requests"):  # the others have the same
                assert (found[:known] if way == "descending" else found[-known:]) == order
            else:
                assert found[:known] == order, head


def test_sorted_by_cost_the_unknown_stands_first_and_the_other_way_last(show):
    page = show(varied())
    assert names(page) == ["weather", "thinks", "hello", "guessed", "cut_off"]  # as the terminal has them
    sort(page, "cost")
    assert names(page) == ["cut_off", "weather", "thinks", "hello", "guessed"]
    sort(page, "cost")
    assert names(page) == ["guessed", "hello", "thinks", "weather", "cut_off"]


@pytest.fixture
def found(show):
    """What is found: ``found(words, kind)``."""
    page = show(varied())

    def found(words="", kind=""):
        page.get_by_label("Find").fill(words)
        page.get_by_label("Show").select_option(kind)
        tests = names(page)
        counted = f"{len(tests)} of 5 tests" if len(tests) < 5 else "5 tests"
        assert page.inner_text("#count") == counted
        return tests

    return found


def test_the_table_is_filtered_by_words_and_by_kind(found):
    assert found("test_chat") == ["thinks", "hello"]
    assert found("CHAT hello") == ["hello"]
    assert found("gpt-4o-mini") == ["hello", "guessed", "cut_off"]
    assert found("estimated") == ["guessed"]
    assert found("live") == ["hello"]
    assert found(kind="over unmeasured") == ["weather", "cut_off"]
    assert found("cut", "over unmeasured") == ["cut_off"]
    assert found(kind="within") == ["hello"]
    assert found(kind="baseline-over") == ["weather"]
    assert found(kind="baseline-improved") == ["hello"]
    assert found(kind="baseline-new") == ["thinks"]
    assert found("nowhere") == []
    assert len(found()) == 5


def test_a_test_opens_by_keyboard_to_its_limits_and_its_calls(show):
    page = show(varied())
    button = page.locator("#tests tr.test button").first
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    opened = page.locator("#tests tr.detail")
    assert opened.count() == 1
    said = opened.inner_text()
    assert "$0.00525 of $0.00350, 150%" in said
    assert "2 of 4, 50%" in said
    assert "system 600, tools 200, history 100, user 100, output 100, cached input 400" in said
    assert opened.locator(".calls tbody tr").count() == 2
    sort(page, "test")  # it goes where its test goes
    follows = (
        page.locator("#tests tr.test")
        .filter(has_text="test_weather")
        .evaluate("row => row.nextElementSibling.className")
    )
    assert follows == "detail"
    page.get_by_label("Find").fill("hello")
    assert page.locator("#tests tr.detail").count() == 0
    page.get_by_label("Find").fill("weather")
    page.locator("#tests tr.test button").first.focus()
    page.keyboard.press("Space")
    assert page.locator("#tests tr.detail").count() == 0


def test_the_bars_are_as_long_as_their_tokens(show):
    page = show(varied())
    page.locator("#tests tr.test button").first.click()
    widths = page.locator("#tests tr.detail .calls svg").evaluate_all(
        """bars => bars.map(bar => Object.fromEntries([...bar.children].map(
            piece => [piece.getAttribute("class"), piece.getBoundingClientRect().width / bar.clientWidth])))"""
    )
    # Of 1,100 tokens, those of the longest call; history is what the assistant and the tools said.
    tokens = [
        {"system": 600, "tools": 200, "history": 100, "user": 100, "output": 100, "cached": 400},
        {"system": 400, "user": 100, "output": 50},
    ]
    for drawn, wanted in zip(widths, tokens, strict=True):
        assert drawn == pytest.approx({kind: count / 1100 for kind, count in wanted.items()}, abs=0.005)
    limit = page.locator("#tests tr.detail .limits svg").first
    over = limit.evaluate("bar => bar.querySelector('line').x1.baseVal.value / 1000")
    assert over == pytest.approx(0.0035 / 0.00525, abs=0.002)


def test_what_the_suite_would_cost_on_other_models(show):
    summary = summarise(UsageRecord(nodeid="a.py::test_a", calls=(call(1000, 100, "0.00021"),)))
    book = PriceBook()
    page = show(summary, *((model, reprice(summary, model, book)[0]) for model in ("gpt-4o", "gpt-4.1-nano")))
    section = page.locator("section", has=page.get_by_role("heading", name="On other models"))
    rows = section.locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[:3] for row in rows] == [
        # 1,000 x $0.10 + 100 x $0.40, and x $2.50 and x $10.00, per million
        ["gpt-4.1-nano", "$0.00014", "-$0.00007 (-33%)"],
        ["as it is", "$0.00021", ""],
        ["gpt-4o", "$0.0035", "+$0.00329 (+1,567%)"],
    ]
    widths = section.locator("rect").evaluate_all("pieces => pieces.map(piece => piece.width.baseVal.value)")
    assert widths == [40, 60, 1000]


def test_of_what_nobody_measured_no_other_model_s_cost_is_shown(show):
    unmeasured = ModelCall(model="gpt-4o-mini", reason="cut")
    summary = summarise(UsageRecord(nodeid="a.py::test_a", calls=(unmeasured,)))
    page = show(summary, ("gpt-4o", reprice(summary, "gpt-4o", PriceBook())[0]))
    assert "On other models" not in page.inner_text("main")
    assert "$0" not in page.inner_text("#tests")
    summary = summarise(UsageRecord(nodeid="a.py::test_a", calls=(unmeasured, call(1000, 100, "0.00021"))))
    page = show(summary, ("gpt-4o", reprice(summary, "gpt-4o", PriceBook())[0]))
    section = page.locator("section", has=page.get_by_role("heading", name="On other models"))
    assert [row.split("\t")[:3] for row in section.locator("tbody tr").all_inner_texts()] == [
        ["as it is", "unknown, at least $0.00021", ""],
        ["gpt-4o", "unknown, at least $0.0035", ""],
    ]
    assert section.locator("rect.over").count() == 0


HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=1>",
    '"><svg onload=window.hacked=1>',
    "' onmouseover='window.hacked=1",
    "<!--",
    "]]>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "</template></tbody></table><h1>gone</h1>",
    "https://example.com/?q=<a href=javascript:alert(1)>",
)


def test_what_others_wrote_stays_text(show):
    def hostile(number):
        text = HOSTILE[number % len(HOSTILE)]
        return UsageRecord(
            nodeid=f"test_{number:03d}.py::test_it[{text}]",
            outcome="failed",
            verdict="within",
            calls=(
                call(10, 5, "0.001", model=text, endpoint=text, provider=text),
                ModelCall(model=text, reason=text),
            ),
            incidents=(text,),
            drift=(text,),
            blocked=(text,),
            unplayed=(text,),
        )

    # The last of them stand where no browser reads them at first.
    records = [hostile(number) for number in range(200 + len(HOSTILE))]
    fixture = SharedRecord(fixture=HOSTILE[0], scope="session", calls=(call(1, 1, "0.001", model=HOSTILE[1]),))
    page = show(
        summarise(*records, shared=(fixture,), unused_cassettes=HOSTILE, price_change=HOSTILE[2]),
        (HOSTILE[0], reprice(summarise(*records), "gpt-4o", PriceBook())[0]),
    )
    page.get_by_role("button", name="Show all").click()
    for number in range(200, 200 + len(HOSTILE)):
        text = HOSTILE[number % len(HOSTILE)]
        page.get_by_label("Find").fill(f"test_{number:03d}")
        assert names(page, whole=True) == [f"test_{number:03d}.py::test_it[{text}] failed"]
        page.locator("#tests tr.test button").click()
        opened = page.locator("#tests tr.detail")
        assert opened.locator(".calls .name").all_inner_texts() == [text, text]
        assert opened.locator(".lines li").all_inner_texts() == [f"while capturing: {text}", text, text, text]
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").all_inner_texts() == ["Token budget"]
    assert page.locator("main img, main a, main svg[onload], main [onmouseover]").count() == 0


def test_a_script_that_got_in_would_not_run(browser, tmp_path):
    """The page's own rules are the second wall: what the template let through would not run either."""
    html = render_html(varied())
    assert "unsafe" not in html[: html.index("<title>")]
    path = tmp_path / "report.html"
    path.write_text(html.replace("<h2>Tests</h2>", "<script>window.hacked = 1</script><img src=http://127.0.0.1:9/>"))
    refused = []
    page = browser.new_page()
    page.on("console", lambda message: refused.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("window.hacked") is None
    assert page.inner_text("#count") == "5 tests"  # our own does
    page.close()
    assert len(refused) == 2
    assert all("Content Security Policy" in text for text in refused)


def test_nothing_and_one(show):
    page = show(summarise())
    assert "No test used a model." in page.inner_text("main")
    assert page.locator("table").count() == 0
    page = show(summarise(UsageRecord(nodeid="a.py::test_a", calls=(call(9, 2, "0.00000255"),))))
    assert page.inner_text("#count") == "1 test"
    assert "$0.00000255" in page.inner_text(".tiles")
    page = show(summarise(complete=False))
    assert "not complete" in page.inner_text("main")


def test_it_is_usable_with_twenty_thousand_tests(show):
    records = [
        UsageRecord(
            nodeid=f"area/test_{number % 97}.py::test_case[{number}]", calls=(call(number, 1, f"0.{number:08d}"),)
        )
        for number in range(1, 20_001)
    ]
    page = show(summarise(*records))
    assert page.inner_text("#count") == "20,000 tests, the first 200 shown"
    assert page.locator("#tests tr.test").count() == 200
    page.get_by_role("button", name="Show more").click()
    assert page.locator("#tests tr.test").count() == 400
    page.get_by_label("Find").fill("[77]")
    assert page.inner_text("#count") == "1 of 20,000 tests"
    page.locator("#tests tr.test button").click()
    assert "other input 77, output 1" in page.inner_text("#tests tr.detail")
    page.get_by_label("Find").fill("")
    sort(page, "cost")
    sort(page, "cost")
    cells = page.locator("#tests tr.test td").nth(2)
    assert cells.inner_text() == "$0.00000001"
    assert page.locator("#more").is_visible()


def _contrast(one, other):
    def luminance(colour):
        channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(show, scheme):
    page = show(varied(), color_scheme=scheme)

    def style(place, what):
        return page.locator(place).first.evaluate(f"each => getComputedStyle(each).{what}")

    ground = style("body", "backgroundColor")
    assert (_contrast(ground, "rgb(255, 255, 255)") < 1.5) == (scheme == "light")
    for place in ("body", ".quiet", ".facts .bad dd", ".change.improved", "th"):
        assert _contrast(style(place, "color"), ground) >= 4.5, place
    raised = style(".tiles li", "backgroundColor")
    assert _contrast(style(".tiles .bad", "color"), raised) >= 4.5
    for kind in ("system", "tools", "history", "user", "reasoning", "output", "cached"):
        assert _contrast(style(f"rect.{kind}", "fill"), ground) >= 3, kind


def test_it_prints_with_what_was_opened_and_without_its_controls(show):
    page = show(varied())
    page.locator("#tests tr.test button").first.click()
    page.emulate_media(media="print")
    assert not page.locator("#filter").is_visible()
    assert page.locator("#tests tr.detail .calls").is_visible()
    assert page.pdf().startswith(b"%PDF")


def test_paper_is_wide_enough_for_the_table_and_its_names(show):
    page = show(varied(), viewport={"width": 718, "height": 1000})  # A4 without its margins
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    for cell in page.locator("#tests td.name").all():
        assert cell.bounding_box()["width"] >= 150


def test_figures_of_any_size_stand_in_their_own_columns(show):
    records = [
        UsageRecord(
            nodeid="tests/test_large.py::test_" + "x" * 60,
            calls=(call(987_654_321, 123_456_789, "98765.4321", cached=876_543_210, source="estimate"),),
        ),
        UsageRecord(nodeid="a.py::test_small", calls=(call(1, 0, "0.000000246"),)),
        UsageRecord(
            nodeid="a.py::test_unknown",
            verdict="unmeasured",
            calls=(call(987_654_321, 0, "1"), ModelCall(model="m", reason="cut")),
        ),
    ]
    page = show(summarise(*records, *varied().tests), viewport={"width": 1200, "height": 900})
    assert (
        page.evaluate("[...document.querySelectorAll('#tests td')].filter(c => c.scrollWidth > c.clientWidth).length")
        == 0
    )
    page.emulate_media(media="print")
    assert (
        page.evaluate("[...document.querySelectorAll('#tests td')].filter(c => c.scrollWidth > c.clientWidth).length")
        == 0
    )


def test_paper_says_what_is_not_on_it(show):
    page = show(summarise(*(UsageRecord(nodeid=f"a.py::test_{n}", calls=(call(1, 1, "0.1"),)) for n in range(300))))
    page.emulate_media(media="print")
    assert page.inner_text("#count") == "300 tests, the first 200 shown"
    page.emulate_media(media="screen")
    page.get_by_label("Find").fill("test_299")
    page.emulate_media(media="print")
    assert page.inner_text("#count") == "1 of 300 tests"
    assert page.get_by_label("Find").is_visible()


def test_on_paper_nothing_to_do_is_hidden(show):
    left = [UsageRecord(nodeid=f"a.py::test_{n}", unplayed=("one",)) for n in range(6)]
    page = show(summarise(*left))
    closed = "document.querySelectorAll('details.finding:not([open])').length"
    assert page.evaluate(closed) == 1
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.onPaper = {closed} }})")
    page.pdf()
    assert page.evaluate("window.onPaper") == 0
    assert page.evaluate(closed) == 1


@pytest.mark.parametrize("width", [400, 800, 1000, 1280, 2560])
def test_no_width_makes_the_page_itself_scroll_sideways(show, width):
    long = UsageRecord(
        nodeid="tests/" + "x" * 150 + "::test_" + "y" * 150, calls=(call(9, 2, "0.001", model="m" * 200),)
    )
    page = show(summarise(long, *varied().tests), viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for cell in page.locator("td.name").all():
        assert cell.bounding_box()["width"] >= min(200, width / 4)


def test_without_its_script_the_costliest_are_there(show):
    records = [UsageRecord(nodeid=f"a.py::test_{n:03d}", calls=(call(9, 2, f"0.{999 - n:03d}"),)) for n in range(250)]
    page = show(summarise(*records), java_script_enabled=False)
    rows = page.locator("#tests tr.test td:first-child").all_inner_texts()
    assert rows == [f"a.py::test_{n:03d}" for n in range(200)]
    assert "the 200 costliest of 250 tests" in page.inner_text("main")
    assert not page.locator("#filter").is_visible()


def test_it_has_names_for_those_who_do_not_see_it(show):
    page = show(varied())
    assert page.locator("html").get_attribute("lang") == "en"
    bars = page.locator("svg[role=img]")
    assert bars.count() > 0
    assert all(bars.nth(number).get_attribute("aria-label") for number in range(bars.count()))
    assert page.get_by_role("search").count() == 1
    for place in ("Find", "Show"):
        assert page.get_by_label(place).count() == 1
    assert page.locator("th:not([scope])").count() == 0
