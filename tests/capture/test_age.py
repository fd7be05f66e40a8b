"""How old a recording is, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pytest_tokenbudget.capture.age import Ages, days_since, describe_ages, describe_played, judge_ages, read_date

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
AGE = timedelta(days=90)
HTTP = "%a, %d %b %Y %H:%M:%S GMT"


def ago(days=0, **more):
    return NOW - timedelta(days=days, **more)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"date": ["Sun, 06 Nov 1994 08:49:37 GMT"]}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"DATE": [b"Sun, 06 Nov 1994 08:49:37 GMT"]}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"date": ("Sun, 06 Nov 1994 10:49:37 +0200",)}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"date": "Sun Nov  6 08:49:37 1994"}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"date": "Sunday, 06-Nov-94 08:49:37 GMT"}, datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ({"content-type": ["x"]}, None),
        ({"date": []}, None),
        ({"date": [""]}, None),
        ({"date": ["yesterday"]}, None),
        ({"date": ["REDACTED"]}, None),
        ({"date": [None]}, None),
        ({"date": ["Sun, 99 Nov 1994 08:49:37 GMT"]}, None),
        ({"date": ["Fri, 31 Dec 9999 23:59:59 -0900"]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_dates_are_read_as_servers_write_them(headers, expected):
    assert read_date(headers) == expected


@pytest.mark.parametrize(
    ("date", "days"), [(ago(), 0), (ago(hours=23, minutes=59), 0), (ago(1), 1), (ago(90, hours=23), 90), (ago(-1), 0)]
)
def test_ages_are_whole_days(date, days):
    assert days_since(date, NOW) == days


def test_the_limit_is_inclusive():
    assert not judge_ages([ago(90), ago(90, hours=23), ago(0)], now=NOW, max_age=AGE)
    assert judge_ages([ago(91), ago(400), ago(3)], now=NOW, max_age=AGE).old == (ago(400), ago(91))
    assert judge_ages([ago(1)], now=NOW, max_age=timedelta(0)).old == (ago(1),)
    assert not judge_ages([ago(hours=5)], now=NOW, max_age=timedelta(0))


def test_what_is_not_known_does_not_hold():
    assert judge_ages([None, ago(1), None], now=NOW, max_age=AGE) == Ages((), 2, ())
    ahead = judge_ages([ago(-1), ago(-400)], now=NOW, max_age=AGE)
    assert ahead == Ages((), 0, (ago(-400),))  # a clock may be ahead by a day
    assert not judge_ages([], now=NOW, max_age=AGE)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ([ago(91)], "a recording of 2026-08-23, 91 days old"),
        ([ago(91), ago(365), ago(2)], "2 old recordings, the oldest of 2025-11-22, 365 days old"),
        ([None], "1 recording without a date, so that nobody knows how old"),
        ([None, None, ago(100)],
         "a recording of 2026-08-14, 100 days old and 2 recordings without a date, so that nobody knows how old"),
        ([ago(-30)], "1 recording dated in the future (2026-12-22)"),
    ],
)  # fmt: skip
def test_what_is_said(dates, expected):
    assert describe_ages(judge_ages(dates, now=NOW, max_age=AGE), NOW) == expected


def test_the_line_names_subject_age_limit_and_remedy():
    said = {"subject": "test_a.py::test_x", "command": "pytest test_a.py::test_x --token-record=rewrite"}
    told = describe_played([{"date": [ago(91).strftime(HTTP)]}], since=NOW.timestamp(), max_age=AGE, **said)
    assert told == (
        "test_a.py::test_x plays a recording of 2026-08-23, 91 days old; token_max_age allows 90 days; "
        "re-record with: pytest test_a.py::test_x --token-record=rewrite"
    )
    assert describe_played([{"date": [ago(90).strftime(HTTP)]}], since=NOW.timestamp(), max_age=AGE, **said) is None
    assert describe_played([], since=NOW.timestamp(), max_age=AGE, **said) is None
