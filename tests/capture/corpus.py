"""Recorded exchanges of public projects, and what the providers reported in them; absent outside our own checks."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from pytest_tokenbudget.capture.wire import Exchange

ROOT = Path(os.environ.get("TOKENBUDGET_CORPUS") or Path(__file__).parents[2].parent / "shared" / "corpus")
MULTIPLE_CHOICES = 300


def is_present():
    return (ROOT / "index.jsonl").is_file() and (ROOT / "recordings.tar.xz").is_file()


def load_rows():
    """The index: one row per recorded interaction."""
    with (ROOT / "index.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def load_exchanges():
    """All exchanges, as a mapping of (file, number of the interaction)."""
    exchanges = {}
    with tarfile.open(ROOT / "recordings.tar.xz") as archive:
        for member in archive:
            if not member.isfile():
                continue
            text = io.TextIOWrapper(archive.extractfile(member), encoding="utf-8").read()
            name = member.name.removeprefix("./").removeprefix("recordings/")
            for number, interaction in enumerate(_parse(text)):
                exchanges[name, number] = build_exchange(interaction)
    return exchanges


def build_exchange(interaction):
    """An exchange from any of the forms in which cassettes hold one."""
    request, response = interaction["request"], interaction["response"]
    status = response.get("status") or response.get("status_code") or 200
    return Exchange(
        method=request["method"],
        url=request.get("uri") or request.get("url"),
        request_body=_read_body(request),
        status=status.get("code") if isinstance(status, dict) else status,
        headers=_read_headers(response.get("headers")),
        body=_read_body(response),
    )


def _parse(text):
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(loader):
        """The safe loader, with the harmless tags that vcrpy takes."""

    for tag in ("tag:yaml.org,2002:python/unicode", "tag:yaml.org,2002:python/str"):
        Loader.add_constructor(tag, lambda made, node: made.construct_scalar(node))
    Loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda made, node: made.construct_sequence(node))
    Loader.add_constructor("tag:yaml.org,2002:python/object/new:_io.BytesIO", _build_bytes_io)
    return yaml.load(text, Loader).get("interactions") or []


def _build_bytes_io(loader, node):
    state = loader.construct_mapping(node, deep=True).get("state") or [b""]
    return state[0]


def _read_body(part):
    if "parsed_body" in part:
        return json.dumps(part["parsed_body"]).encode()
    body = part["body"] if "body" in part else part.get("content")
    if isinstance(body, dict) and set(body) <= {"string", "encoding", "base64_string"}:
        body = body.get("string")
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")
    return json.dumps(body).encode()


def _read_headers(headers):
    read = {}
    pairs = headers.items() if isinstance(headers, dict) else headers or []
    for name, value in pairs:
        values = value if isinstance(value, list) else [value]
        read[name.lower()] = ", ".join(str(each) for each in values)
    return read
