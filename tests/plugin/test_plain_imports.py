"""pytest loads the plugin's modules as Python does: there is no assertion in them that it could rewrite."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from warm_python import cold

import pytest_tokenbudget

CONFTEST = """
import json, os, sys
from pathlib import Path

def pytest_unconfigure(config):
    ours = {each: module.__loader__ for each, module in sys.modules.items() if each.startswith("pytest_tokenbudget")}
    made = {each: type(loader).__module__ for each, loader in ours.items()}
    Path(os.environ["LOADED"], f"{os.getpid()}.json").write_text(json.dumps(made))
"""


@cold
@pytest.mark.parametrize("autoload", [True, False])
def test_none_is_rewritten(pytester, run, spread, monkeypatch, autoload):
    monkeypatch.setenv("LOADED", str(pytester.mkdir("loaded")))
    asked = ["-p", "pytest_tokenbudget", "-W", "error::pytest.PytestAssertRewriteWarning"]
    if not autoload:
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        asked += ["-p", "xdist"] if spread else []
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it="def test_it(usage): assert usage.requests == 0")
    run(*asked, "--token-report=json").assert_outcomes(passed=1)
    loaded = [json.loads(each.read_text("utf-8")) for each in (pytester.path / "loaded").iterdir()]
    assert len(loaded) == (3 if spread else 1)
    for loaders in loaded:
        rewritten = {name for name, home in loaders.items() if home.startswith("_pytest")}
        assert rewritten <= {"pytest_tokenbudget"}  # from there on, it is Python that finds them
        assert "pytest_tokenbudget.plugin" in loaders
    assert max(map(len, loaded)) > 40


def test_there_is_nothing_to_rewrite():
    for path in Path(pytest_tokenbudget.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree)), path


@pytest.mark.parametrize("name", ["pytest_tokenbudget", "pytest_tokenbudget.plugin"])
def test_two_runs_in_one_process(pytester, monkeypatch, name):
    """pytest warns of modules that it comes too late to rewrite, unless they say that they need it not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(test_it="def test_it(usage): assert usage.requests == 0")
    arguments = ["-p", name, "-W", "error::pytest.PytestAssertRewriteWarning", "test_it.py"]
    twice = f"import pytest; print('twice', [int(pytest.main({arguments!r})) for _ in range(2)])"
    result = pytester.run(sys.executable, "-c", twice)
    result.stdout.fnmatch_lines(["twice [[]0, 0[]]"])
