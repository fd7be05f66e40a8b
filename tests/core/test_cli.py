from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tokenbudget import cli

ROOT = Path(cli.__file__).parents[1]


def run(capsys, *words):
    status = cli.main(words)
    out, err = capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def rows(lines):
    return {line.rsplit(None, 1)[0].strip(): line.rsplit(None, 1)[1] for line in lines if line.startswith("  ")}


# USD per million tokens as the providers publish them.
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4o-mini", {"input": "0.15", "cached input": "0.075", "output": "0.60"}),
        ("azure:gpt-4o", {"input": "2.50", "cached input": "1.25", "output": "10.00"}),
        ("openai:text-embedding-3-small", {"input": "0.02"}),
        ("gpt-3.5-turbo-instruct", {"input": "1.50", "output": "2.00"}),
        (
            "gemini-2.5-pro",
            {
                "input": "1.25",
                "cached input": "0.125",
                "input, longest prompts": "2.50",
                "output": "10.00",
                "output, longest prompts": "15.00",
            },
        ),
    ],
)
def test_the_rates_of_a_model(capsys, model, expected):
    status, out, err = run(capsys, "prices", model)
    assert (status, err) == (0, [])
    assert out[0] == f"{model}, USD per million tokens"
    assert rows(out) == expected
    assert out[-1].startswith("genai-prices ")


def test_where_prices_come_from(capsys):
    from importlib.metadata import version

    status, out, err = run(capsys, "prices", "--date", "2026-01-31")
    assert (status, err) == (0, [])
    assert out == [f"genai-prices {version('genai-prices')}, list prices of 2026-01-31"]


def test_own_prices(capsys, tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('[models."my-org/tuned"]\ninput = 3.00\ncached_input = 0.30\noutput = 15.125\n')
    status, out, err = run(capsys, "prices", "my-org/tuned", "--prices", str(path))
    assert (status, err) == (0, [])
    assert rows(out) == {"input": "3.00", "cached input": "0.30", "output": "15.125"}
    assert [line for line in out if re.fullmatch(r"overrides: prices\.toml \([0-9a-f]{8}\)", line)]


def test_a_model_without_a_price_is_an_error_and_not_free(capsys):
    status, out, err = run(capsys, "prices", "no-such-model\n\x1b[31m")
    assert (status, out) == (1, [])
    assert len(err) == 1
    assert err[0].startswith("tokenbudget: no price for ")
    assert err[0].isprintable()


# The list has whisper-1 by the minute of audio only.
@pytest.mark.parametrize("model", ["whisper-1"])
def test_a_model_that_is_not_charged_by_the_token_is_an_error(capsys, model):
    status, out, err = run(capsys, "prices", model)
    assert (status, out, len(err)) == (1, [], 1)
    assert "whisper-1" in err[0]


@pytest.mark.parametrize("content", [None, b"", b"[models", b"\xff", b"[models.x]\ninput = -1\noutput = 1\n"])
def test_a_price_file_that_cannot_be_used_is_exit_4(capsys, tmp_path, content):
    path = tmp_path / "prices.toml"
    if content == b"":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    status, out, err = run(capsys, "prices", "gpt-4o", "--prices", str(path))
    assert (status, out) == (4, [])
    assert len(err) == 1
    assert str(path) in err[0]


def test_a_day_that_is_none_is_exit_4(capsys):
    status, out, err = run(capsys, "prices", "--date", "2026-02-30")
    assert (status, out, len(err)) == (4, [], 1)


@pytest.mark.parametrize("words", [[], ["prise"], ["prices", "a", "b"], ["prices", "--pric", "x"]])
def test_bad_words_are_exit_2(capsys, words):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "pytest_tokenbudget", "prices", "gpt-4o-mini"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("gpt-4o-mini, USD per million tokens\n")
    assert "Traceback" not in done.stdout
