"""The network is closed while a test replays, whatever client, socket or thread tries; loopback stays open.

Python tells an audit hook of every connection, datagram and name look-up before it is made, below all clients and
above none. The hook is installed when the first replayed test starts, and can't be taken away again: afterwards it
costs one look into a small dictionary per audited event. A name that is given to a socket as an address is looked up
before that hook is told, so the methods of ``socket.socket`` that take one look at it first.

Not seen are a process that the test starts, an interpreter of its own, and a C library with sockets of its own (grpc,
uvloop), for which the environment holds dummy keys; what goes out on a connection that was open before; and the
look-up of a name that is given to a bare ``_socket.socket``.

Source: https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import re
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.tracing import sends_traces
from pytest_tokenbudget.capture.ward import entered, origin, responsible
from pytest_tokenbudget.capture.wrapping import wrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_tokenbudget.capture.ward import Ward

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL_FAMILIES = frozenset(
    getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK", "AF_ALG") if hasattr(socket, name)
)
"""Address families that end inside this machine, whatever the address."""

_PART = "(?:0[xX][0-9a-fA-F]+|[0-9]+)"
_OLD_SPELLING = re.compile(rf"{_PART}(?:\.{_PART}){{0,3}}")
"""Of an IPv4 address, as C's ``inet_aton`` reads it: ``127.1``, ``0x7f000001``, ``2130706433``."""

_installed = False
_lock = threading.Lock()


def network(ward: Ward) -> AbstractContextManager[None]:
    """Let a block, and all that it starts, reach what its ward may reach: loopback, or all where it records."""
    if ward.report is not None:
        _install()
    return entered(ward)


def keep_traces_out(host: str, port: object) -> None:
    """Stop LangSmith's own code that is about to be answered from a cassette with traces of other tests.

    Raises:
        OSError: it is stopped; it will try again later.
    """
    if _sends_traces_of_others():
        raise _unreachable(f"{host}:{port}")


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
    address = _read_address(host)
    if address is None:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _read_address(host: str) -> Address | None:
    """The address that a text spells; ``None`` for a name, which has to be looked up."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if _OLD_SPELLING.fullmatch(host):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            pass
    return None


def _install() -> None:
    global _installed  # noqa: PLW0603 - an audit hook is the process's own, and stays
    with _lock:
        if _installed:
            return
        _installed = True
        for name, position in _TAKE_ADDRESSES.items():
            wrap(socket.socket, name, functools.partial(_checked_first, position=position))
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _CHECKS:  # of the hundred events that a test raises, hardly one is
        _refuse(_CHECKS[event], *arguments)


def _refuse(check: Callable[..., str | None], *arguments: Any) -> None:
    """Stop what the ward of the code that runs now may not reach."""
    ward = responsible()
    if ward is None or ward.report is None or (target := check(*arguments)) is None:
        return
    if _sends_traces_of_others():
        raise _unreachable(target)
    ward.refuse(target)


def _sends_traces_of_others() -> bool:
    """Whether the code is LangSmith's own, in a thread that no replayed test has started."""
    return origin() is None and sends_traces()


def _unreachable(target: str) -> OSError:
    return OSError(errno.ENETUNREACH, f"{target} is out of reach while a test is replayed")


def _checked_first(method: Callable[..., Any], *, position: int) -> Callable[..., Any]:
    """Look at the name in an address before the method has it looked up."""

    @functools.wraps(method)
    def checked(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if -len(args) <= position < len(args):
            _refuse(_of_name_in, self, args[position])
        return method(self, *args, **kwargs)

    return checked


def _of_name_in(sock: socket.socket, address: Any) -> str | None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple) or not address:
        return None
    host = _text(address[0])
    return None if _read_address(host) is not None or host == "<broadcast>" else _of_name(*address[:2])


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

_TAKE_ADDRESSES = {"connect": 0, "connect_ex": 0, "bind": 0, "sendto": -1, "sendmsg": 3}
"""Methods of a socket, and where among their arguments the address stands."""
