"""pytest's way in: options, markers and the ``usage`` fixture. Everything else is loaded when a test asks for it.

PYTEST_DONT_REWRITE: it is there before a second run in one process asks for its assertions, and has none.
"""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

import pytest

from pytest_tokenbudget import options

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path  # noqa: F401 - for a type comment: annotations would be one more name

    from pytest_tokenbudget.tracking import UsageTracker


pytest_addoption = options.pytest_addoption

MADE = pytest.StashKey()  # type: pytest.StashKey[dict[Path, list[pytest.Item]]]
"""The tests that each module made, those included that nobody selected: their names tell which cassette is whose."""


@atexit.register
def _exit() -> None:
    """Let the run fail for what its replayed tests try while the process exits.

    Registered here, before the user's code registers anything, so that it is called after all of that.
    """
    import sys  # noqa: PLC0415 - see the end of this module

    late = sys.modules.get("pytest_tokenbudget.late")
    if late is not None:
        late.exit_process()


def pytest_configure(config: pytest.Config) -> None:
    """Check everything that the user said."""
    from pytest_tokenbudget import options  # noqa: PLC0415 - see the end of this module

    for marker in options.MARKERS:
        config.addinivalue_line("markers", marker)
    config.stash[MADE] = {}
    # Who is told of a mistake will ask for help, and shall get it.
    said = not config.option.help and options.concern(config)
    if said or getattr(config.option, "dist", "no") != "no":  # workers may have tests that ask
        from pytest_tokenbudget.activation import Activation  # noqa: PLC0415 - not on the start-up path

        activation = Activation.of(config)
        if said:
            activation.check_settings()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Note every test that a module or class made, before a node id on the command line narrows them down.

    Asked once for each of them: whoever is asked for each name in them makes every test dearer, also where none asks.
    """
    report = yield
    for node in report.result or ():
        if isinstance(node, pytest.Item):
            node.config.stash[MADE].setdefault(node.path, []).append(node)
    return report


def pytest_collection_finish(session: pytest.Session) -> None:
    """Open for the tests that ask. Where none does, the run goes on as if the plugin were not there."""
    from pytest_tokenbudget import options  # noqa: PLC0415 - see the end of this module

    if any(map(options.asks, session.items)):
        from pytest_tokenbudget.activation import Activation  # noqa: PLC0415 - only for tests that ask

        Activation.of(session.config).open()


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


# pytest examines all that a plugin's module holds, in search of fixtures: what nobody needs any more goes.
del TYPE_CHECKING, annotations, atexit, options, _exit
