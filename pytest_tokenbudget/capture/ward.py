"""Who answers for the code that runs now: the replayed test or shared fixture that it belongs to, in any thread.

A replayed test's *ward* is closed from its set-up to its end, and what the test leaves behind stays closed after
that: a thread, a job in a pool, a task on a loop that other tests use too, a function that runs when the process
exits. So that the running test is not blamed for them, the origin of code is known as far as Python tells it:

* A job of a pool of threads belongs to who submitted it, whoever started the pool's thread.
* A task or callback of an event loop, and a context that was copied, belongs to the test in which that happened.
* A thread belongs to the test that started it, and so does what that thread starts.
* All else - code of the main thread, threads that were there before the test - belongs to whichever test runs now.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytest_tokenbudget.capture.tracing import sends_traces
from pytest_tokenbudget.capture.wrapping import wrap
from pytest_tokenbudget.errors import ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    Report = Callable[[str], None]

_POOLS = ("concurrent/futures/thread.py", "multiprocessing/pool.py")
_STEP_SECONDS = 0.01


@dataclass(slots=True, eq=False, weakref_slot=True)
class Ward:
    """What one test, or one shared fixture, may reach.

    Attributes:
        report: is told of each attempt to reach the network; ``None`` where everything may be reached, to record.
        is_shared: whether it is a fixture's, whose threads go on to work for the tests that use it.
        is_over: whether its test has ended, or its fixture was torn down.
    """

    report: Report | None
    is_shared: bool = False
    is_over: bool = False

    def end(self, late: Report) -> None:
        """Note that the test has ended. What it left behind stays closed.

        Args:
            late: is told of each attempt from now on.
        """
        self.is_over = True
        if self.report is not None:
            self.report = late
        for thread in [thread for thread, ward in _threads.items() if ward is self and not thread.is_alive()]:
            del _threads[thread]

    def refuse(self, target: str) -> None:
        """Tell of an attempt, and stop it.

        Raises:
            ReplayMiss: always, unless everything may be reached.
        """
        if self.report is not None:
            self.report(target)
            whose = "what a replayed test leaves behind" if self.is_over else "a replayed test"
            raise ReplayMiss(f"{target} is out of reach: the network is closed to {whose}")


_UNKNOWN = Ward(None)

_running: list[Ward] = []
"""The tests and fixtures that run now, innermost last."""

_threads: WeakKeyDictionary[threading.Thread, Ward] = WeakKeyDictionary()

_context: ContextVar[Ward | None] = ContextVar("pytest_tokenbudget_ward", default=_UNKNOWN)
# Contexts that are copied from the main one carry this: they are known to belong to no test.
_context.set(None)


class _OfThread(threading.local):
    """What is known of the thread that asks: whose job it does, and, where it has no ``Thread``, who started it."""

    job: Ward | None = _UNKNOWN
    starter: Ward | None = None


_of_thread = _OfThread()


def running() -> Ward | None:
    """The innermost ward that was entered and not left."""
    return _running[-1] if _running else None


def origin() -> Ward | None:
    """The ward in which the code that runs now was started; ``None`` where that is not known, or was in none."""
    if _exiting and threading.current_thread() is threading.main_thread():
        return _exiting[-1][1]
    ward = _of_thread.job
    if ward is _UNKNOWN:
        ward = _context.get()
    if ward is not _UNKNOWN:
        return ward
    if _of_thread.starter is not None:
        return _of_thread.starter
    return _threads.get(threading.current_thread()) if _threads else None


def responsible() -> Ward | None:
    """The ward that answers for the code that runs now; ``None`` where that is no business of any replayed test."""
    ward = origin()
    if ward is None:
        return running()
    if ward.is_shared and not ward.is_over and _of_thread.job is _UNKNOWN:
        return running() or ward  # a thread of a fixture, which may be at work for the test that runs
    return ward


def _heir() -> Ward | None:
    """The ward that a thread or a job belongs to which is started now."""
    return None if origin() is None and sends_traces() else responsible()


def is_left_behind() -> bool:
    """Whether the code which runs now outlived the replayed test that it belongs to."""
    ward = responsible()
    return ward is not None and ward.is_over


@contextmanager
def entered(ward: Ward) -> Iterator[None]:
    """Let the code of a block belong to a ward."""
    _watch_starts()
    bracket = _open_bracket()
    before = _context.get()
    _running.append(ward)
    # An event loop that a fixture of wider scope makes goes on for other tests, with the context that it was made in.
    _context.set(None if ward.is_shared else ward)
    try:
        yield
    finally:
        _context.set(before)
        _running.remove(ward)
        _close_bracket(bracket, ward)


def await_left_behind(seconds: float) -> None:
    """Wait for the threads that replayed tests left behind, as the interpreter would at its exit."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(
        thread.is_alive() and not thread.daemon and ward.is_over and ward.report is not None and not _is_idle(thread)
        for thread, ward in list(_threads.items())
    ):
        time.sleep(_STEP_SECONDS)


