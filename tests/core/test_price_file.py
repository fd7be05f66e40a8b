from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.price_file import MAX_BYTES, PriceOverrides, load_price_file, parse_price_date

GOOD = """
[models."my-org/tuned"]        # USD per million tokens
input = 3.00
cached_input = 0.30
cache_write = "3.75"
cache_write_1h = 6
output = 15.00
input_audio = 40
output_audio = 80

[aliases]
"my-azure-deployment" = "azure:gpt-4o"
"hop" = "my-azure-deployment"
"""


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "prices.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_price_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_rates_are_exact_and_aliases_lead_on(write):
    path = write(GOOD)
    overrides = load_price_file(path)
    rates = overrides.rates("my-org/tuned")
    assert rates.input.usd_per_million_tokens == 3
    assert rates.cached_input.usd_per_million_tokens == Decimal("0.30")
    assert rates.cache_write.usd_per_million_tokens == Decimal("3.75")
    assert rates.cache_write_1h.usd_per_million_tokens == 6
    assert rates.output.usd_per_million_tokens == 15
    assert rates.input_audio.usd_per_million_tokens == 40
    assert rates.output_audio.usd_per_million_tokens == 80
    assert overrides.path == path
    assert overrides.target("hop") == "azure:gpt-4o"
    assert overrides.target("HOP") == "azure:gpt-4o"
    assert overrides.target("gpt-4o") is None
    assert overrides.rates("My-Org/Tuned") is rates
    assert overrides.rates("my-org/other") is None


def test_a_circle_of_aliases_ends():
    assert PriceOverrides(aliases={"a": "b", "b": "a"}).target("a") in {"a", "b"}


def test_a_rate_is_the_decimal_that_was_written(write):
    overrides = load_price_file(write('[models."m"]\ninput = 0.1\noutput = 1e-3\n'))
    assert overrides.rates("m").input.usd_per_million_tokens == Decimal("0.1")
    assert overrides.rates("m").output.usd_per_million_tokens == Decimal("0.001")


def test_an_empty_file_and_a_byte_order_mark_are_no_fault(write):
    assert load_price_file(write("")).models == {}
    assert load_price_file(write(b"\xef\xbb\xbf[aliases]\n")).aliases == {}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[model."m"]\ninput = 1\noutput = 1', ["model:", "did you mean models?"]),
        ("version = 1", ["version", "models, aliases"]),
        ('[models."m"]\ninput = 1\noutptu = 1', ['models."m".outptu', "did you mean output?"]),
        ('[models."m"]\ninput = 1\noutput = 1\nreasoning = 1', ['models."m".reasoning', "cached_input"]),
        ('[models."m"]\ninput = true\noutput = 1', ['models."m".input', "True", "number of USD"]),
        ('[models."m"]\ninput = -0.5\noutput = 1', ['models."m".input', "-0.5"]),
        ('[models."m"]\ninput = nan\noutput = 1', ['models."m".input', "NaN"]),
        ('[models."m"]\ninput = inf\noutput = 1', ['models."m".input', "Infinity"]),
        ('[models."m"]\ninput = "cheap"\noutput = 1', ['models."m".input', "'cheap'"]),
        ('[models."m"]\ninput = "NaN"\noutput = 1', ['models."m".input', "'NaN'"]),
        ('[models."m"]\ninput = "-1"\noutput = 1', ['models."m".input', "'-1'"]),
        ('[models."m"]\ninput = ""\noutput = 1', ['models."m".input']),
        ('[models."m"]\ninput = [1]\noutput = 1', ['models."m".input', "[1]"]),
        ('[models."m"]\ninput = 2026-01-01\noutput = 1', ['models."m".input', "2026"]),
        ('[models."m"]\ninput = 1e400\noutput = 1', ['models."m".input', "from 0 to 1000000"]),
        ('[models."m"]\ninput = 1e-400\noutput = 1', ['models."m".input', "decimals"]),
        ('[models."m"]\ninput = 1', ['models."m".output', "is missing"]),
        ('[models."m"]\noutput = 1', ['models."m".input', "is missing"]),
        ('[models."m"]', ['models."m".input', "is missing"]),
        ("models = 3", ["models: 3", "a table"]),
        ("[models]\nm = 3", ['models."m": 3', "a table"]),
        ('[models.""]\ninput = 1\noutput = 1', ['models.""', "not empty"]),
        ('aliases = "x"', ["aliases", "a table"]),
        ('[aliases]\na = ""', ['aliases."a"', "gpt-4o"]),
        ('[aliases]\na = ":"', ['aliases."a"']),
        ("[aliases]\na = 3", ['aliases."a": 3']),
        ('[aliases]\n"" = "gpt-4o"', ['aliases.""']),
        ('[aliases]\na = "a"', ['aliases."a"', "back to itself"]),
        ('[aliases]\na = "A"', ['aliases."a"', "back to itself"]),
        ('[aliases]\na = "b"\nb = "c"\nc = "a"', ['aliases."a"', "back to itself"]),
        ('[aliases]\nstart = "b"\nb = "c"\nc = "b"', ["back to itself"]),
        ('[models."m"]\ninput = 1\noutput = 1\n[aliases]\nM = "gpt-4o"', ['aliases."M"', 'models."m"']),
        ('[models."m"]\ninput = 1\noutput = 1\n[models."M"]\ninput = 2\noutput = 1', ['models."M"', 'models."m"']),
        ("[models\n", ["is not TOML"]),
        ('[models."m"]\ninput = 1\ninput = 2\noutput = 1', ["is not TOML"]),
        ('[models."m"]\ninput = 1e99999999999999999999\noutput = 1', ["is not TOML"]),
        ("a = " + "[" * 100_000, ["is not TOML"]),
        (b"\xff\xfe[\x00m\x00", ["is not UTF-8"]),
        (b"#" * (MAX_BYTES + 1), ["is larger than"]),
    ],
)
def test_a_fault_is_refused_with_its_key_and_what_is_allowed(write, content, named):
    message = refusal(write(content))
    for part in named:
        assert part in message


def test_a_missing_file_and_a_directory_are_refused(tmp_path):
    assert "can't be read" in refusal(tmp_path / "absent.toml")
    assert "can't be read" in refusal(tmp_path)


def test_a_day_is_read_strictly():
    assert parse_price_date(" 2026-11-18 ") == date(2026, 11, 18)
    for text in (
        "",
        "today",
        "2026-11",
        "2026-02-30",
        "20261118",
        "2026-11-18T00:00",
        "2026-W47-3",
        "\u0662\u0660\u0662\u0666-11-18",
    ):
        with pytest.raises(ConfigurationError, match="YYYY-MM-DD"):
            parse_price_date(text)
