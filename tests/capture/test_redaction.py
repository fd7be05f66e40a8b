"""Secrets leave a text, whatever it is written in; what is none stays to the letter."""

from __future__ import annotations

import base64
import json
import re
import string
from re import _parser as regex_parser
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_secrets import KEPT, NAMES, PRIVATE_KEYS, SHAPED, SIGNED_URLS, VAGUE_NAMES, draw, hexes

from pytest_tokenbudget.capture import secret_shapes
from pytest_tokenbudget.capture.redaction import redact
from pytest_tokenbudget.capture.scrub import REDACTED, scrub_body, scrub_url
from pytest_tokenbudget.environment import KEYS, REPLACED

PROSE = "The quick brown fox jumps over the lazy dog, again and again, until the page is full. " * 8


def nested(value, depth):
    """JSON in a string of JSON in a string of JSON."""
    for level in range(depth):
        value = json.dumps({f"level{level}": value})
    return value


WRITINGS = {
    "plain": lambda text: text,
    "in prose": lambda text: f"{PROSE} use {text} please. {PROSE}",
    "in JSON": lambda text: json.dumps({"a": text}),
    "after a line end in JSON": lambda text: json.dumps({"content": f"my key:\n{text}\nis good"}),
    "in JSON in JSON": lambda text: nested(text, 2),
    "five deep": lambda text: nested(f"x\n{text}", 5),
    "in an event": lambda text: f"event: delta\ndata: {json.dumps({'delta': {'content': text}})}\n\n",
    "percent-encoded": lambda text: "https://h/x?q=" + quote(f"it is {text}", safe=""),
    "escaped signs": lambda text: '{"a": "\\u003c' + json.dumps(text)[1:-1] + '\\u003e"}',
    "twice": lambda text: f"{text} {text}",
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("kind", SHAPED)
def test_keys_of_known_makers_leave_every_text(kind, writing):
    secret, text = SHAPED[kind], WRITINGS[writing](SHAPED[kind])
    told = []
    scrubbed = redact(text, note=lambda kind, secret: told.append(secret))
    if writing == "percent-encoded" and quote(secret, safe="") != secret:
        assert not any(piece in scrubbed for piece in re.findall("[A-Za-z0-9]{16,}", secret))
        return
    assert scrubbed == text.replace(json.dumps(secret)[1:-1], REDACTED).replace(secret, REDACTED)
    assert set(told) == {secret}
    assert scrub_body(text.encode()) == scrubbed.encode()


@pytest.mark.parametrize("kind", KEPT)
def test_what_is_known_by_what_stands_before_it(kind):
    before, secret = KEPT[kind]
    told = []
    for text in (f"{before}{secret}", f"{PROSE}{before}{secret}", json.dumps({"a": f"{before}{secret}"})):
        scrubbed = redact(text, note=lambda kind, secret: told.append(secret))
        assert before in scrubbed
        assert secret.partition("@")[0] not in scrubbed
    assert set(told) == {secret.partition("@")[0]}


@pytest.mark.parametrize("kind", PRIVATE_KEYS)
@pytest.mark.parametrize("escapes", [0, 1, 2])
def test_private_keys(kind, escapes):
    pem = PRIVATE_KEYS[kind]
    told = []
    text = nested(f"here: {pem}\nand then", escapes)
    scrubbed = redact(text, note=lambda kind, secret: told.append(kind))
    assert scrubbed == nested(f"here: {REDACTED}\nand then", escapes)
    assert told == ["private key"]
    cut = redact(pem[:400])
    assert not re.search("[A-Za-z0-9+/]{16}", cut)


def test_words_about_private_keys_stay():
    text = "A file that begins with -----BEGIN PRIVATE KEY----- holds a key, and -----END PRIVATE KEY----- ends it."
    assert redact(text) == text


@pytest.mark.parametrize("name", [*KEYS, *REPLACED, "PGPASSWORD", "MY_PAT", "DB_PWD"])
def test_what_a_key_variable_holds_is_a_secret(monkeypatch, name):
    value = draw(24)
    monkeypatch.setenv(name, value)
    assert redact(f"my key is {value}, and that is all") == f"my key is {REDACTED}, and that is all"


VALUES = {"plain": "opaque", "odd": 'o"p\\a\n\tq\\"ue\\', "words": "two words, ä", "long": draw(40), "end": "x\\"}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_called_a_secret_leaves_json_however_deep(name, depth, value):
    def document(secret):
        return nested(
            json.dumps({"model": "m", "deep": [{"a": 1, name: secret, "max_tokens": 5}], "end": "e"}), depth
        )

    assert redact(document(VALUES[value])) == document(REDACTED)
    text = f"data: {document(VALUES[value])}\r\n\r\n"
    assert scrub_body(text.encode()) == f"data: {document(REDACTED)}\r\n\r\n".encode()


@pytest.mark.parametrize("name", VAGUE_NAMES)
def test_what_is_vaguely_called_a_secret_is_one_where_it_looks_so(name):
    secret = draw(32)
    assert redact(json.dumps({name: secret})) == json.dumps({name: REDACTED})
    for word in (
        "hello",
        "2024/reports/summary-17.pdf",
        "GetWeatherForecastV2Response",
        "user_name_of_4_words",
        " a",
    ):
        assert redact(json.dumps({name: word})) == json.dumps({name: word})
    assert redact(json.dumps({name: {"type": "string"}})) == json.dumps({name: {"type": "string"}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("OPENAI_API_KEY={}", "OPENAI_API_KEY=REDACTED"),
        ("export MISTRAL_API_KEY='{}'\n", "export MISTRAL_API_KEY='REDACTED'\n"),
        ('client = Client(api_key="{}")', 'client = Client(api_key="REDACTED")'),
        ("{{'api_key': '{}'}}", "{{'api_key': 'REDACTED'}}"),
        ("x-api-key: {}", "x-api-key: REDACTED"),
        ("curl -H 'Authorization: Bearer {}'", "curl -H 'Authorization: Bearer REDACTED'"),
        ("Authorization: Basic {}", "Authorization: Basic REDACTED"),
        ("<SecretAccessKey>{}</SecretAccessKey>", "<SecretAccessKey>REDACTED</SecretAccessKey>"),
        ("aws_secret_access_key = {}", "aws_secret_access_key = REDACTED"),
    ],
)  # fmt: skip
def test_what_a_text_calls_a_secret(text, expected):
    for depth in (0, 1):
        assert redact(nested(text.format(draw(40)), depth)) == nested(expected.format(), depth)
    assert redact(PROSE + text.format(draw(40))) == PROSE + expected.format()


@pytest.mark.parametrize("kind", SIGNED_URLS)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_signed_urls_in_a_body(kind, depth):
    url, secret = SIGNED_URLS[kind]
    for text in (url, f"![image]({url})", f"{PROSE} {url} {PROSE}"):
        scrubbed = redact(nested(text, depth))
        assert secret not in scrubbed
        assert url[:40] in scrubbed
    assert secret not in scrub_url(url)
    # As Go writes JSON, and as a parameter of another URL.
    assert secret not in redact(nested(url, 1).replace("&", "\\u0026"))
    assert secret not in redact(f"https://proxy.example.com/?u={quote(url, safe='')}&x=1")
    assert redact(f"https://p.example.com/?u={quote(url, safe='')}&x=1").endswith("&x=1")
    assert secret not in redact(f"<a href='{url.replace('&', '&amp;')}'>")


@pytest.mark.parametrize(
    "text",
    [
        '{"max_tokens": 5, "max_completion_tokens": 12, "top_logprobs": 2}',
        '{"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "system_fingerprint": "fp_44709d6fcb"}',
        '{"id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"}',
        '{"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message"}',
        '{"tool_calls": [{"id": "call_DdmO9pD3xa9XTPNJ32zg2hcA"}], "tool_use_id": "toolu_01A09q90qw90lq917835lq9"}',
        '{"id": "fc_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b", "call_id": "call_12345678901234567890"}',
        '{"id": "rs_6820f383d7c08191846711c5df8233bc0ac5ba57aafcbac7"}',
        '{"prompt_cache_key": "tenant-17-0a1b2c3d4e5f6a7b8c9d", "user": "0a1b2c3d4e5f6a7b8c9d0a1b2c3d4e5f"}',
        '{"file_id": "file-9yB7mX2kQ4wE6rT8uI0pA3", "vector_store_ids": ["vs_68a1b2c3d4e5f68a1b2c3d4e5f"]}',
        '{"thread": "thread_abc123DEF456ghi789JKL012", "run": "run_abc123DEF456ghi789JKL012"}',
        '{"request_id": "req_011CQx2vF8Zk3mN4pR5sT6uV", "x": "gen-1234567890-AbCdEfGhIjKlMnOpQrSt"}',
        '{"token": " Hello", "logprob": -0.1, "bytes": [32, 72]}',
        '{"type": "object", "properties": {"password": {"type": "string"}, "api_key": {"type": "string"}}}',
        '{"required": ["password", "api_key", "token"]}',
        '{"next_page_token": "CAUQAA0a1b2c3d4e5f6a7b8c9d", "nextPageToken": "CAUQAA0a1b2c3d4e5f6a7b8c9d"}',
        '{"eos_token": "</s>", "tokens_per_second": 17, "token_type": "bearer", "expires_in": 3600}',
        '{"url": "https://api.example.com/v1/items?page=12345678&sort=descending&keyword=abcdefgh1234"}',
        '{"image": "https://cdn.example.com/5d41402abc4b2a76b9719d911017c592/0a1b2c3d4e5f6a7b8c9d.png"}',
        '{"uuid": "550e8400-e29b-41d4-a716-446655440000", "sha256": "' + "0123456789abcdef" * 4 + '"}',
        "Call https://api.example.com/v1?api_key=YOUR_API_KEY&x=1 with {'password': 'your-password-here'}.",
        "Which tokens does sk- start? A task-oriented risk-proj-list, a desk-top and sk-learn-based-estimators-v2.",
        "Bearer of bad news, bearer-of-the-ring and internationalization of antidisestablishmentarianism",
        "I forgot my password: what is the api_key for? authorization = none. The access_token=... is secret.",
        "eyJust a word. eyJ AKIA is short, hf_hub too, xai-grok, pa-system, fw_update, al-anon as well",
        "git@github.com:someone/something.git and mailto:someone@example.com, http://localhost:8080/@user",
        "def hf_tokenizer_for_sequence_classification(npm_package_manager_configuration): ...",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        '{"api_key": "", "password": "********", "access_token": "${TOKEN}", "client_secret": "<your secret>"}',
        "",
    ],
)
def test_what_is_no_secret_stays(text):
    told = []
    assert redact(text, note=lambda *what: told.append(what)) == text
    assert scrub_body(text.encode()) == text.encode()
    assert redact(PROSE + text) == PROSE + text
    assert told == []


OPAQUE = {
    "base64": lambda data: base64.b64encode(data).decode(),
    "url-safe": lambda data: base64.urlsafe_b64encode(data).decode(),
    "encrypted reasoning": lambda data: "gAAAAAB" + base64.urlsafe_b64encode(data).decode(),
    "hexadecimal": bytes.hex,
    "base85": lambda data: base64.b85encode(data).decode(),
}
OPAQUE_NAMES = (
    "encrypted_content", "signature", "thought_signature", "thoughtSignature", "data", "embedding", "obfuscation",
    "b64_json", "inline_data", "encrypted_index", "content",
)  # fmt: skip


@pytest.mark.parametrize("form", ["base64", "url-safe", "encrypted reasoning", "hexadecimal"])
@given(data=st.binary(min_size=40, max_size=600), name=st.sampled_from(OPAQUE_NAMES))
def test_what_is_encrypted_or_signed_or_embedded_stays(form, data, name):
    text = json.dumps({"output": [{name: OPAQUE[form](data), "id": "rs_1"}]})
    assert redact(text) == text


@pytest.mark.parametrize("start", sorted({rule.sign for rule in secret_shapes.MAKERS if len(rule.sign) < 5}))
def test_a_short_start_of_a_key_within_a_longer_word_is_none(start):
    text = json.dumps({"encrypted_content": f"gAAAAABo{hexes(9)}{start}{draw(60)}"})
    if start in ("AIza", "T3BlbkFJ", "Q~", "@", "xox", "JQQJ9"):
        text = text.replace(start, "")
    assert redact(text) == text


SECRETS = st.sampled_from([*SHAPED.values(), *PRIVATE_KEYS.values()])
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["Hello", "max_tokens", "chatcmpl-123", "a\\b", '"', "{}", "data: ", "\u2028", "Bearer", "é"]
)


