from __future__ import annotations

import decimal
import errno
import json
import os
import sys
import threading
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget import baseline as module
from pytest_tokenbudget import baseline_text
from pytest_tokenbudget.baseline import SCHEMA, Baseline, compare, dump, load, merge, save, stale, update, violations
from pytest_tokenbudget.budget import Violation
from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.record import BaselineResult, ModelTokens

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")

ONE = ModelTokens(requests=1, input=9, output=3)
ENTRY = {"requests": 1, "input": 9, "cached": 0, "cache_write": 0, "output": 3}

# USD per token, input and output, as OpenAI publishes them: gpt-4o-mini 0.15 / 0.60, gpt-4o 2.50 / 10.00 per million.
RATES = {
    "gpt-4o-mini": (Decimal("0.00000015"), Decimal("0.0000006")),
    "gpt-4o": (Decimal("0.0000025"), Decimal("0.00001")),
}


def price(model, tokens):
    if model not in RATES:
        return None
    per_input, per_output = RATES[model]
    return per_input * tokens.input + per_output * tokens.output


def tokens(given, made, **more):
    return ModelTokens(requests=1, input=given, output=made, **more)


def written(path, tests):
    path.write_text(json.dumps({"schema": SCHEMA, "tests": tests}), encoding="utf-8")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "token-baseline.json"


# --- the file ---


def test_the_file_is_exactly_this(path):
    save(path, Baseline(tests={"b.py::t": {"z": ONE, "a": ONE}, "a.py::test_größe[x\\y]": {"m": ONE}}))
    entry = """{
        "cache_write": 0,
        "cached": 0,
        "input": 9,
        "output": 3,
        "requests": 1
      }"""
    expected = f"""{{
  "schema": "pytest-tokenbudget/baseline/1",
  "tests": {{
    "a.py::test_größe[x\\\\y]": {{
      "m": {entry}
    }},
    "b.py::t": {{
      "a": {entry},
      "z": {entry}
    }}
  }}
}}
"""
    assert path.read_bytes() == expected.encode("utf-8")
    document = json.loads(expected)
    assert json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n" == expected


def test_an_empty_baseline_is_a_file_too(path):
    save(path, Baseline())
    assert json.loads(path.read_text(encoding="utf-8")) == {"schema": SCHEMA, "tests": {}}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert load(path) == Baseline(tests={})


def test_a_test_without_models_takes_two_lines():
    assert '    "t": {\n    }\n' in dump(Baseline(tests={"t": {}}))


def test_load_reads_what_a_hand_wrote(path):
    written(path, {"t": {"m": {"output": 3, "input": 9, "cached": 4, "cache_write": 5, "requests": 2}}})
    expected = ModelTokens(requests=2, input=9, cached=4, cache_write=5, output=3)
    assert load(path).tests == {"t": {"m": expected}}


def test_byte_order_mark_and_crlf_are_read(path):
    text = json.dumps({"schema": SCHEMA, "tests": {"t": {"m": ENTRY}}}, indent=2)
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert load(path).tests == {"t": {"m": ONE}}


def document(**changes):
    return json.dumps({"schema": SCHEMA, "tests": {"t": {"m": {**ENTRY, **changes}}}})


