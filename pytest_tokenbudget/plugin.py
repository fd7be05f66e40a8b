"""pytest's way in: options, markers, the ``usage`` fixture, and who of the two, gate and collector, works where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_tokenbudget.settings import MARKERS, add_options

if TYPE_CHECKING:
    from pytest_tokenbudget.gate import Gate
    from pytest_tokenbudget.tracking import UsageTracker

GATE: pytest.StashKey[Gate] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Announce the options."""
    add_options(parser)


@pytest.hookimpl(trylast=True)  # xdist decides in its own pytest_configure who is the controller
def pytest_configure(config: pytest.Config) -> None:
    """Check everything that the user said, and set the gate up."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    # Not at the module's top: pytest loads this module in every run, --help and --version included.
    from pytest_tokenbudget import baseline as baselines  # noqa: PLC0415
    from pytest_tokenbudget.collector import Collector  # noqa: PLC0415
    from pytest_tokenbudget.errors import ConfigurationError  # noqa: PLC0415
    from pytest_tokenbudget.gate import Gate  # noqa: PLC0415
    from pytest_tokenbudget.price_file import load_price_file  # noqa: PLC0415
    from pytest_tokenbudget.pricing import PriceBook  # noqa: PLC0415
    from pytest_tokenbudget.settings import Settings  # noqa: PLC0415

    try:
        settings = Settings.from_pytest_config(config)
        prices = None if settings.prices is None else load_price_file(settings.prices)
        baseline = baselines.load(settings.baseline) if settings.judges_baseline else None
        if settings.baseline_update is not None and settings.baseline.exists():
            baselines.load(settings.baseline)  # a broken one is refused before any test runs
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None
    book = PriceBook(prices, settings.price_date)
    is_worker = hasattr(config, "workerinput")
    is_controller = config.pluginmanager.hasplugin("dsession")
    if not is_controller:
        gate = Gate(settings, book, baseline)
        gate.open()
        config.stash[GATE] = gate
        config.pluginmanager.register(gate, "pytest_tokenbudget_gate")
    if not is_worker:
        collector = Collector(config, settings, book, baseline)
        config.pluginmanager.register(collector, "pytest_tokenbudget_collector")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what was used after the last test to the one who reports."""
    gate = session.config.stash.get(GATE, None)
    if gate is None:
        return
    left = gate.drain_shared()
    if hasattr(session.config, "workeroutput"):
        from pytest_tokenbudget.collector import LEFTOVER  # noqa: PLC0415 - only in a worker

        session.config.workeroutput[LEFTOVER] = [record.to_dict() for record in left]
    elif collector := session.config.pluginmanager.get_plugin("pytest_tokenbudget_collector"):
        collector.take_shared(left)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was found."""
    gate = config.stash.get(GATE, None)
    if gate is not None:
        gate.close()


@pytest.fixture
def usage(request: pytest.FixtureRequest) -> UsageTracker:
    """The test's model usage, live: tokens, requests, cost and calls so far."""
    from pytest_tokenbudget.gate import PASSING  # noqa: PLC0415 - only for tests that ask

    tracker: UsageTracker = request.node.stash[PASSING].tracker
    return tracker
