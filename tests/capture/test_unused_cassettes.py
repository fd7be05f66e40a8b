"""What the source of test modules tells of cassettes that no test uses, and where it keeps silent."""

from __future__ import annotations

import pytest

from pytest_tokenbudget.capture.layout import CaseName, unique_name
from pytest_tokenbudget.capture.unused_cassettes import why_unused

MODULE = """
import pytest
from other import test_imported, TestImported
from base import Base

PROMPT = "named in a constant.yaml"

def test_plain(): ...
async def test_async(): ...

@pytest.mark.parametrize("x", [1])
def test_parameters(x): ...

@pytest.mark.token_cassette("by_marker")
def test_marked(): ...

@pytest.mark.default_cassette("by_default.yaml")
def test_default(): ...

class TestOne:
    def test_method(self): ...
    class TestInner:
        def test_deep(self): ...

class TestDerived(Base):
    def test_own(self): ...

if True:
    def test_in_a_condition(): ...

test_assigned = test_plain

@pytest.fixture(scope="module")
def documents(): ...

@pytest.fixture(scope="module", name="renamed")
def _fixture(): ...
"""


@pytest.fixture
def suite(tmp_path):
    folder = tmp_path / "tests" / "deep"
    folder.mkdir(parents=True)
    (folder / "test_a.py").write_text(MODULE, "utf-8")
    (tmp_path / "tests" / "conftest.py").write_text("def shared(): ...\n", "utf-8")
    return folder


def why(suite, name, module="test_a"):
    return why_unused(suite / "cassettes" / module / name)


LONG = CaseName(None, f"test_parameters[{'x' * 300}]")


@pytest.mark.parametrize(
    "name",
    [
        "test_plain.yaml", "test_async.json", "test_parameters[1].yaml", "test_parameters[a.b-c[d]].yaml", "TestOne.test_method.yaml",
        "TestInner.test_deep.yaml", "TestDerived.test_own.yaml", "TestDerived.test_of_its_base.yaml", "test_in_a_condition.yaml",
        "test_assigned.yaml", "test_imported.yaml", "TestImported.test_any.yaml", "by_marker.yaml", "by_default.yaml",
        "named in a constant.yaml", "documents@module.yaml", "renamed@session.yaml", "shared@session.yaml",
        "test_plain-0a1b2c3d.yaml", "test_parameters[1]-0a1b2c3d.yaml", f"{unique_name(LONG, ())}.yaml",
    ],
)  # fmt: skip
def test_used(suite, name):
    assert why(suite, name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_gone.yaml", "test_a.py has no test test_gone"),
        ("test_gone[1].yaml", "test_a.py has no test test_gone"),
        ("TestOne.test_gone.yaml", "test_a.py has no test TestOne.test_gone"),
        ("TestGone.test_method.yaml", "test_a.py has no test TestGone.test_method"),
        ("test_method.yaml", "test_a.py has no test test_method"),
        ("gone@module.yaml", "neither test_a.py nor a conftest.py above it has a fixture gone"),
    ],
)
def test_unused(suite, name, reason):
    assert why(suite, name) == reason


def test_the_module_is_gone(suite):
    assert why(suite, "test_x.yaml", "test_gone") == "there is no test_gone.py beside cassettes"
    assert why(suite, "test_x.yaml", "x_test") == "there is no x_test.py beside cassettes"


def test_where_it_can_not_be_told(suite, tmp_path):
    assert why(suite, "x.yaml", "openai") is None  # no test module's name
    assert why_unused(suite / "cassettes" / "x.yaml") is None
    assert why_unused(suite / "recordings" / "test_a" / "x.yaml") is None
    assert why_unused(suite / "cassettes" / "test_a" / "group" / "x.yaml") is None
    (suite / "test_broken.py").write_text("def test_x(:", "utf-8")
    assert why(suite, "test_gone.yaml", "test_broken") is None
    for number, line in enumerate(["from other import *", "globals()['test_x'] = 1", "setattr(object, 'test_x', 1)"]):
        (suite / f"test_open{number}.py").write_text(f"{line}\n", "utf-8")
        assert why(suite, "test_gone.yaml", f"test_open{number}") is None


def test_one_folder_for_all_cassettes(suite, tmp_path):
    """``token_cassette_dir = cassettes``."""
    folder = tmp_path / "cassettes" / "tests" / "deep" / "test_a"
    assert why_unused(folder / "test_plain.yaml") is None
    assert why_unused(folder / "test_gone.yaml") == "test_a.py has no test test_gone"
    assert why_unused(tmp_path / "cassettes" / "tests" / "deep" / "test_gone" / "test_x.yaml") is None
