from __future__ import annotations

import decimal
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.report.figures import (
    format_count,
    format_pair,
    format_percent,
    format_usd,
    plain_usd,
)
from pytest_tokenbudget.report.text import align, measure, printable, shorten, wrap

money = st.decimals(min_value=0, max_value=10**9, allow_nan=False, allow_infinity=False)
tokens = st.integers(0, 10**12)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.0023", "$0.0023"),
        ("0.001", "$0.0010"),
        ("0.000185", "$0.000185"),
        ("0.000072", "$0.000072"),
        ("0.0441", "$0.0441"),
        ("0.00111", "$0.00111"),
        ("1234567.5", "$1,234,567.5000"),
        ("0", "$0"),
        ("0E-10", "$0"),
        ("1E+3", "$1,000.0000"),
        ("1E-12", "$0.000000000001"),
        ("0.00009999", "$0.0001"),
    ],
)
def test_money_for_people(amount, shown):
    assert format_usd(Decimal(amount)) == shown


def test_what_is_unknown_or_an_estimate_says_so():
    assert format_usd(None) == "unknown"
    assert format_usd(Decimal("0.0023"), estimated=True) == "~$0.0023"
    assert format_count(1204, estimated=True) == "~1,204"
    assert format_count(1204) == "1,204"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("0.00", "0"),
        ("0E-20", "0"),
        ("0E+3", "0"),
        ("0.0441000", "0.0441"),
        ("7.2E-5", "0.000072"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("0.0000000000000000000001", "0.0000000000000000000001"),
        (f"{'7' * 300}.{'1' * 300}0", f"{'7' * 300}.{'1' * 300}"),
    ],
)
def test_money_for_machines(amount, text):
    assert plain_usd(Decimal(amount)) == text


def test_money_for_machines_does_not_depend_on_the_context_that_a_test_left_behind():
    with decimal.localcontext(decimal.Context(prec=2, capitals=0, rounding=decimal.ROUND_UP)):
        shown = [plain_usd(Decimal(amount)) for amount in ("7.25E-9", "1.25E+3", "0.04411", "123456")]
    assert shown == ["0.00000000725", "1250", "0.04411", "123456"]


@pytest.mark.parametrize(
    ("used", "allowed", "shown"),
    [
        (Decimal("0.0023"), Decimal("0.001"), ("$0.0023", "$0.0010", "+$0.0013")),
        (Decimal("0.00100001"), Decimal("0.001"), ("$0.00100001", "$0.00100000", "+$0.00000001")),
        (
            Decimal("0.0010000000000049"),
            Decimal("0.001"),
            ("$0.001000000000005", "$0.001000000000000", "+$0.000000000000005"),
        ),
        (Decimal("0.00105"), Decimal("0.001"), ("$0.00105", "$0.00100", "+$0.00005")),
        (Decimal("0.0005"), Decimal(0), ("$0.0005", "$0", "+$0.0005")),
        (
            Decimal("1234.567949996"),
            Decimal("1234.56785"),
            ("$1,234.56795", "$1,234.56785", "+$0.00010"),
        ),
        (1204, 500, ("1,204", "500", "+704")),
        (501, 500, ("501", "500", "+1")),
        (2408, Decimal("1264.20"), ("2,408", "1,264.2", "+1,143.8")),
        (1264, Decimal("1260.00"), ("1,264", "1,260", "+4")),
        (400, 500, ("400", "500", "-100")),
    ],
)
def test_a_figure_beside_its_limit(used, allowed, shown):
    assert format_pair(used, allowed) == shown


@settings(deadline=None)
@given(money, money)
def test_money_never_looks_like_the_limit_it_differs_from(used, allowed):
    shown_used, shown_allowed, difference = format_pair(used, allowed)
    assert (shown_used == shown_allowed) == (used == allowed)
    assert difference[0] == ("-" if used < allowed else "+")
    assert (difference in ("+$0", "-$0")) == (used == allowed)
    assert "e" not in (shown_used + shown_allowed + difference).lower()


@settings(deadline=None)
@given(tokens, tokens)
def test_counts_never_look_like_the_limit_they_differ_from(used, allowed):
    shown_used, shown_allowed, _ = format_pair(used, allowed)
    assert (shown_used == shown_allowed) == (used == allowed)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(-50, 50))
def test_figures_next_to_each_other_are_told_apart(base, step):
    allowed = Decimal(base) / 1000
    used = allowed + Decimal(step).scaleb(-15)
    shown_used, shown_allowed, _ = format_pair(used, allowed)
    assert (shown_used == shown_allowed) == (used == allowed)


@settings(deadline=None)
@given(money)
def test_money_for_machines_is_exact(amount):
    text = plain_usd(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == "0" or not text.endswith(".")


@pytest.mark.parametrize(
    ("used", "allowed", "percent"),
    [
        (Decimal("0.0023"), Decimal("0.001"), "+130%"),
        (1204, 500, "+141%"),
        (105, 100, "+5%"),
        (1048, 1000, "+4.8%"),
        (1_000_500, 1_000_000, "+0.05%"),
        (1_000_000_001, 1_000_000_000, "less than +0.01%"),
        (90, 100, "-10%"),
        (100, 100, "+0%"),
        (5, 0, ""),
        (Decimal("0.1"), Decimal(0), ""),
        (50_000, 1, "+4,999,900%"),
    ],
)
def test_how_far_above(used, allowed, percent):
    assert format_percent(used, allowed) == percent


def test_a_decimal_context_left_behind_by_a_test_changes_nothing():
    with decimal.localcontext(decimal.Context(prec=2, rounding=decimal.ROUND_UP, traps=[decimal.Inexact])):
        assert format_pair(Decimal("0.002345678"), Decimal("0.001")) == ("$0.00235", "$0.00100", "+$0.00135")
        assert format_percent(1204, 500) == "+141%"
        assert format_usd(Decimal("123.456789")) == "$123.4568"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tab\there", "tab\\there"),
        ("Grüße 你好", "Grüße 你好"),
    ],
)
def test_what_others_wrote_is_made_harmless(text, safe):
    assert printable(text) == safe


@settings(deadline=None)
@given(st.text(alphabet=st.characters()) | st.text(alphabet="\ud800\x00\n\r\x1b\u202ea"))
def test_harmless_text_is_one_line_that_can_be_written(text):
    safe = printable(text)
    assert safe.encode("utf-8").decode() == safe
    assert len(safe.splitlines()) <= 1
    assert "\x1b" not in safe
    assert printable(text, ascii_only=True).isascii()


@settings(deadline=None)
@given(st.text(alphabet="ab/:你好"), st.integers(3, 40), st.booleans())
def test_a_shortened_text_fits_and_keeps_both_ends(text, width, ascii_only):
    short = shorten(text, width, ascii_only=ascii_only)
    assert measure(short) <= width
    assert short == text or ("..." if ascii_only else "…") in short


def test_the_middle_is_left_out():
    assert shorten("abcdefghijklmnopqrstuvwxyz", 11) == "abcd…uvwxyz"
    assert shorten("abcdefghijklmnopqrstuvwxyz", 13, ascii_only=True) == "abcd...uvwxyz"


def test_columns_line_up_also_beside_wide_characters():
    assert align([("a", "1"), ("你好", "22")], rights=[1]) == ["a      1", "你好  22"]


@settings(deadline=None)
@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=8), max_size=30), st.integers(10, 40))
def test_wrapping_keeps_every_word_and_the_width(words, width):
    lines = wrap(" ".join(words), width, indent="  ")
    assert " ".join(lines).split() == words
    assert all(measure(line) <= width for line in lines)
