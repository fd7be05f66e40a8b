"""The cassette by itself: what it plays, at what cost, and what is on the disk when saving goes wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from vcr.request import Request

from pytest_tokenbudget.capture import cassette_file, player
from pytest_tokenbudget.capture import recorded as recorded_files
from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.errors import CassetteError, ReplayMiss

URL = "https://api.openai.com/v1/chat/completions"


def request(text):
    return Request(
        "POST", URL, json.dumps({"model": "m", "text": text}).encode(), {"content-type": "application/json"}
    )


def response(text):
    return {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-type": ["text/plain"]},
        "body": {"string": text.encode()},
    }


def write(path, pairs):
    """A cassette as vcrpy writes it."""
    interactions = [
        {
            "request": {"method": "POST", "uri": URL, "body": request(asked).body.decode(), "headers": {}},
            "response": {**response(said), "body": {"string": said}},
        }
        for asked, said in pairs
    ]
    path.write_text(yaml.safe_dump({"interactions": interactions, "version": 1}), "utf-8")


def texts(path):
    return [
        json.loads(each["request"]["body"])["text"]
        for each in yaml.safe_load(path.read_text("utf-8"))["interactions"]
    ]


def play(cassette, text):
    assert cassette.can_play_response_for(request(text))
    return cassette.play_response(request(text))["body"]["string"].decode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cassettes" / "x.yaml"


@pytest.fixture
def recorded(path):
    """Record answers to a file: ``recorded("a", "b") -> Playback``, saved."""

    def recorded(*asked, mode="once", others_since=0.0):
        playback = Playback(path=path, record=mode, others_since=others_since)
        for text in asked:
            playback.cassette.append(request(text), response(f"to {text}"))
        playback.save(whole=True)
        return playback

    return recorded


def test_each_recording_is_played_once_and_in_order(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1"), ("b", "2"), ("a", "3")])
    playback = Playback(path=path)
    assert [play(playback.cassette, text) for text in "baa"] == ["2", "1", "3"]
    assert not playback.cassette.can_play_response_for(request("a"))
    assert playback.unplayed() == ()


def test_a_cassette_that_many_tests_play_is_read_once_for_its_content(tmp_path, monkeypatch):
    path = tmp_path / "x.yaml"
    read = []
    original = recorded_files.read_document
    monkeypatch.setattr(recorded_files, "read_document", lambda *args: read.append(1) or original(*args))
    write(path, [("a", "1"), ("b", "2")])
    for _ in range(3):
        assert [play(Playback(path=path).cassette, text) for text in "ab"] == ["1", "2"]
    assert len(read) == 1
    more = Playback(path=path, record="new_episodes")
    more.cassette.append(request("c"), response("3"))
    more.save(whole=True)
    assert texts(path) == ["a", "b", "c"]
    again = Playback(path=path)
    assert [play(again.cassette, text) for text in "cba"] == ["3", "2", "1"]
    write(path, [("a", "other")])
    assert play(Playback(path=path).cassette, "a") == "other"


def test_what_is_only_played_needs_neither_vcrpy_nor_pyyaml(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1")])
    body = request("a").body
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pytest_tokenbudget.capture.playback import Playback\n"
        f"playback = Playback(path=Path({str(path)!r}))\n"
        f"answer = playback.cassette.ask('POST', {URL!r}, {body!r}, {{}})\n"
        "assert answer['body']['string'] == b'1'\n"
        "sys.exit(bool({'vcr', 'yaml'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("config", "record", "ours"),
    [
        ({}, "none", True),
        ({"serializer": "yaml"}, "none", True),
        ({"record_mode": "all", "cassette_library_dir": "/"}, "none", True),
        ({"serializer": "xml"}, "none", None),
        ({"filter_headers": ["authorization", ("x-api-key", "HIDDEN"), ("a", None)]}, "none", True),
        ({"filter_headers": None}, "none", True),
        ({"filter_headers": ["Content-Encoding"]}, "none", False),
        ({"filter_headers": [("a", lambda key, value, request: value)]}, "none", False),
        ({"filter_headers": ["a"], "filter_query_parameters": ["key"]}, "none", False),
        ({"filter_headers": 5}, "none", None),
        ({"filter_headers": [("a", "b", "c")]}, "none", None),
        ({"filter_headers": [b"a"]}, "none", False),
        ({"filter_headers": iter(["a"])}, "none", False),
        ([("filter_headers", ["a"])], "none", True),
        ({"match_on": ["method", "uri"]}, "none", False),
        ({"allow_playback_repeats": True}, "none", False),
        ({}, "once", False),
        ({}, "new_episodes", False),
    ],
)
def test_vcrpy_plays_where_somebody_wants_something_of_it(tmp_path, config, record, ours):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1")])
    playback = Playback(path=path, record=record, configure=lambda: config)
    if ours is None:
        with pytest.raises(ReplayMiss, match=r"can't be opened|not a cassette that vcrpy understands"):
            playback.cassette  # noqa: B018
        return
    assert (type(playback.cassette) is player.Player) == ours
    assert play(playback.cassette, "a") == "1"
    assert playback.unplayed() == ()


def test_a_player_keeps_nothing_of_what_passes_it(tmp_path):
    """vcrpy's stub of aiohttp, before 9.4, has a cassette keep also what is none of its business."""
    path = tmp_path / "x.yaml"
    write(path, [("a", "1")])
    playback = Playback(path=path)
    local = Request("GET", "http://127.0.0.1:8000/", None, {})
    assert not playback.cassette.can_play_response_for(local)
    assert playback.cassette.filter_request(local) is None
    assert playback.cassette.record(local) is None
    playback.cassette.append(local, response("local"))
    assert [play(playback.cassette, "a"), len(playback.cassette.data)] == ["1", 1]
    assert not playback.failed


