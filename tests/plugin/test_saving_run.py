"""Recordings that can't be saved, trees that can't be written to, and names of every kind: whole runs of pytest."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
import yaml
from test_replay import CLIENT, cassettes, recording

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])
needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="only root on Linux may mount a file system"
)


@pytest.fixture
def client(pytester, server):
    pytester.makepyfile(client=CLIENT)
    return server


def texts(path):
    return [yaml.safe_load(each["request"]["body"])["messages"][0]["content"] for each in recording(path)]


FAULTS = """
import os
import pytest

CALLS = ("open", "write", "fsync", "close", "replace", "stat", "lstat", "chmod", "mkdir", "unlink", "scandir", "access")
PLACES = ("cassettes", "pytest-tokenbudget-")

class Fault:
    left, error = 0, 0
    ours = set()

def fail_when_due(name, call):
    def calling(*args, **kwargs):
        subject = args[0] if args else ""
        ours = subject in Fault.ours if isinstance(subject, int) else any(each in os.fspath(subject) for each in PLACES)
        if Fault.left and ours:
            Fault.left -= 1
            if not Fault.left:
                if name == "close":
                    call(*args, **kwargs)
                raise OSError(Fault.error, os.strerror(Fault.error))
        result = call(*args, **kwargs)
        if name == "open" and ours:
            Fault.ours.add(result)
        elif name == "close":
            Fault.ours.discard(subject)
        return result
    return calling

for name in CALLS:
    setattr(os, name, fail_when_due(name, getattr(os, name)))

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    if "number" in item.callspec.params:
        Fault.left, Fault.error = item.callspec.params["number"], item.callspec.params["error"]
    result = yield
    Fault.left = 0
    return result