@st.composite
def leaves(draw_):
    """A text with secrets in it and what is to be left of it."""
    before, after = " ".join(draw_(st.lists(WORDS, max_size=2))), draw_(WORDS)
    secret = draw_(st.none() | SECRETS)
    if secret is None:
        return before, before
    return f"{before} {secret} {after}", f"{before} {REDACTED} {after}"


def pairs(children):
    """A list or a mapping of (value, what is left of it)."""

    def split(container):
        if isinstance(container, list):
            return [each[0] for each in container], [each[1] for each in container]
        return {k: v[0] for k, v in container.items()}, {k: v[1] for k, v in container.items()}

    def wrap(pair):
        return json.dumps(pair[0]), json.dumps(pair[1])

    plain_names = st.text(string.ascii_lowercase, max_size=4)
    named = st.tuples(st.sampled_from(NAMES), st.text(min_size=1, max_size=8)).map(
        lambda each: ({each[0]: each[1]}, {each[0]: each[1] if secret_shapes.is_stand_in(each[1]) else REDACTED})
    )
    return (
        st.lists(children, max_size=3).map(split)
        | st.dictionaries(plain_names, children, max_size=3).map(split)
        | st.dictionaries(plain_names, children, max_size=2).map(split).map(wrap)
        | named
    )


