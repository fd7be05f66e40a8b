"""pytest-html's page carries each test's tokens and cost: what the loopback server billed, in cells that sort."""

from __future__ import annotations

import html
import json
import re

import pytest

pytest.importorskip("pytest_html")

PRICES = '[models."small"]\ninput = 1.0\noutput = 2.0\n'
SUITE = """
import model, pytest

@pytest.mark.parametrize("tokens", [9, 10, 2000])
def test_asks(tokens): model.ask(tokens, 5, model="small")

def test_fails():
    model.ask(20, 5, model="small")
    assert 0

@pytest.fixture
def broken():
    model.ask(1, 3, model="small")
    raise OSError

def test_errs(broken): pass

@pytest.fixture
def late():
    yield
    raise OSError

def test_breaks_down(late): model.ask(3, 1, model="small")

def test_has_no_price(): model.ask(1, 0, model="<b>|nobody")

def test_idles(): pass
"""


@pytest.fixture
def go(run):
    def go(*args, plugins=("html", "metadata")):
        return run(
            "-o", "token_replay=off", "-o", "token_prices=prices.toml", "--html=page.html", *args, plugins=plugins
        )

    return go


@pytest.fixture
def page(pytester):
    """The header of the page's table, and its rows by test: ``page() -> header, {name: [cells, ...]}``."""

    def page():
        text = (pytester.path / "page.html").read_text("utf-8")
        (data,) = re.findall(r'data-jsonblob="([^"]*)"', text)
        tests = json.loads(html.unescape(data))["tests"]
        rows = {nodeid.partition("::")[2]: [row["resultsTableRow"] for row in rows] for nodeid, rows in tests.items()}
        return re.findall(r'<th class="sortable" data-column-type="(\w+)">', text), rows

    return page


def shown(cell):
    return html.unescape(re.sub(r"<span hidden>.*?</span>|<.*?>", "", cell))


def test_the_columns_hold_what_was_billed(suite, go, page):
    go()
    header, rows = page()
    assert header == ["result", "testId", "duration", "tokens", "cost"]
    figures = {name: tuple(map(shown, row[0][3:5])) for name, row in rows.items()}
    # USD for a million tokens are 1 of input and 2 of output.
    assert figures == {
        "test_asks[9]": ("14", "$0.000019"),
        "test_asks[10]": ("15", "$0.00002"),
        "test_asks[2000]": ("2,005", "$0.00201"),
        "test_fails": ("25", "$0.00003"),
        "test_errs": ("4", "$0.000007"),
        "test_breaks_down": ("4", "$0.000005"),
        "test_has_no_price": ("1", "unknown"),
        "test_idles": ("", ""),
    }
    assert sum(bill.input_tokens + bill.output_tokens for bill in suite.bills) == 2068
    assert all(len(row) == 6 for each in rows.values() for row in each)


def test_a_subtest_s_row_does_not_count_its_test_again(pytester, suite, go, page):
    pytester.makepyfile(
        test_suite="""
        import model, unittest
        class TestIt(unittest.TestCase):
            def test_parts(self):
                with self.subTest("a"):
                    model.ask(10, 5, model="small")
                    assert 0
        """
    )
    go()
    _, rows = page()
    cells = [tuple(map(shown, row[3:5])) for each in rows.values() for row in each]
    assert sorted(cells) in ([("", ""), ("15", "$0.00002")], [("15", "$0.00002")])


def test_cells_sort_by_their_figures(suite, go, page):
    """As the page sorts: by what the column's cells hold, as text."""
    go()
    _, rows = page()
    for place, order in (
        (3, ["test_idles", "test_asks[9]", "test_asks[10]", "test_fails", "test_asks[2000]"]),
        (4, ["test_idles", "test_asks[9]", "test_asks[10]", "test_fails", "test_asks[2000]", "test_has_no_price"]),
    ):
        keys = {name: re.search(r"<td.*?>(.*?)</td>", rows[name][0][place])[1] for name in order}
        assert sorted(order, key=keys.__getitem__) == order


def test_the_marked_tests_of_a_run_that_asks_for_nothing_else(pytester, told, go, page):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        @pytest.mark.token_budget(max_tokens=20)
        def test_marked(): model.ask(10, 8, model="small")
        """
    )
    go()
    _, rows = page()
    assert [*map(shown, rows["test_marked"][0][3:5])] == ["18", "$0.000026"]


def test_an_earlier_try_and_an_error_after_the_test_hold_no_figures(pytester, told, go, page):
    pytester.makefile(".toml", prices=PRICES)
    pytester.makepyfile(
        test_suite="""
        import model, pytest
        tries = []
        def test_it():
            tries.append(1)
            model.ask(10, len(tries), model="small")
            assert len(tries) > 1

        @pytest.fixture
        def late():
            yield
            raise OSError

        def test_breaks_down(late): model.ask(3, 1, model="small")
        """
    )
    go("--reruns", "1", "-k", "test_it", plugins=("html", "metadata", "rerunfailures"))
    _, rows = page()
    *earlier, last = [tuple(map(shown, (row[0], *row[3:5]))) for row in rows["test_it"]]
    assert set(earlier) == {("Rerun", "", "")}
    assert last == ("Passed", "12", "$0.000014")
    go("-k", "breaks_down")
    _, rows = page()
    assert [tuple(map(shown, (row[0], *row[3:5]))) for row in rows["test_breaks_down"]] == [
        ("Passed", "4", "$0.000005"),
        ("Error", "", ""),
    ]


@pytest.mark.parametrize("asked", [(), ("--token-report",), ("-p", "no:pytest_tokenbudget")])
def test_no_columns_where_no_test_used_a_model(pytester, run, page, asked):
    pytester.makepyfile(test_suite="def test_idles(): pass\ndef test_idles_too(): pass")
    run("--html=page.html", *asked, plugins=("html", "metadata"))
    header, rows = page()
    assert header == ["result", "testId", "duration"]
    assert sorted(rows) == ["test_idles", "test_idles_too"]
    assert all(len(row) == 4 for each in rows.values() for row in each)


def test_no_hooks_without_a_page(pytester, suite, run):
    pytester.makeconftest(
        """
        def pytest_sessionfinish(session):
            print("columns:", session.config.pluginmanager.hasplugin("pytest_tokenbudget_html_columns"))
        """
    )
    result = run("-s", "-o", "token_replay=off", "--token-report", "-k", "idles", plugins=("html", "metadata"))
    result.stdout.fnmatch_lines(["*columns: False*"])