# -- threads


def _watch_starts() -> None:
    """Let each thread belong to who starts it; does nothing where that was done before."""
    wrap(threading.Thread, "start", _owned_start)
    wrap(_thread, "start_new_thread", _owned_start_new)


def _owned_start(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def owned(self: threading.Thread) -> Any:
        if (ward := _heir()) is not None:
            _threads[self] = ward
            _keep_quiet(self)
        return start(self)

    return owned


def _owned_start_new(start_new: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start_new)
    def owned(function: Callable[..., Any], /, *args: Any) -> Any:
        return start_new(functools.partial(_run_thread, _heir(), function), *args)

    return owned


def _run_thread(starter: Ward | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    _of_thread.starter = starter  # there is no Thread to know it by
    function(*args, **kwargs)


def _keep_quiet(thread: threading.Thread) -> None:
    """Let an attempt, which is told of, not be told again as an unhandled exception of whichever test runs."""
    invoke = getattr(thread, "_invoke_excepthook", None)
    if invoke is not None:
        thread._invoke_excepthook = functools.partial(_invoke_unless_told, invoke)  # type: ignore[attr-defined] # noqa: SLF001


def _invoke_unless_told(invoke: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    if not isinstance(sys.exc_info()[1], ReplayMiss):
        invoke(thread)


def _is_idle(thread: threading.Thread) -> bool:
    """Whether a thread is a pool's that waits for work, as it may do until the process exits."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to see other threads
    return frame is not None and frame.f_code.co_filename.replace("\\", "/").endswith(_POOLS)


# -- jobs of pools


def hook_futures(module: ModuleType) -> None:
    """Let each job of ``concurrent.futures`` belong to who submits it; does nothing where that was done before."""
    wrap(module.ThreadPoolExecutor, "submit", lambda submit: _owned_jobs(submit, _Job))


def hook_thread_pool(module: ModuleType) -> None:
    """Let each job of ``multiprocessing.pool.ThreadPool`` belong to who submits it; likewise."""
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):
        wrap(module.ThreadPool, name, lambda submit: _owned_jobs(submit, _TamedJob))


def _owned_jobs(submit: Callable[..., Any], job: type[_Job]) -> Callable[..., Any]:
    @functools.wraps(submit)
    def owned(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if _top < 0:
            return submit(self, *args, **kwargs)  # no test was tracked yet
        if args:
            args = (job(args[0], _heir()), *args[1:])
        elif "func" in kwargs:
            kwargs["func"] = job(kwargs["func"], _heir())
        return submit(self, *args, **kwargs)

    return owned


class _Job:
    """A function that another thread is to run, and whose it is."""

    __slots__ = ("_function", "_owner")

    def __init__(self, function: Callable[..., Any], owner: Ward | None) -> None:
        self._function = function
        self._owner = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        before, _of_thread.job = _of_thread.job, self._owner
        try:
            return self._function(*args, **kwargs)
        finally:
            _of_thread.job = before

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (self._function,)  # for a pool whose workers are interpreters of their own


class _TamedJob(_Job):
    """A job of a pool whose threads do not survive what is no ``Exception``: it would be waited for forever."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except ReplayMiss as miss:
            raise RuntimeError(str(miss)) from miss


# -- functions that run when the process exits

_exiting: list[tuple[int, Ward]] = []
"""Whose functions the exiting process runs now, each with its bracket."""

_top = -1
"""How many functions were registered when a bracket was the last of them."""


def _open_bracket() -> tuple[int, int]:
    """Mark where a ward's exit functions begin: they run last first, so that the mark runs after them.

    Returns:
        The mark, and how many functions there are. While nothing else is registered, all wards share one mark.
    """
    global _top  # noqa: PLW0603 - the process's own, like the functions
    if atexit._ncallbacks() != _top:  # noqa: SLF001 - there is no other way to see a registration
        _top = atexit._ncallbacks() + 1  # noqa: SLF001
        atexit.register(_leave, _top)
    return _top, atexit._ncallbacks()  # noqa: SLF001


def _close_bracket(bracket: tuple[int, int], ward: Ward) -> None:
    mark, count = bracket
    if atexit._ncallbacks() != count:  # noqa: SLF001
        atexit.register(_exiting.append, (mark, ward))


def _leave(mark: int) -> None:
    while _exiting and _exiting[-1][0] == mark:
        _exiting.pop()
