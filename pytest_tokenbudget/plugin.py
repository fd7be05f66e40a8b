"""pytest's way in: options, markers and the ``usage`` fixture. Everything else is loaded when a test asks for it."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_tokenbudget.options import DEFAULT_BASELINE, MARKERS, OPTIONS, add_options, asks, ini_keys

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from pytest_tokenbudget.activation import Activation
    from pytest_tokenbudget.tracking import UsageTracker


MADE: pytest.StashKey[dict[Path, list[pytest.Item]]] = pytest.StashKey()
"""The tests that each module made, those included that nobody selected: their names tell which cassette is whose."""


@atexit.register
def _exit() -> None:
    """Let the run fail for what its replayed tests try while the process exits.

    Registered here, before the user's code registers anything, so that it is called after all of that.
    """
    late = sys.modules.get("pytest_tokenbudget.late")
    if late is not None:
        late.exit_process()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Announce the options."""
    add_options(parser)
    # Loaded by its module's name (-p pytest_tokenbudget.plugin), it is not loaded again by its entry point's.
    if pluginmanager.has_plugin(__name__):
        pluginmanager.set_blocked("pytest_tokenbudget")


def pytest_configure(config: pytest.Config) -> None:
    """Check everything that the user said."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[MADE] = {}
    # Who is told of a mistake will ask for help, and shall get it.
    if not config.option.help and _concerns(config):
        _activation(config).check_settings()


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> Generator[None, object, object]:
    """Note every test that a module makes, before a node id on the command line narrows them down."""
    made = yield
    if isinstance(made, list):
        collector.config.stash[MADE].setdefault(collector.path, []).extend(made)
    return made


def pytest_collection_finish(session: pytest.Session) -> None:
    """Open for the tests that ask. Where none does, the run goes on as if the plugin were not there."""
    if any(map(asks, session.items)):
        _activation(session.config).open()


@pytest.fixture
def usage(request: pytest.FixtureRequest) -> UsageTracker:
    """The test's model usage, live: tokens, requests, cost and calls so far."""
    from pytest_tokenbudget.gate import RUNNING  # noqa: PLC0415 - only for tests that ask

    item: pytest.Item = request.node
    running = item.stash.get(RUNNING, None)
    if running is None:
        pytest.fail(
            f"{item.nodeid} asked for usage while it ran, and nothing had counted it until then; take usage as an "
            'argument, mark the test with @pytest.mark.usefixtures("usage"), or run with --token-report',
            pytrace=False,
        )
    return running.tracker


def _activation(config: pytest.Config) -> Activation:
    from pytest_tokenbudget.activation import Activation  # noqa: PLC0415 - not on the start-up path

    return Activation.of(config)


def _concerns(config: pytest.Config) -> bool:
    """Whether there is anything to check and obey: an option, ini key or file of ours, or workers to report for."""
    said = vars(config.option)
    names = ("token_report", "token_update_baseline", "xmlpath", *(each.name for each in OPTIONS if each.flag))
    return (
        any(said.get(name) is not None for name in names)
        or any(key.startswith("token_") for key in (*ini_keys(config), *(said.get("override_ini") or ())))
        or said.get("dist", "no") != "no"
        or (config.rootpath / DEFAULT_BASELINE).exists()
    )