@pytest.mark.parametrize(
    "config", [{"match_on": ["method", "host", "body"]}, {"match_on": ["method"], "serializer": "yaml"}]
)
def test_matchers_of_the_user_s_own_read_a_shared_cassette_once(tmp_path, monkeypatch, config):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1"), ("b", "2")])
    document = yaml.safe_load(path.read_text("utf-8"))
    path.write_text(yaml.safe_dump({**document, "metadata": {"seed": 1}}), "utf-8")  # which vcrpy 8 knows nothing of
    read = []
    original = cassette_file.read_document
    monkeypatch.setattr(cassette_file, "read_document", lambda *args: read.append(1) or original(*args))
    for _ in range(3):
        assert play(Playback(path=path, configure=lambda: config).cassette, "a") == "1"
    assert len(read) == 1


def test_a_hook_of_the_user_s_is_run_by_one_thread_at_a_time(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [(f"q{number}", f"a{number}") for number in range(80)])
    inside, most = [], []

    def hook(asked):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()
        return asked

    playback = Playback(path=path, configure=lambda: {"before_record_request": hook})
    playback.cassette.ask("GET", "http://127.0.0.1/", b"", {})
    most.clear()

    def ask(number):
        asked = request(f"q{number}")
        return playback.cassette.ask(asked.method, asked.uri, asked.body, asked.headers)["body"]["string"].decode()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(80))) == [f"a{number}" for number in range(80)]
    assert max(most) == 1


@pytest.mark.parametrize(
    ("was", "odd"),
    [('"text/plain"', "3"), ('"body": ""', '"body": "\\ud800"')],
    ids=["a number for a header", "half a character"],
)
def test_what_nobody_can_read_is_refused_in_vcrpy_s_words(tmp_path, was, odd):
    path = tmp_path / "x.json"
    headers = {"content-type": "text/plain"}
    asked = {"method": "POST", "uri": URL, "body": "", "headers": {}}
    exchange = {"request": asked, "response": {**response("1"), "headers": headers, "body": {"string": "1"}}}
    text = json.dumps({"interactions": [exchange], "version": 1})
    assert was in text
    path.write_text(text.replace(was, odd), "utf-8")
    with pytest.raises(ReplayMiss, match=r"x\.json: not a cassette that vcrpy understands"):
        Playback(path=path).cassette  # noqa: B018


