"""What is read line by line is what all of YAML says of it, and whatever is odd is left to who reads that."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_tokenbudget.capture import cassette_reader, yaml_events
from pytest_tokenbudget.capture.dumped_yaml import MOST, read_dumped
from pytest_tokenbudget.capture.refused import MAX_DEPTH, Refused

DUMPERS = [yaml.SafeDumper, getattr(yaml, "CSafeDumper", yaml.SafeDumper)]

ANSWER = {
    "id": "chatcmpl-1",
    "content": "Don't  stop:\n\tit's \"fine\" caf\u00e9 \U0001f600 " * 9,
    "usage": {"n": [1, 2]},
}
EVENTS = "".join(
    f"data: {json.dumps({'delta': word})}\n\n" for word in ["a", "long", "answer", "in", "many", "words"] * 9
)


def read(text):
    return read_dumped(text, cassette_reader._meaning, max_depth=MAX_DEPTH)


def read_events(text):
    try:
        return yaml_events.read_events(text)
    except Refused:
        return "refused"


def outcome(meaning, scalar):
    try:
        found = meaning(scalar)
    except (ValueError, OverflowError) as error:
        return type(error)
    return type(found), repr(found)


SCALARS = st.one_of(
    st.sampled_from(
        [
            "null",
            "Null",
            "NULL",
            "~",
            "yes",
            "Yes",
            "YES",
            "yEs",
            "no",
            "No",
            "on",
            "Off",
            "OFF",
            "true",
            "True",
            "false",
            "FALSE",
            "y",
            "n",
            "Y",
            "N",
            "on.e",
            "nullable",
            "OK",
            "POST",
            "0",
            "00",
            "010",
            "0x1f",
            "0b1",
            "1_000",
            "1e5",
            "1.5",
            ".5",
            "12:30",
            "12:30:45",
            "2026-11-26",
            "2026-13-41",
            "2026-11-26T10:00:00Z",
            "200",
            "18446744073709551616",
            "1.0e+400",
            "-1",
            "+1",
            ".inf",
            ".nan",
            "=",
            "<<",
            "text/plain",
            "https://a.example/b",
            "9a",
        ]
    ),
    st.text("0123456789_.:-+xeTnoyYfF", min_size=1, max_size=8),
    st.text(min_size=1, max_size=4),
    st.just("7" * 5000),
)


@given(SCALARS)
def test_what_is_plain_to_see_is_what_pyyaml_says(scalar):
    assert outcome(cassette_reader._meaning, scalar) == outcome(yaml_events.meaning_of, scalar)


def cassette(body, answer):
    headers = {"content-type": ["application/json"], "date": ["Mon, 23 Nov 2026 10:00:00 GMT"], "x": []}
    request = {"method": "POST", "uri": "https://api.openai.com/v1/chat/completions?a=b", "body": body, "headers": {}}
    response = {"status": {"code": 200, "message": None}, "headers": headers, "body": {"string": answer}}
    return {"interactions": [{"request": request, "response": response}] * 2, "version": 1}


def dumped(document, dumper, **options):
    class Unshared(dumper):
        def ignore_aliases(self, data):
            return True

    return yaml.dump(document, Dumper=Unshared, **options)


@pytest.mark.parametrize(
    "answer",
    [json.dumps(ANSWER), json.dumps(ANSWER, separators=(",", ":")), json.dumps(ANSWER, indent=2), EVENTS, "", "\n"],
    ids=["json", "compact", "pretty", "events", "empty", "break"],
)
def test_what_recorders_write_is_read(answer):
    document = cassette('{"model":"gpt-4o-mini","messages":[]}', answer)
    assert read(dumped(document, DUMPERS[-1])) == document  # vcrpy takes libyaml's where it can


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.dates(),
    st.text(max_size=50),
    st.text("ab '\"\\\n\t:#-,{}u\u00e9", max_size=120),
    st.text("ab  \\", min_size=90, max_size=120),
    st.sampled_from(
        ["yes", "1_000", "0x1f", "2026-01-01", "~", "null", "a: b", "a #b", "- a", "...", "---", "a\n---\nb"]
    ),
)
documents = st.dictionaries(
    st.sampled_from(["version", "interactions", "a", "content-type", "<<", "1"]),
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-. ", max_size=5), inner, max_size=3),
        max_leaves=12,
    ),
    max_size=4,
)
widths = st.sampled_from([10, 80, 10_000])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.sampled_from(DUMPERS), widths, st.booleans(), st.booleans())
def test_it_reads_as_all_of_yaml_is_read(document, dumper, width, unicode, flow):
    text = dumped(document, dumper, width=width, allow_unicode=unicode, default_flow_style=flow or False)
    found = read(text)
    assert found is None or found == read_events(text)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.sampled_from(DUMPERS), widths, st.data())
def test_so_does_what_somebody_has_edited(document, dumper, width, data):
    text = dumped(document, dumper, width=width)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 4, len(text))))
        text = text[:start] + data.draw(st.text("ab1 '\"\\\n\t:#-,{}[]u&*!|>%@?~<", max_size=3)) + text[end:]
    found = read(text)
    assert not found or found == read_events(text)


@pytest.mark.parametrize(
    "odd",
    [
        "a: 1\na: 2\n",
        "a: &b 1\n",
        "a: *b\n",
        "a: !!python/name:os.system\n",
        "a: !!binary |\n  AAAA\n",
        "a: |\n  text\n",
        "a: 'x\nb: 1\n",
        "a: 'x'y'\n",
        'a: "x"y"\n',
        'a: "\\ud83d\\ude00"\n',
        'a: "\\u00e\\\n  9"\n',
        'a: "x\\\\\n  y"\n',
        "a: 'x \n  y'\n",
        "a: 'x\n---\n  y'\n",
        "a: x\n  y\n",
        "a: x\n  b: y\n",
        "a:\n",
        "a:\n- \n",
        "a:\n  b: 1\n c: 2\n",
        "- a\n",
        "a: 1",
        "a: 1\n\n",
        "a: 1 # one\n",
        "a: 1\x7f\n",
        "a: \u00e9\n",
        "a: b: c\n",
        "a: 2026-13-45\n",
    ],
)
def test_what_is_odd_is_left_to_who_reads_all_of_it(odd):
    assert read(odd) is None


def test_a_large_text_is_left_to_who_needs_less_memory():
    text = "a: " + "b" * (MOST - 4) + "\n"
    assert read_dumped(text, str, max_depth=9) == {"a": "b" * (MOST - 4)}
    assert read_dumped(text + "c: d\n", str, max_depth=9) is None


def test_nothing_is_nested_too_deep():
    def nested(depth):
        return "".join(f"{'  ' * level}a:\n" for level in range(depth)) + "  " * depth + "a: 1\n"

    assert read(nested(MAX_DEPTH - 3)) == read_events(nested(MAX_DEPTH - 3))
    assert read(nested(MAX_DEPTH)) is None


@pytest.mark.parametrize("line", ["'\n", "''\n ", "a'\n ", '"\n', '\\"\n ', "\\\\\n "])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_whatever_comes_takes_time_in_proportion_to_its_length(line, quote):
    read(f"a: {quote}" + line * 1_000_000)
