"""No real key where a test replays, for it and for what it starts; everything back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_tokenbudget.environment import (
    DUMMY,
    KEYS,
    QUIET,
    REPLACED,
    WITHOUT,
    recorded_environment,
    replayed_environment,
)

REAL = "sk-proj-real0real0real0real0real0"


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    for name in (*KEYS, *REPLACED, *WITHOUT, *QUIET):
        monkeypatch.delenv(name, raising=False)


def test_clients_find_a_key_where_there_was_none():
    before = dict(os.environ)
    with replayed_environment():
        assert {os.environ[name] for name in KEYS} == {DUMMY}
        assert not set(REPLACED) & set(os.environ)
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", [*KEYS, *REPLACED, *WITHOUT])
def test_no_real_key_stays_and_each_comes_back(monkeypatch, name):
    monkeypatch.setenv(name, REAL)
    with pytest.raises(ZeroDivisionError), replayed_environment():
        assert REAL not in os.environ.values()
        raise ZeroDivisionError
    assert os.environ[name] == REAL


def test_a_process_that_the_test_starts_has_no_real_key(monkeypatch):
    for name in (*KEYS, *REPLACED, *WITHOUT):
        monkeypatch.setenv(name, REAL)
    with replayed_environment():
        said = subprocess.run(
            [sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True, check=True
        )
    assert REAL not in said.stdout
    assert DUMMY in said.stdout


def test_tracing_is_off_and_then_as_it_was(monkeypatch):
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    with replayed_environment():
        assert {os.environ[name] for name in QUIET} == {"false"}
    assert os.environ["LANGSMITH_TRACING"] == "true"
    assert "LANGCHAIN_TRACING_V2" not in os.environ


def test_what_the_test_itself_set_is_its_own_affair():
    with replayed_environment():
        os.environ["OPENAI_API_KEY"] = "sk-of-the-test"
    assert os.environ.pop("OPENAI_API_KEY") == "sk-of-the-test"


def test_one_in_another(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    with replayed_environment():
        with replayed_environment():
            assert os.environ["OPENAI_API_KEY"] == DUMMY
        assert os.environ["OPENAI_API_KEY"] == DUMMY
    assert os.environ["OPENAI_API_KEY"] == REAL


def test_each_name_is_listed_once():
    names = [*KEYS, *REPLACED, *WITHOUT, *QUIET]
    assert len(names) == len(set(names))


def test_no_proxy_is_a_way_out(monkeypatch):
    for name in ("HTTPS_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", "localhost")
    with replayed_environment():
        assert not {"HTTPS_PROXY", "http_proxy", "ALL_PROXY"} & set(os.environ)
        assert os.environ["NO_PROXY"] == "localhost"
    assert os.environ["HTTPS_PROXY"] == os.environ["http_proxy"] == "http://127.0.0.1:3128"


def test_what_the_test_took_away_comes_back(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    with replayed_environment():
        del os.environ["OPENAI_API_KEY"]
        os.environ["VOYAGE_API_KEY"] = "mine"
        os.environ["LANGSMITH_TRACING"] = "true"
    assert os.environ["OPENAI_API_KEY"] == REAL
    assert os.environ.pop("VOYAGE_API_KEY") == "mine"
    assert os.environ.pop("LANGSMITH_TRACING") == "true"


BEFORE = [None, REAL]
SET = ["OPENAI_API_KEY", "VOYAGE_API_KEY", "HTTPS_PROXY"]
"""One that is always held, one that is held where it is set, one that is taken away."""


def given(monkeypatch, name, value):
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("name", SET)
@pytest.mark.parametrize("replayed", [False, True])
def test_what_a_shared_fixture_sets_holds_outside_and_until_it_is_torn_down(monkeypatch, name, before, replayed):
    given(monkeypatch, name, before)
    changes = {}
    outer = replayed_environment if replayed else recorded_environment
    with outer():
        with replayed_environment(changes):
            found = os.environ.get(name)
            os.environ[name] = "of the fixture"
        if replayed:
            assert os.environ.get(name) in (DUMMY, None)
    assert os.environ[name] == "of the fixture"
    with replayed_environment():
        assert os.environ.get(name) in (DUMMY, None)
    assert os.environ[name] == "of the fixture"
    with replayed_environment(changes):
        # As monkeypatch would: it puts back what it found, which was ours.
        given(monkeypatch, name, found)
    assert os.environ.get(name) == before


@pytest.mark.parametrize("name", SET)
def test_a_shared_fixture_without_a_test_around_it(monkeypatch, name):
    changes = {}
    with replayed_environment(changes):
        os.environ[name] = "of the fixture"
    assert os.environ[name] == "of the fixture"
    with replayed_environment(changes):
        assert os.environ.get(name) in (DUMMY, None)
    assert name not in os.environ


def test_a_shared_fixture_that_fails_leaves_what_it_set(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    with replayed_environment():
        with pytest.raises(ZeroDivisionError), replayed_environment({}):
            os.environ["OPENAI_API_KEY"] = "of the fixture"
            raise ZeroDivisionError
        assert os.environ["OPENAI_API_KEY"] == DUMMY
    assert os.environ["OPENAI_API_KEY"] == "of the fixture"


def test_a_recording_fixture_of_a_replayed_test_has_the_real_keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    monkeypatch.setenv("VOYAGE_API_KEY", REAL)
    with replayed_environment():
        with recorded_environment({}):
            assert os.environ["OPENAI_API_KEY"] == os.environ["VOYAGE_API_KEY"] == REAL
            assert "ANTHROPIC_API_KEY" not in os.environ
            assert {os.environ[name] for name in QUIET} == {"false"}
        assert (
            os.environ["OPENAI_API_KEY"] == os.environ["VOYAGE_API_KEY"] == os.environ["ANTHROPIC_API_KEY"] == DUMMY
        )
    assert os.environ["OPENAI_API_KEY"] == os.environ["VOYAGE_API_KEY"] == REAL
    assert "ANTHROPIC_API_KEY" not in os.environ


def test_recording_leaves_the_keys_and_switches_tracing_off(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    before = dict(os.environ)
    with recorded_environment():
        assert dict(os.environ) == {**before, **QUIET}
    assert dict(os.environ) == before


@pytest.mark.parametrize("environment", [replayed_environment, recorded_environment])
def test_langsmith_reads_its_environment_anew(monkeypatch, environment):
    from langsmith import utils

    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.delenv("LANGCHAIN_TRACING_V2", raising=False)
    utils.get_env_var.cache_clear()
    try:
        assert utils.tracing_is_enabled() is True
        with pytest.raises(ZeroDivisionError), environment():
            assert utils.tracing_is_enabled() is False
            raise ZeroDivisionError
        assert utils.tracing_is_enabled() is True
    finally:
        utils.get_env_var.cache_clear()
