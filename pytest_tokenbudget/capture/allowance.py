"""Whether a live request may be sent: what it could cost at worst is held in the run's account, or it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.capture.scrub import scrub_path
from pytest_tokenbudget.capture.worst_case import UnknownCostError, find_worst_case
from pytest_tokenbudget.errors import SpendingRefused, UnmeasuredUsageError, UnpricedModelError
from pytest_tokenbudget.spending import AccountError, CeilingReached

if TYPE_CHECKING:
    from decimal import Decimal

    from pytest_tokenbudget.capture.tracked_request import TrackedRequest
    from pytest_tokenbudget.capture.worst_case import WorstCase
    from pytest_tokenbudget.pricing import PriceBook
    from pytest_tokenbudget.spending import Account, Balance, Hold

OPTION = "--token-max-spend"


def hold(request: TrackedRequest, account: Account, book: PriceBook) -> Hold | None:
    """Hold what a request could cost; ``None`` for one that costs nothing.

    Raises:
        SpendingRefused: it could pass the ceiling, or nobody can tell. The ledger that it would be billed to knows,
            so that its test fails whatever its code makes of this.
    """
    subject = f"{request.bill.ledgers[0].name}: the request to {scrub_path(request.url)} was not sent: "
    try:
        worst = find_worst_case(request.method, request.url, request.request_body, book)
        if worst is None:
            return None
        try:
            return account.hold(worst.cost)
        except CeilingReached as reached:
            why = _over(worst, reached.balance, account)
    except (UnknownCostError, UnpricedModelError, UnmeasuredUsageError) as error:
        why = _unknown(account, str(error))
    except AccountError as error:
        why = f"nobody can tell what the run has spent of its {OPTION} of {_usd(account.ceiling)}: {error}"
    except Exception as error:  # noqa: BLE001 - whatever it is, nothing is sent that nobody knows the price of
        why = _unknown(account, f"{type(error).__name__}: {error}")
    refusal = SpendingRefused(subject + why)
    request.bill.refuse(str(refusal))
    raise refusal


def _over(worst: WorstCase, balance: Balance, account: Account) -> str:
    held = f" and {_usd(balance.held)} is held for requests whose cost is not known yet" if balance.held else ""
    unlimited = "" if worst.limited else ", as it sets no limit"
    remedy = "lower the request's output limit" if worst.limited else "set an output limit in the request"
    return (
        f"the run has spent {_usd(balance.spent)}{held}, this could cost {_usd(worst.cost)} ({worst.model}, "
        f"{worst.input_tokens:,} tokens in and {worst.output_tokens:,} out at most{unlimited}), and {OPTION} is "
        f"{_usd(account.ceiling)}; raise it, or {remedy} (max_tokens)"
    )


def _unknown(account: Account, why: str) -> str:
    try:
        spent = f"the run has spent {_usd(account.balance.spent)}, "
    except AccountError:
        spent = ""
    return f"{spent}what this could cost is not known, and {OPTION} is {_usd(account.ceiling)}: {why}"


def _usd(amount: Decimal) -> str:
    """USD in full: a figure that is shown never equals the ceiling while it differs."""
    text = format(amount, "f")
    return f"${text.rstrip('0').rstrip('.') if '.' in text else text}"
