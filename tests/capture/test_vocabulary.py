from __future__ import annotations

import base64
import hashlib
import inspect
import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiktoken
import tiktoken_ext.openai_public
from tiktoken import registry

from pytest_tokenbudget.capture import vocabulary
from pytest_tokenbudget.capture.vocabulary import (
    VocabularyError,
    count_tokens,
    get_encoding,
    load_ranks,
    offline_tiktoken,
    serve_offline,
)

NAMES = sorted(tiktoken_ext.openai_public.ENCODING_CONSTRUCTORS)


@pytest.fixture(autouse=True)
def network_is_down(monkeypatch, tmp_path):
    """Every way by which tiktoken could get at a vocabulary but ours is closed."""

    def refuse(*args, **kwargs):
        raise AssertionError("a vocabulary was to be downloaded")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "tiktoken"))
    yield
    assert not (tmp_path / "tiktoken").exists()


@pytest.fixture
def unused_registry(monkeypatch):
    monkeypatch.setattr(registry, "ENCODINGS", {})
    return registry


def find_expected(monkeypatch, name):
    """What tiktoken itself downloads for an encoding, and the SHA-256 that it expects."""
    asked = {}

    def note(address=None, expected_hash=None, **files):
        asked.update(files or {"address": address, "expected_hash": expected_hash})
        return {}

    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", note)
    monkeypatch.setattr(tiktoken_ext.openai_public, "data_gym_to_mergeable_bpe_ranks", note)
    tiktoken_ext.openai_public.ENCODING_CONSTRUCTORS[name]()
    return asked


@pytest.mark.parametrize("name", [name for name in NAMES if name != "gpt2"])
def test_vocabulary_is_byte_for_byte_what_tiktoken_downloads(name, monkeypatch):
    ranks = load_ranks(name)
    lines = [
        base64.b64encode(token) + b" %d\n" % rank for token, rank in sorted(ranks.items(), key=lambda each: each[1])
    ]
    expected = find_expected(monkeypatch, name)["expected_hash"]
    assert hashlib.sha256(b"".join(lines)).hexdigest() == expected


def test_gpt2_is_what_tiktoken_downloads(monkeypatch):
    """GPT-2 was published as a list of merges and a JSON object: both are rebuilt from the ranks."""
    expected = find_expected(monkeypatch, "gpt2")
    ranks = load_ranks("gpt2")
    plain = [each for each in range(256) if chr(each).isprintable() and chr(each) != " "]
    others = [each for each in range(256) if each not in plain]
    letters = {each: chr(each) for each in plain} | {each: chr(256 + n) for n, each in enumerate(others)}

    def spell(token):
        return "".join(letters[each] for each in token)

    merges = [" ".join(map(spell, find_halves(token, ranks))) for token, rank in ranks.items() if rank >= 256]
    vocab_bpe = "\n".join(["#version: 0.2", *merges, ""]).encode()
    assert hashlib.sha256(vocab_bpe).hexdigest() == expected["vocab_bpe_hash"]
    numbers = {spell(token): rank for token, rank in ranks.items()} | {"<|endoftext|>": 50256}
    assert hashlib.sha256(json.dumps(numbers).encode()).hexdigest() == expected["encoder_json_hash"]


def find_halves(token, ranks):
    """The two tokens that a token was merged from."""
    pieces = [bytes([each]) for each in token]
    while len(pieces) > 2:
        pairs = [(ranks.get(pieces[at] + pieces[at + 1], 1 << 30), at) for at in range(len(pieces) - 1)]
        at = min(pairs)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces


