"""Names of cassettes: pytest-recording's, and none that two tests share, that is too long or leads astray."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_recording.plugin import get_default_cassette_name

from pytest_tokenbudget.capture.layout import (
    CaseName,
    cassette_name,
    check_inside,
    fixture_cassette,
    module_folder,
    named_cassette,
    shared_names,
    unique_name,
)


class Owner:
    class Inner:
        pass


@given(st.text())
def test_names_are_those_of_pytest_recording(name):
    assert cassette_name(CaseName(None, name)) == get_default_cassette_name(None, name)
    assert cassette_name(CaseName("Owner", name)) == get_default_cassette_name(Owner, name)
    assert cassette_name(CaseName("Owner.Inner", name)) == get_default_cassette_name(Owner.Inner, name)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (CaseName(None, "test_x[a/b]"), CaseName(None, "test_x[a:b]")),
        (CaseName(None, "test_x[a/b]"), CaseName(None, "test_x[a-b]")),
        (CaseName(None, "test_x[a]"), CaseName(None, "test_x[A]")),
        (CaseName(None, "test_x[straße]"), CaseName(None, "test_x[STRASSE]")),
        (
            CaseName(None, "test_x[\u00e9]"),
            CaseName(None, "test_x[e\u0301]"),
        ),  # one letter or two, to see no difference
        (CaseName(None, "test_x[\u00c5]"), CaseName(None, "test_x[\u212b]")),
        (CaseName(None, "test_x[\u1fb3]"), CaseName(None, "test_x[\u1fbc]")),
        (CaseName("One.Inner", "test_x"), CaseName("Other.Inner", "test_x")),
        (CaseName(None, "test_x[" + "a" * 300 + "1]"), CaseName(None, "test_x[" + "a" * 300 + "2]")),
    ],
)
def test_two_tests_never_share_a_cassette(one, other):
    shared = shared_names([one, other, CaseName(None, "test_y")])
    names = {unicodedata.normalize("NFD", unique_name(each, shared)).casefold() for each in (one, other)}
    assert len(names) == 2
    assert unique_name(CaseName(None, "test_y"), shared) == "test_y"


def test_the_same_test_twice_is_no_collision():
    test = CaseName("TestX", "test_a")
    assert unique_name(test, shared_names([test, test])) == "TestX.test_a"


def test_a_name_does_not_move_when_another_test_comes():
    one, other = CaseName(None, "test_x[a/b]"), CaseName(None, "test_x[a:b]")
    two = shared_names([one, other])
    three = shared_names([CaseName(None, "test_x[a*b]"), other, one])
    assert unique_name(one, two) == unique_name(one, three)


@given(st.text(st.characters(codec=None), max_size=400))
def test_each_name_fits_a_file_system(tmp_path_factory, name):
    made = unique_name(CaseName(None, f"test_x[{name}]"), frozenset()) + ".yaml"
    assert len(made.encode("utf-8")) <= 250
    assert "/" not in made
    assert "\0" not in made
    assert made.isprintable()


def test_long_and_strange_names_can_be_written(tmp_path):
    for name in ("é" * 300, "猫" * 120, "a\nb\0c", "\ud800", "con", "x" * 300):
        path = tmp_path / (unique_name(CaseName(None, f"test_x[{name}]"), frozenset()) + ".yaml")
        path.write_text("here", "utf-8")
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("name", ["con", "NUL", "aux.x", "Com1", "lpt9"])
def test_names_of_devices_are_no_names_of_files(name):
    # Windows opens its console for con.yaml.
    assert unique_name(CaseName(None, name), frozenset()).startswith(f"{name}-")


@pytest.mark.parametrize("name", ["test_con", "console", "com0", "test_x[nul]"])
def test_names_that_only_look_like_devices_are_theirs(name):
    assert unique_name(CaseName(None, name), frozenset()) == name


def test_cassettes_lie_beside_the_test_or_in_the_folder_of_the_ini_file():
    module = Path("/project/tests/unit/test_a.py")
    assert module_folder(module, None, Path("/project")) == Path("/project/tests/unit/cassettes/test_a")
    assert module_folder(module, Path("/project/recorded"), Path("/project")) == Path(
        "/project/recorded/tests/unit/test_a"
    )
    assert module_folder(module, Path("/recorded"), Path("/elsewhere")) == Path("/recorded/test_a")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("greeting", "test_a/greeting.yaml"),
        ("sub/x.yml", "test_a/sub/x.yml"),
        ("../common", "common.yaml"),
        ("v1.0", "test_a/v1.0.yaml"),
        ("x.json", "test_a/x.json"),
    ],
)
def test_named_cassettes(tmp_path, name, path):
    folder = tmp_path / "cassettes" / "test_a"
    assert named_cassette(folder, name).resolve() == (tmp_path / "cassettes" / path).resolve()


@pytest.mark.parametrize("name", ["x" * 241, "é" * 121, "sub/" + "x" * 241, "y" * 241 + "/x"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="longer than 240 bytes"):
        named_cassette(tmp_path / "cassettes" / "test_a", name)


@pytest.mark.parametrize(
    "name", ["", "  ", "a\0b", "../../victim", "/etc/passwd", "x/../../../y", "../../../../../../etc/x"]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(ValueError):
        named_cassette(tmp_path / "cassettes" / "test_a", name)


def test_links_that_lead_out_or_in_a_circle_are_refused(tmp_path):
    folder = tmp_path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    victim = tmp_path / "victim.yaml"
    (folder / "out.yaml").symlink_to(victim)
    (folder / "in.yaml").symlink_to(folder / "other.yaml")
    (folder / "circle.yaml").symlink_to(folder / "circle.yaml")
    (folder / "session@session.yaml").symlink_to(victim)
    check_inside(folder / "in.yaml", folder.parent)
    with pytest.raises(ValueError, match="leads out"):
        check_inside(folder / "out.yaml", folder.parent)
    with pytest.raises(ValueError, match="leads out"):
        fixture_cassette(folder, "session", "session")
    try:
        check_inside(folder / "circle.yaml", folder.parent)
    except ValueError as error:
        assert "can't be followed" in str(error)  # newer Pythons stop at the link and call it inside


def test_a_folder_of_cassettes_may_itself_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "cassettes").symlink_to(tmp_path / "real")
    check_inside(tmp_path / "cassettes" / "test_a" / "x.yaml", tmp_path / "cassettes")


def test_a_session_fixture_finds_its_cassette_beside_another_module(tmp_path):
    mine, theirs = tmp_path / "test_b", tmp_path / "test_a"
    assert fixture_cassette(mine, "index", "session") == mine / "index@session.yaml"
    theirs.mkdir()
    (theirs / "index@session.yaml").write_text("x")
    assert fixture_cassette(mine, "index", "session") == theirs / "index@session.yaml"
    assert fixture_cassette(mine, "index", "module") == mine / "index@module.yaml"
    mine.mkdir()
    (mine / "index@session.yaml").write_text("x")
    assert fixture_cassette(mine, "index", "session") == mine / "index@session.yaml"
