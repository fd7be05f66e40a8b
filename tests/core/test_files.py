from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pytest_tokenbudget import baseline, files
from pytest_tokenbudget.files import locked, write_atomically
from pytest_tokenbudget.record import ModelTokens

ROOT = Path(files.__file__).parents[1]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


@pytest.fixture
def path(tmp_path):
    files._sweep.cache_clear()
    return tmp_path / "file.json"


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def open_files():
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.exists() else 0


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# --- write_atomically ---


@pytest.mark.parametrize("data", [b"", b"a\r\nb\n\0", b"x" * 3_000_000])
def test_the_file_holds_what_was_written_and_nothing_stands_beside_it(path, data):
    write_atomically(path, b"old")
    write_atomically(path, data)
    assert path.read_bytes() == data
    assert names(path.parent) == ["file.json"]


def test_missing_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c", b"1")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1"


def test_a_reader_keeps_the_old_content(path):
    write_atomically(path, b"old")
    with path.open("rb") as reader:
        write_atomically(path, b"new content")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new content"


@posix
@pytest.mark.parametrize("kept", [0o600, 0o664, 0o755])
def test_the_mode_is_kept(path, kept):
    path.write_bytes(b"old")
    path.chmod(kept)
    write_atomically(path, b"new")
    assert mode(path) == kept


@posix
@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_gets_the_mode_that_the_umask_says(path, mask, expected):
    before = os.umask(mask)
    try:
        write_atomically(path, b"new")
    finally:
        os.umask(before)
    assert mode(path) == expected


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="only root gives files away")
def test_the_owner_is_kept(path):
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@posix
def test_an_owner_that_cannot_be_kept_does_not_hinder(path, monkeypatch):
    path.write_bytes(b"old")
    refused = []

    def refuse(*args):
        refused.append(args)
        raise PermissionError(errno.EPERM, "no")

    other = os.stat_result([*path.stat()[:4], 12345, 23456, *path.stat()[6:]])
    original = os.stat
    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(os, "stat", lambda name, **how: other if name == path else original(name, **how))
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert refused


@posix
def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(Path("there") / "real")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["link", "there"]
    assert names(tmp_path / "there") == ["real"]


@posix
def test_a_dangling_link_stays_and_its_target_is_made(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "new" / "real")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "real").read_bytes() == b"new"


@posix
def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as caught:
        write_atomically(tmp_path / "a", b"new")
    assert caught.value.errno == errno.ELOOP
    assert (tmp_path / "a").is_symlink()
    assert names(tmp_path) == ["a", "b"]


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path, b"new")


def test_a_file_that_is_read_only_is_refused(path, monkeypatch):
    path.write_bytes(b"old")
    # root may write to anything, so the system's word is replaced by that for a user
    monkeypatch.setattr(os, "access", lambda name, kind: not (name == path and kind == os.W_OK))
    with pytest.raises(PermissionError):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


# A pipe stands for devices too: a test on a real device would replace it, run as root, on the day it fails.
@posix
def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"new" * 100_000)
    reader.join(10)
    assert got == [b"new" * 100_000]
    assert pipe.is_fifo()


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"1")
    write_atomically(path, b"2")
    assert path.read_bytes() == b"2"


def test_leftovers_of_killed_writers_are_swept_and_fresh_ones_are_not(path):
    old, fresh, foreign = (path.parent / name for name in (".tb-1.tmp", ".tb-2.tmp", "tb-3.tmp"))
    for each in (old, fresh, foreign):
        each.write_bytes(b"part")
    past = time.time() - files.LEFTOVER_SECONDS - 60
    for each in (old, foreign):
        os.utime(each, (past, past))
    (path.parent / ".tb-4.tmp").mkdir()
    write_atomically(path, b"new")
    assert names(path.parent) == [".tb-2.tmp", ".tb-4.tmp", "file.json", "tb-3.tmp"]


