"""The README: its example, its output, its tables and its commands."""

from __future__ import annotations

import re
import subprocess

import pytest
from doc_blocks import README, ROOT, check_lines, clean_environment, lay_out, read_blocks, run_command

import pytest_tokenbudget
from pytest_tokenbudget.options import DEFAULT_BASELINE
from pytest_tokenbudget.settings import INI_KEYS, OPTIONS

TEXT = README.read_text(encoding="utf-8")
BLOCKS = read_blocks(README)
EXAMPLE = next(block for block in BLOCKS if block.path == "test_jokes.py")
OUTPUT = next(block for block in BLOCKS if block.command == ["pytest"])
DRIFT = next(block for block in BLOCKS if block.text.startswith("request 1 to "))
COMMANDS = ("the example command", "the test command")


@pytest.fixture
def example(pytester, monkeypatch):
    clean_environment(monkeypatch)
    lay_out("README/joke", [EXAMPLE], pytester.path)
    return pytester


def test_the_example_prints_the_output(example, python):
    check_lines(OUTPUT.output, run_command(OUTPUT, example, python), "README.md")


def test_a_longer_prompt_prints_the_drift(example, python):
    test = example.path / "test_jokes.py"
    changed = test.read_text(encoding="utf-8").replace('"Tell me a joke"', '"You are a comedian. Tell me a joke"')
    test.write_text(changed, encoding="utf-8")
    check_lines(DRIFT.text.splitlines(), run_command(OUTPUT, example, python), "README.md")


def test_the_second_example_names_the_limits_and_the_attributes():
    block = next(block for block in BLOCKS if "track_usage" in block.text and block.language == "python")
    compile(block.text, "README.md", "exec")
    from pytest_tokenbudget.budget import LIMIT_NAMES
    from pytest_tokenbudget.tracking import UsageTracker

    marker = block.text.partition("token_budget(")[2].partition(")\ndef")[0]
    assert sorted(re.findall(r"^    (\w+)=", marker, re.MULTILINE)) == sorted(LIMIT_NAMES)
    for name in re.findall(r"\busage\.(\w+)", block.text):
        assert hasattr(UsageTracker, name), name
    for name in re.findall(r"^from pytest_tokenbudget import (\w+)", block.text, re.MULTILINE):
        assert name in pytest_tokenbudget.__all__


def test_the_table_lists_every_option_and_key_with_its_default():
    table = TEXT.partition("## Options")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines() if line.startswith("|")][
        2:
    ]
    options = {name for row in rows for name in re.findall(r"--token-[a-z-]+", row[0])}
    keys = {name: row[2] for row in rows for name in re.findall(r"token_\w+", row[1])}
    assert options == {option.long for option in OPTIONS if option.flag} | {
        "--token-report",
        "--token-update-baseline",
    }
    assert set(keys) == set(INI_KEYS)
    for option in OPTIONS:
        said = keys[option.name]
        words = option.kind.split() if " " in option.kind else []
        for word in words:
            assert f"`{word}`" in said, f"{option.name} can be {word}"
        if words:
            assert re.search(rf"`{option.default}` \((?:[^)]*\b)?default", said), f"{option.name}: {option.default}"
        elif option.default is not None:
            assert f"`{option.default}`" in said, f"{option.name}: {option.default}"
    assert f"`{DEFAULT_BASELINE}`" in keys["token_baseline"]
    assert "`term` (default)" in keys["token_report"]


def test_the_options_are_those_that_pytest_shows(pytester):
    shown = set(re.findall(r"--token-[a-z-]+", pytester.runpytest_subprocess("--help").stdout.str()))
    assert shown == {option.long for option in OPTIONS if option.flag} | {"--token-report", "--token-update-baseline"}


@pytest.mark.parametrize("name", COMMANDS)
def test_ci_runs_the_command_that_a_reader_copies(name):
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    extraction = re.search(r"^command_after\(\) .*$", script, re.MULTILINE)
    assert extraction is not None
    assert f'$(command_after "{name}")' in script
    taken = subprocess.run(
        ["bash", "-euc", f'{extraction[0]}\ncommand_after "{name}"'],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    block = next(block for block in BLOCKS if TEXT.splitlines()[block.line - 2] == f"<!-- {name} -->")
    assert taken.stdout == block.text
    assert len(block.text.splitlines()) == 1


def test_the_public_names_exist():
    expected = {
        "track_usage", "Usage", "ModelCall", "Budget", "BudgetExceeded", "UnpricedModelError", "UnmeasuredUsageError",
        "TokenBudgetError", "__version__",
    }  # fmt: skip
    assert set(pytest_tokenbudget.__all__) == expected
    for name in expected:
        assert getattr(pytest_tokenbudget, name) is not None
