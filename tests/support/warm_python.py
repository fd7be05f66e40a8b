"""A Python that starts warm: inner runs of pytest fork off a process that has imported what all of them import.

Most of what an inner run costs are imports that have nothing to do with its scenario, three times over where it is
spread over two workers. ``WarmPython`` keeps one process that has done them, and gives a program that is used like
``python``: it hands its arguments, environment, folder and files to that process, which forks and runs them. HTTP
clients are imported, as vcrpy imports them all: it is as if a conftest had done it. So are the project's own modules,
which do nothing when they are imported, but for the one that pytest loads, and its options: half of what a scenario
takes. What is imported when, the tests say that start cold.

Only ``-m pytest``, and what execnet starts for xdist, is run so; anything else, and whatever has other variables for
Python, gets the ordinary one.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import pytest
from execnet.gateway_io import popen_bootstrapline

if TYPE_CHECKING:
    from collections.abc import Iterator

PRELOADED = (
    "pytest", "_pytest.assertion.rewrite", "_pytest.cacheprovider", "_pytest.debugging", "_pytest.doctest",
    "_pytest.faulthandler", "_pytest.helpconfig", "_pytest.junitxml", "_pytest.legacypath", "_pytest.logging", "_pytest.pastebin",
    "_pytest.pytester", "_pytest.setuponly", "_pytest.setupplan", "_pytest.skipping", "_pytest.stepwise",
    "_pytest.subtests", "_pytest.terminalprogress", "_pytest.threadexception", "_pytest.unittest",
    "_pytest.unraisableexception", "_pytest.warnings",
    "execnet", "asyncio", "ssl", "unittest", "xml.etree.ElementTree", "pdb", "yaml", "pydantic", "genai_prices",
    "genai_prices.data", "aiohttp", "httpx", "requests", "unittest.mock", "wrapt", "httpx2", "h11", "truststore", "encodings.idna", "faulthandler", "readline", "tomllib",
)  # fmt: skip
"""What most inner runs import whatever they are about."""

cold = pytest.mark.parametrize("python", [sys.executable], ids=["cold"])
"""For a test that looks at what is imported, or at which process is whose."""

_LAUNCHER = """#!{python} -IS
import array, json, os, signal, socket, sys
argv = sys.argv[1:]
while argv and argv[0] in ("-u", "-B"):
    argv = argv[1:]
if argv[:1] != ["-mpytest"] and argv != ["-c", {bootstrap!r}] or {same!r} != {{k: v for k, v in os.environ.items() if k[:6] == "PYTHON" and k not in {obeyed}}}:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
try:
    server.connect({address!r})
except OSError:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: server.sendall(bytes([number])))
request = json.dumps([argv, dict(os.environ), os.getcwd()]).encode()
files = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
server.sendmsg([len(request).to_bytes(4, "big")], files)
server.sendall(request)
for number in (0, 1, 2):
    os.close(number)  # whoever waits for their end waits for the child's
answer = server.recv(4)
status = int.from_bytes(answer, "big", signed=True) if answer else 255
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


_OBEYED = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")


def _is_special(name: str) -> bool:
    """Whether an environment variable changes how Python starts."""
    return name.startswith("PYTHON") and name not in _OBEYED