# Published: tiktoken's own docstrings, and the OpenAI Cookbook's "How to count tokens with tiktoken".
@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("gpt2", "hello world", [31373, 995]),
        ("gpt2", "<|endoftext|>", [27, 91, 437, 1659, 5239, 91, 29]),
        ("cl100k_base", "tiktoken is great!", [83, 1609, 5963, 374, 2294, 0]),
        ("r50k_base", "antidisestablishmentarianism", [415, 29207, 44390, 3699, 1042]),
        ("p50k_base", "antidisestablishmentarianism", [415, 29207, 44390, 3699, 1042]),
        ("cl100k_base", "antidisestablishmentarianism", [519, 85342, 34500, 479, 8997, 2191]),
        ("o200k_base", "antidisestablishmentarianism", [493, 129901, 376, 160388, 21203, 2367]),
    ],
)
def test_published_tokens(name, text, tokens):
    encoding = get_encoding(name)
    assert encoding.encode(text, disallowed_special=()) == tokens
    assert encoding.decode(tokens) == text
    assert count_tokens(text, name) == len(tokens)


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("r50k_base", "2 + 2 = 4", 5),
        ("cl100k_base", "2 + 2 = 4", 7),
        ("o200k_base", "2 + 2 = 4", 7),
        ("r50k_base", "お誕生日おめでとう", 14),
        ("p50k_base", "お誕生日おめでとう", 14),
        ("cl100k_base", "お誕生日おめでとう", 9),
        ("o200k_base", "お誕生日おめでとう", 8),
        ("cl100k_base", "Tell me a joke", 4),
        ("cl100k_base", "", 0),
    ],
)
def test_published_counts(name, text, tokens):
    assert count_tokens(text, name) == tokens


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt2", 50257),
        ("r50k_base", 50257),
        ("p50k_base", 50281),
        ("p50k_edit", 50284),
        ("cl100k_base", 100277),
        ("o200k_base", 200019),
        ("o200k_harmony", 201088),
    ],
)
def test_every_encoding_has_its_published_size(name, size):
    assert get_encoding(name).n_vocab == size
    assert get_encoding(name).name == name


def test_special_tokens_are_those_of_tiktoken():
    assert get_encoding("o200k_harmony").encode("<|start|>", allowed_special="all") == [200006]
    assert get_encoding("p50k_edit").encode("<|fim_suffix|>", allowed_special="all") == [50283]


def test_text_with_a_lone_surrogate_is_counted():
    assert count_tokens("\ud800", "cl100k_base") > 0


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_millions_of_blanks_are_counted(name):
    """At about a million blanks tiktoken's regular expression gives up."""
    one = len(get_encoding(name).encode(" " * vocabulary._SLICE))
    assert count_tokens(" " * 3 * vocabulary._SLICE, name) == 3 * one


class PanicException(BaseException):
    """Named as the class of pyo3, which can't be imported."""


@pytest.mark.parametrize("error", [PanicException, ValueError])
def test_a_panic_is_answered_with_slices(error, monkeypatch):
    class Refusing:
        def encode(self, text, *, disallowed_special):
            if len(text) >= 500_000:
                raise error("regex gave up")
            return [0] * len(text)

    monkeypatch.setitem(vocabulary._encodings, "refusing", Refusing())
    assert count_tokens("a" * 1_234_567, "refusing") == 1_234_567


@pytest.mark.parametrize(
    ("error", "length"), [(KeyboardInterrupt, 1_000_000), (PanicException, 10), (MemoryError, 1_000_000)]
)
def test_other_errors_pass(error, length, monkeypatch):
    class Failing:
        def encode(self, text, *, disallowed_special):
            raise error

    monkeypatch.setitem(vocabulary._encodings, "failing", Failing())
    with pytest.raises(error):
        count_tokens("a" * length, "failing")


def test_encodings_are_built_once_by_many_threads(monkeypatch):
    monkeypatch.setattr(vocabulary, "_encodings", {})
    gate = threading.Barrier(8)

    def build(_):
        gate.wait(10)
        return get_encoding("r50k_base")

    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(build, range(8)))
    assert len({id(each) for each in built}) == 1


def test_tiktoken_itself_stays_as_it_is(unused_registry):
    get_encoding("r50k_base")
    assert tiktoken_ext.openai_public.load_tiktoken_bpe is tiktoken.load.load_tiktoken_bpe
    assert inspect.getmodule(tiktoken.load.load_tiktoken_bpe) is tiktoken.load
    assert unused_registry.ENCODINGS == {}


