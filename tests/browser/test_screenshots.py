"""The pictures in the docs: the report of the project's own examples, as a browser shows it.

``UPDATE_SCREENSHOTS=1 pytest tests/browser`` takes them anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from neighbours import without_all_but

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
FORMER = {
    "test_react_agent.py::test_agent": ("text-davinci-003", 1612, 152, 4),
    "test_react_agent.py::test_agent_older_run": ("text-davinci-003", 1350, 156, 4),
    "test_react_agent.py::test_agent_streamed": ("text-davinci-003", 2480, 152, 4),
    "test_weather_agent.py::test_weather_agent[Oslo]": ("gpt-4o-mini-2024-07-18", 193, 21, 2),
    "test_weather_agent.py::test_weather_agent[Paris]": ("gpt-4o-mini-2024-07-18", 160, 18, 2),
    "test_chat.py::test_removed": ("gpt-4o-mini-2024-07-18", 11, 12, 1),
}
"""What the examples' authors might have had in their baseline: some was dearer, some cheaper, some the same."""


@pytest.fixture
def report(pytester, python, monkeypatch):
    monkeypatch.delenv("TOKENBUDGET_CORPUS", raising=False)
    shutil.copytree(ROOT / "examples", pytester.path / "examples")
    entries = {
        name: {model: {"requests": requests, "input": given, "cached": 0, "cache_write": 0, "output": made}}
        for name, (model, given, made, requests) in FORMER.items()
    }
    baseline = {"schema": "pytest-tokenbudget/baseline/1", "tests": entries}
    folder = pytester.path / "examples"
    (folder / "token-baseline.json").write_text(json.dumps(baseline), encoding="utf-8")
    result = pytester.run(
        python, "-mpytest", *without_all_but(), "--rootdir=examples", "-c", "examples/pytest.ini", "examples",
        "--token-report=html", "--token-tolerance=5%", timeout=120,
    )  # fmt: skip
    result.assert_outcomes(passed=20, failed=2)
    return pytester.path / "token-report.html"


def words_of(page):
    """What is to be read on the page, without its figures: prices change, and so do the days they are of."""
    return " ".join(re.sub(r"[\d.,]*\d", "0", page.inner_text("body")).split())


def labelled(picture, words):
    """The picture with a digest of the page's words in a chunk of text, which tells later what it shows."""
    text = b"Comment\0" + digest_of(words)
    chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    end = picture.rindex(b"IEND") - 4
    return picture[:end] + chunk + picture[end:]


def digest_of(words):
    return hashlib.sha256(words.encode()).hexdigest().encode()


def digest_in(picture):
    return re.findall(b"tEXtComment\0([0-9a-f]{64})", picture)


def _size(picture):
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", picture[16:24])


def test_the_docs_show_what_the_page_looks_like(show, report):
    taken = {}
    for scheme in ("light", "dark"):
        page = show(report, color_scheme=scheme, viewport={"width": 1200, "height": 900})
        taken[f"report-{scheme}.png"] = labelled(page.screenshot(), words_of(page))
        page.get_by_label("Find").fill("agent")
        page.locator("#tests tr.test button").first.click()
        section = page.locator("section", has=page.get_by_role("heading", name="Tests", exact=True))
        taken[f"tests-{scheme}.png"] = labelled(section.screenshot(), words_of(page))
    if os.environ.get("UPDATE_SCREENSHOTS"):
        IMAGES.mkdir(exist_ok=True)
        for name, picture in taken.items():
            (IMAGES / name).write_bytes(picture)
    page = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    for name, picture in taken.items():
        # Fonts differ from machine to machine; what is to be read does not.
        kept = (IMAGES / name).read_bytes()
        assert _size(kept)[0] == _size(picture)[0]
        assert digest_in(kept) == digest_in(picture), (
            f"{name} shows another page: take it anew with UPDATE_SCREENSHOTS=1"
        )
        assert f'"images/{name}"' in page
