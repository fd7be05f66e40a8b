"""A request that works nothing out before it is asked is, for whoever asks, the one that vcrpy makes."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vcr.request import Request

from pytest_tokenbudget.capture.plain_request import PlainRequest, recorded_request
from pytest_tokenbudget.capture.request_index import exact_key, request_key

FACTS = ("method", "uri", "url", "scheme", "protocol", "host", "port", "path", "query", "body")
names = st.sampled_from(["accept", "Content-Type", "CONTENT-ENCODING", "x-a"])
values = st.sampled_from(["application/json", "identity", "a"])
recorded = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST"]),
        "uri": st.sampled_from(
            ["https://api.openai.com/v1/chat/completions", "http://127.0.0.1:8000/a?b=2&a=1#c", ""]
        ),
        "body": st.none() | st.binary(max_size=9) | st.text(max_size=9) | st.just('{"a": 1}'),
        "headers": st.dictionaries(names, values | st.lists(values, min_size=1, max_size=2), max_size=3),
    }
)


@given(recorded)
def test_it_is_vcrpy_s(data):
    made, known = recorded_request(copy.deepcopy(data)), Request._from_dict(copy.deepcopy(data))
    assert type(made) is PlainRequest
    for request in (made, copy.deepcopy(made)):
        assert [getattr(request, name) for name in FACTS] == [getattr(known, name) for name in FACTS]
        assert request.headers == known.headers
        assert request._to_dict() == known._to_dict()
        assert exact_key(request) == exact_key(known)
        assert request_key(request) == request_key(known)


def test_it_can_be_changed():
    request = PlainRequest("POST", "https://a.example/b", b"c", {"accept": ["d"]})
    request.uri, request.body, request.headers = "https://e.example/f", "g", {"h": "i"}
    assert (request.host, request.path, request.body, request.headers) == ("e.example", "/f", b"g", {"h": "i"})


@pytest.mark.parametrize(
    "odd",
    [
        {"headers": {"accept": []}},
        {"headers": ["accept"]},
        {"uri": 7},
        {"body": 7},
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
    data = None if odd is None else whole | odd

    def outcome(make):
        try:
            return vars(make(data)).keys()
        except Exception as error:
            return type(error)

    assert outcome(recorded_request) == outcome(Request._from_dict)


def test_without_headers_it_is_vcrpy_s_too():
    request = recorded_request({"method": "GET", "uri": "https://a.example/", "body": None, "headers": None})
    assert request.headers == {}
