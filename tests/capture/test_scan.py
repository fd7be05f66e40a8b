"""Secrets in old recordings are found, wherever and however they stand there; and what is none is not called one."""

from __future__ import annotations

import base64
import gzip
import json
import re
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import corpus
import pytest
import vcr
import yaml
from planted_secrets import SHAPED, draw
from test_secrets_on_disk import EXCHANGES, pieces

from pytest_tokenbudget.capture.playback import Playback
from pytest_tokenbudget.capture.redaction import redact
from pytest_tokenbudget.capture.scan import find_cassettes, inspect_file
from pytest_tokenbudget.capture.scrub import scrub_body, unpack
from pytest_tokenbudget.environment import DUMMY
from pytest_tokenbudget.inspection import FoundSecret, Inspection
from pytest_tokenbudget.report.scan_text import render_scan

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
KEY = SHAPED["anthropic"]
PLANTED = EXCHANGES[::3]


def inspect(path, max_age=None):
    return inspect_file(path, now=NOW, max_age=max_age)


def write(path, *interactions, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"interactions": list(interactions), "version": 1, **more}
    text = json.dumps(document) if path.suffix == ".json" else yaml.safe_dump(document, allow_unicode=True)
    path.write_text(text, "utf-8")
    return path


def interaction(*, uri="https://h/v1/x", body="{}", headers=None, answer="{}", answered=None):
    return {
        "request": {"method": "POST", "uri": uri, "body": body, "headers": headers or {}},
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": answered or {},
            "body": answer if isinstance(answer, dict) else {"string": answer},
        },
    }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every secret in every place and encoding, as a plain recorder stores it: one interaction each."""
    path = tmp_path_factory.mktemp("scan") / "cassettes" / "plain.yaml"
    with vcr.use_cassette(str(path), record_mode="all") as cassette:
        for _, (request, response) in PLANTED:
            cassette.append(request, response)
    return path


def test_every_secret_of_a_plain_recording_is_found_in_its_interaction(recorded):
    found = inspect(recorded)
    assert found.fault is None
    assert found.recordings == len(PLANTED)
    at = {secret.interaction for secret in found.secrets}
    assert sorted(at - {None}) == list(range(1, len(PLANTED) + 1))
    shown = render_scan(Inspection(files=(found,)))
    for secret, _ in PLANTED:
        assert not any(piece[4:16] in shown for piece in pieces(secret))
    assert all(len(secret.start) <= 4 for secret in found.secrets)


def test_what_was_recorded_here_holds_none(tmp_path):
    path = tmp_path / "cassettes" / "test_a.yaml"
    cassette = Playback(path=path, record="once").cassette
    for _, (request, response) in PLANTED:
        cassette.append(request, response)
    cassette.save(whole=True)
    assert inspect(path).secrets == ()


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_places_kinds_and_what_is_shown(tmp_path, suffix):
    opaque = draw(40)
    path = write(
        tmp_path / f"a{suffix}",
        interaction(headers={"Authorization": [f"Bearer {KEY}"], "X-Api-Key": opaque, "accept": ["x"]}),
        interaction(uri=f"https://h/v1/x?api_key={opaque}&a=b", answered={"Set-Cookie": [f"s={opaque}; path=/"]}),
        interaction(body=json.dumps({"a": {"password": "Tr0ub4dor"}}), answer=json.dumps({"b": f"your key {KEY}"})),
        interaction(headers={"x-note": [f"see {KEY}"]}),
    )
    assert set(inspect(path).secrets) == {
        FoundSecret(place="request header authorization", kind="Anthropic key", start="sk-a", length=len(KEY), interaction=1),
        FoundSecret(place="request header x-api-key", kind="named secret", start=opaque[:4], length=40, interaction=1),
        FoundSecret(place="request URL", kind="parameter api_key", start=opaque[:4], length=40, interaction=2),
        FoundSecret(
            place="response header set-cookie", kind="named secret", start=f"s={opaque}"[:4], length=50, interaction=2
        ),
        FoundSecret(place="request body", kind="named secret", start="", length=9, interaction=3),
        FoundSecret(place="response body", kind="Anthropic key", start="sk-a", length=len(KEY), interaction=3),
        FoundSecret(place="request header x-note", kind="Anthropic key", start="sk-a", length=len(KEY), interaction=4),
    }  # fmt: skip


def test_other_forms_of_a_recording(tmp_path):
    packed = gzip.compress(json.dumps({"x": KEY}).encode())
    one = interaction()
    one["response"]["body"] = {"base64_string": base64.b64encode(packed).decode(), "encoding": "utf-8"}
    two = interaction(answer=packed)
    three = interaction()
    three["request"]["body"] = {"messages": [{"content": KEY}]}
    four = interaction()
    four["request"]["headers"] = [["authorization", KEY], "odd"]
    assert {secret.interaction for secret in inspect(write(tmp_path / "a.yaml", one, two, three, four)).secrets} == {
        1,
        2,
        3,
        4,
    }


def test_own_keys_are_found_and_never_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPANY_TOKEN", "correct-horse-battery")
    path = write(tmp_path / "a.yaml", interaction(answer="it is correct-horse-battery"))
    (secret,) = inspect(path).secrets
    assert (secret.kind, secret.start, secret.length) == ("value of COMPANY_TOKEN", "", 21)


@pytest.mark.parametrize(
    "value",
    [
        "REDACTED", "<REDACTED>", "Bearer REDACTED", "Bearer [FILTERED]", "DUMMY", "Bearer DUMMY_API_KEY", "test", "Bearer test-key",
        "Bearer fake-api-key-for-tests", "Basic placeholder", "**********", "xxxxxxxxxxxxxxxxxxxx", "", "Bearer ", "${OPENAI_API_KEY}",
        "Bearer your-api-key-here", "none", "Bearer sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "mock_value", "scrubbed",
        f"Bearer {DUMMY}", "AKIAIOSFODNN7EXAMPLE", "my-secret-token", "Bearer 0000000000000000000000000000",
    ],
)  # fmt: skip
def test_what_stands_in_for_a_secret_is_none(tmp_path, value):
    headers = {name: [value] for name in ("authorization", "x-api-key", "cookie", "api-key", "X-Amz-Security-Token")}
    body = json.dumps({"api_key": value, "password": value, "authorization": value})
    path = write(tmp_path / "a.yaml", interaction(headers=headers, body=body, uri=f"https://h/x?key={value}"))
    assert inspect(path).secrets == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("openai-organization", "org-a1b2c3d4e5f6a7b8c9d0"), ("x-request-id", "req_a1b2c3d4e5f6a7b8c9d0"), ("date", "Sun"),
        ("www-authenticate", 'Bearer realm="OpenAI API"'), ("x-amz-content-sha256", "0a1b" * 16), ("etag", "0a1b" * 8),
        ("access-control-allow-credentials", "true"), ("x-ratelimit-remaining-tokens", "149999993"),
        ("anthropic-ratelimit-tokens-reset", "2026-01-02T22:11:01Z"), ("idempotency-key", "stainless-python-retry-0a1b2c3d"),
    ],
)  # fmt: skip
def test_headers_that_are_no_secret(tmp_path, name, value):
    assert (
        inspect(write(tmp_path / "a.yaml", interaction(headers={name: [value]}, answered={name: [value]}))).secrets
        == ()
    )


def test_comments_and_fields_that_no_recorder_writes(tmp_path):
    path = write(tmp_path / "a.yaml", interaction(), metadata={"note": f"by {SHAPED['groq']}"})
    path.write_text(f"# recorded with {KEY}\n" + path.read_text("utf-8"), "utf-8")
    lines = path.read_text("utf-8").splitlines()
    (at,) = (number for number, line in enumerate(lines, start=1) if "gsk_" in line)
    expected = {("line 1", "Anthropic key"), (f"line {at}", "Groq key")}
    assert {(secret.place, secret.kind) for secret in inspect(path).secrets} == expected


BROKEN = {
    "cut short": "interactions:\n- request: {body: '{KEY}",
    "a tag": "interactions: !!python/tuple ['{KEY}']\nversion: 1\n",
    "an anchor": "interactions: &a ['{KEY}']\nversion: 1\n",
    "a conflict": "<<<<<<< ours\n{KEY}\n=======\n>>>>>>> theirs\n",
    "another version": "interactions: []\nversion: 2\nnote: '{KEY}'\n",
    "a list": "- '{KEY}'\n",
    "twice": "interactions: []\nversion: 1\n'{KEY}': 1\n'{KEY}': 2\n",
    "no request": "interactions: [{request: '{KEY}', response: 1}]\nversion: 1\n",
    "packed": "interactions: &a\n- response:\n    body:\n      string: !!binary |\n        {PACKED}\nversion: 1\n",
    "JSON": '{"interactions": ["{KEY}"',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_told_and_searched_all_the_same(tmp_path, kind):
    packed = base64.b64encode(gzip.compress(f'{{"x": "{KEY}"}}'.encode())).decode()
    packed = "\n        ".join(re.findall(".{1,70}", packed))
    path = tmp_path / "a.yaml"
    path.write_text(BROKEN[kind].replace("{KEY}", KEY).replace("{PACKED}", packed), "utf-8")
    found = inspect(path)
    assert found.fault
    assert KEY not in found.fault
    assert str(path) not in found.fault
    assert {secret.kind for secret in found.secrets} == {"Anthropic key"}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"interactions: []\nversion: 1\n" + b" " * 2**25], ids=["empty", "bytes", "large"]
)
def test_files_that_are_no_text(tmp_path, content):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    assert inspect(path).fault


def test_a_file_that_can_not_be_read(tmp_path):
    assert inspect(tmp_path / "gone.yaml").fault == "it does not exist"
    (tmp_path / "folder.yaml").mkdir()
    assert "can't be read" in inspect(tmp_path / "folder.yaml").fault


def test_a_secret_in_a_name_is_not_shown(tmp_path):
    found = inspect(write(tmp_path / f"test_x[{KEY}].yaml", interaction()))
    assert KEY not in found.path
    assert [secret.place for secret in found.secrets] == ["its own name"]


def test_ages(tmp_path):
    def dated(days):
        if days is None:
            return interaction()
        return interaction(answered={"Date": [(NOW - timedelta(days=days)).strftime("%a, %d %b %Y %H:%M:%S GMT")]})

    path = write(tmp_path / "a.yaml", dated(10), dated(91), dated(None), dated(400))
    found = inspect(path, timedelta(days=90))
    assert found.old == "2 old recordings, the oldest of 2025-10-18, 400 days old"
    assert found.undated == 1
    assert inspect(path) == inspect(path, None)
    assert (inspect(path).old, inspect(path).undated) == (None, 0)
    young = inspect(write(tmp_path / "b.yaml", dated(1), dated(90)), timedelta(days=90))
    assert (young.old, young.undated) == (None, 0)
    ahead = inspect(write(tmp_path / "c.yaml", dated(-9)), timedelta(days=90))
    assert ahead.old == "1 recording dated in the future (2026-12-01)"
    partial = inspect(path.rename(tmp_path / "a.yaml.partial"), timedelta(days=90))
    assert (partial.partial, partial.old, partial.undated) == (True, None, 0)


def test_where_cassettes_are_looked_for(tmp_path, monkeypatch):
    inside = [
        "tests/cassettes/test_a/test_x.yaml", "tests/cassettes/test_a/test_y.json", "tests/cassettes/test_a/z.yaml.partial",
        "tests/cassettes/.test_hidden/test_x.yml", "cassettes/a.yaml",
    ]  # fmt: skip
    outside = ["recordings/a.yaml", "recordings/deep/b.json"]
    for name in inside + outside:
        write(tmp_path / name, interaction())
    for name in (".venv/cassettes/a.yaml", "node_modules/x/cassettes/a.yaml", "env/lib/cassettes/a.yaml"):
        write(tmp_path / name, interaction())
    (tmp_path / "env" / "pyvenv.cfg").touch()
    for name in ("config.yaml", "tests/cassettes/README.md", "recordings/openapi.json"):
        (tmp_path / name).write_text("{}", "utf-8")
    monkeypatch.chdir(tmp_path)
    assert [path.as_posix() for path in find_cassettes(Path(), anywhere=False)] == sorted(inside)
    assert {path.as_posix() for path in find_cassettes(Path(), anywhere=True)} == {*inside, *outside}
    assert [path.as_posix() for path in find_cassettes(Path("tests/cassettes/test_a"), anywhere=False)] == sorted(
        inside[:3]
    )


# -- recorded traffic of others, whose secrets were taken out


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    if not corpus.is_present():
        pytest.skip("the larger set of recordings is not here")
    folder = tmp_path_factory.mktemp("corpus")
    with tarfile.open(corpus.ROOT / "recordings.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_public_recordings_hold_no_secret_and_would_be_stored_as_they_are(public):
    paths = list(find_cassettes(public, anywhere=True))
    assert len(paths) > 800
    for path in paths:
        found = inspect(path)
        assert (found.secrets, found.fault) == ((), None), path
        for each in yaml.load(path.read_bytes(), yaml.CSafeLoader)["interactions"]:
            for side in each.values():
                body = (
                    side["body"].get("string", side["body"])
                    if isinstance(side.get("body"), dict)
                    else side.get("body")
                )
                if isinstance(body, bytes | str):
                    plain = unpack(body, dict(side.get("headers") or {})).body
                    assert scrub_body(plain) == plain, path


def test_what_is_planted_in_public_recordings_is_found(public, tmp_path):
    kinds = sorted(SHAPED)
    for number, path in enumerate(list(find_cassettes(public, anywhere=True))[::9]):
        secret = SHAPED[kinds[number % len(kinds)]]
        text = path.read_text("utf-8")
        if "REDACTED" not in text:
            continue
        planted = tmp_path / f"{number}.yaml"
        planted.write_text(text.replace("REDACTED", secret, 1), "utf-8")
        found = inspect(planted).secrets
        assert len(found) == 1, (path, found)
        assert found[0].start == secret[:4], (path, found)
        assert redact(secret) == "REDACTED"
