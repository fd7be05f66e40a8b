"""Where prices come from, told without importing genai-prices: for reports of runs that priced nothing."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tokenbudget import price_table

if TYPE_CHECKING:
    from datetime import date

    from pytest_tokenbudget.summary import PriceTable

_PACKAGE = "genai_prices"
_REMARK = "price_comments="


def describe_unread(own: list[str], price_date: date | None) -> PriceTable:
    """The same as ``PriceBook.describe`` says, from the table's text; the day is ``None`` where the text hides it.

    Args:
        own: the user's own prices, as ``PriceBook.own`` names them.
        price_date: the day whose list prices hold, if the user named one.
    """
    day = price_date or newest_check_in_text()
    return {
        "source": price_table.SOURCE,
        "version": price_table.installed_version(),
        "date": None if day is None else day.isoformat(),
        "overrides": own,
    }


@cache
def newest_check_in_text() -> date | None:
    """The newest day on which somebody checked a price of the installed table, as its remarks say.

    Importing the table takes ten times as long as reading its text. Where it was imported anyway, it is asked.
    """
    if f"{_PACKAGE}.data" in sys.modules:
        return price_table.newest_check()
    spec = find_spec(_PACKAGE)  # of a package's top, this imports nothing
    if spec is None or spec.origin is None:
        return None
    try:
        text = (Path(spec.origin).parent / "data.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    remarks = [line for line in text.splitlines() if _REMARK in line]
    return max((day for remark in remarks for day in price_table._checks(remark)), default=None)  # noqa: SLF001
