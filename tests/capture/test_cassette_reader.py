"""What no recorder writes is refused: by path and reason, fast, in little memory, and without running any of it."""

from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
import zlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from vcr.serializers import yamlserializer

from pytest_tokenbudget.capture import cassette_reader
from pytest_tokenbudget.capture.cassette_file import CassetteFile
from pytest_tokenbudget.capture.cassette_reader import read_document
from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.capture.recorded import recorded_exchanges
from pytest_tokenbudget.capture.request_index import request_key
from pytest_tokenbudget.errors import CassetteError

EXCHANGE = {
    "request": {
        "method": "POST",
        "uri": "https://api.openai.com/v1/chat/completions",
        "body": '{"model":"m"}',
        "headers": {},
    },
    "response": {
        "status": {"code": 200, "message": "OK"},
        "headers": {"content-type": ["application/json"]},
        "body": {"string": "{}"},
    },
}
GOOD = yaml.safe_dump({"interactions": [EXCHANGE, copy.deepcopy(EXCHANGE)], "version": 1})


@pytest.fixture
def refused(tmp_path):
    """Write a file, have it refused, and give the reason."""

    def refused(content, name="x.yaml"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(CassetteError) as caught:
            load(path)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message
        return message

    return refused


def load(path):
    """Everything that happens to a file before it is played, by our player as by a cassette of vcrpy's."""
    ways = (
        lambda: recorded_exchanges(str(path), cassette_reader.read_bytes(str(path))),
        lambda: list(zip(*CassetteFile(Playback(path=path)).load_cassette(str(path), None)[:2], strict=True)),
    )
    plain, whole = map(outcome, ways)
    if isinstance(whole, Exception):
        assert plain is None or repr(plain) == repr(whole)
        raise whole
    if plain is not None:
        assert [request_key(request) for request, _ in plain] == [request_key(request) for request, _ in whole]
        assert [response for _, response in plain] == [response for _, response in whole]
    return whole


def outcome(way):
    try:
        return way()
    except CassetteError as error:
        return error


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        "# by hand\n---\n" + GOOD + "...\n",
        "version: 1\ninteractions: []\n",
        yaml.dump({"interactions": [EXCHANGE], "version": 1, "metadata": {"a": [1]}}),
        yaml.dump({"interactions": [EXCHANGE], "version": 1, "metadata": ["a", ["b"]]}),
        yaml.safe_dump(
            {
                "interactions": [
                    {**EXCHANGE, "response": {**EXCHANGE["response"], "body": {"string": gzip.compress(b"{}")}}}
                ],
                "version": 1,
            }
        ),
        json.dumps({"version": 1, "interactions": [EXCHANGE]}, indent=1),
    ],
)
def test_what_recorders_write_is_taken(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text, "utf-8", newline="")
    loaded = load(path)
    assert all(response["status"]["code"] == 200 for _, response in loaded)