CALLS = ["open", "write", "fsync", "close", "stat", "chmod", "replace"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO, errno.EINTR])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("exists", [True, False])
def test_whatever_call_fails_the_old_file_is_intact_and_alone(path, monkeypatch, call, number, exists):
    if exists:
        path.write_bytes(b"old")
    original = getattr(os, call)
    failed = []

    def fail(*args, **kwargs):
        failed.append(call)
        if call == "close":  # the kernel closes first, and tells then
            original(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        if call == "chmod" and not exists:
            write_atomically(path, b"new")  # a new file has no mode to keep
        else:
            with pytest.raises(OSError) as caught:
                write_atomically(path, b"new")
            assert caught.value.errno == number
            assert failed
    if exists:
        assert path.read_bytes() == b"old"
    assert names(path.parent) == (["file.json"] if exists or not failed else [])


def test_a_disk_that_fills_up_half_way(path, monkeypatch):
    path.write_bytes(b"old")
    original = os.write
    taken = []

    def write(descriptor, data):
        if taken:
            raise OSError(errno.ENOSPC, "full")
        taken.append(original(descriptor, data[:2]))
        return taken[0]

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert taken == [2]
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.json"]


def test_a_system_that_takes_one_byte_at_a_time(path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:1]))
    write_atomically(path, b"byte by byte")
    assert path.read_bytes() == b"byte by byte"


def test_the_first_error_is_told_even_if_tidying_fails_too(path, monkeypatch):
    def fail(number):
        def call(*args, **kwargs):
            raise OSError(number, "no")

        return call

    monkeypatch.setattr(os, "replace", fail(errno.EROFS))
    monkeypatch.setattr(os, "unlink", fail(errno.EIO))
    with pytest.raises(OSError) as caught:
        write_atomically(path, b"new")
    assert caught.value.errno == errno.EROFS


def test_a_folder_that_cannot_be_swept_does_not_hinder(path, monkeypatch):
    def fail(*args):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "scandir", fail)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_an_interrupt_leaves_the_old_file(path, monkeypatch, call):
    path.write_bytes(b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, call, interrupt)
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.json"]


def test_the_data_is_on_the_disk_before_the_name_is(path, monkeypatch):
    calls = []
    for name in ("write", "fsync", "close", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, original=original: (calls.append(name), original(*args))[1]
        )
    write_atomically(path, b"new")
    monkeypatch.undo()
    assert calls == ["write", "fsync", "close", "replace"]


@posix
def test_a_real_file_size_limit(path):
    path.write_bytes(b"old")
    child = start(
        """
        import resource, sys
        from pathlib import Path
        from pytest_tokenbudget.files import write_atomically
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            write_atomically(Path(sys.argv[1]), b"x" * 1_000_000)
        except OSError as error:
            print(error.errno)
        """,
        path,
    )
    out, err = child.communicate(timeout=60)
    assert (out.decode().strip(), err) == (str(errno.EFBIG), b"")
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file.json"]


@posix
def test_killed_at_any_moment_the_file_is_whole(path):
    whole = {letter * 400_000 for letter in (b"a", b"b")}
    path.write_bytes(b"a" * 400_000)
    for attempt in range(20):
        child = start(
            """
            import itertools, sys
            from pathlib import Path
            from pytest_tokenbudget.files import locked, write_atomically
            path = Path(sys.argv[1])
            print("ready", flush=True)
            for letter in itertools.cycle([b"b", b"a"]):
                with locked(path):
                    write_atomically(path, letter * 400_000)
            """,
            path,
        )
        try:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(0.002 * (attempt % 10) + 0.001)
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=30)
        assert child.returncode == -signal.SIGKILL
        assert path.read_bytes() in whole
        # The lock went with its holder.
        with locked(path):
            pass
    past = time.time() - files.LEFTOVER_SECONDS - 60
    for each in path.parent.glob(".tb-*.tmp"):
        os.utime(each, (past, past))
    write_atomically(path, b"new")
    assert names(path.parent) == ["file.json"]


def test_processes_that_merge_at_once_lose_nothing(path):
    code = """
        import sys
        from pathlib import Path
        from pytest_tokenbudget.baseline import update
        from pytest_tokenbudget.record import ModelTokens
        sys.stdin.readline()
        for number in range(20):
            update(Path(sys.argv[1]), {f"{sys.argv[2]}-{number}": {"m": ModelTokens(requests=1, input=number)}})
    """
    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(path), name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in "abcd"
    ]
    try:
        for child in children:
            child.stdin.write(b"\n")
            child.stdin.flush()
        errors = [child.communicate(timeout=60)[1] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert errors == [b""] * 4
    assert baseline.load(path).tests == {
        f"{name}-{number}": {"m": ModelTokens(requests=1, input=number)} for name in "abcd" for number in range(20)
    }
    assert names(path.parent) == ["file.json"]


# --- locked ---


@pytest.fixture
def locks(tmp_path, monkeypatch):
    folder = tmp_path / "system-temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_lock_keeps_others_out_and_leaves_nothing(path, locks, monkeypatch):
    monkeypatch.setattr(files, "WAIT_SECONDS", 0.05)
    with locked(path):
        assert names(path.parent) == ["system-temp"]
        with pytest.raises(TimeoutError, match="another process has been writing it"), locked(path):
            pytest.fail("two hold it")
        with locked(path.parent / "other"):
            pass
    with locked(path):
        pass
    if sys.platform != "win32":
        assert list(locks.rglob("*.lock")) == []


def test_an_error_in_the_block_ends_the_lock(path, locks):
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path):
        pass


