"""The account of a run: what is spent and what is held never pass the ceiling together, whoever asks at once."""

from __future__ import annotations

import decimal
import gc
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget import spending
from pytest_tokenbudget.spending import Account, AccountError, Balance, CeilingReached, Spending
from pytest_tokenbudget.usage import ModelCall, Usage


def usd(text):
    return Decimal(text)


@pytest.fixture
def account():
    account = Account.open(usd("1"))
    yield account
    account.close()


def test_a_hold_takes_room_and_gives_back_what_it_did_not_need(account):
    hold = account.hold(usd("0.7"))
    assert account.balance == Balance(usd("0"), usd("0.7"))
    with pytest.raises(CeilingReached) as caught:
        account.hold(usd("0.31"))
    assert caught.value.balance == Balance(usd("0"), usd("0.7"))
    hold.settle(usd("0.2"))
    assert account.balance == Balance(usd("0.2"), usd("0"))
    account.hold(usd("0.31"))
    assert account.balance == Balance(usd("0.2"), usd("0.31"))


def test_the_ceiling_itself_is_allowed(account):
    account.hold(usd("0.4"))
    account.hold(usd("0.6"))
    with pytest.raises(CeilingReached):
        account.hold(usd("0.000000000001"))
    account.hold(usd("0"))  # what costs nothing passes no ceiling


def test_a_hold_ends_once(account):
    hold = account.hold(usd("0.5"))
    hold.release()
    hold.release()
    hold.settle(usd("0.5"))
    assert account.balance == Balance()


def test_what_cost_more_than_was_held_is_spent_all_the_same(account):
    account.hold(usd("0.5")).settle(usd("1.5"))
    assert account.balance == Balance(usd("1.5"), usd("0"))
    with pytest.raises(CeilingReached):
        account.hold(usd("0.0001"))


def test_nothing_held_before_can_be_charged(account):
    account.charge(usd("0.9"))
    with pytest.raises(CeilingReached):
        account.hold(usd("0.2"))


def test_nothing_may_be_spent_below_a_ceiling_of_nothing():
    account = Account.open(usd("0"))
    with pytest.raises(CeilingReached):
        account.hold(usd("1e-18"))
    account.close()


def test_it_is_exact_whatever_a_test_makes_of_decimals():
    account = Account.open(usd("1.000000000000000002"))
    with decimal.localcontext(decimal.Context(prec=2)) as context:
        context.traps[decimal.Inexact] = True
        account.hold(usd("1")).settle(usd("0.999999999999999999"))
        account.hold(usd("0.000000000000000003"))
        with pytest.raises(CeilingReached):
            account.hold(usd("0.000000000000000001"))
    account.close()


@settings(deadline=None, max_examples=40)  # each step writes a file
@given(
    st.lists(
        st.tuples(st.decimals(0, 2, places=6), st.sampled_from(["settle", "release", "keep"]), st.decimals(0, 1, places=2)),
        max_size=12,
    )
)  # fmt: skip
def test_what_is_let_through_never_passes_the_ceiling(requests):
    """The law: whatever comes in whatever order, what was let through costs at most the ceiling."""
    ceiling = usd("3")
    account = Account.open(ceiling)
    spent, kept = usd("0"), usd("0")
    for worst, end, share in requests:
        try:
            hold = account.hold(worst)
        except CeilingReached as reached:
            assert reached.balance == Balance(spent, kept)
            assert spent + kept + worst > ceiling
            continue
        assert spent + kept + worst <= ceiling
        if end == "settle":
            hold.settle(worst * share)
            spent += worst * share
        elif end == "release":
            hold.release()
        else:
            kept += worst
    assert account.balance == Balance(spent, kept)
    account.close()


def test_threads_share_it(account):
    def take(_):
        try:
            account.hold(usd("0.1"))
        except CeilingReached:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(take, range(60))) == 10


WORKER = """
import json, sys
from decimal import Decimal
from pytest_tokenbudget.spending import Account, CeilingReached
account = Account.join(Decimal(1), json.loads(sys.argv[1]))
taken = 0
for number in range(40):
    try:
        hold = account.hold(Decimal("0.02"))
    except CeilingReached:
        continue
    if number % 2:
        hold.settle(Decimal("0.01"))
    taken += 1
print(taken)
"""


