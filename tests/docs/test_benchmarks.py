"""The benchmarks run, and their table has its form. No time is asserted: a test's machine is busy."""

import os
import re
import subprocess
import sys

import pytest
from doc_blocks import DOCS, ROOT

BENCHMARKS = ROOT / "benchmarks"
ROWS = {"cassettes": 5, "langchain": 3, "batch": 1, "scale": 4}
"""The quantities that need neither valgrind nor environments of their own, and how many rows each has."""


def _run(*arguments, path=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({} if path is None else {"PATH": path})
    command = [sys.executable, str(BENCHMARKS / "run.py"), *arguments]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in ran.stdout.splitlines() if line]


def _table(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import table

    return table


def test_a_quick_run_gives_a_figure_for_each_row():
    head, rule, *rows = _run("--quick", *(word for quantity in ROWS for word in ("--only", quantity)))

    assert head == ["quantity", "pytest-tokenbudget", "compared with", "target", "met", "by"]
    assert rule == ["---"] * 6
    assert len(rows) == sum(ROWS.values())
    for row in rows:
        assert len(row) == 6
        assert re.match(r"-?\d", row[1]), row
    (answers,) = [row for row in rows if "belong to another prompt" in row[0]]
    assert (answers[1], answers[4]) == ("0", "yes")


@pytest.mark.parametrize("quantity", ["start", "replay", "spread"])
def test_without_valgrind_a_row_says_so(quantity, tmp_path):
    row = _run("--quick", "--only", quantity, path=str(tmp_path))[2]

    assert row[1] == "valgrind is not there"
    assert row[4] == ""


def test_rows_are_written_in_the_place_of_the_old_ones(tmp_path, monkeypatch):
    table = _table(monkeypatch)
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{table.BEGIN}\n{table.END}\n\nafter\n")
    order = ("first", "second")

    table.write(page, [table.Row(quantity="second", ours="2", target="3", met=True)], "A 1", order)
    table.write(page, [table.Row(quantity="first", ours="1"), table.Row(quantity="gone", ours="9")], "A 1", order)
    table.write(page, [table.Row(quantity="second", ours="4", target="3", met=False)], "A 2", order)

    assert page.read_text() == (
        "before\n\n<!-- table -->\n"
        "| quantity | pytest-tokenbudget | compared with | target | met | by |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        "| first | 1 |  |  |  | instructions |\n"
        "| second | 4 |  | 3 | **no** | instructions |\n"
        "\nMeasured with A 2.\n<!-- end of table -->\n\nafter\n"
    )


def test_the_page_holds_rows_of_the_benchmarks_in_their_order(monkeypatch):
    table = _table(monkeypatch)
    from quantities import ORDER

    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    shown = page.partition(table.BEGIN)[2].partition(table.END)[0].splitlines()
    rows = [line.removeprefix("| ").split(" | ")[0] for line in shown if line.startswith("| ")][2:]

    assert rows == [quantity for quantity in ORDER if quantity in rows]
    assert rows
    assert "Measured with CPython" in shown[-1]