@posix
def test_one_file_by_two_names_is_one_lock(path, locks, monkeypatch):
    monkeypatch.setattr(files, "WAIT_SECONDS", 0)
    (path.parent / "link").symlink_to(path)
    monkeypatch.chdir(path.parent)
    for other in (path.parent / "link", Path("file.json"), path.parent / "system-temp" / ".." / "file.json"):
        with locked(path), pytest.raises(TimeoutError), locked(other):
            pytest.fail("two hold it")


@posix
def test_who_waits_for_a_removed_lock_starts_anew(path, locks):
    inside, worst = [], []

    def work():
        for _ in range(50):
            with locked(path):
                inside.append(1)
                worst.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(worst) == 200
    assert max(worst) == 1


@posix
def test_a_lock_folder_that_others_planted_is_refused(path, locks):
    (path.parent / "theirs").mkdir()
    (locks / f"pytest-tokenbudget-{os.getuid()}").symlink_to(path.parent / "theirs")
    with pytest.raises(PermissionError), locked(path):
        pytest.fail("it was taken")
    assert names(path.parent / "theirs") == []


@posix
def test_a_lock_folder_of_another_user_is_refused(path, locks, monkeypatch):
    with locked(path):
        pass
    original = os.lstat

    def foreign(name):
        found = original(name)
        return os.stat_result([*found[:4], found.st_uid + 1, *found[5:]])

    monkeypatch.setattr(os, "lstat", foreign)
    with pytest.raises(PermissionError), locked(path):
        pytest.fail("it was taken")


@posix
def test_a_lock_that_its_last_holder_removed_meanwhile_is_no_lock(path, locks, monkeypatch):
    original, removed = files._try_lock, []

    def late(descriptor):
        if not removed:
            removed.extend(locks.rglob("*.lock"))
            removed[0].unlink()
        return original(descriptor)

    monkeypatch.setattr(files, "_try_lock", late)
    with locked(path):
        assert removed
        assert list(locks.rglob("*.lock")) == removed  # made anew: who comes now finds it held
        monkeypatch.setattr(files, "WAIT_SECONDS", 0)
        with pytest.raises(TimeoutError), locked(path):
            pytest.fail("two hold it")


@posix
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOLCK])
def test_a_system_that_cannot_lock_is_told(path, locks, monkeypatch, number):
    import fcntl

    def fail(*args):
        raise OSError(number, "no")

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        with pytest.raises(OSError) as caught, locked(path):
            pytest.fail("it was taken")
    assert caught.value.errno == number
    after = open_files()
    assert after == before


def test_a_lock_without_a_place_is_told(path, locks, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(locks / "missing"))
    with pytest.raises(FileNotFoundError), locked(path):
        pytest.fail("it was taken")


@pytest.mark.parametrize(("most", "expected"), [(99, b"0123456789"), (10, b"0123456789"), (4, b"0123")])
def test_a_file_is_read_up_to_what_is_wanted(path, most, expected):
    path.write_bytes(b"0123456789")
    assert files.contents_of(path, most) == expected


def test_a_file_is_read_to_its_end_where_the_system_gives_less_at_a_time(path, monkeypatch):
    path.write_bytes(b"0123456789")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, wanted: read(descriptor, min(wanted, 3)))
    assert files.contents_of(path, 99) == b"0123456789"


@posix
def test_what_is_no_file_is_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):  # and nobody has to write to it first
        files.contents_of(pipe, 99)
    with pytest.raises(IsADirectoryError):
        files.contents_of(tmp_path, 99)
    with pytest.raises(FileNotFoundError):
        files.contents_of(tmp_path / "nothing", 99)


def test_a_file_that_was_read_is_closed(path):
    path.write_bytes(b"")
    before = open_files()
    assert files.contents_of(path, 99) == b""
    with pytest.raises(IsADirectoryError):
        files.contents_of(path.parent, 99)
    assert open_files() == before
