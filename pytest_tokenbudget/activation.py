"""Opens the gate and the collector when there is something for them to do; else nothing of them is loaded."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from decimal import Decimal

    from pytest_tokenbudget.baseline import Baseline
    from pytest_tokenbudget.collector import Collector
    from pytest_tokenbudget.extent import Extent
    from pytest_tokenbudget.gate import Gate
    from pytest_tokenbudget.handover import Post
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.settings import Settings
    from pytest_tokenbudget.spending import Account
    from pytest_tokenbudget.summary import Note

_NAME = "pytest_tokenbudget_activation"


class Activation:
    """What one session, in one process, has opened so far: a plugin of its own."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings: Settings | None = None
        self._book: PriceBook
        self._baseline: Baseline | None = None
        self._account: Account | None = None
        self._gate: Gate | None = None
        self._collector: Collector | None = None
        self._extent: Extent | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> Activation:
        """The session's own, registered with pytest the first time that somebody wants it."""
        activation: Activation | None = config.pluginmanager.get_plugin(_NAME)
        if activation is None:
            activation = cls(config)
            config.pluginmanager.register(activation, _NAME)
        return activation

    def check_settings(self) -> None:
        """Read what the user said, before any test is collected.

        Raises:
            pytest.UsageError: something of it is not allowed.
        """
        settings = self._read_settings()
        if settings.max_spend is not None:
            self._open_account(settings.max_spend)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist where the account lies that all of them share."""
        if self._account is not None:
            from pytest_tokenbudget.spending import TICKET  # noqa: PLC0415 - it is loaded by now

            node.workerinput[TICKET] = self._account.ticket

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Open for every test, if something asks for the figures of all."""
        if self._is_controller():
            # It collects no tests, so it can't know whether one will ask. Figures behind names begin with the first.
            if self._settings is None and self._config.get_verbosity(pytest.Config.VERBOSITY_TEST_CASES) <= 0:
                self._stand_by()
            else:
                self._open_collector()
            if self._account is not None:
                self._open_gate()  # hooks of the user's own may spend here too
        elif self._settings is not None and self._settings.counts_all:
            self.open()

    def open(self) -> None:
        """Open for the tests that ask."""
        self._open_gate()
        self._open_collector()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Let the run as a whole be judged while pytest still decides how it ends.

        Here, since the collector may be opened while this goes on.
        """
        result = yield
        if self._collector is not None:
            self._collector.end_tests(session)
        return result

    @pytest.hookimpl(trylast=True)  # the user's own may do something; the collector's, which reports, comes after it
    def pytest_sessionfinish(self) -> None:
        """Hand what was used, and tried, after the last test to the one who reports."""
        if self._gate is None:
            return
        late = self._gate.take_late()
        left = self._gate.drain_rest()
        if self._extent is not None and hasattr(self._config, "workeroutput"):
            from pytest_tokenbudget.extent import DESELECTED  # noqa: PLC0415 - it is loaded by now
            from pytest_tokenbudget.handover import LATE, LEFTOVER  # noqa: PLC0415 - likewise
            from pytest_tokenbudget.plain_record import plain_shared  # noqa: PLC0415 - likewise

            self._config.workeroutput[LEFTOVER] = [plain_shared(record) for record in left]
            self._config.workeroutput[LATE] = late
            self._config.workeroutput[DESELECTED] = self._extent.deselected
        elif self._collector is not None:
            self._collector.take_shared(left)
            self._collector.take_late(late)

    def pytest_unconfigure(self) -> None:
        """Leave the process as it was found, but for what replayed tests have left behind in it."""
        if self._account is not None and not hasattr(self._config, "workerinput"):
            self._account.close()
        if self._gate is None:
            return
        self._gate.close()
        from pytest_tokenbudget.late import Aftermath, spool, spool_path, tell_at_exit  # noqa: PLC0415 - loaded by now

        if hasattr(self._config, "workerinput"):
            tell: Callable[[list[Note]], bool] = partial(spool, spool_path(self._config.workerinput))
        elif self._collector is not None:
            tell = self._collector.amend
        else:
            return
        aftermath = Aftermath(self._gate.late, tell)
        aftermath.settle()
        tell_at_exit(aftermath)

    def _is_controller(self) -> bool:
        """Whether this process only hands tests to xdist's workers."""
        return self._config.pluginmanager.hasplugin("dsession")

    def _read_settings(self, *, baseline: bool = True) -> Settings:
        if self._settings is None:
            from pytest_tokenbudget.errors import ConfigurationError  # noqa: PLC0415 - not on the start-up path
            from pytest_tokenbudget.settings import Settings  # noqa: PLC0415 - likewise

            try:
                settings = Settings.from_pytest_config(self._config)
                self._settings = settings if baseline else replace(settings, judges_baseline=False)
                self._book, self._baseline = self._settings.load_files()
            except ConfigurationError as error:
                raise pytest.UsageError(str(error)) from None
        return self._settings

    def _open_account(self, ceiling: Decimal) -> None:
        from pytest_tokenbudget.spending import TICKET, Account  # noqa: PLC0415 - only where there is a ceiling

        worker: dict[str, Any] | None = getattr(self._config, "workerinput", None)
        try:
            self._account = Account.open(ceiling) if worker is None else Account.join(ceiling, worker.get(TICKET))
        except OSError as error:
            raise pytest.UsageError(
                f"token budget: there is no place for the account that --token-max-spend needs: {error}"
            ) from None

    @cached_property
    def _post(self) -> Post:
        from pytest_tokenbudget.handover import Post  # noqa: PLC0415 - not on the start-up path

        return Post(to_controller=hasattr(self._config, "workerinput"))

    def _open_gate(self) -> None:
        if self._gate is None:
            from pytest_tokenbudget.gate import Gate  # noqa: PLC0415 - not on the start-up path

            settings = self._read_settings()
            self._gate = Gate(settings, self._book, self._baseline, self._account, self._post)
            self._gate.open(self._config.pluginmanager, runs_tests=not self._is_controller())
            if hasattr(self._config, "workerinput"):
                from pytest_tokenbudget.extent import Extent  # noqa: PLC0415 - not on the start-up path

                self._extent = Extent()
                self._config.pluginmanager.register(self._extent, "pytest_tokenbudget_extent")

    def _stand_by(self) -> None:
        from pytest_tokenbudget.standby import Standby  # noqa: PLC0415 - on a controller alone

        manager = self._config.pluginmanager
        manager.register(Standby(self._open_late, manager), "pytest_tokenbudget_standby")

    def _open_late(self) -> Collector:
        self._read_settings(baseline=False)  # there was none: one that has appeared since is of the next run
        return self._make_collector()

    def _open_collector(self) -> None:
        if self._collector is None and not hasattr(self._config, "workerinput"):
            self._make_collector()

    def _make_collector(self) -> Collector:
        from pytest_tokenbudget.collector import Collector  # noqa: PLC0415 - not on the start-up path

        settings = self._read_settings()
        self._collector = Collector(self._config, settings, self._book, self._baseline, self._post)
        self._collector.start()
        self._config.pluginmanager.register(self._collector, "pytest_tokenbudget_collector")
        return self._collector