def test_a_request_that_only_vcrpy_understands_is_played_by_it(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1"), ("b", "2")])
    path.write_text(path.read_text("utf-8").replace("headers: {}\n", "headers: null\n", 1), "utf-8")
    playback = Playback(path=path)
    assert type(playback.cassette) is not player.Player
    assert [play(playback.cassette, text) for text in "ba"] == ["2", "1"]


@pytest.mark.parametrize("key", ["exact_key", "request_key"])
def test_the_cost_of_a_play_does_not_grow_with_the_cassette(tmp_path, monkeypatch, key):
    counted = []
    original = getattr(player, key)

    def counting(asked):
        counted.append(asked)
        return original(asked)

    monkeypatch.setattr(player, key, counting)
    costs = []
    for size in (10, 300):
        path = tmp_path / f"{size}.yaml"
        write(path, [(f"q{n}", f"a{n}") for n in range(size)])
        cassette = Playback(path=path).cassette
        assert play_otherwise_put(cassette, "q0") == "a0"
        # Each recording is looked at once, when the first request that needs it comes.
        assert size <= len(counted) <= size + 4
        counted.clear()
        assert play_otherwise_put(cassette, f"q{size - 1}") == f"a{size - 1}"
        costs.append(len(counted))
        counted.clear()
    assert costs[0] == costs[1] <= 4


def play_otherwise_put(cassette, text):
    """Ask what is the same as JSON, and not to the byte."""
    asked = request(text)
    asked.body = json.dumps({"text": text, "model": "m"}, indent=1).encode()
    return cassette.ask(asked.method, asked.uri, asked.body, asked.headers)["body"]["string"].decode()


def test_identical_recordings_cost_no_more_the_more_of_them_were_played(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("same", str(n)) for n in range(200)])
    cassette = Playback(path=path).cassette
    looked = []
    counts = cassette.play_counts

    class Counting(type(counts)):
        def __getitem__(self, index):
            looked.append(index)
            return super().__getitem__(index)

    cassette.play_counts = Counting()
    assert [play(cassette, "same") for _ in range(200)] == [str(n) for n in range(200)]
    assert len(looked) < 200 * 12


def test_threads_never_get_the_same_recording(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("same", str(n)) for n in range(200)])
    playback = Playback(path=path)
    with ThreadPoolExecutor(16) as pool:
        played = list(
            pool.map(lambda _: playback.cassette.play_response(request("same"))["body"]["string"], range(200))
        )
    assert len(set(played)) == 200


@pytest.mark.parametrize(("asked", "reason"), [("b", "drift"), ("a", "played")])
def test_a_miss_is_no_exception_and_is_noted(tmp_path, asked, reason):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1")])
    playback = Playback(path=path)
    play(playback.cassette, "a")
    with pytest.raises(ReplayMiss):
        playback.cassette.find_requests_with_most_matches(request(asked))
    assert [(miss.number, miss.reason) for miss in playback.misses] == [(2, reason)]
    assert not issubclass(ReplayMiss, Exception)


def test_a_file_that_is_refused_is_refused_each_time(path):
    path.parent.mkdir()
    path.write_text("")
    playback = Playback(path=path)
    for _ in range(2):
        with pytest.raises(ReplayMiss, match="it is empty"):
            playback.cassette  # noqa: B018
    assert playback.failed


def test_a_configuration_that_vcrpy_can_not_use_is_a_fault(path):
    playback = Playback(path=path, configure=lambda: {"serializer": "xml"})
    with pytest.raises(ReplayMiss, match="xml"):
        playback.cassette  # noqa: B018
    assert playback.failed


def test_two_who_record_at_once_both_stay(path, recorded):
    recorded("old")
    one, other = Playback(path=path, record="new_episodes"), Playback(path=path, record="new_episodes")
    for playback, text in ((one, "one"), (other, "other")):
        playback.cassette.append(request(text), response(text))
    one.save(whole=True)
    other.save(whole=True)
    assert sorted(texts(path)) == ["old", "one", "other"]
    other.save(whole=True)
    assert len(texts(path)) == 3


def test_rewriting_forgets_what_was_there_before_the_run_only(path, recorded):
    recorded("old")
    os.utime(path, (1, 1))
    recorded("one", mode="rewrite", others_since=1000.0)
    assert texts(path) == ["one"]
    recorded("two", mode="rewrite", others_since=1000.0)
    assert texts(path) == ["one", "two"]
    recorded("three", mode="rewrite", others_since=float("inf"))
    assert texts(path) == ["three"]


def test_rewriting_forgets_what_another_clock_has_dated_in_the_future(path, recorded):
    recorded("old")
    later = time.time() + 7200
    os.utime(path, (later, later))
    recorded("new", mode="rewrite", others_since=1000.0)
    assert texts(path) == ["new"]