@settings(max_examples=400)
@given(
    st.recursive(
        st.tuples(st.integers(), st.none()).map(lambda each: (each[0], each[0])) | leaves(), pairs, max_leaves=12
    )
)
def test_a_document_loses_its_secrets_and_nothing_else(pair):
    document, expected = pair
    for ascii_only in (True, False):
        text = json.dumps(document, ensure_ascii=ascii_only)
        assert json.loads(redact(text)) == expected
        assert json.loads(scrub_body(text.encode("utf-8", "surrogatepass"))) == expected


GAPS = (" ", '"', "\n", ",", "&", "\\n")
WHOLE = [
    *SHAPED.values(),
    *(a + b for a, b in KEPT.values()),
    *PRIVATE_KEYS.values(),
    *(url for url, _ in SIGNED_URLS.values()),
]
PARTS = [
    *NAMES, *VAGUE_NAMES, *(rule.sign for rule in secret_shapes.MAKERS), '"', '\\"', "\\", '":"', '": "', "=", ":", "&", "?", " ",
    "\n", "\\n", "%20", "%3D", "%26", "\\u0026", "{", "}", "[", "0", "a1b2c3d4e5f6a7b8", "REDACTED", ";", "/", "-", "_", ".",
]  # fmt: skip
FRAGMENTS = (
    st.tuples(st.sampled_from(GAPS), st.sampled_from(WHOLE), st.sampled_from(GAPS)).map("".join)
    | st.sampled_from(PARTS)
    | st.text(max_size=5)
)


