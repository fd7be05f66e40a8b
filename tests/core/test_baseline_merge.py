from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from pytest_tokenbudget.baseline import load, update
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.record import ModelTokens

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def used(number):
    return {"gpt-4o-mini": ModelTokens(requests=1, input=100 + number, output=number)}


BASE = {f"tests/test_chat.py::test_{letter}": used(0) for letter in "bdf"}
B, D, F = BASE
C, E, A, G = (f"tests/test_chat.py::test_{letter}" for letter in "ceag")


class Repository:
    def __init__(self, folder):
        self.folder = folder
        self.path = folder / "token-baseline.json"
        self.git("init", "-q", "-b", "main")
        (folder / ".gitattributes").write_text("*.json text eol=lf\n")
        update(self.path, BASE)
        self.commit("base")
        self.git("branch", "other")

    def run(self, *words):
        # Nobody's own configuration (a diff driver, signing, hooks, another merge strategy) may decide this test.
        alone = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        return subprocess.run(
            ["git", *who, *words], cwd=self.folder, env=alone, capture_output=True, text=True, timeout=60, check=False
        )

    def git(self, *words):
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "-q", "-m", message)

    def on(self, branch, records, prune_to=None):
        self.git("switch", "-q", branch)
        update(self.path, records, prune_to=prune_to)
        self.commit(branch)

    def merge(self):
        self.git("switch", "-q", "main")
        return self.run("merge", "-q", "--no-edit", "other")


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def both(entry):
    return {model: ModelTokens(requests=7, input=70, cached=7, cache_write=7, output=7) for model in entry}


CASES = {
    "neighbours, one figure each": ({B: used(1)}, {D: used(2)}),
    "neighbours, every figure": ({B: both(used(0))}, {D: both(used(0))}),
    "neighbours, another model each": ({B: {"gpt-5": used(1)["gpt-4o-mini"]}}, {D: {"a-model": used(2)["gpt-4o-mini"]}}),
    "neighbours, a second model each": ({B: {**used(0), "z": used(1)["gpt-4o-mini"]}}, {D: {**used(0), "a": used(1)["gpt-4o-mini"]}}),
    "the first and the last": ({B: used(1)}, {F: used(2)}),
    "one edited, one added behind it": ({B: both(used(0))}, {C: used(0)}),
    "one edited, one added before it": ({D: both(used(0))}, {C: used(0)}),
    "the first edited, one added before it": ({B: both(used(0))}, {A: used(3)}),
    "the last edited, one added behind it": ({F: both(used(0))}, {G: used(3)}),
    "two added in neighbouring gaps": ({C: used(1)}, {E: used(2)}),
    "two added, at both ends": ({A: used(1)}, {G: used(2)}),
    "the same edit on both": ({B: used(1)}, {B: used(1)}),
    "neighbours that used no model before they were edited": ({B: {}}, {D: {}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("swapped", [False, True])
def test_branches_that_touch_different_tests_merge(repository, name, swapped):
    mine, theirs = CASES[name][::-1] if swapped else CASES[name]
    repository.on("main", mine)
    repository.on("other", theirs)
    merged = repository.merge()
    assert merged.returncode == 0, merged.stdout
    assert load(repository.path).tests == {**BASE, **mine, **theirs}


def test_neighbours_that_gain_their_first_model_merge(repository):
    repository.on("main", {B: {}, D: {}})
    repository.git("switch", "-q", "other")
    repository.git("merge", "-q", "main")
    repository.on("main", {B: used(1)})
    repository.on("other", {D: used(2)})
    assert repository.merge().returncode == 0
    assert load(repository.path).tests == {**BASE, B: used(1), D: used(2)}


@pytest.mark.parametrize(("edited", "dropped"), [(B, D), (D, B), (D, F), (F, D)])
def test_dropping_a_test_beside_an_edited_one_merges(repository, edited, dropped):
    repository.on("main", {edited: both(used(0))})
    repository.on("other", {}, prune_to=set(BASE) - {dropped})
    assert repository.merge().returncode == 0
    expected = {**BASE, edited: both(used(0))}
    del expected[dropped]
    assert load(repository.path).tests == expected


def test_one_changed_figure_is_one_changed_line(repository):
    update(repository.path, {D: {"gpt-4o-mini": ModelTokens(requests=1, input=101, output=0)}})
    assert repository.git("diff", "--numstat").split()[:2] == ["1", "1"]


def test_a_real_conflict_is_told_by_its_name(repository):
    repository.on("main", {B: used(1)})
    repository.on("other", {B: used(2)})
    assert repository.merge().returncode == 1
    before = repository.path.read_bytes()
    assert b"<<<<<<<" in before
    for attempt in (lambda: load(repository.path), lambda: update(repository.path, {B: used(3)})):
        with pytest.raises(ConfigurationError, match="unresolved merge conflict"):
            attempt()
    assert repository.path.read_bytes() == before
