"""Cassettes are vcrpy's own: what one records the others replay, for every client, whole and streamed."""

from __future__ import annotations

import gzip
import json

import pytest
import yaml

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])

TESTS = {
    "ours": """
        import pytest
        from client import WAYS

        @pytest.mark.parametrize("way", WAYS)
        def test_it(way, usage):
            assert WAYS[way]("one two") == "You said: one two"
            assert (usage.requests, usage.input_tokens, usage.output_tokens) == (1, 2, 4)
            assert usage.estimated_requests == 0
        """,
    "pytest-recording": """
        import pytest
        from client import WAYS

        @pytest.mark.vcr
        @pytest.mark.parametrize("way", WAYS)
        def test_it(way):
            assert WAYS[way]("one two") == "You said: one two"
        """,
    "vcrpy": """
        import os
        import pytest
        import vcr
        from client import WAYS

        @pytest.mark.parametrize("way", WAYS)
        def test_it(way):
            name = f"cassettes/test_it/test_it[{way}].yaml"
            with vcr.use_cassette(name, record_mode=os.environ["RECORD_MODE"]) as cassette:
                assert WAYS[way]("one two") == "You said: one two"
            assert cassette.play_count == (os.environ["RECORD_MODE"] == "none")
        """,
}
WITHOUT_US = ("-p", "no:pytest_tokenbudget")


@pytest.fixture
def run_by(pytester, client, run, monkeypatch):
    """Let somebody record or replay the inner tests, the two others not being there: ``run_by(who, mode)``."""

    def run_by(who, mode):
        pytester.makepyfile(test_it=TESTS[who])
        monkeypatch.setenv("RECORD_MODE", mode)
        arguments = {
            "ours": (f"--token-record={mode}",),
            "pytest-recording": (*WITHOUT_US, f"--record-mode={mode}"),
            "vcrpy": WITHOUT_US,
        }[who]
        return run(*arguments, plugins=("recording",) if who == "pytest-recording" else ())

    return run_by


@pytest.mark.parametrize(
    ("recorder", "players", "spread"),
    [
        pytest.param("ours", ("pytest-recording", "vcrpy", "ours"), (), id="ours"),
        pytest.param("ours", ("pytest-recording",), ("-n", "2"), id="ours-xdist"),
        pytest.param("pytest-recording", ("ours",), (), id="pytest-recording"),
        pytest.param("vcrpy", ("ours", "pytest-recording"), (), id="vcrpy"),
    ],
)
def test_what_one_records_the_others_replay(pytester, client, run_by, recorder, players):
    run_by(recorder, "once").assert_outcomes(passed=14)
    recorded = {path: path.read_bytes() for path in pytester.path.rglob("*.yaml")}
    assert {path.relative_to(pytester.path).as_posix().partition("[")[0] for path in recorded} == {
        "cassettes/test_it/test_it"
    }
    assert len(recorded) == len(client.bills) == 14
    for player in players:
        run_by(player, "none").assert_outcomes(passed=14)
        assert {path: path.read_bytes() for path in pytester.path.rglob("*.yaml")} == recorded
    assert len(client.bills) == 14


NAMES = """
    import pytest
    from client import by_httpx2
    {mark}
    class TestIt:
        @pytest.mark.parametrize("x", ["a/b", "é", "{{}}", "x" * 200])
        def test_it(self, x{usage}):
            assert by_httpx2("hello") == "You said: hello"
    """


@plain
def test_names_are_theirs(pytester, client, run):
    plugins = ("recording",)
    theirs, ours = NAMES.format(mark="@pytest.mark.vcr", usage=""), NAMES.format(mark="", usage=", usage")
    pytester.makepyfile(test_a=theirs)
    run("--record-mode=once", plugins=plugins).assert_outcomes(passed=4)
    recorded = sorted(pytester.path.rglob("*.yaml"))
    pytester.makepyfile(test_a=ours)
    run(plugins=plugins).assert_outcomes(passed=4)
    for path in recorded:
        path.unlink()
    run("--token-record=once", plugins=plugins).assert_outcomes(passed=4)
    assert sorted(pytester.path.rglob("*.yaml")) == recorded
    pytester.makepyfile(test_a=theirs)
    run("--record-mode=none", "--block-network", plugins=plugins).assert_outcomes(passed=4)
    assert len(client.bills) == 8


@plain
def test_older_forms_are_played(pytester, client, run):
    body = {
        "id": "x",
        "object": "chat.completion",
        "model": "gpt-4o-mini",
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    body["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]
    asked = {
        "method": "POST",
        "uri": client.openai_url + "/chat/completions",
        "body": json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}),
        "headers": {"content-type": ["application/json"]},
    }
    said = {"status": {"code": 200, "message": "OK"}, "headers": {"Content-Type": ["application/json"]}}
    packed = {
        **said,
        "headers": {**said["headers"], "Content-Encoding": ["gzip"]},
        "body": {"string": gzip.compress(json.dumps(body).encode())},
    }
    old = {
        "status_code": 200,
        "http_version": "HTTP/1.1",
        "headers": {"content-type": ["application/json"]},
        "content": json.dumps(body),
    }
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    for name, answer in (("test_packed", packed), ("test_old", old)):
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump({"interactions": [{"request": asked, "response": answer}], "version": 1})
        )
    pytester.makepyfile(
        test_a="""
        from client import by_httpx2 as ask

        def test_packed(usage):
            assert ask("x") == "hi"
            assert (usage.input_tokens, usage.output_tokens) == (7, 3)

        def test_old(usage):
            assert ask("x") == "hi"
            assert (usage.input_tokens, usage.output_tokens) == (7, 3)
        """
    )
    run().assert_outcomes(passed=2)
    assert client.ledger == ()