@settings(max_examples=1000)
@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_once_is_enough_and_is_told(text):
    """What was redacted has nothing left to redact, and says so; a text that stays as it was, too."""
    told = []
    once = redact(text, note=lambda kind, secret: told.append((kind, secret)))
    assert bool(told) == (once != text)
    for kind, secret in told:
        assert kind
        assert all(piece in text for piece in secret.split(REDACTED))
    again = []
    assert redact(once, note=lambda kind, secret: again.append((kind, secret))) == once
    assert again == []


@given(st.binary() | st.lists(FRAGMENTS, max_size=6).map(lambda each: "".join(each).encode("utf-8", "surrogatepass")))
def test_bytes_and_text_are_redacted_alike(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    scrubbed = redact(data.decode("latin-1"), of_bytes=True).encode("latin-1")
    if text is not None:
        assert scrubbed.decode() == redact(text)


# -- the process's own keys


@pytest.mark.parametrize(
    "value",
    ["correct-horse-battery", 'odd "quoted"\\value', "with/slash+plus==", "straße-grün-öl", "tab\tand line\n end"],
)
def test_values_of_own_key_variables_in_every_form(monkeypatch, value):
    monkeypatch.setenv("COMPANY_TOKEN", value)
    once = json.dumps(value)[1:-1]
    forms = {
        "plain": value,
        "JSON": once,
        "JSON in JSON": json.dumps(once)[1:-1],
        "percent": quote(value, safe=""),
        "path": quote(value),
        "form": quote_plus(value),
    }
    told = []
    for form in forms.values():
        scrubbed = redact(f"the key is {form}!", note=lambda kind, secret: told.append(kind))
        assert scrubbed == "the key is REDACTED!"
        assert scrub_body(f"the key is {form}!".encode()) == b"the key is REDACTED!"
    assert told == ["value of COMPANY_TOKEN"] * len(forms)
    for before in ("", "u", "us", "user:"):
        encoded = base64.b64encode(f"{before}{value}!!".encode()).decode()
        assert REDACTED in redact(f"Basic of {encoded}.")
        assert encoded[len(before) + 4 : -4] not in redact(encoded)


def test_short_values_and_other_variables_are_words(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hello")
    monkeypatch.setenv("GREETING", "a long greeting")
    assert redact("hello, a long greeting") == "hello, a long greeting"


def test_a_value_that_is_no_text_does_no_harm(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "\udcffbroken-bytes-in-it")
    assert scrub_body(b"the \xffbroken-bytes-in-it!") == b"the REDACTED!"


# -- time


def _repeats(parsed):
    for op, argument in parsed:
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            yield name, argument[1], argument[2]
            yield from _repeats(argument[2])
        elif name == "SUBPATTERN":
            yield from _repeats(argument[3])
        elif name == "BRANCH":
            for each in argument[1]:
                yield from _repeats(each)
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _repeats(argument[1])
        elif name == "ATOMIC_GROUP":
            yield from _repeats(argument)


RULES = [
    *secret_shapes.MAKERS, *secret_shapes.MEMBERS, *secret_shapes.CLEAR_IN_TEXT, *secret_shapes.PARAMETERS,
    *secret_shapes.FORM_PARTS,
]  # fmt: skip
BOUND = 500


@pytest.mark.parametrize("number", range(len(RULES)), ids=lambda number: f"{number} {RULES[number].sign}")
def test_no_pattern_can_go_back_over_an_unbounded_run(number):
    """A run without a bound is either never given back, or nothing stands behind it that could fail."""
    pattern = RULES[number].pattern
    parsed = regex_parser.parse(pattern.pattern, pattern.flags)

    def check(items, *, last):
        items = list(items)
        for index, (op, argument) in enumerate(items):
            at_end = last and index == len(items) - 1
            name = str(op)
            if name in ("MAX_REPEAT", "MIN_REPEAT"):
                _, high, inner = argument
                assert high <= BOUND or (at_end and name == "MAX_REPEAT"), pattern.pattern
                if high > 1:
                    # No run within a run, unless the inner one is never given back.
                    for kind, most, _ in _repeats(inner):
                        assert kind == "POSSESSIVE_REPEAT" or most <= 1, pattern.pattern
                else:
                    check(inner, last=at_end)
            elif name == "POSSESSIVE_REPEAT":
                for kind, most, _ in _repeats(argument[2]):
                    assert kind == "POSSESSIVE_REPEAT" or most <= BOUND, pattern.pattern
            elif name == "SUBPATTERN":
                check(argument[3], last=at_end)
            elif name == "BRANCH":
                for each in argument[1]:
                    check(each, last=at_end)

    check(parsed, last=True)


HARD = [
    "eyJ", "sk-", "sk-proj-", '"api_key"   :', '"api_key":"\\', '"key":"aaaa', "-----BEGIN PRIVATE KEY-----", "Bearer a",
    "Bearer ", "?key=", "eyJaaaaaaaaaa.", '"', "\\", "__cf_bm=", "://a:", "@", "A1", "JQQJ9", 'name="api_key"\r\n', "&sig=%",
    '\\"token\\":\\"', "<password>aaaaaaaaaaaaaaaaa", "api_key=", "authorization: bearer ", "xox", '\\\\\\"', "Signature=",
    "A" * 60 + "JQQJ9", "-----BEGIN PRIVATE KEY-----\nDEK-Info: a\n", "a b", "%3D", "9Q~",
]  # fmt: skip


@pytest.mark.parametrize("piece", HARD)
def test_half_a_megabyte_of_what_is_almost_a_secret_comes_to_an_end(piece):
    """With a pattern that takes the square of the length, this would take hours."""
    text = piece * (500_000 // len(piece))
    scrubbed = redact(text)
    assert len(scrubbed) <= 2 * len(text)
    assert redact(scrubbed) == scrubbed