def test_what_this_process_has_written_is_its_own_whatever_the_clock_says(path):
    written = set()
    for text in ("one", "two"):
        playback = Playback(path=path, record="rewrite", written=written)
        playback.cassette.append(request(text), response(text))
        playback.save(whole=True)
        os.utime(path, (1, 1))
    assert texts(path) == ["one", "two"]


@pytest.mark.parametrize(
    "match_on", [("method", "uri", "body"), ("method", "path", "query"), ("method", "host", "body")]
)
def test_own_matchers_find_what_was_stored_without_its_secrets(tmp_path, match_on):
    path, key = tmp_path / "x.yaml", "AIza" + "SyA1234567890abcdefghijklmnopqrstuvw"[:35]
    body = json.dumps({"text": "a", "api_key": key}).encode()
    asked = Request("POST", f"{URL}?key={key}", body, {"content-type": "application/json"})
    recorded = Playback(path=path, record="once", match_on=match_on)
    recorded.cassette.append(asked, response("a"))
    recorded.save(whole=True)
    assert key not in path.read_text("utf-8")
    cassette = Playback(path=path, match_on=match_on).cassette
    assert cassette.can_play_response_for(asked)
    assert cassette.play_response(asked)["body"]["string"] == b"a"
    assert not cassette.can_play_response_for(asked)


def test_rewriting_mends_a_broken_file(path, recorded):
    path.parent.mkdir()
    path.write_text("<<<<<<< HEAD")
    recorded("new", mode="rewrite", others_since=float("inf"))
    assert texts(path) == ["new"]


def test_what_a_filter_shares_is_written_out(path):
    shared = {"content-type": ["text/plain"]}

    def share(given):
        return {**given, "headers": shared}

    playback = Playback(path=path, record="once", configure=lambda: {"before_record_response": share})
    for text in ("a", "b"):
        playback.cassette.append(request(text), response(text))
    playback.save(whole=True)
    assert "&id" not in path.read_text("utf-8")
    assert play(Playback(path=path).cassette, "b") == "b"


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES])
def test_whatever_fails_while_saving_the_old_file_stays(path, recorded, monkeypatch, call, number):
    recorded("old")
    before = path.read_bytes()
    playback = Playback(path=path, record="new_episodes")
    playback.cassette.append(request("new"), response("new"))
    original = getattr(os, call)

    def failing(*args, **kwargs):
        if call == "open" and ".tb-" not in str(args[0]):
            return original(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, failing)
        with pytest.raises(OSError, match=os.strerror(number)):
            playback.save(whole=True)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["x.yaml"]
    playback.save(whole=True)
    assert texts(path) == ["old", "new"]


def test_what_can_not_be_saved_is_known_before_anything_is_sent(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    playback = Playback(path=tmp_path / "file" / "x.yaml", record="once")
    with pytest.raises(ReplayMiss, match="can't be recorded"):
        playback.cassette  # noqa: B018
    path = tmp_path / "x.yaml"
    write(path, [])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ReplayMiss, match="Permission denied"):
        Playback(path=path, record="new_episodes").cassette  # noqa: B018


def test_replaying_writes_nothing(tmp_path):
    path = tmp_path / "x.yaml"
    write(path, [("a", "1")])
    playback = Playback(path=path)
    play(playback.cassette, "a")
    playback.save(whole=True)
    playback.save(whole=False)
    assert list(tmp_path.iterdir()) == [path]


def test_a_partial_recording_is_written_beside_and_follows_no_link(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.parent.mkdir()
    beside = path.with_name("x.yaml.partial")
    beside.symlink_to(victim)
    playback = Playback(path=path, record="once")
    playback.cassette.append(request("a"), response("a"))
    playback.save(whole=False)
    assert victim.read_text() == "precious"
    assert texts(beside) == ["a"]
    assert not path.exists()


def test_errors_of_the_check_are_errors_of_the_family():
    assert not issubclass(CassetteError, ReplayMiss)


def test_recording_all_anew_replaces_only_what_is_asked_again(path, recorded):
    recorded("a", "b", "c")
    recorded("a", "d", mode="all")
    assert texts(path) == ["b", "c", "a", "d"]
