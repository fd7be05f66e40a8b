"""A test that fails only in a subtest has failed: its figures are no baseline, and its recording is not whole."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("_pytest.subtests", reason="subtests are part of pytest since 9")

BROKEN = """
    import os
    import httpx2, pytest

    @pytest.mark.token_budget(max_requests=9)
    def test_broken(subtests):
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
        httpx2.post(os.environ["MODEL_URL"] + "/chat/completions", json=body)
        with subtests.test("this one fails"):
            assert False
"""


@pytest.fixture
def broken(pytester, monkeypatch):
    from model_server import ModelServer

    with ModelServer() as server:
        monkeypatch.setenv("MODEL_URL", server.openai_url)
        pytester.makepyfile(test_broken=BROKEN)
        yield pytester


def test_a_failed_subtest_fails_its_test_in_the_report_and_the_baseline(broken, run):
    run("-o", "token_replay=off", "--token-report=json", "--token-update-baseline")
    report = json.loads((broken.path / "token-report.json").read_text())
    assert [test["outcome"] for test in report["tests"]] == ["failed"]
    baseline = broken.path / "token-baseline.json"
    assert not baseline.exists() or json.loads(baseline.read_text())["tests"] == {}


def test_a_recording_with_a_failed_subtest_is_not_whole(broken, run):
    run("--token-record=once")
    folder = broken.path / "cassettes" / "test_broken"
    assert [path.name for path in folder.iterdir()] == ["test_broken.yaml.partial"]
