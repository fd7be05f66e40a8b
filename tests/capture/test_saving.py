"""A cassette is saved whole or not at all: whatever call fails, whoever is killed, however many write at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vcr.request import Request

from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.errors import CassetteError, ReplayMiss

ROOT = Path(__file__).parents[2]
URL = "https://api.openai.com/v1/chat/completions"
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EINTR)


def request(text):
    body = json.dumps({"model": "m", "text": text}).encode()
    return Request("POST", URL, body, {"content-type": "application/json"})


def response(body):
    body = body if isinstance(body, bytes) else body.encode()
    return {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-type": ["text/plain"]},
        "body": {"string": body},
    }


def record(path, *texts, mode="new_episodes", **options):
    """A playback that has recorded an answer to each text, and has not saved it."""
    playback = Playback(path=path, record=mode, **options)
    for text in texts:
        playback.cassette.append(request(text), response(f"to {text}"))
    return playback


def asked(path):
    """What the recordings of a file were asked, in their order."""
    interactions = yaml.safe_load(path.read_text("utf-8"))["interactions"]
    return [json.loads(each["request"]["body"])["text"] for each in interactions]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cassettes" / "x.yaml"


def open_files():
    listing = Path("/proc/self/fd")
    return len(list(listing.iterdir())) if listing.exists() else 0


# --- the Nth call fails


CALLS = (
    "open", "write", "fsync", "close", "replace", "stat", "lstat", "fstat", "chmod", "chown", "mkdir", "unlink",
    "scandir", "access",
)  # fmt: skip


class Fault:
    """Makes one call to the system fail, the ``number``-th of all that are made while it is armed.

    Attributes:
        failed: the name of the call that failed; empty as long as none has.
    """

    def __init__(self, number, error):
        self.left, self.error, self.failed = number, error, ""

    def arm(self, patch):
        for name in CALLS:
            patch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, call):
        def calling(*args, **kwargs):
            self.left -= 1
            if self.left:
                return call(*args, **kwargs)
            self.failed = name
            if name == "close":  # the kernel closes first, and tells then
                call(*args, **kwargs)
            raise OSError(self.error, os.strerror(self.error))

        return calling


def each_fault(error, at_least):
    """Faults at the first call, the second, ... until one is not reached any more."""
    for number in range(1, 1000):
        fault = Fault(number, error)
        yield fault
        if not fault.failed:
            assert number > at_least
            return
    pytest.fail("it never ends")


@posix
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("old", [(), ("old",)], ids=["new file", "old file"])
def test_whatever_call_fails_while_saving_the_file_is_the_old_one_or_the_new(tmp_path, monkeypatch, error, old):
    for number, fault in enumerate(each_fault(error, at_least=15)):
        path = tmp_path / str(number) / "x.yaml"
        if old:
            record(path, *old).save(whole=True)
        before = path.read_bytes() if old else None
        playback = record(path, "new")
        files = open_files()
        raised = None
        with monkeypatch.context() as patch:
            fault.arm(patch)
            try:
                playback.save(whole=True)
            except (OSError, CassetteError) as seen:
                raised = seen
        assert open_files() == files
        after = path.read_bytes() if path.exists() else None
        if after != before:
            assert asked(path) == [*old, "new"]
        elif fault.failed:
            assert raised is not None, fault.failed
            beside = path.with_name("x.yaml.partial")
            if beside.exists():  # what was paid for is not lost
                assert asked(beside) == [*old, "new"]
                assert any("x.yaml.partial" in note for note in raised.__notes__)
        left = {each.name for each in path.parent.iterdir()} - {"x.yaml", "x.yaml.partial"}
        assert not left or (fault.failed == "unlink" and all(name.startswith(".tb-") for name in left))
        record(path, "later").save(whole=True)  # no lock and no leftover is in the way
        assert asked(path)[-1] == "later"


@posix
@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("mode", ["once", "new_episodes", "all", "rewrite"])
def test_whatever_call_fails_before_anything_is_sent_is_a_reason_not_to_send(tmp_path, monkeypatch, error, mode):
    Playback(path=tmp_path / "none", record="once").cassette  # noqa: B018 - what is imported now fails no call later
    for number, fault in enumerate(each_fault(error, at_least=8)):
        path = tmp_path / str(number) / "x.yaml"
        record(path, "old").save(whole=True)
        os.utime(path, (1, 1))
        before = path.read_bytes()
        playback = Playback(path=path, record=mode)
        files = open_files()
        with monkeypatch.context() as patch:
            fault.arm(patch)
            try:
                cassette = playback.cassette
            except ReplayMiss as miss:
                cassette = None
                assert str(path) in str(miss)
                assert "\n" not in str(miss)
                assert playback.failed
        assert open_files() == files
        if fault.failed and cassette is not None:
            # Only what tidies up may fail unseen: what the file held is known.
            cassette.append(request("new"), response("new"))
            playback.save(whole=True)
            assert asked(path) == (["new"] if mode == "rewrite" else ["old", "new"])
        else:
            assert path.read_bytes() == before
        assert all(each.name == "x.yaml" or each.name.startswith(".tb-") for each in path.parent.iterdir())


# --- kills, full disks


WRITER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_saving import record

path = Path(sys.argv[2])
record(path.with_name("warm.yaml"), "up").save(whole=True)
while line := sys.stdin.readline():  # each has one more writer start, that counts on from there until it is killed
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        print("gone", flush=True)
        continue
    print(os.getpid(), flush=True)
    number = int(line)
    while True:
        record(path, f"{number} " + "long " * 2000).save(whole=True)
        print(number, flush=True)
        number += 1
"""


