"""Every kind of secret, planted in every place of an exchange, in every encoding of its body: none reaches the disk."""

from __future__ import annotations

import gzip
import json
import re
from urllib.parse import quote, urlencode

import vcr
import yaml
import zstandard
from planted_secrets import KEPT, NAMES, PRIVATE_KEYS, SHAPED, SIGNED_URLS, VAGUE_NAMES, draw
from vcr.request import Request

from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.capture.wire.encodings import decode_body

URL = "https://api.openai.com/v1/chat/completions"
ENCODINGS = {
    "identity": lambda body: body,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
SHOWN = {
    **{kind: (secret, secret) for kind, secret in (SHAPED | PRIVATE_KEYS).items()},
    **{kind: (before + secret, secret.partition("@")[0]) for kind, (before, secret) in KEPT.items()},
    **SIGNED_URLS,
}
"""Secrets that are known by themselves: kind -> (the text that shows it, the secret)."""

NAMED = {name: f"opaque value of {name} {draw(24)}" for name in NAMES} | {name: draw(40) for name in VAGUE_NAMES}
"""Secrets that are known by their name."""


def exchange(url, body, headers, encoding, answer, *, content_type="application/json"):
    pack = ENCODINGS[encoding]
    return (
        Request("POST", url, pack(body.encode()), {"content-encoding": encoding, "content-type": "x/y", **headers}),
        {
            "status": {"code": 200, "message": "OK"},
            "headers": {"Content-Encoding": [encoding], "Content-Type": [content_type], "Set-Cookie": ["a=b"]},
            "body": {"string": pack(answer.encode())},
        },
    )


def multipart(name, value):
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n--b--\r\n'
    return part if "\n" not in value else json.dumps({"part": value})


def shown_exchanges(text, encoding):
    """The text in each place of an exchange."""
    said = {"messages": [{"role": "user", "content": f"my key:\n{text}\n"}]}
    echo = json.dumps({"choices": [{"message": {"content": f"You said: {text}"}}]})
    event = f"data: {json.dumps({'delta': {'content': f'so {text}, then'}})}\n\ndata: [DONE]\n\n"
    arguments = json.dumps({"arguments": json.dumps({"code": [f"use({text!r})"]})})
    path = re.sub(r"[^!-~]", "", text)
    place = {
        "request header": (URL, "{}", {"authorization": text.replace("\n", "")}, "{}", "application/json"),
        "request path": (f"https://h/v1/{quote(path)}/x", "{}", {}, "{}", "application/json"),
        "request body": (URL, json.dumps(said), {}, "{}", "application/json"),
        "request form": (URL, urlencode({"a": "b", "q": path}), {}, "{}", "application/json"),
        "request part": (URL, multipart("note", text), {}, "{}", "application/json"),
        "answer": (URL, "{}", {}, echo, "application/json"),
        "stream": (URL, "{}", {}, event, "text/event-stream"),
        "JSON in JSON": (URL, arguments, {}, arguments, "application/json"),
    }
    if path != text or re.search("[^A-Za-z0-9_.~-]", text):
        # What is percent-encoded within has no shape any more; the docs tell that limit.
        del place["request path"], place["request form"]
    return [
        exchange(url, body, headers, encoding, answer, content_type=kind)
        for url, body, headers, answer, kind in place.values()
    ]


def named_exchanges(name, value, encoding):
    member = {"model": "m", "deep": [{"a": {name: value}}]}
    return [
        exchange(URL, "{}", {name: value, "authorization": f"Bearer {value}"}, encoding, "{}"),
        exchange(f"{URL}?a=b&{urlencode({name: value})}", "{}", {}, encoding, "{}"),
        exchange(URL, json.dumps(member), {}, encoding, "{}"),
        exchange(URL, urlencode({"a": "b", name: value}), {}, encoding, "{}"),
        exchange(URL, multipart(name, value), {}, encoding, "{}"),
        exchange(URL, "{}", {}, encoding, json.dumps(member, indent=2)),
        exchange(URL, "{}", {}, encoding, f"data: {json.dumps(member)}\n\n", content_type="text/event-stream"),
        exchange(
            URL, json.dumps({"x": json.dumps(member)}), {}, encoding, json.dumps([json.dumps(json.dumps(member))])
        ),
    ]


ALL = [
    *(
        lambda code, text=text, secret=secret: (secret, shown_exchanges(text, code))
        for text, secret in SHOWN.values()
    ),
    *(
        lambda code, name=name, value=value: (value, named_exchanges(name, value, code))
        for name, value in NAMED.items()
    ),
]
EXCHANGES = [
    (secret, each)
    # All of them plain, and every second one packed too.
    for code, plants in (("identity", ALL), ("gzip", ALL[::2]), ("zstd", ALL[::2]))
    for secret, exchanges in (plant(code) for plant in plants)
    for each in exchanges
]


def pieces(secret):
    """What must not be found: the secret and its longest parts without a gap."""
    return {secret, *re.findall("[A-Za-z0-9]{20,}", secret)}


def views(data):
    """A file's bytes, and all that it holds, unpacked."""
    yield data.decode()
    for interaction in yaml.load(data, yaml.CSafeLoader)["interactions"]:
        for side in interaction.values():
            body = side["body"]["string"] if isinstance(side["body"], dict) else side["body"]
            yield plain(body or "", side["headers"])
            yield repr(side["headers"]) + side.get("uri", "")


def plain(body, headers):
    named = {name.lower(): values if isinstance(values, str) else values[0] for name, values in headers.items()}
    return decode_body(body.encode() if isinstance(body, str) else body, named, complete=True).decode()


def found(path):
    text = "\n".join(views(path.read_bytes()))
    return {
        secret for secret, _ in EXCHANGES if any(piece in text or quote(piece) in text for piece in pieces(secret))
    }


def test_enough_is_planted():
    assert len(ALL) >= 90
    assert len(EXCHANGES) > 1500


def test_a_plain_recorder_stores_all_of_them(tmp_path):
    """What the next test looks for is there to be found."""
    path = tmp_path / "plain.yaml"
    with vcr.use_cassette(str(path), record_mode="all") as cassette:
        for _, (request, response) in EXCHANGES[::5]:
            cassette.append(request, response)
    planted = {secret for secret, _ in EXCHANGES[::5]}
    text = "\n".join(
        repr(each.headers)
        + each.uri
        + plain(each.body, each.headers)
        + plain(answer["body"]["string"], answer["headers"])
        for each, answer in cassette.data
    )
    assert {secret for secret in planted if not any(piece in text for piece in pieces(secret))} == set()


def test_what_another_tool_left_in_the_file_is_gone_when_it_is_saved_again(tmp_path):
    path = tmp_path / "test_a.yaml"
    with vcr.use_cassette(str(path), record_mode="all") as recorder:
        for _, (request, response) in EXCHANGES[::9]:
            recorder.append(request, response)
    assert found(path)
    cassette = Playback(path=path, record="new_episodes").cassette
    cassette.append(*exchange(URL, "{}", {}, "identity", "{}"))
    cassette.save(whole=True)
    assert path.read_bytes().count(b"\n- request:") == len(EXCHANGES[::9]) + 1
    assert found(path) == set()


def test_none_of_them_reaches_the_disk(tmp_path):
    path = tmp_path / "cassettes" / "test_a.yaml"
    cassette = Playback(path=path, record="once").cassette
    for _, (request, response) in EXCHANGES:
        cassette.append(request, response)
    for whole, name in ((False, "test_a.yaml.partial"), (True, "test_a.yaml")):
        cassette.dirty = True
        cassette.save(whole=whole)
        (file,) = path.parent.iterdir()
        assert file.name == name
        assert file.read_bytes().count(b"\n- request:") == len(EXCHANGES)
        assert found(file) == set()