"""


@plain
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_whatever_call_fails_the_run_says_it_in_a_line_and_the_file_is_whole(pytester, client, run):
    errors = [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE, errno.EIO, errno.EINTR]
    numbers = range(1, 41)
    pytester.makepyfile(
        test_a=f"""
        import pytest
        from client import ask

        @pytest.mark.parametrize("error", {errors})
        @pytest.mark.parametrize("number", {list(numbers)})
        def test_it(usage, number, error):
            try:
                ask(f"new {{number}}-{{error}}")
            except Exception:
                pass
        """
    )
    pytester.makeconftest("")
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    run("--token-record=once", "-k", "test_it[1-5]").assert_outcomes(passed=1, deselected=239)
    (sample,) = folder.glob("*.yaml")
    old = sample.read_text("utf-8").replace("new 1-5", "old")
    sample.unlink()
    for number in numbers:
        for error in errors:
            (folder / f"test_it[{number}-{error}].yaml").write_text(old, "utf-8")
    client.reset()
    pytester.makeconftest(FAULTS)
    result = run("--token-record=new_episodes", "-rA", "--tb=short")
    output = result.stdout.str()
    outcomes = result.parseoutcomes()
    assert result.ret == 1
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    assert outcomes["failed"] >= 30  # found out before anything was sent
    assert outcomes["errors"] >= 30  # only when it was saved
    unsent = {
        f"new {number}-{error}"
        for number in numbers
        for error in errors
        if f"FAILED test_a.py::test_it[{number}-{error}]" in output
    }
    assert len(unsent) == outcomes["failed"]
    assert unsent.isdisjoint(bill.prompt for bill in client.ledger)
    assert len(client.ledger) == len(numbers) * len(errors) - len(unsent)
    for number in numbers:
        for error in errors:
            path = folder / f"test_it[{number}-{error}].yaml"
            text = f"new {number}-{error}"
            if texts(path) != ["old", text]:
                assert path.read_text("utf-8") == old
                assert text in unsent or f"ERROR test_a.py::test_it[{number}-{error}]" in output
    lines = {line for line in output.splitlines() if "could not be saved" in line or "can't be recorded" in line}
    assert all("cassettes" in line for line in lines if not line.startswith(("FAILED", "ERROR")))


@pytest.fixture
def disk(pytester, client):
    """A file system of its own below the inner tests, with a recorded test: ``disk(options)`` mounts it anew."""
    folder = pytester.path / "disk"
    folder.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("may not mount a file system")

    mount("size=96k")
    try:
        (folder / "test_a.py").write_text(
            "import os\nfrom client import ask\n\ndef test_it(usage):\n    ask(os.environ['TEXT'])\n"
        )
        yield mount
    finally:
        subprocess.run(["umount", folder], check=True)


@needs_mount
def test_a_full_disk(pytester, client, run, disk, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("TEXT", "old")
    run("--token-record=once", "disk").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    before = path.read_bytes()
    monkeypatch.setenv("TEXT", "new " * 20_000)
    result = run("--token-record=new_episodes", "disk")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*test_it.yaml could not be saved: *No space left on device*"])
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["test_it.yaml"]
    monkeypatch.setenv("TEXT", "old")
    run("disk").assert_outcomes(passed=1)


@needs_mount
def test_a_read_only_tree_is_replayed_and_never_recorded(pytester, client, run, disk, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("TEXT", "old")
    run("--token-record=once", "disk").assert_outcomes(passed=1)
    client.reset()
    before = {path: path.read_bytes() for path in (pytester.path / "disk").rglob("*") if path.is_file()}
    disk("remount,ro")
    run("disk").assert_outcomes(passed=1)
    for mode in ("once", "new_episodes", "all", "rewrite"):
        result = run(f"--token-record={mode}", "disk")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*test_it.yaml can't be recorded: Read-only file system*"])
    assert client.ledger == ()
    assert {path: path.read_bytes() for path in (pytester.path / "disk").rglob("*") if path.is_file()} == before


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="root may write to anything")
def test_a_folder_that_may_not_be_written_to(pytester, client, run):
    pytester.makepyfile(test_a="from client import ask\n\ndef test_it(usage):\n    ask('x')\n")
    (pytester.path / "cassettes").mkdir(mode=0o555)
    run("--token-record=once").assert_outcomes(failed=1)
    assert client.ledger == ()


@plain
@pytest.mark.parametrize("how", ["interrupted", "exited"])
def test_a_run_that_ends_early_and_can_not_save_says_so_and_ends(pytester, client, run, how):
    raised = "KeyboardInterrupt" if how == "interrupted" else "pytest.exit('enough')"
    statement = f"raise {raised}" if how == "interrupted" else raised
    pytester.makepyfile(
        test_a=f"""
        import os
        import pytest
        from client import ask

        def test_it(usage):
            ask("x")
            def fail(*args, **kwargs):
                raise OSError(28, "No space left on device")
            os.fsync = fail
            {statement}
        """
    )
    result = run("--token-record=once")
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == 2
    assert "could not be saved: [Errno 28] No space left on device" in output
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    assert not list(pytester.path.rglob("*.yaml*"))


NAMES = [
    "a/b", "a:b", "a-b", "a\\b", "../../up", "/etc/passwd", "..", ".", "", " ", "trailing.", "trailing ", "CON", "nul.txt",
    "Case", "case", "é", "e\u0301", "ß", "SS", "猫" * 100, "x" * 300, "x" * 299 + "y", "a\nb", "tab\t", "%00", "*?<>|\"'", "~",
    "$HOME", "\u202e", "\ud800",
]  # fmt: skip


def test_whatever_a_test_is_called_it_has_a_cassette_of_its_own(pytester, client, run):
    pytester.makepyfile(
        test_a=f"""
        import pytest
        from client import ask

        @pytest.mark.parametrize("number", range({len(NAMES)}), ids={[name.encode("utf-8", "surrogatepass") for name in NAMES]!r})
        def test_bytes(usage, number):
            assert ask(f"bytes {{number}}") == f"You said: bytes {{number}}"

        @pytest.mark.parametrize("number, name", enumerate({NAMES!r}))
        def test_text(usage, number, name):
            assert ask(f"text {{number}}") == f"You said: text {{number}}"
        """.replace(", ids=[b'", ", ids=['")
        .replace(" b'", " '")
        .replace(' b"', ' "')
    )
    count = 2 * len(NAMES)
    run("--token-record=once").assert_outcomes(passed=count)
    found = cassettes(pytester)
    assert len(found) == count
    assert all(name.startswith("cassettes/test_a/test_") for name in found)
    assert all(len(name.rpartition("/")[2].encode()) <= 250 for name in found)
    assert {len(recording(pytester.path / name)) for name in found} == {1}
    run().assert_outcomes(passed=count)
    assert len(client.bills) == count
    assert {path.name for path in pytester.path.parent.iterdir()}.isdisjoint({"up", "up.yaml"})


@plain
def test_names_in_markers(pytester, client, run):
    good = ["CON", "nul.yaml", "trailing.", "with space", "é", "sub/deep/x", "../beside", "x.yml", "UPPER", "x" * 235]
    bad = ["../../out", "/absolute", "sub/../../../out", "", "x" * 241, "nul\0byte", "linked/x"]
    (pytester.path / "elsewhere").mkdir()
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    (folder / "linked").symlink_to(pytester.path / "elsewhere")
    pytester.makepyfile(
        test_a=f"""
        import pytest
        from client import ask

        @pytest.mark.parametrize("number", [
            pytest.param(number, marks=pytest.mark.token_cassette(name)) for number, name in enumerate({good + bad!r})
        ])
        def test_it(number):
            assert ask(f"question {{number}}") == f"You said: question {{number}}"
        """
    )
    for mode in ("once", "none"):
        run(f"--token-record={mode}").assert_outcomes(passed=len(good), errors=len(bad))
    assert len(client.bills) == len(good)
    assert list((pytester.path / "elsewhere").iterdir()) == []
    assert {name.partition("/")[0] for name in cassettes(pytester)} == {"cassettes"}
    assert len(cassettes(pytester)) + len(list(folder.glob("x.yml"))) == len(good)


@plain
def test_a_module_folder_that_leads_out_is_refused(pytester, client, run):
    elsewhere = pytester.path / "elsewhere"
    elsewhere.mkdir()
    (pytester.path / "cassettes").mkdir()
    (pytester.path / "cassettes" / "test_a").symlink_to(elsewhere)
    pytester.makepyfile(test_a="from client import ask\n\ndef test_it(usage):\n    ask('x')\n")
    for mode in ("rewrite", "none"):
        result = run(f"--token-record={mode}")
        result.assert_outcomes(errors=1)
        assert "leads out of" in result.stdout.str()
    assert list(elsewhere.iterdir()) == []
    assert client.ledger == ()


@pytest.mark.parametrize("spread", [("-n", "4")], ids=["four workers"])
def test_workers_that_share_a_cassette_lose_and_double_nothing(pytester, client, run):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.token_cassette("shared")
        @pytest.mark.parametrize("number", range(40))
        def test_it(number):
            assert ask(f"question {number}") == f"You said: question {number}"
        """
    )
    expected = sorted(f"question {number}" for number in range(40))
    for mode in ("once", "new_episodes", "all", "rewrite"):
        run(f"--token-record={mode}").assert_outcomes(passed=40)
        (path,) = pytester.path.rglob("*.yaml")
        assert sorted(texts(path)) == expected
    assert len(client.bills) == 120  # new_episodes had nothing to send
    run().assert_outcomes(passed=40)
    assert not list(pytester.path.rglob("*.partial"))
    assert len(client.bills) == 120


@plain
def test_a_recording_that_is_missing_from_a_shortened_file_is_missed(pytester, client, run):
    # A file that was cut and is YAML all the same, with fewer recordings than there were.
    pytester.makepyfile(
        test_a="""
        from client import ask

        def test_it(usage):
            for text in ("one", "two"):
                try:
                    ask(text)
                except BaseException:
                    pass
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    document = yaml.safe_load(path.read_text("utf-8"))
    del document["interactions"][1]
    path.write_text(yaml.safe_dump(document), "utf-8")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["request 2 to /v1/chat/completions: *"])
    assert len(client.bills) == 2
