"""No real key where a test replays, for it and for what it starts; everything back afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_tokenbudget.environment import DUMMY, KEYS, QUIET, REPLACED, WITHOUT, replayed_environment

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
