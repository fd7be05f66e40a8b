"""A request that works nothing out before it is asked is, for whoever asks, the one that vcrpy makes."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vcr.request import Request

from pytest_tokenbudget.capture.plain_request import PlainRequest, recorded_request
from pytest_tokenbudget.capture.request_index import body_bytes, exact_key, request_key

FACTS = ("method", "uri", "scheme", "host", "port", "body")
names = st.sampled_from(["accept", "Content-Type", "CONTENT-ENCODING", "x-a", "X-A"])
values = st.sampled_from(["application/json", "identity", "a"])
recorded = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST"]),
        "uri": st.sampled_from(
            [
                "https://api.openai.com/v1/chat/completions",
                "http://127.0.0.1:8000/a?b=2&a=1#c",
                "http://user@Host:0/",
                "ftp://a.example/b",
                "",
            ]
        ),
        "body": st.none() | st.binary(max_size=9) | st.text(max_size=9) | st.just('{"a": 1}'),
        "headers": st.dictionaries(names, values | st.lists(values, min_size=1, max_size=2), max_size=3),
    }
)


def lowered(headers):
    return {name.lower(): value for name, value in headers.items()}


@given(recorded)
def test_it_says_what_vcrpy_s_says(data):
    made, known = recorded_request(copy.deepcopy(data)), Request._from_dict(copy.deepcopy(data))
    assert [getattr(made, name) for name in FACTS] == [getattr(known, name) for name in FACTS]
    assert lowered(made.headers) == lowered(known.headers)
    assert body_bytes(made) == body_bytes(known)
    assert exact_key(made) == exact_key(known)
    assert request_key(made) == request_key(known)


@given(recorded, recorded)
def test_it_finds_the_recordings_that_vcrpy_s_finds(one, other):
    asked, known = PlainRequest(**one), Request(**one)
    assert (request_key(asked) == request_key(recorded_request(other))) == (
        request_key(known) == request_key(Request(**other))
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"headers": {"accept": []}},
        {"headers": ["accept"]},
        {"headers": None},
        {"uri": 7},
        {"body": 7},
        {"body": ["a"]},
        {"more": 1},
        {"uri": "https://[api.openai.com/v1"},
        {"uri": "https://[abc]/"},
        {"uri": "http://\u2100.com/"},
        {"uri": "https://user:secret@[::1]/"},
        None,
    ],
)
def test_what_is_odd_is_left_to_vcrpy(odd):
    whole = {"method": "GET", "uri": "https://a.example/", "body": None, "headers": {}}
    assert recorded_request(None if odd is None else whole | odd) is None
    assert recorded_request(whole) is not None