@pytest.mark.parametrize(
    "content", [None, b"", b"no zlib", vocabulary.zlib.compress(bytes(range(256)) + b"ab\xffcd")]
)
def test_a_broken_file_is_refused(content, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "FOLDER", tmp_path)
    if content is not None:
        (tmp_path / "r50k_base.bpe.z").write_bytes(content)
    with pytest.raises(VocabularyError, match=r"r50k_base\.bpe\.z"):
        load_ranks("p50k_base")


def test_an_unknown_encoding_is_refused():
    with pytest.raises(VocabularyError, match="o300k_base"):
        get_encoding("o300k_base")
    with pytest.raises(VocabularyError, match="o300k_base"):
        load_ranks("o300k_base")


def test_another_vocabulary_under_a_known_name_is_refused():
    """A later tiktoken may publish anew: its hash differs then."""
    with pytest.raises(VocabularyError):
        vocabulary._load_published("https://example.invalid/r50k_base.tiktoken", "0" * 64)


def test_the_users_tiktoken_is_served(unused_registry):
    with offline_tiktoken():
        encoding = tiktoken.get_encoding("cl100k_base")
        assert encoding.encode("tiktoken is great!") == [83, 1609, 5963, 374, 2294, 0]
        assert tiktoken.encoding_for_model("gpt-3.5-turbo") is encoding
        assert tiktoken.encoding_for_model("text-davinci-003").encode("  x") != []
        assert "o200k_harmony" in tiktoken.list_encoding_names()


def test_serving_builds_nothing_by_itself(unused_registry, monkeypatch):
    monkeypatch.setattr(vocabulary, "load_ranks", lambda name: pytest.fail(f"{name} was read"))
    with offline_tiktoken():
        tiktoken.list_encoding_names()
    assert unused_registry.ENCODINGS == {}


def test_undo_restores_tiktokens_own_constructors(unused_registry):
    tiktoken.list_encoding_names()
    before = dict(registry.ENCODING_CONSTRUCTORS)
    first, second = serve_offline(registry), serve_offline(registry)
    during = dict(registry.ENCODING_CONSTRUCTORS)
    assert all(during[name] is not before[name] for name in NAMES)
    first()
    first()
    assert during == registry.ENCODING_CONSTRUCTORS
    second()
    assert before == registry.ENCODING_CONSTRUCTORS


def test_a_vocabulary_of_the_users_own_stays(unused_registry, monkeypatch):
    tiktoken.list_encoding_names()

    def own():
        raise NotImplementedError

    monkeypatch.setitem(registry.ENCODING_CONSTRUCTORS, "r50k_base", own)
    unused_registry.ENCODINGS["gpt2"] = loaded = object()
    with offline_tiktoken():
        assert registry.ENCODING_CONSTRUCTORS["r50k_base"] is own
        assert tiktoken.get_encoding("gpt2") is loaded
    assert registry.ENCODING_CONSTRUCTORS["r50k_base"] is own


def test_a_constructor_that_was_set_meanwhile_stays(unused_registry, monkeypatch):
    tiktoken.list_encoding_names()
    monkeypatch.setattr(registry, "ENCODING_CONSTRUCTORS", dict(registry.ENCODING_CONSTRUCTORS))

    def own():
        raise NotImplementedError

    with offline_tiktoken():
        registry.ENCODING_CONSTRUCTORS["gpt2"] = own
    assert registry.ENCODING_CONSTRUCTORS["gpt2"] is own


def test_many_threads_may_serve_and_build(unused_registry):
    tiktoken.list_encoding_names()
    before = dict(registry.ENCODING_CONSTRUCTORS)

    def use(_):
        with offline_tiktoken():
            return len(tiktoken.get_encoding("r50k_base").encode("hello world"))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(use, range(32))) == [2] * 32
    assert before == registry.ENCODING_CONSTRUCTORS


def test_langchains_own_counting_is_served(unused_registry):
    langchain_openai = pytest.importorskip("langchain_openai")
    with offline_tiktoken():
        model = langchain_openai.ChatOpenAI(model="gpt-4", api_key="none")
        assert model.get_num_tokens("Tell me a joke") == 4


def test_tiktoken_is_not_imported_before_it_is_needed():
    code = (
        "import sys, pytest_tokenbudget.capture.estimate as e; e.encoding_name_for('gpt-4o');"
        "sys.exit('tiktoken' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
