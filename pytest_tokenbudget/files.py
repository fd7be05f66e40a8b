"""Files that are written whole or not at all, by one process at a time."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

WAIT_SECONDS = 60.0
"""How long a lock is waited for; its holders write one file, which takes milliseconds."""

LEFTOVER_SECONDS = 3600.0
"""From this age on, a file that was written aside belongs to a process that was killed."""

PREFIX, SUFFIX = ".tb-", ".tmp"
"""Begin and end the name of a file that is written aside."""

_POLL_SECONDS = 0.005
# Windows knows no O_NOFOLLOW, and the others no O_BINARY.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)


def shown_from(folder: Path, path: Path) -> str:
    """A path as a user would name it who stands in a folder: relative where it lies below."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def real_path(path: Path) -> Path:
    """Where a path leads, links followed as far as they can be; ``Path.resolve`` raises where they go in a circle."""
    return Path(os.path.realpath(path))


def write_atomically(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Replace a file's content in one step: a reader, or a crash, meets the old or the new content, never a part.

    The data, at once or in pieces, is written aside in the same folder, flushed to the disk and renamed over the
    file. Missing folders are made. A link is followed and stays a link: its target is replaced. The file's mode is
    kept (and its owner, where the system allows it); a new file gets the mode that the umask says. Devices and pipes
    can't be renamed over, so they are written to directly.

    Writers that read, change and write hold ``locked(path)`` around all three.

    Raises:
        OSError: it can't be written. The old file is as it was and nothing is left beside it.
    """
    try:
        old: os.stat_result | None = os.stat(path)  # noqa: PTH116 - this module speaks to os throughout
    except FileNotFoundError:
        old = None
    if old is not None and stat.S_ISDIR(old.st_mode):
        raise _error(errno.EISDIR, path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        _write_directly(path, data)
        return
    if old is not None and not os.access(path, os.W_OK):
        # A rename asks for the folder's permission only; who made the file read-only meant the file.
        raise _error(errno.EACCES, path)
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    _replace(target, data, old)


def check_regular(path: Path | str) -> None:
    """Refuse what is there and is no file: to open a pipe waits for its other end, and a device may never end.

    Raises:
        OSError: it is a folder, a pipe, a device or a socket, or can't be looked at; a missing file is none of these.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise _error(errno.EISDIR, path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def contents_of(path: Path | str, most: int) -> bytes:
    """What a file holds, up to so many bytes: for small files, of which many are read.

    Raises:
        OSError: it can't be read, or is no file; see ``check_regular``.
    """
    check_regular(path)
    descriptor = os.open(path, os.O_RDONLY | _BINARY)
    try:
        # Room for the largest file, which it would be read into, is dearer than to ask for its size.
        wanted = min(os.fstat(descriptor).st_size + 1, most)
        data = os.read(descriptor, wanted)
        while len(data) < wanted and (more := os.read(descriptor, wanted - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, folder: Path | None = None) -> Iterator[None]:
    """Keep every other process and thread of this user that asks for the same file out, until the block ends.

    The lock is the kernel's, so that it ends with its holder, even a killed one. Its file lies in the system's
    folder for temporary files and goes when the lock does. It can't be taken twice by the same thread.

    Args:
        path: the file; it need not exist.
        folder: where the lock's file lies instead; all who ask must say the same.

    Raises:
        OSError: there is no place for the lock; as ``TimeoutError``, somebody held it for ``WAIT_SECONDS``.
    """
    name = hashlib.sha256(os.fsencode(os.path.normcase(os.path.realpath(path)))).hexdigest()[:32]
    lock = (folder or _lock_folder()) / f"{name}.lock"
    held = _acquire(lock, path)
    try:
        yield
    finally:
        # Removed while it is held: who waits for it sees that it is gone and starts anew. (Windows removes no
        # open file, and there it stays.)
        with suppress(OSError):
            os.unlink(lock)  # noqa: PTH108
        _unlock(held)
        os.close(held)


def _replace(target: Path, data: bytes | Iterable[bytes], old: os.stat_result | None) -> None:
    aside = target.parent / f"{PREFIX}{os.urandom(8).hex()}{SUFFIX}"
    # Not tempfile: it would make the file private to its owner, where the umask should have the word.
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY, 0o666)
    try:
        try:
            _write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if old is not None:
            _take_over(aside, old)
        os.replace(aside, target)  # noqa: PTH105
    except BaseException:
        # The first error is the one to tell.
        with suppress(OSError):
            os.unlink(aside)  # noqa: PTH108
        raise


def _take_over(aside: Path, old: os.stat_result) -> None:
    if sys.platform != "win32":
        new = os.stat(aside)  # noqa: PTH116
        if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
            # Only root may give files away; for others the file becomes theirs, as with any editor.
            with suppress(PermissionError):
                os.chown(aside, old.st_uid, old.st_gid)
    os.chmod(aside, stat.S_IMODE(old.st_mode))  # noqa: PTH101


def _write_directly(path: Path, data: bytes | Iterable[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | _BINARY)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes | Iterable[bytes]) -> None:
    for piece in (data,) if isinstance(data, bytes) else data:
        rest = memoryview(piece)
        while rest:
            # A nearly full disk takes a part first, and fails at the next call.
            taken = os.write(descriptor, rest)
            if taken == 0:  # no file system does this; one that did would be asked for ever
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            rest = rest[taken:]


@lru_cache(maxsize=1024)
def _sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder; once per process, since a folder may hold many files."""
    oldest = time.time() - LEFTOVER_SECONDS
    # Tidying up is no reason not to write.
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (
                entry.name.startswith(PREFIX)
                and entry.name.endswith(SUFFIX)
                and entry.is_file(follow_symlinks=False)
                and entry.stat(follow_symlinks=False).st_mtime < oldest
            ):
                os.unlink(entry.path)  # noqa: PTH108


def _acquire(lock: Path, path: Path) -> int:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o600)
        try:
            if _try_lock(descriptor) and _is_still(lock, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > deadline:
            message = f"another process has been writing it for {WAIT_SECONDS:g} seconds"
            raise TimeoutError(errno.ETIMEDOUT, message, str(path))
        time.sleep(_POLL_SECONDS)


def _is_still(lock: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one that others will find: its last holder may have removed it."""
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))  # noqa: PTH116
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _lock_folder() -> Path:
        folder = Path(tempfile.gettempdir(), "pytest-tokenbudget")  # the user's own, on Windows
        folder.mkdir(exist_ok=True)
        return folder

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:

    def _lock_folder() -> Path:
        """A folder that only this user can write to, so that nobody else can plant or hold a lock."""
        folder = Path(tempfile.gettempdir(), f"pytest-tokenbudget-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise _error(errno.EACCES, folder)
        return folder

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # Closing would do, were it not for a child that was forked meanwhile and holds a copy.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _error(number: int, path: Path | str) -> OSError:
    """The subclass of OSError that fits the number."""
    return OSError(number, os.strerror(number), str(path))
