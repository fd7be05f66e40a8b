"""No real key where a test replays: in its environment, in what it starts, in what it is given, in what is recorded."""

from __future__ import annotations

import pytest

REAL = "sk-proj-real0real0real0real0"

together = pytest.mark.parametrize("spread", [(), ("-n", "2", "--dist=loadfile")], ids=["plain", "xdist"])


@pytest.fixture
def real(monkeypatch):
    """A developer's environment, full of keys."""
    for name in ("OPENAI_API_KEY", "VOYAGE_API_KEY", "LANGSMITH_API_KEY", "AWS_SESSION_TOKEN", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, REAL)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    return REAL


def test_what_a_test_starts_has_no_real_key(pytester, real, run):
    pytester.makepyfile(
        printing="""
        import os

        def print_all():
            print(*os.environ.values())
        """,
        test_it=f"""
        import asyncio, multiprocessing, os, subprocess, sys
        from concurrent.futures import ProcessPoolExecutor
        import pytest
        from printing import print_all

        CODE = "from printing import print_all; print_all()"

        def system():
            os.system(f'"{{sys.executable}}" -c "{{CODE}}"')

        def popen():
            subprocess.run([sys.executable, "-c", CODE], check=True)

        async def create():
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", CODE)
            await process.wait()

        def process(kind):
            started = multiprocessing.get_context(kind).Process(target=print_all)
            started.start()
            started.join()

        def pool():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
                executor.submit(print_all).result()

        @pytest.mark.parametrize("start", [
            system, popen, lambda: asyncio.run(create()), lambda: process("spawn"), lambda: process("fork"), pool,
        ])
        def test_it(usage, start, capfd):
            start()
            said = capfd.readouterr().out
            assert {real!r} not in said
            assert "replayed-by" in said
        """,
    )
    run().assert_outcomes(passed=6)


@together
def test_keys_that_the_users_own_fixtures_set(pytester, real, run):
    pytester.makeconftest(
        """
        import os
        import pytest

        os.environ["DATABRICKS_TOKEN"] = "conftest"

        @pytest.fixture(scope="session", autouse=True)
        def session_keys():
            os.environ.update(OPENAI_API_KEY="session", GROQ_API_KEY="session", JINA_API_KEY="session")
            yield
            # Only what it finds then is its to take away.
            assert os.environ["OPENAI_API_KEY"] != "module"

        @pytest.fixture(scope="module")
        def module_keys():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OPENAI_API_KEY", "module")
                patch.setenv("WRITER_API_KEY", "module")
                yield
        """
    )
    keys = ["OPENAI_API_KEY", "GROQ_API_KEY", "JINA_API_KEY", "DATABRICKS_TOKEN", "WRITER_API_KEY"]
    pytester.makepyfile(
        test_it=f"""
        import os
        import pytest

        def keys():
            return [os.environ.get(name) for name in {keys}]

        DUMMY = "sk-replayed-by-pytest-tokenbudget"
        HELD = [[DUMMY] * 4 + [absent] for absent in (DUMMY, None)]

        def test_replayed(usage):
            assert keys() in HELD

        def test_live():
            assert keys() == ["session", "session", "session", "conftest", None]

        def test_replayed_in_module(usage, module_keys):
            assert keys() in HELD

        def test_live_in_module():
            assert keys() == ["module", "session", "session", "conftest", "module"]

        def test_own(usage, monkeypatch):
            monkeypatch.setenv("OPENAI_API_KEY", "own")
            assert os.environ["OPENAI_API_KEY"] == "own"

        def test_broken(usage):
            os.environ["OPENAI_API_KEY"] = "left"
            del os.environ["DATABRICKS_TOKEN"]
            raise ValueError

        def test_last():
            assert keys() == ["module", "session", "session", "conftest", "module"]
        """,
        test_later="""
        import os

        def test_after_the_module():
            keys = [os.environ.get(name) for name in ("OPENAI_API_KEY", "WRITER_API_KEY")]
            # Over two workers, nobody has asked for the session's fixture here but this very test.
            assert keys == ["session", None]
        """,
    )
    run().assert_outcomes(passed=7, failed=1)


def test_a_client_of_before_matters_not(pytester, server, real, run, monkeypatch):
    pytester.makepyfile(
        test_it="""
        from functools import lru_cache
        from openai import OpenAI

        @lru_cache
        def client():
            return OpenAI()

        client()  # with the key that is there at import

        def ask():
            messages = [{"role": "user", "content": "hello"}]
            return client().chat.completions.create(model="gpt-4o-mini", messages=messages).choices[0].message.content

        def test_it(usage):
            assert ask() == "You said: hello"
        """
    )
    monkeypatch.setenv("OPENAI_API_KEY", real)
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    assert real not in path.read_text("utf-8")
    billed = len(server.ledger)
    assert billed == 1
    run().assert_outcomes(passed=1)
    assert len(server.ledger) == billed


START = {
    "popen": "subprocess.run([sys.executable, '-c', CODE, said], check=True)",
    "system": """os.system(f'"{sys.executable}" -c "{CODE}" "{said}"')""",
    "spawn": "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', CODE, said], dict(os.environ)), 0)",
    "fork": "os.waitpid(os.fork() or os.execv(sys.executable, [sys.executable, '-c', CODE, said]), 0)",
}


@pytest.mark.skipif("not hasattr(os, 'fork')")
@pytest.mark.parametrize("start", START)
@together
def test_what_is_started_between_replayed_tests_has_the_environment_that_it_would_have(
    pytester, monkeypatch, run, start, spread
):
    monkeypatch.setenv("OPENAI_API_KEY", REAL)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    pytester.makeconftest(
        f"""
        import os, subprocess, sys

        CODE = "import os, sys; print(os.getenv('OPENAI_API_KEY'), os.getenv('GROQ_API_KEY'), file=open(sys.argv[1], 'a'))"

        def pytest_runtest_logfinish(nodeid):
            said = os.path.join({str(pytester.path)!r}, "said")
            if "PYTEST_XDIST_WORKER" in os.environ or {not spread}:
                {START[start]}
        """
    )
    pytester.makepyfile(
        """
        import os

        def test_a(usage):
            assert "replayed" in os.environ["GROQ_API_KEY"]

        def test_b(usage):
            assert "replayed" in os.environ["GROQ_API_KEY"]

        def test_c():
            assert "GROQ_API_KEY" not in os.environ
        """
    )
    run(*spread).assert_outcomes(passed=3)
    assert set((pytester.path / "said").read_text().splitlines()) == {f"{REAL} None"}


@pytest.mark.skipif("os.name != 'posix'")
def test_c_sees_what_python_sees_where_nothing_replays(pytester, monkeypatch, run):
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    pytester.makeconftest(
        """
        import ctypes

        def getenv(name):
            function = ctypes.CDLL(None).getenv
            function.restype = ctypes.c_char_p
            return function(name.encode())

        def pytest_sessionfinish():
            assert getenv("GROQ_API_KEY") is None
        """
    )
    pytester.makepyfile(
        """
        from conftest import getenv

        def test_a(usage):
            assert b"replayed" in getenv("GROQ_API_KEY")

        def test_b():
            assert getenv("GROQ_API_KEY") is None

        def test_c(usage):
            assert b"replayed" in getenv("GROQ_API_KEY")
        """
    )
    run().assert_outcomes(passed=3)
