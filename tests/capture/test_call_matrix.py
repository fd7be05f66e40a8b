"""Every way to call a model, each held against what the server billed and reported."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from call_matrix import run_row
from call_matrix_page import render_page
from call_matrix_rows import ROWS

pytestmark = [
    # langchain-openai adds token counts up, and warns of those that an answer leaves out.
    pytest.mark.filterwarnings("ignore:Unexpected type for token usage"),
    pytest.mark.filterwarnings("ignore:.*is in beta"),
    pytest.mark.filterwarnings("ignore:astream_log is deprecated"),
    pytest.mark.filterwarnings("ignore:The class `LLMChain` was deprecated"),
    # langchain-openai keeps its asynchronous clients for the whole process, and closes none.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def leaks_of_langchain_end_here():
    yield
    gc.collect()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(row):
    if row.missing:
        pytest.skip(f"not installed: {', '.join(row.missing)}")
    assert run_row(row) == row.expected


def test_no_row_is_there_twice():
    assert len({row.id for row in ROWS}) == len(ROWS) >= 148


def test_the_page_tells_these_rows_and_outcomes():
    page = Path(__file__).parents[2] / "docs" / "call-matrix.md"
    # What a row comes out as is held against `row.expected` above.
    assert page.read_text(encoding="utf-8") == render_page([(row, row.expected) for row in ROWS])
