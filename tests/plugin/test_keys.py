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


def test_a_key_that_comes_and_goes_between_replayed_tests_leaves_no_gap(pytester, run, monkeypatch):
    """What a process inherits is C's environment: a replayed test's holds a dummy, whatever happened before."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    pytester.makepyfile(
        test_it="""
        import os, subprocess, sys
        import pytest

        # As load_dotenv does it, in a process of its own.
        CODE = "import os; print(os.environ.setdefault('OPENAI_API_KEY', 'sk-REAL'))"

        def inherited():
            return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True).stdout.strip()

        @pytest.fixture(scope="session")
        def documents():
            return os.environ["OPENAI_API_KEY"]

        def test_live(documents, monkeypatch):
            assert inherited() == "sk-REAL"
            monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
            assert inherited() == "sk-other"

        @pytest.mark.token_budget(min_requests=0)
        def test_replayed(documents):
            assert inherited() == os.environ["OPENAI_API_KEY"] == "sk-replayed-by-pytest-tokenbudget"

        def test_live_again():
            assert "OPENAI_API_KEY" not in os.environ
            assert inherited() == "sk-REAL"

        @pytest.mark.token_budget(min_requests=0)
        def test_puts():
            os.putenv("OPENAI_API_KEY", "sk-REAL")

        @pytest.mark.token_budget(min_requests=0)
        def test_replayed_again():
            assert inherited() == "sk-replayed-by-pytest-tokenbudget"
        """
    )
    run("-p", "no:randomly").assert_outcomes(passed=5)


def test_an_environment_of_somebody_elses_making_holds_no_real_key_either(pytester, run):
    pytester.makepyfile(
        test_it="""
        import os
        import pytest

        @pytest.fixture(scope="module", autouse=True)
        def plain():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "environ", {"OPENAI_API_KEY": "sk-REAL", "PATH": os.environ["PATH"]})
                yield

        @pytest.mark.token_budget(min_requests=0)
        @pytest.mark.parametrize("number", range(4))
        def test_replayed(number):
            assert os.environ["OPENAI_API_KEY"] == "sk-replayed-by-pytest-tokenbudget" or number == 0
            assert all(isinstance(name, str) for name in os.environ)

        def test_live():
            assert os.environ["OPENAI_API_KEY"] == "sk-REAL"
            assert "GROQ_API_KEY" not in os.environ
        """
    )
    run("-p", "no:randomly").assert_outcomes(passed=5)