class WarmPython:
    """A warm process and its program; a context manager.

    Attributes:
        executable: the program's path; the ordinary Python where the system can't do this.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.executable = sys.executable

    def __enter__(self) -> Self:
        if not hasattr(os, "fork") or not hasattr(socket, "AF_UNIX"):
            return self
        address = str(self._folder / "warm")
        launcher = self._folder / "python"
        self._process = subprocess.Popen(
            [sys.executable, __file__, address, str(launcher)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        launcher.write_text(
            _LAUNCHER.format(
                python=sys.executable,
                address=address,
                same={name: value for name, value in os.environ.items() if _is_special(name)},
                obeyed=_OBEYED,
                bootstrap=popen_bootstrapline,
            )
        )
        launcher.chmod(0o755)
        self.executable = str(launcher)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)  # its input ends, and with it the process


class _Server:
    """The warm process: forks a child for each connection, and tells it how the child ended."""

    def __init__(self, address: str, executable: str) -> None:
        self._executable = executable
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen(64)
        self._ended, wakeup = socket.socketpair()
        for each in (self._ended, wakeup):
            each.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's goes to each of its processes
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        self._wakeup = wakeup

    def serve(self) -> None:
        """Serve until whoever started this process is gone."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._start()
                elif key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._reap()
                elif isinstance(key.fileobj, socket.socket):
                    self._signal(key.fileobj, key.data)
                else:
                    return

    def _start(self) -> None:
        client, _ = self._listener.accept()
        files: list[int] = []
        try:
            length, files = _receive_files(client)
            request = json.loads(_receive(client, length))
        except (OSError, EOFError):  # it was killed before it had said all
            client.close()
            for each in files:
                os.close(each)
            return
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._selector.close()
            for each in (self._listener, self._ended, self._wakeup, client, *self._children.values()):
                each.close()
            _become(*request, files, self._executable)
        for each in files:
            os.close(each)
        self._children[child] = client
        self._selector.register(client, selectors.EVENT_READ, child)

    def _signal(self, client: socket.socket, child: int) -> None:
        """Pass a signal on; a program that was killed takes its child along."""
        try:
            told = client.recv(1)
        except OSError:
            told = b""
        if child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, told[0] if told else signal.SIGKILL)
        if not told:
            self._selector.unregister(client)

    def _reap(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            client = self._children.pop(child)
            with contextlib.suppress(KeyError):
                self._selector.unregister(client)
            with contextlib.suppress(OSError):
                client.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
            client.close()


def _receive_files(client: socket.socket) -> tuple[int, list[int]]:
    files = array.array("i")
    head, ancillary, _, _ = client.recvmsg(4, socket.CMSG_SPACE(3 * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data)
    if len(head) < 4:
        raise EOFError
    return int.from_bytes(head, "big"), list(files)


def _receive(client: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = client.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _become(argv: list[str], environment: dict[str, str], folder: str, files: list[int], executable: str) -> None:
    """Be the child: run what it was started for, and exit as Python does."""
    status = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        _take_path(environment.get("PYTHONPATH", ""))
        os.environ.clear()
        os.environ.update(environment)
        sys.executable = executable
        sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
        _open_standard_files()
        status = _status_of(argv)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                file.flush()
        os._exit(status)


def _take_path(wanted: str) -> None:
    """Look for modules where the child's own ``PYTHONPATH`` says."""
    here = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[1:] = [
        *(each for each in wanted.split(os.pathsep) if each),
        *(each for each in sys.path[1:] if each not in here),
    ]


def _open_standard_files() -> None:
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), encoding="utf-8")
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = io.TextIOWrapper(
            io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
            encoding="utf-8",
            errors="strict" if name == "stdout" else "backslashreplace",
            write_through=True,
        )
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)


def _status_of(argv: list[str]) -> int:
    try:
        _run(argv)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run(argv: list[str]) -> None:
    sys.argv = argv
    if argv[0] == "-mpytest":
        sys.path[0] = str(Path.cwd())
        runpy.run_module("pytest", run_name="__main__", alter_sys=True)
        return
    sys.path[0] = ""
    main: Any = ModuleType("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    exec(compile(argv[1], "<string>", "exec"), main.__dict__)


def _own_modules() -> Iterator[str]:
    """The project's modules, but for those that pytest loads at its start."""
    import pytest_tokenbudget

    for module in pkgutil.walk_packages(pytest_tokenbudget.__path__, "pytest_tokenbudget."):
        if not module.name.endswith(("__main__", ".plugin", ".options")):
            yield module.name


def _main() -> None:
    import importlib

    from _pytest.assertion.rewrite import AssertionRewritingHook

    for name in (*PRELOADED, *_own_modules()):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # pytest would warn that it comes too late to rewrite the assertions in the plugin's modules: there are none.
    AssertionRewritingHook._warn_already_imported = lambda *_: None
    gc.freeze()  # what all children share stays shared
    server = _Server(*sys.argv[1:])
    print("ready", flush=True)
    server.serve()


if __name__ == "__main__":
    _main()
