"""Which cassettes no test asked for: by what files they are, not by how they were named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_tokenbudget.unasked import unasked_cassettes


@pytest.fixture
def folder(tmp_path):
    """Two folders with cassettes, one of them a shared fixture's, and other files."""
    for name in ("b/x.yaml", "b/y.yaml", "b/.z.yaml", "b/module@fixture.yaml", "b/x.json", "a/x.yaml", "a/w.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "folder.yaml.d").mkdir()
    return tmp_path


def test_what_lies_beside_and_was_not_asked_for(folder):
    asked = [str(folder / "b" / "x.yaml"), str(folder / "a" / "x.yaml")]
    assert unasked_cassettes(asked) == [folder / "a" / "w.yaml", folder / "b" / ".z.yaml", folder / "b" / "y.yaml"]
    assert unasked_cassettes([*asked, str(folder / "a" / "w.yaml")]) == [
        folder / "b" / ".z.yaml",
        folder / "b" / "y.yaml",
    ]


def test_a_folder_of_which_nothing_was_asked_is_not_looked_at(folder):
    assert unasked_cassettes([str(folder / "a" / "x.yaml")]) == [folder / "a" / "w.yaml"]
    assert unasked_cassettes([]) == []


def test_a_cassette_or_a_folder_that_does_not_exist_is_no_fault(folder):
    assert unasked_cassettes([str(folder / "a" / "new.yaml"), str(folder / "none" / "x.yaml")]) == [
        folder / "a" / "w.yaml",
        folder / "a" / "x.yaml",
    ]


def test_a_name_from_here(folder, monkeypatch):
    monkeypatch.chdir(folder / "a")
    assert unasked_cassettes(["x.yaml"]) == [folder / "a" / "w.yaml"]
    assert unasked_cassettes(["../a/x.yaml"]) == [folder / "a" / "w.yaml"]


def test_links_are_what_they_point_to(folder):
    (folder / "link").symlink_to(folder / "a", target_is_directory=True)
    (folder / "a" / "alias.yaml").symlink_to(folder / "a" / "x.yaml")
    asked = [str(folder / "link" / "alias.yaml")]
    assert unasked_cassettes(asked) == [Path(os.path.realpath(folder / "a" / "w.yaml"))]