def test_json_with_a_mark_of_byte_order_is_taken(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("\ufeff" + json.dumps({"version": 1, "interactions": [EXCHANGE]}), "utf-8")
    assert len(load(path)) == 1


def test_no_file_is_no_fault(tmp_path):
    assert read_document(str(tmp_path / "x.yaml")) is None


CALL = "!!python/object/apply:os.mkdir [{}]"
TAGS = [
    CALL,
    "!!python/object/new:os.mkdir [{}]",
    "!!python/object/new:subprocess.Popen {{args: [[mkdir, {}]]}}",
    "!!python/object:os.mkdir {{}}",
    "!!python/name:os.system ''",
    "!!python/module:os ''",
    "!!python/tuple [1, 2]",
    "!!python/object/apply:builtins.iter {{args: [[a]]}}",
    "!!python/object/new:_io.BytesIO {{state: ['']}}",
    "!!python/str 'x'",
    "!custom x",
    "! x",
    "!!set {{a, b}}",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [{}]",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    "place",
    [
        "interactions: {}\nversion: 1\n",
        "interactions:\n- request: {}\n  response: x\nversion: 1\n",
        "{}\n",
        "version: 1\ninteractions: []\nmetadata: {{{}: x}}\n",
    ],
)
def test_tags_are_refused_and_nothing_runs(refused, tmp_path, tag, place):
    proof = tmp_path / "proof"
    reason = refused(place.replace("{}", tag.format(proof), 1).replace("{{", "{").replace("}}", "}"))
    assert not proof.exists()
    assert any(word in reason for word in ("tag", "no mapping", "no text", "cut short"))


BROKEN = {
    "empty": (b"", "it is empty"),
    "blank": (b"\xef\xbb\xbf \n\t\r\n", "it is empty"),
    "not utf-8": (GOOD.encode().replace(b"OK", b"\xff\xfe"), "not UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), "not UTF-8"),
    "gzip": (gzip.compress(GOOD.encode()), "not UTF-8"),
    "nul": (GOOD.replace("OK", "O\0K"), "not YAML"),
    "conflict": (f"<<<<<<< HEAD\n{GOOD}=======\n{GOOD}>>>>>>> branch\n", "merge conflict"),
    "conflict in the middle": (GOOD.replace("- request", "<<<<<<< ours\n- request", 1), "merge conflict"),
    "other version": (GOOD.replace("version: 1", "version: 2"), "version is 2"),
    "version as text": (GOOD.replace("version: 1", "version: one"), "version is 'one'"),
    "no version": (GOOD.replace("version: 1\n", ""), "version is None"),
    "list": (yaml.safe_dump([EXCHANGE]), "top level is no mapping"),
    "text": ("hello\n", "top level is no mapping"),
    "null": ("interactions: null\nversion: 1\n", "no list of interactions"),
    "mapping": ("interactions: {}\nversion: 1\n", "no list of interactions"),
    "none": ("version: 1\n", "no list of interactions"),
    "anchor": ("version: 1\ninteractions: &a []\n", "anchor"),
    "alias": ("version: 1\nx: &a [1]\ninteractions: *a\n", "anchor or alias"),
    "merge key": ("version: 1\ninteractions: []\nx: {<<: {a: 1}}\n", "merge key"),
    "twice": (GOOD + "interactions: []\n", "'interactions' stands twice"),
    "twice inside": (
        GOOD.replace("    method: POST", "    method: POST\n    method: GET", 1),
        "'method' stands twice",
    ),
    "two documents": (GOOD + "---\n" + GOOD, "more than one document"),
    "interaction is text": ("version: 1\ninteractions: [x]\n", "no mapping"),
    "deep": ("version: 1\nx: [" + "[" * 100_000, "deeper than 64"),
    "deep mappings": ("version: 1\nx: " + "{a: " * 100_000, "deeper than 64"),
    "deep blocks": ("version: 1\nx:\n" + "".join(" " * n + "-\n" for n in range(1, 400)), "deeper than 64"),
    "deep json": ('{"version": 1, "interactions": ' + "[" * 100_000 + "]" * 100_000 + "}", "deeper than 64"),
    "cut json": (json.dumps({"version": 1, "interactions": [EXCHANGE]})[:-3], "cut short"),
    "json twice": ('{"version": 1, "interactions": [], "interactions": []}', "'interactions' stands twice"),
    "json version": ('{"version": true, "interactions": []}', "version is True"),
    "json null": ('{"version": 1, "interactions": null}', "no list of interactions"),
    "json interaction": ('{"version": 1, "interactions": [{"request": {}}]}', "lacks its request"),
    "tab": ("version: 1\ninteractions:\n\t- x\n", "not YAML"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_files_are_refused_with_their_reason(refused, fault):
    content, reason = BROKEN[fault]
    assert reason in refused(content)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"response": {"headers": {}, "body": {"string": ""}}}, "no status code"),
        ({"response": {"status": {"code": "200"}, "headers": {}, "body": {"string": ""}}}, "no status code"),
        ({"response": {"status": {"code": 200}, "headers": {}}}, "no body"),
        ({"response": {"status": {"code": 200}, "headers": {}, "body": "text"}}, "no body"),
        ({"response": {"status": {"code": 200}, "headers": [], "body": "x"}}, "no body"),
        ({"response": {"status": {"code": 200}, "headers": "x", "body": {"string": ""}}}, "no headers"),
        ({"response": {"status_code": 200, "headers": {}}}, "no content"),
        ({"response": "x"}, "no headers"),
        ({"request": {"method": 5, "uri": "https://x/", "body": "", "headers": {}}}, "no method"),
        ({"request": {"method": "GET", "uri": "x", "body": "", "headers": {}}}, "no URL"),
    ],
)
def test_an_exchange_that_is_not_whole_is_refused(refused, change, reason):
    message = refused(
        yaml.safe_dump({"interactions": [EXCHANGE, copy.deepcopy({**EXCHANGE, **change})], "version": 1})
    )
    assert "interaction 2" in message
    assert reason in message