WHOLE = document()
BROKEN = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "latin-1": (b'{"schema": "\xe9"}', "is not UTF-8 (byte 13)"),
    "utf-16": (WHOLE.encode("utf-16"), "is not UTF-8 (byte 1)"),
    "cut after a brace": (WHOLE[:-1].encode(), "is cut short (line 1)"),
    "cut in a string": (WHOLE[:30].encode(), "is cut short (line 1)"),
    "cut after a colon": (WHOLE[: WHOLE.index(":") + 1].encode(), "is cut short (line 1)"),
    "yaml": (b"schema: 1\n", "is no JSON: Expecting value (line 1, column 1)"),
    "a trailing comma": (b'{"schema": "x",}', "is no JSON"),
    "two documents": (b"{}\n{}", "is no JSON: Extra data (line 2, column 1)"),
    "a list": (b"[]", "must hold a JSON object, not an array"),
    "a string": (b'"x"', "must hold a JSON object, not a string"),
    "null": (b"null", "must hold a JSON object, not nothing"),
    "no schema": (b"{}", "has no schema, where 'pytest-tokenbudget/baseline/1' is expected"),
    "a number as schema": (b'{"schema": 1}', "has the schema 1, where"),
    "a deep schema": (b'{"schema": ' + b"[" * 900 + b"]" * 900 + b"}", "has the schema an array, where"),
    "a report": (b'{"schema": "pytest-tokenbudget/report/1"}', 'has the schema "pytest-tokenbudget/report/1"'),
    "version 0": (b'{"schema": "pytest-tokenbudget/baseline/0"}', "has the schema"),
    "version 2": (
        b'{"schema": "pytest-tokenbudget/baseline/2", "more": 1}',
        "was written by a newer pytest-tokenbudget (schema",
    ),
    "no tests": (json.dumps({"schema": SCHEMA}).encode(), 'must hold an object under "tests", not nothing'),
    "a list of tests": (json.dumps({"schema": SCHEMA, "tests": []}).encode(), 'under "tests", not an array'),
    "another key": (
        json.dumps({"schema": SCHEMA, "tests": {}, "total": 3}).encode(),
        'holds the unknown key "total"',
    ),
    "a number as test": (json.dumps({"schema": SCHEMA, "tests": {"t": 3}}).encode(), '"t" must hold an object of models'),
    "true as model": (json.dumps({"schema": SCHEMA, "tests": {"t": {"m": True}}}).encode(), '"t", "m" must hold an object'),
    "an unknown kind": (document(reasoning=1).encode(), '"t", "m" holds the unknown key "reasoning"'),
    "a missing kind": (
        json.dumps({"schema": SCHEMA, "tests": {"t": {"m": {"input": 1, "output": 1}}}}).encode(),
        '"t", "m" lacks cache_write, cached, requests',
    ),
    "negative": (document(input=-1).encode(), '"t", "m" has input = -1, where a whole number from 0 to'),
    "a float": (document(output=3.0).encode(), "has output = 3.0,"),
    "not a number": (document(output=float("nan")).encode(), "has output = NaN,"),
    "true": (document(requests=True).encode(), "has requests = true,"),
    "digits as text": (document(input="9").encode(), 'has input = "9",'),
    "null count": (document(input=None).encode(), "has input = null,"),
    "a list as count": (document(input=[1]).encode(), "has input = an array,"),
    "huge": (document(input=10**15 + 1).encode(), "has input = 1000000000000001,"),
    "longer than python reads": (
        WHOLE.replace('"input": 9', '"input": 1' + "0" * 5000).encode(),
        "holds a number that is too long",
    ),
    "more cached than input": (
        document(cached=5, cache_write=5).encode(),
        "has more cached (5) and cache_write (5) than input (9)",
    ),
    "a test twice": (
        f'{{"schema": "{SCHEMA}", "tests": {{"t": {{}}, "t": {{}}}}}}'.encode(),
        'holds "t" twice',
    ),
    "a count twice": (WHOLE.replace('"input": 9', '"input": 8, "input": 9').encode(), 'holds "input" twice'),
    "tests twice": (f'{{"schema": "{SCHEMA}", "tests": {{}}, "tests": {{}}}}'.encode(), 'holds "tests" twice'),
    "too deep": (b'{"a": ' * 200_000, "is nested too deep"),
    "too deep in lists": (b"[" * 200_000, "is nested too deep"),
    "a merge conflict": (
        WHOLE.replace(
            '"input": 9', '\n<<<<<<< HEAD\n"input": 9\n=======\n"input": 8\n>>>>>>> other\n'
        ).encode(),
        "holds an unresolved merge conflict (line 2)",
    ),
    "a merge conflict with crlf": (b"{\r\n<<<<<<< HEAD\r\n", "holds an unresolved merge conflict (line 2)"),
    "half a resolved conflict": (
        WHOLE.replace('"input": 9', '"input": 9\n>>>>>>> other\n').encode(),
        "holds an unresolved merge conflict (line 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line_and_stays(path, name):
    data, reason = BROKEN[name]
    path.write_bytes(data)
    for attempt in (lambda: load(path), lambda: update(path, {"t": {"m": ONE}})):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith(f"baseline {path}: ")
        assert reason in message
        assert message.isprintable()
        assert len(message) < 400 + len(str(path))
    assert path.read_bytes() == data


def test_the_largest_count_is_read(path):
    path.write_text(document(input=10**15))
    assert load(path).tests["t"]["m"].input == 10**15


def test_too_large_a_file_is_refused_unread(path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", len(WHOLE))
    path.write_text(WHOLE)
    assert load(path).tests
    path.write_text(WHOLE + " ")
    with pytest.raises(ConfigurationError, match="is larger than 64 MiB"):
        load(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="is left as it was, since it would be larger than 64 MiB"):
        update(path, {"t": {"m": ONE}})
    assert not path.exists()


def test_missing(path):
    with pytest.raises(ConfigurationError, match="does not exist; pytest --token-update-baseline writes it"):
        load(path)


def test_a_name_on_two_lines_is_told_on_one(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "a\nb\x1b[31m.json")
    assert "a\\nb\\x1b[31m.json: does not exist" in str(caught.value)


def test_a_name_that_no_system_takes(tmp_path):
    with pytest.raises(ConfigurationError, match="can't be read: "):
        load(tmp_path / "a\0b")
    with pytest.raises(ConfigurationError, match="File name too long"):
        load(tmp_path / ("x" * 300))


def test_a_directory(tmp_path):
    with pytest.raises(ConfigurationError, match="is a directory, not a file"):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match="is a directory, not a file"):
        update(tmp_path, {})


@posix
def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        load(path)


@posix
def test_a_loop_of_links(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for attempt in (lambda: load(tmp_path / "a"), lambda: update(tmp_path / "a", {"t": {"m": ONE}})):
        with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
            attempt()
    assert (tmp_path / "a").is_symlink()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_unreadable(path, monkeypatch, number):
    path.write_text(WHOLE)

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ConfigurationError, match=f"can't be read: {os.strerror(number)}"):
        load(path)


# --- update ---


def test_update_makes_the_file_and_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "base.json"
    result = update(path, {"t": {"m": ONE}})
    assert result.tests == {"t": {"m": ONE}}
    assert load(path) == result


def test_update_with_nothing_makes_an_empty_file(path):
    assert update(path, {}) == Baseline()
    assert load(path) == Baseline()


def test_update_replaces_entries_whole_and_leaves_the_others(path):
    written(path, {"kept": {"m": ENTRY}, "changed": {"old-model": ENTRY}})
    update(path, {"changed": {"new-model": tokens(1, 2)}, "added": {"m": ONE}})
    assert load(path).tests == {"kept": {"m": ONE}, "changed": {"new-model": tokens(1, 2)}, "added": {"m": ONE}}


def test_prune_drops_tests_that_are_gone_and_no_test_that_ran(path):
    written(path, {"kept": {"m": ENTRY}, "gone": {"m": ENTRY}})
    update(path, {"ran": {"m": ONE}}, prune_to=["kept", "has no entry"])
    assert set(load(path).tests) == {"kept", "ran"}
    update(path, {}, prune_to=[])
    assert load(path).tests == {}


def test_nothing_changed_nothing_written(path):
    written(path, {"t": {"m": ENTRY}})  # not in our layout: even that stays
    before = (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
    update(path, {"t": {"m": ONE}}, prune_to=["t"])
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before


def test_what_could_not_be_read_again_is_not_written(path):
    written(path, {"t": {"m": ENTRY}})
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"can't remember this usage: \"u\", \"m\" has more cached \(10\)"):
        update(path, {"u": {"m": ModelTokens(requests=1, input=9, cached=10)}})
    with pytest.raises(ConfigurationError, match="has output = -1"):
        save(path, Baseline(tests={"u": {"m": ModelTokens(output=-1)}}))
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_is_told_in_one_line(path, monkeypatch, number):
    written(path, {"t": {"m": ENTRY}})
    before = path.read_bytes()

    def refuse(*args):
        raise OSError(number, os.strerror(number), "an inner name")

    monkeypatch.setattr(os, "replace", refuse)
    for attempt in (lambda: update(path, {"u": {"m": ONE}}), lambda: save(path, Baseline())):
        with pytest.raises(ConfigurationError) as caught:
            attempt()
        assert str(caught.value).startswith(f"baseline {path}: can't be ")
        assert str(caught.value).endswith(os.strerror(number))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_stale_entries_are_sorted():
    assert stale(Baseline(tests={"c": {}, "a": {}, "b": {}}), ["b", "x"]) == ("a", "c")
    assert stale(Baseline(), ["b"]) == ()


# --- compare ---

NONE = Decimal(0)


def status(used, entry, tolerance=NONE, price=price):
    result = compare(used, entry, tolerance=tolerance, price=price)
    found = violations(result, used, tolerance=tolerance, price=price)
    assert bool(found) == (result.status == "over")
    return result.status


def test_no_entry_is_new():
    assert compare({"gpt-4o": ONE}, None, tolerance=NONE, price=price) == BaselineResult(status="new")
    assert status({"gpt-4o": ONE}, None) == "new"


def test_the_entry_is_in_the_result_at_todays_prices():
    entry = {"gpt-4o": tokens(1000, 100), "gpt-4o-mini": tokens(1000, 100)}
    result = compare({"gpt-4o": tokens(1, 1)}, entry, tolerance=NONE, price=price)
    # 0.0025 + 0.001 + 0.00015 + 0.00006
    assert result == BaselineResult(status="improved", tokens=2200, cost=Decimal("0.00371"), models=entry)


def test_over_by_one_token():
    assert status({"gpt-4o": tokens(100, 10)}, {"gpt-4o": tokens(100, 10)}) == "within"
    assert status({"gpt-4o": tokens(101, 10)}, {"gpt-4o": tokens(100, 10)}) == "over"


def test_the_tolerance_is_inclusive():
    entry = {"unpriced": tokens(100, 0)}
    five = Decimal("0.05")
    assert status({"unpriced": tokens(105, 0)}, entry, five) == "within"
    assert status({"unpriced": tokens(106, 0)}, entry, five) == "over"


def test_violations_show_the_allowance_and_the_figure():
    entry = {"gpt-4o": tokens(9, 0)}
    used = {"gpt-4o": tokens(10, 0)}
    five = Decimal("0.05")
    found = violations(
        compare(used, entry, tolerance=five, price=price), used, tolerance=five, price=price
    )  # fmt: skip
    assert found == (
        Violation(limit="baseline_tokens", allowed=9, used=10),  # 9.45 tokens are 9
        Violation(limit="baseline_cost", allowed=Decimal("0.000023625"), used=Decimal("0.000025")),
    )
    assert type(found[0].allowed) is int
    assert all(violation.over for violation in found)


def test_a_dearer_model_with_the_same_tokens_is_over_in_cost_alone():
    used, entry = {"gpt-4o": tokens(1000, 100)}, {"gpt-4o-mini": tokens(1000, 100)}
    result = compare(used, entry, tolerance=Decimal("0.5"), price=price)
    assert result.status == "over"
    found = violations(result, used, tolerance=Decimal("0.5"), price=price)
    # (0.00015 + 0.00006) * 1.5 against 0.0025 + 0.001
    assert found == (Violation(limit="baseline_cost", allowed=Decimal("0.000315"), used=Decimal("0.0035")),)


def test_a_cheaper_model_with_more_tokens_is_over_in_tokens_alone():
    used, entry = {"gpt-4o-mini": tokens(1001, 100)}, {"gpt-4o": tokens(1000, 100)}
    result = compare(used, entry, tolerance=NONE, price=price)
    found = violations(result, used, tolerance=NONE, price=price)
    assert found == (Violation(limit="baseline_tokens", allowed=1100, used=1101),)


def test_a_cheaper_model_with_the_same_tokens_is_improved():
    assert status({"gpt-4o-mini": tokens(9, 3)}, {"gpt-4o": tokens(9, 3)}) == "improved"


def test_below_in_one_and_above_in_the_other_is_no_improvement():
    # Fewer tokens, but more of the dear ones: 80 * 2.5 + 15 * 10 = 350 against 90 * 2.5 + 10 * 10 = 325.
    assert status({"gpt-4o": tokens(80, 15)}, {"gpt-4o": tokens(90, 10)}, Decimal("0.1")) == "within"
    assert status({"gpt-4o": tokens(80, 15)}, {"gpt-4o": tokens(90, 10)}) == "over"
    # More tokens, but cheaper ones: 96 * 2.5 + 5 * 10 = 290.
    assert status({"gpt-4o": tokens(96, 5)}, {"gpt-4o": tokens(90, 10)}, Decimal("0.1")) == "within"


def test_where_a_cost_is_unknown_tokens_decide():
    assert status({"mystery": tokens(9, 3)}, {"gpt-4o": tokens(9, 3)}) == "within"
    assert status({"gpt-4o": tokens(9, 3)}, {"mystery": tokens(9, 3)}) == "within"
    assert status({"mystery": tokens(9, 4)}, {"gpt-4o": tokens(9, 3)}) == "over"
    assert status({"mystery": tokens(9, 2)}, {"mystery": tokens(9, 3)}) == "improved"
    result = compare({"gpt-4o": ONE}, {"gpt-4o": ONE, "mystery": ONE}, tolerance=NONE, price=price)
    assert (result.tokens, result.cost) == (24, None)


def test_an_entry_of_nothing_allows_nothing():
    assert status({}, {}) == "within"
    assert status({"gpt-4o": tokens(1, 0)}, {}, Decimal(10)) == "over"
    assert status({"gpt-4o": tokens(1, 0)}, {"gpt-4o": ModelTokens()}, Decimal(10)) == "over"
    assert status({}, {"gpt-4o": tokens(1, 0)}) == "improved"


def test_more_cached_input_is_cheaper_and_improved():
    def discounted(model, used):
        return Decimal(2 * (used.input - used.cached) + used.cached)

    used, entry = {"m": tokens(10, 0, cached=6)}, {"m": tokens(10, 0, cached=2)}
    assert status(used, entry, price=discounted) == "improved"
    assert status(entry, used, price=discounted) == "over"


def test_a_price_change_alone_makes_no_test_over():
    used = {"gpt-4o": tokens(150_000, 10), "gpt-4o-mini": tokens(3, 4)}
    for factor in (Decimal("0.001"), Decimal(1), Decimal(1000)):
        assert status(used, dict(used), price=lambda m, t, f=factor: f * price(m, t)) == "within"


def test_a_callers_decimal_context_changes_no_verdict():
    entry = {"m": tokens(10**15, 0)}
    used = {"m": tokens(10**15 + 1, 0)}
    exact = Decimal("0.000000000000001")  # one token in 10**15
    with decimal.localcontext() as context:
        context.prec = 3
        context.traps[decimal.Inexact] = True
        unpriced = lambda model, used: None  # noqa: E731
        assert status(used, entry, exact, unpriced) == "within"
        assert status(used, entry, Decimal("0.000000000000000999999999999999"), unpriced) == "over"


# --- laws ---

counts = st.integers(0, 10**6)


@st.composite
def model_tokens(draw):
    cached, cache_write, fresh = draw(counts), draw(counts), draw(counts)
    return ModelTokens(
        requests=draw(counts),
        input=cached + cache_write + fresh,
        cached=cached,
        cache_write=cache_write,
        output=draw(counts),
    )


names = st.text(max_size=12) | st.text(
    st.characters(codec=None, min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=3
)
models = st.dictionaries(names, model_tokens(), max_size=3)
suites = st.dictionaries(names, models, max_size=5)
priced = st.dictionaries(st.sampled_from(["gpt-4o", "gpt-4o-mini", "mystery"]), model_tokens(), max_size=3)
tolerances = st.decimals(0, 3, places=4)


@given(tests=suites)
def test_load_is_the_inverse_of_dump(tmp_path_factory, tests):
    path = tmp_path_factory.mktemp("law") / "b.json"
    save(path, Baseline(tests=tests))
    assert load(path) == Baseline(tests=tests)
    if all(tests.values()):
        text = json.dumps(json.loads(path.read_bytes()), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        assert path.read_bytes() == text.encode("utf-8", "backslashreplace")


def read_with(path, *, large):
    before, module._LARGE = module._LARGE, large
    try:
        return load(path)
    except ConfigurationError as error:
        return str(error)
    finally:
        module._LARGE = before


PIECES = [
    "",
    " ",
    "0",
    "1",
    "-",
    '"',
    "{",
    "}",
    ",",
    "\\",
    "\\u0041",
    "\n",
    "\r",
    "é",
    "\x7f",
    '"input": 1',
    "    },\n",
]


@settings(deadline=None, max_examples=150)
@given(tests=suites, data=st.data())
def test_a_large_file_is_read_as_a_small_one(tmp_path_factory, tests, data):
    text = dump(Baseline(tests=tests))
    for _ in range(data.draw(st.integers(0, 2))):
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, min(len(text), begin + 3)))
        piece = data.draw(st.sampled_from(PIECES) | st.just(text[begin : begin + 40]))
        text = text[:begin] + piece + text[end:]
    path = tmp_path_factory.getbasetemp() / "edited.json"
    path.write_text(text, "utf-8", newline="")
    assert read_with(path, large=0) == read_with(path, large=10**9)


@given(tests=suites)
def test_what_was_written_is_read_the_short_way(tests):
    assert not tests or baseline_text.read(SCHEMA, dump(Baseline(tests=tests))) == tests


@pytest.mark.parametrize("edit", [
    ('"input": 9', '"input": 09'),
    ('"input": 9', '"input": -9'),
    ('"input": 9', '"input": 9.0'),
    ('"input": 9', '"input": true'),
    ('"input": 9', '"input": 1000000000000001'),
    ('"cached": 0', '"cached": 10'),
    ('"b.py::t"', '"a.py::t"'),
    ('"z"', '"a"'),
    ('"z"', r'"\z"'),
    ("    },\n", "    }\n"),
    ("\n    }\n  }", "\n    },\n  }"),
    ("baseline/1", "baseline/2"),
])  # fmt: skip
def test_an_edited_file_is_refused_however_large(path, edit):
    text = dump(Baseline(tests={"b.py::t": {"z": ONE, "a": ONE}, "a.py::t": {"m": ONE}}))
    path.write_text(text.replace(*edit, 1), "utf-8", newline="")
    said = read_with(path, large=0)
    assert isinstance(said, str)
    assert said == read_with(path, large=10**9)


@given(tests=suites, records=suites)
def test_update_twice_is_update_once(tmp_path_factory, tests, records):
    path = tmp_path_factory.mktemp("law") / "b.json"
    save(path, Baseline(tests=tests))
    once = update(path, records)
    data, inode = path.read_bytes(), path.stat().st_ino
    assert update(path, records) == once == load(path)
    assert (path.read_bytes(), path.stat().st_ino) == (data, inode)


@given(tests=suites, records=suites)
def test_updates_of_different_tests_commute(tests, records):
    half = set(list(records)[::2])
    first = {nodeid: entry for nodeid, entry in records.items() if nodeid in half}
    second = {nodeid: entry for nodeid, entry in records.items() if nodeid not in half}
    base = Baseline(tests=tests)
    one, other = merge(merge(base, first), second), merge(merge(base, second), first)
    assert one == other == merge(base, records)
    assert dump(one) == dump(other)


@given(used=priced, entry=priced, tolerance=tolerances, more=tolerances)
def test_a_higher_tolerance_adds_no_violation(used, entry, tolerance, more):
    def limits(tolerance):
        result = compare(used, entry, tolerance=tolerance, price=price)
        found = violations(result, used, tolerance=tolerance, price=price)
        assert bool(found) == (result.status == "over")
        return {violation.limit for violation in found}

    assert limits(tolerance + more) <= limits(tolerance)


@given(used=priced, tolerance=tolerances)
def test_equal_usage_is_within(used, tolerance):
    assert status(used, dict(used), tolerance) == "within"


@given(used=priced, entry=priced, tolerance=tolerances, factor=st.decimals("0.001", 1000, places=3))
def test_all_prices_times_a_constant_change_no_status(used, entry, tolerance, factor):
    def scaled(model, used):
        cost = price(model, used)
        return None if cost is None else factor * cost

    assert status(used, entry, tolerance, scaled) == status(used, entry, tolerance)


def test_threads_that_update_at_once_lose_nothing(path):
    def work(name):
        for number in range(10):
            update(path, {f"{name}{number}": {"m": ONE}})

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(load(path).tests) == 30


PLACES = {  # where the file is to be, and what may not be written to
    "folder": ("locked/base.json", "locked"),
    "target": ("open/link.json", "locked"),
    "file": ("open/base.json", "open/base.json"),
    "new_folder": ("locked/a/b/base.json", "locked"),
}


@pytest.mark.parametrize(("place", "closed"), PLACES.values(), ids=PLACES)
def test_a_place_that_can_not_be_written_is_found_before_the_tests(tmp_path, monkeypatch, place, closed):
    """Asked of the system by a stand-in: whoever runs as root may write everywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != os.fspath(tmp_path / closed))
    for folder in ("locked", "open"):
        (tmp_path / folder).mkdir()
    (tmp_path / "open/link.json").symlink_to("../locked/base.json")
    (tmp_path / "open/base.json").write_text("{}")
    (tmp_path / "locked/link.json").symlink_to("../open/new.json")
    with pytest.raises(ConfigurationError, match="json: can't be written"):
        module.check_place(tmp_path / place)
    if closed == "locked":
        module.check_place(tmp_path / "locked/link.json")
    module.check_place(tmp_path / "open/new/base.json")
