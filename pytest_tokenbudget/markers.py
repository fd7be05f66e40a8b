"""What the markers of one test say: its budget and its cassette, or why they can't be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.budget import Budget
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.frozen import remade
from pytest_tokenbudget.misspelling import meant_by
from pytest_tokenbudget.options import BUDGET, CASSETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

RECORD_MODES = ("none", "once", "new_episodes", "all", "rewrite")
MATCHERS = ("method", "scheme", "host", "port", "path", "query", "uri", "url", "headers", "raw_body", "body")


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerSettings:
    """What the markers of one test say.

    Attributes:
        budget: its limits, each from the closest marker that sets it, then from the ini defaults.
        marked: whether any marker of ours stands on it.
        cassette: the name of its cassette, if a marker gives one.
        record: the record mode, if a marker gives one.
        match_on: vcrpy matchers, if a marker gives them.
    """

    budget: Budget
    marked: bool = False
    cassette: str | None = None
    record: str | None = None
    match_on: tuple[str, ...] | None = None
    origins: Mapping[str, str] = field(default_factory=dict)


def read_markers(item: pytest.Item, defaults: Budget) -> MarkerSettings:
    """Read a test's markers.

    Raises:
        ConfigurationError: a marker is misspelt or says something that is not allowed; one line that names the test.
    """
    budget, marked = Budget(), False
    cassette: dict[str, Any] = {}
    for node, mark in item.iter_markers_with_node():
        if mark.name == BUDGET:
            marked = True
            budget = budget.over(_budget(item, node, mark))
        elif mark.name == CASSETTE:
            marked = True
            cassette = {**_cassette(item, node, mark), **cassette}
        elif (meant := meant_by(mark.name)) is not None:
            raise ConfigurationError(
                f"{item.nodeid}: @pytest.mark.{mark.name} is not known; did you mean @pytest.mark.{meant}?"
            )
    budget = budget.over(defaults)
    if budget.min_requests is None and any(mark.name == BUDGET for mark in item.own_markers):
        budget = remade(budget, min_requests=1)
    return MarkerSettings(budget=budget, marked=marked, **cassette)


def _budget(item: pytest.Item, node: Any, mark: pytest.Mark) -> Budget:
    origin = _origin(item, node, mark)
    if mark.args:
        raise ConfigurationError(
            f"{origin}: takes keywords only, such as max_cost=0.001; it was given {', '.join(map(repr, mark.args))}"
        )
    return Budget.from_limits(mark.kwargs, origin=origin)


def _cassette(item: pytest.Item, node: Any, mark: pytest.Mark) -> dict[str, Any]:
    origin = _origin(item, node, mark)
    unknown = sorted(set(mark.kwargs) - {"name", "record", "match_on"})
    if unknown:
        raise ConfigurationError(f"{origin}: unknown keyword {unknown[0]}; allowed are name, record and match_on")
    if len(mark.args) + ("name" in mark.kwargs) > 1:
        raise ConfigurationError(f"{origin}: takes one name")
    said: dict[str, Any] = {}
    if mark.args or "name" in mark.kwargs:
        said["cassette"] = name = mark.args[0] if mark.args else mark.kwargs["name"]
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"{origin}: name={name!r} is not allowed; it must be the name of a cassette")
    if "record" in mark.kwargs:
        said["record"] = mode = mark.kwargs["record"]
        if mode not in RECORD_MODES:
            raise ConfigurationError(
                f"{origin}: record={mode!r} is not allowed; it must be one of {', '.join(RECORD_MODES)}"
            )
    if "match_on" in mark.kwargs:
        match_on = mark.kwargs["match_on"]
        if not isinstance(match_on, list | tuple) or not match_on or any(each not in MATCHERS for each in match_on):
            raise ConfigurationError(
                f"{origin}: match_on={match_on!r} is not allowed; it must be a list of {', '.join(MATCHERS)}"
            )
        said["match_on"] = tuple(match_on)
    return said


def _origin(item: pytest.Item, node: Any, mark: pytest.Mark) -> str:
    where = "" if node is item else f" on {getattr(node, 'nodeid', '') or node.name}"
    return f"{item.nodeid}: @pytest.mark.{mark.name}{where}"
