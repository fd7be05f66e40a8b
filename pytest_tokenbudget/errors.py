"""The exceptions a user can meet, one family."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class TokenBudgetError(Exception):
    """Base of every error that pytest-tokenbudget raises on purpose."""


class ConfigurationError(TokenBudgetError):
    """An option, ini value, marker argument, price file or baseline file is not usable.

    The message is one line: where the value came from, the value, what is allowed.
    """


class UnpricedModelError(TokenBudgetError):
    """The usage is known, but there is no price for the model. Never means zero.

    Attributes:
        models: the names of the models without a price, sorted.
    """

    def __init__(self, models: Iterable[str], message: str | None = None) -> None:
        self.models = tuple(sorted(set(models)))
        named = ", ".join(repr(model) for model in self.models)
        super().__init__(
            message
            or f"no price for {named}; add it to the file that the ini option token_prices names, "
            f"for example [models.{_toml_key(self.models)}] input = 3.00, output = 15.00 (USD per million tokens)"
        )

    def __reduce__(self) -> tuple[type[UnpricedModelError], tuple[tuple[str, ...], str]]:
        return type(self), (self.models, str(self))


class UnmeasuredUsageError(TokenBudgetError):
    """The provider reported no usage and no honest estimate is possible. Never means zero."""


class BudgetExceeded(TokenBudgetError, AssertionError):  # noqa: N818 - the public contract names it so
    """A block under ``usage.track(...)`` or ``track_usage(...)`` went over its limits."""


class CassetteError(TokenBudgetError):
    """A cassette file can't be used; the message holds its path and the reason."""


class ReplayMiss(BaseException):
    """No recording answers a request of a replayed test.

    It is no ``Exception``: code under test that retries or swallows exceptions must neither wait for a
    back-off that can't help nor carry on as if an answer had come. The plugin turns it into the test's failure.
    """


class SpendingRefused(BaseException):
    """A live request was not sent, because it could bring the run above ``--token-max-spend``.

    It is no ``Exception`` for the same reasons as ``ReplayMiss``, and fails the test in the same way.
    """


def _toml_key(models: tuple[str, ...]) -> str:
    model = models[0] if models else "my-model"
    return '"' + model.replace("\\", "\\\\").replace('"', '\\"') + '"'
