"""Arrows point down only: each ring of the package imports what lies within it, and nothing slow before it is needed."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pytest_tokenbudget

ROOT = Path(pytest_tokenbudget.__file__).parent
PACKAGE = "pytest_tokenbudget"

CORE = {
    "usage", "budget", "record", "errors", "summary", "ledger", "baseline", "files", "pricing", "inspection", "spending",
    "frozen", "patterns", "plain_record", "baseline_text", "written_call",
    *(path.stem for path in ROOT.glob("price_*.py")),
}  # fmt: skip
SLOW = {"langchain_core", "vcr", "yaml", "tiktoken", "genai_prices", "httpx", "httpx2", "openai"}
MAY_BE_SLOW = {
    "capture.cassette",
    "capture.yaml_events",
    "capture.cassette_file",
    "capture.langchain",
    "capture.drift",
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(module, *, everywhere=False):
    """What a module imports when it is imported itself; ``everywhere`` for what its functions import too."""
    found = set()
    pending = list(ast.parse(MODULES[module].read_text("utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return found


def ours(module, *, everywhere=False):
    """The modules of the package among them, without the package's name."""
    inside = {each.removeprefix(PACKAGE + ".") for each in imports(module, everywhere=everywhere) if each.startswith(PACKAGE)}  # fmt: skip
    return {each for each in inside if each in MODULES}


def foreign(module):
    return {each.partition(".")[0] for each in imports(module)} - {PACKAGE} - sys.stdlib_module_names


def test_the_rings_are_where_this_test_looks_for_them():
    assert set(MODULES) >= CORE
    assert set(MODULES) >= MAY_BE_SLOW
    assert "pytest" in foreign("plugin")
    assert "vcr" in foreign("capture.cassette")
    assert "usage" in ours("record")


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_imports_the_standard_library_and_core_alone(module):
    assert foreign(module) == set()
    assert ours(module) <= CORE


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("capture")])
def test_capture_never_imports_report(module):
    assert not {each for each in ours(module, everywhere=True) if each.startswith("report")}


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith("report")])
def test_report_never_imports_capture(module):
    assert not {each for each in ours(module, everywhere=True) if each.startswith("capture")}


@pytest.mark.parametrize("module", [each for each in MODULES if each.startswith(("capture", "report"))])
def test_capture_and_report_know_nothing_of_who_uses_them(module):
    assert not ours(module, everywhere=True) & {"plugin", "gate", "collector", "cli", "markers", "settings"}


@pytest.mark.parametrize("module", [each for each in MODULES if each not in MAY_BE_SLOW])
def test_nothing_slow_is_imported_before_it_is_needed(module):
    assert not foreign(module) & SLOW
