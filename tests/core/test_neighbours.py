from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_tokenbudget.neighbours import ungrouped_nodeid


@pytest.mark.parametrize(
    ("name", "nodeid", "plain"),
    [
        ("test_it", "a.py::test_it", "a.py::test_it"),
        ("test_it", "a.py::test_it@one_two", "a.py::test_it"),
        ("test_it", "a.py::test_it@test_it", "a.py::test_it"),
        ("test_it[x@y]", "a.py::test_it[x@y]", "a.py::test_it[x@y]"),
        ("test_it[x@y]", "a.py::test_it[x@y]@g", "a.py::test_it[x@y]"),
        ("step", "flow.yaml@step", "flow.yaml@step"),
    ],
)
def test_a_group_of_xdist_is_no_part_of_a_tests_name(name, nodeid, plain):
    assert ungrouped_nodeid(SimpleNamespace(name=name, nodeid=nodeid, parent=SimpleNamespace(nodeid="a.py"))) == plain
