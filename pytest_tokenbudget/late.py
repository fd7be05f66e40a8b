"""What replayed tests left behind, and what it tried after their end: told at the process's exit if not before."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.plain_record import sendable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_tokenbudget.summary import Note

    Tell = Callable[[list[Note]], bool]

PATIENCE_SECONDS = 1.0
"""So long the end of a run waits for threads that replayed tests left behind; the process would wait for them too."""


class LateAttempts:
    """The attempts to reach the network that were made after the end of the test that started them."""

    def __init__(self) -> None:
        self._found: deque[Note] = deque()

    def teller(self, nodeid: str, fixture: str = "") -> Callable[[str], None]:
        """A function that notes an attempt to reach ``host:port``. It may be called in any thread, at any time.

        Args:
            nodeid: the test that is to blame; of a fixture, the first that asked for it.
            fixture: the fixture that is to blame, if it is one.
        """

        def note(target: str) -> None:
            thread = threading.current_thread()
            named = not thread.name.startswith(("Dummy-", "MainThread"))
            what = f"the thread {thread.name}" if named else "something"
            whose = f"the fixture {fixture} of {nodeid}" if fixture else nodeid
            end = "it was torn down" if fixture else "it had ended"
            line = (
                f"{whose} left {what} behind, which tried to reach {target} after {end}, and the network stays "
                "closed to what a replayed test starts; end it within the test, or replace that call"
            )
            self.add(nodeid, [line])

        return note

    def add(self, nodeid: str, lines: Iterable[str]) -> None:
        """Note what was found too late for the report of its test."""
        self._found.extend({"nodeid": sendable(nodeid), "message": sendable(line)} for line in lines)

    def take(self) -> list[Note]:
        """Take out what was noted so far, so that each is told once."""
        taken: list[Note] = []
        while self._found:
            taken.append(self._found.popleft())
        return taken


class Aftermath:
    """What is done about attempts that come when the run has been reported.

    Args:
        attempts: where they are noted.
        tell: tells of some; returns whether the run had passed, so that the exit status has to say otherwise.
    """

    def __init__(self, attempts: LateAttempts, tell: Tell) -> None:
        self._attempts = attempts
        self._tell = tell
        self._process = os.getpid()

    def settle(self) -> bool:
        """Tell of what was noted since the last time; returns whether the exit status has to change."""
        if os.getpid() != self._process:  # a copy of the process, which reports nothing
            return False
        notes = self._attempts.take()
        return bool(notes) and self._tell(notes)


_aftermaths: list[Aftermath] = []


def tell_at_exit(aftermath: Aftermath) -> None:
    """Settle an aftermath once more when the process exits."""
    _aftermaths.append(aftermath)


def exit_process() -> None:
    """Tell what was tried while the process exited, and end it with status 1 if the run had passed until then.

    Called after all exit functions that were registered since the plugin was loaded.
    """
    settled = [aftermath.settle() for aftermath in _aftermaths]
    if not any(settled):
        return
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)  # the status was settled before, and there is no other way to change it


# -- from a worker of xdist, when it has told the controller that it is done


def spool_path(workerinput: Mapping[str, Any]) -> Path:
    """The file for what a worker can no longer send: its name can't be guessed, and the controller knows it."""
    return Path(tempfile.gettempdir(), f"pytest-tokenbudget-{workerinput['testrunuid']}-{workerinput['workerid']}")


def spool(path: Path, notes: list[Note]) -> bool:
    """Leave notes for the controller."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        os.write(descriptor, b"".join(json.dumps(note).encode() + b"\n" for note in notes))
    finally:
        os.close(descriptor)
    return False


def unspool(path: Path) -> list[Note]:
    """Take the notes that a worker left.

    Raises:
        ValueError: the file was cut short.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return []
    path.unlink()
    notes: list[Note] = [json.loads(line) for line in text.splitlines()]
    return notes