@posix
def test_killed_at_any_moment_what_was_saved_is_there(path):
    saved = -1
    writers = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for attempt in range(20):
            writers.stdin.write(f"{saved + 1}\n")
            writers.stdin.flush()
            writer = int(writers.stdout.readline())
            time.sleep(0.01 * (attempt % 10) + 0.005)
            os.kill(writer, signal.SIGKILL)
            told = list(iter(writers.stdout.readline, "gone\n"))
            saved = int(told[-1]) if told else saved
            found = [int(text.split()[0]) for text in asked(path)] if path.exists() else []
            # The last one may have been saved and not told.
            assert found in (list(range(saved + 1)), list(range(saved + 2)))
            saved = len(found) - 1
            Playback(path=path).cassette  # noqa: B018 - it is whole
    finally:
        writers.stdin.close()
        writers.wait(60)
        writers.stdout.close()
    assert saved >= 0
    left = {each.name for each in path.parent.iterdir() if not each.name.startswith(".tb-")}
    assert left == {"x.yaml", "warm.yaml"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with little room, or that is read-only, if the user may make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("may not mount a file system")
        if "remount" not in options:
            mounted.append(folder)
        return folder

    try:
        yield mount
    finally:
        if mounted:
            subprocess.run(["umount", folder], check=True)


needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux may mount a file system"
)


@needs_mount
def test_a_disk_that_is_full(small_disk):
    path = small_disk("size=64k") / "cassettes" / "x.yaml"
    record(path, "old").save(whole=True)
    before = path.read_bytes()
    for whole in (True, False):
        with pytest.raises(OSError) as caught:
            record(path, "new " * 15_000).save(whole=whole)
        assert caught.value.errno == errno.ENOSPC
        assert path.read_bytes() == before
        assert [each.name for each in path.parent.iterdir()] == ["x.yaml"]
    record(path, "short").save(whole=True)
    assert asked(path) == ["old", "short"]


@needs_mount
def test_a_disk_that_is_read_only(small_disk):
    path = small_disk("size=64k") / "cassettes" / "x.yaml"
    record(path, "old").save(whole=True)
    small_disk("remount,ro")
    for mode in ("once", "new_episodes", "all", "rewrite"):
        with pytest.raises(ReplayMiss, match=r"can't be recorded: Read-only file system"):
            Playback(path=path, record=mode).cassette  # noqa: B018
    replayed = Playback(path=path)
    assert replayed.cassette.play_response(request("old"))["body"]["string"] == b"to old"
    replayed.save(whole=True)
    assert [each.name for each in path.parent.iterdir()] == ["x.yaml"]


# --- several at once


def test_recording_anew_keeps_what_was_not_asked(path):
    record(path, "a", "b", "c").save(whole=True)
    record(path, "b", "d", mode="all").save(whole=True)
    assert asked(path) == ["a", "c", "b", "d"]


def test_what_one_replaced_another_does_not_bring_back(path):
    record(path, "a", "b", "c").save(whole=True)
    playbacks = [record(path, "a", mode="all"), record(path, "b", mode="all"), record(path, "d")]
    for playback in playbacks:
        playback.save(whole=True)
    assert sorted(asked(path)) == ["a", "b", "c", "d"]


def test_the_same_answer_recorded_twice_is_there_twice(path):
    one, other = record(path, "same", "same"), record(path, "same")
    one.save(whole=True)
    other.save(whole=True)
    assert asked(path) == ["same"] * 3