def test_a_file_cut_short_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "x.yaml"
    whole = GOOD.rstrip("\n")
    for end in range(1, len(whole)):
        path.write_text(whole[:end], "utf-8")
        with pytest.raises(CassetteError):
            read_document(str(path))


def test_the_doubling_of_merge_keys_is_refused_before_it_doubles(refused):
    # 25 levels took two minutes where they were built.
    lines = ["version: 1", "interactions: []", "a0: &a0 {k: v}"]
    lines += [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 26)]
    assert "anchor" in refused("\n".join(lines) + "\n")


def test_too_large_is_refused_without_reading_it_all(refused, monkeypatch):
    monkeypatch.setattr(cassette_reader, "MAX_BYTES", 2**20)
    tracemalloc.start()
    try:
        assert "larger than 1 MiB" in refused(b"x" * 2**22)
        assert tracemalloc.get_traced_memory()[1] < 2**20 * 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip"])
def test_a_body_that_unpacks_to_too_much_is_refused_in_little_memory(refused, encoding):
    size = 80 * 2**20
    pack = zlib.compressobj(9, wbits=31 if "gzip" in encoding else 15)
    piece = b"\0" * 2**20
    body = b"".join([*(pack.compress(piece) for _ in range(size // len(piece))), pack.flush()])
    if encoding == "gzip, gzip":
        body = gzip.compress(body)
    response = {
        "status": {"code": 200, "message": "OK"},
        "headers": {"Content-Encoding": [encoding]},
        "body": {"string": body},
    }
    content = yaml.safe_dump({"interactions": [{**EXCHANGE, "response": response}], "version": 1})
    assert len(content) < 200_000
    assert "larger than 64 MiB" in refused(content)


def test_unreadable_files_say_why(refused, tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(CassetteError, match="EISDIR"):
        read_document(str(tmp_path / "folder.yaml"))


SCALARS = [
    "1", "-1", "+1", "0", "007", "0x1F", "0b11", "1_000", "190:20:30", "1.5", "1e3", "1.5e+3", ".5", "-.inf", ".nan",
    "true", "Yes", "off", "NO", "null", "~", "", "2026-11-23", "2026-11-23 10:00:00", "2026-11-23T10:00:00Z", "=",
    "text", "a b", "1.2.3", "y", "n", "on", "0o7", "1e", "12:30", "'1'", '"true"', "'~'", "|\n  1\n  2", ">\n  a\n  b",
    "!!binary aGk=", "[1, a, ~]", "{a: 1, 'b': 'true'}", "[]", "{}", "- 1", '"\\u00e4\\n"', "'it''s'",
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS)
def test_a_value_means_what_it_means_to_vcrpy(tmp_path, scalar):
    text = f"version: 1\ninteractions: []\nx:\n  {scalar}\n"
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    assert repr(read_document(str(tmp_path / "x.yaml"))) == repr(_theirs(text))


def _theirs(text):
    try:
        return yamlserializer.deserialize(text)
    except yaml.YAMLError:
        # PyYAML knows no way to build a lone "=".
        return {"version": 1, "interactions": [], "x": "="}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_what_vcrpy_writes_is_read_as_it_reads_it(value):
    document = {"interactions": [], "version": 1, "x": value}
    text = yamlserializer.serialize(copy.deepcopy(document))
    expected = yamlserializer.deserialize(text)
    try:
        found = cassette_reader.parse_document(text.encode("utf-8"))
    except UnicodeEncodeError:
        return  # a lone surrogate, which no file can hold
    if found is None:
        # What we refuse, and vcrpy does not, is what it wrote twice by reference or as a merge key.
        assert "&id" in text or "<<" in text
    else:
        assert found == expected


@pytest.mark.parametrize("text", ["x: 2026-13-45", "x: !!binary '%%%'", "? [a]\n: 1", "x: !!str 1"])
def test_a_value_that_can_not_be_read_is_refused(refused, text):
    assert "in line" in refused(f"version: 1\ninteractions: []\n{text}\n")
