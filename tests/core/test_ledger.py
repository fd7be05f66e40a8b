"""Ledgers, frames and blocks, with calls made by hand."""

from __future__ import annotations

import contextvars
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tokenbudget import ledger as ledgers
from pytest_tokenbudget.ledger import Billing, Frame, Ledger, billing, open_block, pop_frame, push_frame
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.usage import ModelCall, Usage


def make_call(tokens=1):
    return ModelCall(model="gpt-4o-mini", usage=Usage(input_tokens=tokens))


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No session and no block but those of the test."""
    monkeypatch.setattr(ledgers, "_frames", [])
    monkeypatch.setattr(ledgers, "_blocks", [])


@pytest.fixture
def frame():
    frame = Frame(PriceBook())
    push_frame(frame)
    return frame


class Waiting:
    """A request that is under way."""

    def __init__(self):
        self.settled, self.previews = 0, []

    def settle(self):
        self.settled += 1

    def preview(self, bill):
        self.previews.append(bill.ledgers)
        bill.add(make_call())


def test_nobody_counts():
    assert billing() is None


def test_the_running_test_is_charged_else_the_session(frame):
    test = Ledger("test")
    assert billing().ledgers == (frame.rest,)
    with frame.charge(test):
        assert billing().ledgers == (test,)
        with frame.charge(Ledger("fixture")) as _:
            assert billing().ledgers != (test,)
        assert billing().ledgers == (test,)
    assert billing().ledgers == (frame.rest,)


def test_charge_is_given_back_after_an_error(frame):
    with pytest.raises(ValueError, match="x"), frame.charge(Ledger("test")):
        raise ValueError("x")
    assert frame.running is None


def test_the_inner_session_takes_the_calls(frame):
    inner = Frame(PriceBook())
    push_frame(inner)
    assert billing().ledgers == (inner.rest,)
    pop_frame(inner)
    assert billing().ledgers == (frame.rest,)
    pop_frame(inner)  # a second time does no harm


def test_calls_come_in_order_of_completion():
    ledger, first, second = Ledger("test"), make_call(1), make_call(2)
    bill = Billing((ledger,))
    bill.add(second)
    bill.add(first)
    assert ledger.calls == (second, first)


def test_a_call_is_replaced_by_identity():
    one, other, better = make_call(), make_call(), make_call(9)
    assert one == other
    ledger = Ledger("test")
    bill = Billing((ledger,))
    bill.add(one)
    bill.add(other)
    bill.replace(other, better)
    assert ledger.calls[0] is one
    assert ledger.calls[1] is better


def test_what_comes_after_its_test_goes_to_the_session(frame):
    test = Ledger("test")
    with frame.charge(test):
        bill = billing()
    test.close()
    bill.add(make_call())
    bill.add_cache_hit()
    bill.add_incident("odd")
    assert (test.calls, test.cache_hits, test.incidents) == ((), 0, ())
    assert (len(frame.rest.calls), frame.rest.cache_hits, frame.rest.incidents) == (1, 1, ("odd",))


def test_what_comes_after_its_session_goes_nowhere(frame):
    bill = billing()
    frame.rest.close()
    bill.add(make_call())
    assert frame.rest.calls == ()


def test_drain_takes_each_once():
    ledger = Ledger("fixture")
    bill = Billing((ledger,))
    bill.add(make_call())
    bill.add_cache_hit()
    bill.add_incident("odd")
    assert ledger.drain() == ((make_call(),), 1, ("odd",))
    assert ledger.drain() == ((), 0, ())


def test_settle_ends_what_is_under_way_once():
    ledger, done, waiting = Ledger("test"), Waiting(), Waiting()
    bill = Billing((ledger,))
    bill.begin(done)
    bill.begin(waiting)
    bill.end(done)
    ledger.settle()
    ledger.settle()
    bill.end(waiting)  # it comes too late, and harms nobody
    assert (done.settled, waiting.settled) == (0, 1)


def test_a_block_counts_what_is_under_way_for_itself_only(frame):
    waiting = Waiting()
    with open_block("outer") as outer:
        with open_block("inner") as inner:
            billing().begin(waiting)
        assert waiting.previews == [(inner,)]
        assert (len(inner.calls), outer.calls, frame.rest.calls) == (1, (), ())
    assert waiting.previews == [(inner,), (outer,)]
    assert waiting.settled == 0


def test_blocks_and_the_test_around_them_all_count(frame):
    with open_block("outer") as outer, open_block("inner") as inner:
        assert billing().ledgers == (frame.rest, outer, inner)
    assert billing().ledgers == (frame.rest,)


def test_a_closed_block_takes_nothing():
    with open_block("block") as block:
        bill = billing()
    bill.add(make_call())
    assert block.calls == ()


def in_thread(function, *, context=None):
    found = []
    run = (lambda: context.run(function)) if context else function
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def test_a_bare_thread_belongs_to_the_block_that_can_be_meant():
    with open_block("outer") as outer:
        assert in_thread(billing).ledgers == (outer,)
        with open_block("inner") as inner:
            assert set(in_thread(billing).ledgers) == {outer, inner}


def test_a_bare_thread_belongs_to_what_all_open_blocks_share(frame):
    with open_block("outer") as outer:
        context = contextvars.copy_context()
        left, right = threading.Event(), threading.Event()

        def beside():
            with open_block("beside"):
                left.set()
                right.wait(5)

        thread = threading.Thread(target=context.run, args=(beside,))
        thread.start()
        left.wait(5)
        with open_block("inner"):
            assert in_thread(billing).ledgers == (frame.rest, outer)
        right.set()
        thread.join()


def test_a_copied_context_belongs_where_it_was_copied():
    before = contextvars.copy_context()
    with open_block("block") as block:
        inside = contextvars.copy_context()
        assert in_thread(billing, context=before) is None
        assert in_thread(billing, context=inside).ledgers == (block,)


def test_the_main_thread_outside_of_a_block_is_in_none():
    before = contextvars.copy_context()
    with open_block("block"):
        assert before.run(billing) is None


def test_a_block_that_ends_in_another_context_is_over_there_too():
    def steps():
        with open_block("block") as block:
            yield block

    generator = steps()
    block = next(generator)
    with pytest.raises(StopIteration):
        contextvars.copy_context().run(next, generator)
    assert not block.is_open
    assert billing() is None


def test_a_block_that_ended_elsewhere_does_not_enclose_the_next():
    def steps():
        with open_block("old"):
            yield

    generator = steps()
    next(generator)
    contextvars.copy_context().run(lambda: next(generator, None))
    with open_block("new") as block:
        assert block.enclosing is None
        assert billing().ledgers == (block,)


@given(st.lists(st.integers(0, 4), max_size=12))
def test_every_open_block_counts_each_call_made_inside_it(depths):
    """Blocks opened to some depth, and one call in the innermost: each sees as many as were made within it."""
    expected, seen = [], []

    def descend(rest):
        if not rest:
            return 0
        with open_block("block") as block:
            for _ in range(rest[0]):
                billing().add(make_call())
            made = rest[0] + descend(rest[1:])
        expected.append(made)
        seen.append(len(block.calls))
        return made

    descend(depths)
    assert seen == expected


def test_threads_lose_no_call():
    ledger = Ledger("test")
    bill = Billing((ledger,))
    threads = [threading.Thread(target=lambda: [bill.add(make_call()) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.calls) == 4000