def test_who_saves_again_keeps_what_others_saved_between(path):
    """As fixtures do: what they asked for is saved when they are set up, and the rest when they are torn down."""
    one, other = record(path, "one"), record(path, "other")
    for playback in (one, other):
        playback.save(whole=True)
    for playback, text in ((one, "one's end"), (other, "other's end")):
        playback.cassette.append(request(text), response("bye"))
        playback.save(whole=True)
    assert sorted(asked(path)) == ["one", "one's end", "other", "other's end"]


def test_who_looks_while_another_saves_sees_one_file(path, monkeypatch):
    # Between the first look at the file and its reading, another worker saves.
    record(path, "old").save(whole=True)
    from pytest_tokenbudget.capture.cassette_file import CassetteFile

    check = CassetteFile.check_writable
    monkeypatch.setattr(
        CassetteFile,
        "check_writable",
        lambda self: (monkeypatch.undo(), record(path, "other").save(whole=True), check(self)),
    )
    record(path, "mine").save(whole=True)
    assert sorted(asked(path)) == ["mine", "old", "other"]


def test_threads_that_record_at_once_lose_nothing_and_double_nothing(path):
    modes = ("new_episodes", "once", "all")

    def work(name):
        for number in range(5):
            record(path, f"{name}-{number}", mode=modes[number % 3], others_since=0.0).save(whole=True)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(asked(path)) == sorted(f"{name}-{number}" for name in "abcdef" for number in range(5))


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (b"<<<<<<< HEAD\n", "merge conflict"),
        (b"", "it is empty"),
        (b"version: 1\ninteractions: [!!python/name:os.system '']\n", "tag"),
    ],
)
def test_what_somebody_put_in_its_place_stays_and_the_recording_is_kept_beside(path, theirs, why):
    record(path, "old").save(whole=True)
    playback = record(path, "new")
    path.write_bytes(theirs)
    with pytest.raises(CassetteError, match=why) as caught:
        playback.save(whole=True)
    assert path.read_bytes() == theirs
    assert asked(path.with_name("x.yaml.partial")) == ["old", "new"]
    assert caught.value.__notes__ == ["what was recorded is in x.yaml.partial"]


def test_a_file_that_was_removed_meanwhile_is_made_anew(path):
    record(path, "old").save(whole=True)
    playback = record(path, "new")
    path.unlink()
    playback.save(whole=True)
    assert asked(path) == ["old", "new"]


def test_what_could_not_be_replayed_is_not_saved(path, monkeypatch):
    record(path, "old").save(whole=True)
    before = path.read_bytes()
    monkeypatch.setattr("pytest_tokenbudget.capture.cassette_file.MAX_BYTES", 2000)
    with pytest.raises(CassetteError, match="would be larger than"):
        record(path, "long " * 1000).save(whole=True)
    assert path.read_bytes() == before
    assert path.with_name("x.yaml.partial").exists()


# --- what is no file


@posix
@pytest.mark.parametrize("mode", ["none", "once", "new_episodes", "all", "rewrite"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(path, mode, kind):
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ReplayMiss, match=r"Is a directory|EISDIR|no regular file"):
        Playback(path=path, record=mode).cassette  # noqa: B018


@posix
def test_a_partial_recording_waits_for_no_pipe(path):
    playback = record(path, "x")
    os.mkfifo(path.with_name("x.yaml.partial"))
    with pytest.raises(OSError, match="no regular file"):
        playback.save(whole=False)


@posix
def test_a_link_inside_the_folder_stays_and_its_target_is_replaced(path):
    target = path.parent / "shared" / "y.yaml"
    record(target, "old").save(whole=True)
    path.symlink_to(target)
    record(path, "new").save(whole=True)
    assert path.is_symlink()
    assert asked(target) == ["old", "new"]
    assert [each.name for each in target.parent.iterdir()] == ["y.yaml"]


# --- what is read back is what was written


TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)
BODIES = st.one_of(
    st.binary(max_size=60), TEXTS.map(str.encode), st.sampled_from([b"\xef\xbb\xbf{}", b"\x85", b"- a: b"])
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=BODIES, sent=TEXTS)
def test_every_answer_comes_back_as_it_was(tmp_path_factory, said, sent):
    path = tmp_path_factory.mktemp("saved") / "x.yaml"
    playback = Playback(path=path, record="once")
    playback.cassette.append(request(sent), response(said))
    playback.save(whole=True)
    assert Playback(path=path).cassette.play_response(request(sent))["body"]["string"] == said
