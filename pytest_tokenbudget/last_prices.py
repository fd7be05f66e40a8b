"""The prices of the last run, in pytest's cache: what costs more today may only be priced anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.report.figures import describe_prices

if TYPE_CHECKING:
    import pytest

    from pytest_tokenbudget.summary import PriceTable

_KEY = "token_budget/prices"


def note_prices(config: pytest.Config, prices: PriceTable) -> str | None:
    """Remember a run's prices for the next one.

    Args:
        config: pytest's; without its cache (``-p no:cacheprovider``) nothing is remembered.
        prices: the table.

    Returns:
        A sentence where they are others than those of the last run here; else ``None``.
    """
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if cache is None:
        return None
    now = [describe_prices({**prices, "overrides": []}), ", ".join(prices["overrides"])]
    before = cache.get(_KEY, None)
    if before == now:
        return None
    cache.set(_KEY, now)
    match before:
        case [str(table), str()]:
            changed = table if table != now[0] else "your own file has changed"
            return f"not those of the last run here ({changed}): costs moved with them, baselines did not"
    return None
