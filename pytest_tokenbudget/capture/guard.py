"""The network is closed while a test replays, whatever client, socket or thread tries; loopback stays open.

Python tells an audit hook of every connection, datagram and name look-up before it is made, below all clients and
above none. The hook is installed when the first replayed test starts, and can't be taken away again: afterwards it
costs one look into a small dictionary per audited event.

Not seen are a process that the test starts and a C library with sockets of its own, for which the environment holds
dummy keys, and the look-up of a name that is given to a bare ``socket.connect``; the connection itself is.

Source: https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pytest_tokenbudget.errors import ReplayMiss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[str], None]

LOCAL_FAMILIES = frozenset(
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name)
)
"""Address families that end inside this machine, whatever the address."""

_POOL = "concurrent/futures/thread.py"

_wards: list[Report | None] = []
"""Who is told of an attempt, innermost last; ``None`` where the network is open on purpose, to record."""

_late: WeakKeyDictionary[threading.Thread, Report] = WeakKeyDictionary()
"""Threads that outlived the replayed test that started them."""

_installed = False
_lock = threading.Lock()


@contextmanager
def network(report: Report | None) -> Iterator[None]:
    """Close the network for the length of a block; with ``None``, open it inside a block that closed it.

    Args:
        report: is told ``host:port`` of each attempt, which then fails with ``ReplayMiss``. Threads that the block
            starts and leaves behind stay closed, and are told of to the same.
    """
    if report is None:
        _wards.append(None)
        try:
            yield
        finally:
            _wards.pop()
        return
    _install()
    before = set(threading.enumerate())
    _wards.append(report)
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if thread not in before and not _is_idle(thread):
                _late[thread] = report
        _wards.remove(report)


def is_loopback(host: object) -> bool:
    """Whether an address can't leave this machine: 127.0.0.0/8, ::1, localhost, and the unspecified address."""
    if host is None:
        return True
    if isinstance(host, bytes | bytearray):
        host = bytes(host).decode("ascii", "replace")
    if not isinstance(host, str):
        return False
    if host == "" or host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return address.is_loopback or address.is_unspecified


def _install() -> None:
    global _installed  # noqa: PLW0603 - an audit hook is the process's own, and stays
    with _lock:
        if not _installed:
            _installed = True
            sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    check = _CHECKS.get(event)
    if check is None or not (_wards or _late):
        return
    report = _wards[-1] if _wards else None
    if report is None:
        report = _late.get(threading.current_thread()) if _late else None
    if report is None:
        return
    target = check(*arguments)
    if target is not None:
        report(target)
        raise ReplayMiss(f"{target} is out of reach: the network is closed to a replayed test")


def _of_connection(sock: Any, address: Any) -> str | None:
    """Where a socket is about to send to; ``None`` where that is this machine, or where it is connected already."""
    if address is None or sock.family in LOCAL_FAMILIES:
        return None
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return f"{address!r}"
    return None if is_loopback(address[0]) else f"{_text(address[0])}:{address[1]}"


def _of_name(host: Any, port: Any = None, *_: object) -> str | None:
    """Which name is about to be looked up; ``None`` for one that needs no server."""
    # Servers ask for the name of their own machine when they start to listen, on whatever address.
    if is_loopback(host) or _text(host) == socket.gethostname():
        return None
    return _text(host) if port is None else f"{_text(host)}:{_text(port)}"


def _of_address(address: Any) -> str | None:
    return None if is_loopback(address[0]) else _text(address[0])


def _text(value: object) -> str:
    return bytes(value).decode("ascii", "replace") if isinstance(value, bytes | bytearray) else str(value)


_CHECKS: dict[str, Callable[..., str | None]] = {
    "socket.connect": _of_connection,
    "socket.sendto": _of_connection,
    "socket.sendmsg": _of_connection,
    "socket.getaddrinfo": _of_name,
    "socket.gethostbyname": _of_name,
    "socket.gethostbyaddr": _of_name,
    "socket.getnameinfo": _of_address,
}


def _is_idle(thread: threading.Thread) -> bool:
    """Whether a thread is a pool's that waits for work: what it does next is another test's affair."""
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the documented way to see other threads
    return frame is not None and frame.f_code.co_filename.replace("\\", "/").endswith(_POOL)
