"""pytest-recording beside us: its cassettes are ours, ours are its own, and a test of its own stays its own."""

from __future__ import annotations

import gzip
import json

import pytest
import yaml
from test_replay import CLIENT, cassettes

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])


@pytest.fixture
def client(pytester, server):
    pytester.makepyfile(client=CLIENT)
    return server


TEST = """
    import pytest
    from client import ask
    {mark}
    class TestIt:
        @pytest.mark.parametrize("x", ["a/b"])
        def test_it({usage}self, x):
            assert ask("hello") == "You said: hello"
    """


def test_cassettes_go_both_ways(pytester, client, run):
    ours = TEST.format(mark="", usage="").replace("self, x", "self, x, usage")
    theirs = TEST.format(mark="@pytest.mark.vcr", usage="")
    pytester.makepyfile(test_a=theirs)
    run("--record-mode=once").assert_outcomes(passed=1)
    (recorded,) = cassettes(pytester)
    pytester.makepyfile(test_a=ours)
    run().assert_outcomes(passed=1)
    (pytester.path / recorded).unlink()
    run("--token-record=once").assert_outcomes(passed=1)
    assert cassettes(pytester) == [recorded]
    pytester.makepyfile(test_a=theirs)
    run("--record-mode=none", "--block-network").assert_outcomes(passed=1)
    assert len(client.ledger) == 2


def test_a_test_of_theirs_keeps_their_cassette_and_is_counted(pytester, client, run, reported):
    pytester.makepyfile(
        test_a="""
        import pytest
        from client import ask

        @pytest.mark.vcr
        @pytest.mark.token_budget(max_requests=1)
        def test_it(usage):
            ask("hello")
            assert usage.requests == 1
            assert usage.calls[0].replayed is (len(open("recorded").read()) > 0)
        """
    )
    (pytester.path / "recorded").write_text("")
    run("--record-mode=once").assert_outcomes(passed=1)
    (pytester.path / "recorded").write_text("yes")
    run("--token-report=json").assert_outcomes(passed=1)
    assert reported()["test_it"]["verdict"] == "within"
    assert len(client.ledger) == 1


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
        from client import ask

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