def test_processes_share_it(account):
    """Two hold 0.02 each, and half of these cost 0.01 in the end: 1 = 0.02 kept + 0.01 spent, 33 times."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(account.ticket)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    taken = sum(int(worker.communicate(timeout=120)[0]) for worker in workers)
    balance = account.balance
    assert balance.total <= 1
    assert balance.spent / usd("0.01") + balance.held / usd("0.02") == taken
    with pytest.raises(CeilingReached):
        account.hold(usd("0.02"))


def test_a_killed_process_leaves_what_it_held_as_held(account):
    script = WORKER.replace("print(taken)", "import os; os.kill(os.getpid(), 9)")
    worker = subprocess.run(
        [sys.executable, "-c", script, json.dumps(account.ticket)], timeout=60, check=False, capture_output=True
    )
    assert worker.returncode != 0
    assert account.balance.held > 0


def test_another_machine_can_t_share_it(account):
    elsewhere = Account.join(usd("1"), account.ticket | {"machine": "elsewhere.example"})
    with pytest.raises(AccountError, match="elsewhere"):
        elsewhere.hold(usd("0.1"))
    with pytest.raises(AccountError):
        assert elsewhere.balance
    elsewhere.charge(usd("1"))  # it has none to enter this in, and lets nothing through
    with pytest.raises(AccountError, match="was not told"):
        Account.join(usd("1"), None).hold(usd("0"))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"spent": "NaN", "held": "0"}', b'{"spent": "x", "held": "0"}', b"\xff"]
)
def test_a_broken_file_lets_nothing_through(account, content):
    Path(account.ticket["path"]).write_bytes(content)
    with pytest.raises(AccountError, match="does not hold what was written"):
        account.hold(usd("0"))


def test_a_file_that_is_gone_lets_nothing_through(account):
    account.close()
    with pytest.raises(AccountError):
        account.hold(usd("0"))
    account.charge(usd("1"))  # where answers are read, nothing may fail


def test_a_change_that_could_not_be_written_is_not_lost(account, monkeypatch):
    hold = account.hold(usd("0.5"))

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(spending, "write_atomically", fail)
        hold.settle(usd("0.1"))
        with pytest.raises(AccountError, match="no space left"):
            account.hold(usd("0.1"))
    assert account.balance == Balance(usd("0.1"), usd("0"))


def test_an_answer_that_a_finalizer_ends_in_the_middle_of_a_turn_is_entered_too(account, monkeypatch):
    first = account.hold(usd("0.3"))
    write, inside = spending.write_atomically, []

    def write_and_collect(*args):
        if not inside:
            inside.append(threading.get_ident())
            first.settle(usd("0.2"))  # as a generator's close would, when the collector finds it right here
            gc.collect()
        write(*args)

    monkeypatch.setattr(spending, "write_atomically", write_and_collect)
    account.hold(usd("0.5"))
    assert account.balance == Balance(usd("0.2"), usd("0.5"))


def test_its_lock_lies_where_its_file_does(account, monkeypatch, tmp_path):
    """Whatever a test makes of the folder for temporary files, all workers use the same lock."""
    seen = []
    locked = spending.locked
    monkeypatch.setattr(spending, "locked", lambda path, folder: seen.append(folder) or locked(path, folder=folder))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    account.hold(usd("0.1"))
    assert seen == [Path(account.ticket["path"]).parent]
    assert list(tmp_path.iterdir()) == []


def test_it_leaves_nothing_behind():
    account = Account.open(usd("1"))
    folder = Path(account.ticket["path"]).parent
    account.hold(usd("0.1"))
    account.close()
    assert not folder.exists()


LIVE = ModelCall(model="m", usage=Usage(input_tokens=10, output_tokens=5), cost=usd("0.5"))


def test_spending_is_what_live_requests_cost():
    spent = (
        Spending()
        .plus([LIVE, LIVE])
        .plus([ModelCall(model="m", usage=Usage(input_tokens=99), cost=usd("9"), replayed=True)])
    )
    assert spent == Spending(requests=2, tokens=30, usd=usd("1.0"))


def test_what_is_not_known_of_it_is_counted():
    unmeasured = ModelCall(model="m")
    unpriced = ModelCall(model="m", usage=Usage(input_tokens=7))
    estimated = ModelCall(model="m", usage=Usage(input_tokens=1), cost=usd("0.1"), source="estimate")
    spent = Spending().plus([LIVE, unmeasured, unpriced, estimated])
    assert spent == Spending(
        requests=4, tokens=23, usd=usd("0.6"), unmeasured_requests=1, unknown_costs=2, estimated=True
    )
