"""Looks through cassettes for secrets, however they are written or packed. Importing this module imports PyYAML."""

from __future__ import annotations

import base64
import binascii
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_tokenbudget.capture.age import Ages, describe_ages, judge_ages, read_date
from pytest_tokenbudget.capture.cassette_reader import MAX_BYTES, check_exchanges, read_document
from pytest_tokenbudget.capture.redaction import redact
from pytest_tokenbudget.capture.scrub import scrub_body, scrub_url, unpack
from pytest_tokenbudget.capture.secret_shapes import is_random, is_stand_in, secret_parameter
from pytest_tokenbudget.capture.unused_cassettes import why_unused
from pytest_tokenbudget.environment import DUMMY
from pytest_tokenbudget.errors import CassetteError
from pytest_tokenbudget.inspection import FoundSecret, InspectedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from pytest_tokenbudget.capture.redaction import Note

FOLDER = "cassettes"
SUFFIXES = (".yaml", ".yml", ".json")
PARTIAL = ".partial"

_HEAD = 4096
_IS_CASSETTE = re.compile(rb'(?:^|[{,])\s*"?interactions"?\s*:.{0,400}request', re.DOTALL)
_ELSEWHERE = frozenset({"node_modules", "site-packages", "__pycache__"})

_SHOWN = 4
_MIN_SHOWN = 16
"""Shorter secrets are not shown at all: four letters would be too much of them."""

_MIN_CREDIBLE = 8
_FEW_LETTERS = 4
_SCHEME = re.compile(
    r"\s*(?:bearer|basic|token|apikey|api-key|key|digest|negotiate|aws4-hmac-sha256)\s+", re.IGNORECASE
)
_NO_SECRET = re.compile(
    r"test|fake|dummy|mock|example|sample|placeholder|change.?me|xxxx|redact|foo.?bar|undefined|invalid|not.?a"
    r"|(?<![a-z])(?:your?|my|some|any|none|null|insert|replace|secret|password|token|key|here|opaque|bearer)(?![a-z])",
    re.IGNORECASE,
)
_BINARY_BLOCK = re.compile(r"!!binary\s*\|?-?\s*((?:[A-Za-z0-9+/=]{1,200}+\s{1,40}+){1,1000000}+)")


def find_cassettes(folder: Path, *, anywhere: bool) -> Iterator[Path]:
    """Cassettes below a folder, in order.

    Args:
        folder: where to start.
        anywhere: also what looks like one outside of any folder ``cassettes``.
    """
    for parent, names, files in os.walk(folder):
        inside = FOLDER in Path(os.path.abspath(parent)).parts  # noqa: PTH100 - links are not followed
        # Hidden folders hold what tools need for themselves; below cassettes, recordings as well.
        names[:] = sorted(name for name in names if inside or not _is_tools_own(Path(parent, name)))
        for name in sorted(files):
            path = Path(parent, name)
            if name.removesuffix(PARTIAL).endswith(SUFFIXES) and (inside or (anywhere and _looks_like_one(path))):
                yield path


def _is_tools_own(folder: Path) -> bool:
    return folder.name in _ELSEWHERE or folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()


def inspect_file(path: Path, *, now: datetime, max_age: timedelta | None) -> InspectedFile:
    """Look through one file. What can't be read as a cassette is looked through as a text.

    Args:
        path: the file.
        now: the time, in UTC.
        max_age: how old its recordings may be; ``None`` for any age.
    """
    secrets: dict[FoundSecret, None] = {}
    seen: list[str] = []

    def noting(place: str, interaction: int | None = None) -> Note:
        def note(kind: str, secret: str) -> None:
            if _is_credible(kind, secret):
                seen.append(secret)
                secrets.setdefault(_found(kind, secret, place, interaction))

        return note

    shown = redact(path.as_posix(), note=noting("its own name"))
    document, fault = _load(path)
    interactions = [] if document is None else document["interactions"]
    for number, interaction in enumerate(interactions, start=1):
        for side in ("request", "response"):
            _inspect_side(interaction[side], side, lambda place, number=number: noting(place, number))
    text = _read_text(path)
    _inspect_text(text, seen, noting, named=document is None)
    partial = path.name.endswith(PARTIAL)
    ages = Ages((), 0, ())
    if max_age is not None and not partial:
        dates = [read_date(_headers(each["response"])) for each in interactions]
        ages = judge_ages(dates, now=now, max_age=max_age)
    return InspectedFile(
        path=shown,
        recordings=len(interactions),
        fault=None if fault is None else redact(fault),
        partial=partial,
        secrets=tuple(secrets),
        old=describe_ages(ages._replace(undated=0), now) or None,
        undated=ages.undated,
        unused=None if partial else why_unused(path),
    )


def _load(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """A cassette's document, and why no test can play it; without the document where it can't be read."""
    try:
        document = read_document(str(path))
    except CassetteError as error:
        return None, _reason(error, path)
    if document is None:
        return None, "it does not exist"
    for interaction in document["interactions"]:
        if not all(isinstance(interaction.get(side), dict) for side in ("request", "response")):
            return None, "an interaction lacks its request or its response"
    requests = [
        SimpleNamespace(method=each["request"].get("method"), uri=each["request"].get("uri"))
        for each in document["interactions"]
    ]
    try:
        check_exchanges(str(path), requests, [each["response"] for each in document["interactions"]])
    except CassetteError as error:
        return document, _reason(error, path)
    return document, None


def _reason(error: CassetteError, path: Path) -> str:
    text = str(error).removeprefix(f"cassette {path} is refused: ")
    return text.partition("; restore it, or")[0]


def _inspect_side(side: dict[str, Any], name: str, noting: Any) -> None:
    url = side.get("uri") or side.get("url")
    if isinstance(url, str):
        scrub_url(url, note=noting("request URL"))
    headers = _headers(side)
    for header, values in headers.items():
        note = noting(f"{name} header {header}")
        for value in values:
            if secret_parameter(header):
                _inspect_header(value, note)
            else:
                redact(value, note=note)
    for body in _bodies(side):
        unpacked = unpack(body, headers).body
        scrub_body(unpacked, note=noting(f"{name} body"))


def _inspect_header(value: str, note: Note) -> None:
    """A header that names a secret: it holds one, whatever it looks like, unless something stands in for it."""
    told: list[str] = []

    def noted(kind: str, secret: str) -> None:
        told.append(secret)
        note(kind, secret)

    redact(value, note=noted)
    secret = _SCHEME.sub("", value, count=1).strip()
    if not told and not is_stand_in(secret) and DUMMY not in secret:
        note("named secret", secret)


def _headers(side: dict[str, Any]) -> dict[str, list[str]]:
    headers = side.get("headers") or {}
    pairs = headers.items() if isinstance(headers, dict) else filter(_is_pair, headers)
    read: dict[str, list[str]] = {}
    for name, values in pairs:
        each = values if isinstance(values, list | tuple) else [values]
        read.setdefault(str(name).lower(), []).extend(
            value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in each
        )
    return read


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == len(("name", "value"))


def _bodies(side: dict[str, Any]) -> Iterator[Any]:
    """What a request or an answer holds, in any of the forms in which recorders write it."""
    for key in ("body", "parsed_body", "content"):
        body = side.get(key)
        if isinstance(body, dict) and isinstance(body.get("base64_string"), str):
            try:
                yield base64.b64decode(body["base64_string"])
            except (ValueError, binascii.Error):
                yield body
        elif isinstance(body, dict) and "string" in body:
            yield body["string"]
        elif body is not None:
            yield body


def _inspect_text(text: str, seen: list[str], noting: Any, *, named: bool) -> None:
    """The file as it is written: comments, fields that no recorder writes, and all of a file that can't be read."""
    known = list(seen)

    def note_at(place: str) -> Note:
        def note(kind: str, secret: str) -> None:
            # What was found in its place is not told again; a line break of YAML's may have cut it here.
            if not any(secret in each or each in secret for each in known):
                noting(place)(kind, secret)

        return note

    found: list[str] = []
    redact(text, named=named, note=lambda _, secret: found.append(secret))
    if found:
        for number, line in enumerate(text.splitlines(), start=1):
            redact(line, named=named, note=note_at(f"line {number}"))
        # What takes more than a line.
        known += seen
        redact(text, named=named, note=note_at("its text"))
    if named:
        for block in _BINARY_BLOCK.finditer(text):
            try:
                data = base64.b64decode(block[1])
            except (ValueError, binascii.Error):
                continue
            scrub_body(data, note=note_at(f"binary block in line {text.count(chr(10), 0, block.start()) + 1}"))


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _looks_like_one(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _IS_CASSETTE.search(file.read(_HEAD)) is not None
    except OSError:
        return False


def _is_credible(kind: str, secret: str) -> bool:
    """Whether somebody could use it: not what stands in for a secret in an example or a test."""
    if kind.startswith("value of "):
        return True
    if len(set(secret[-_MIN_SHOWN:])) <= _FEW_LETTERS or secret.endswith("EXAMPLE"):
        return False
    if is_random(secret):
        return True
    prose = " " in secret.partition(" ")[2]
    return len(secret) >= _MIN_CREDIBLE and not prose and _NO_SECRET.search(secret) is None


def _found(kind: str, secret: str, place: str, interaction: int | None) -> FoundSecret:
    own = kind.startswith("value of ")
    return FoundSecret(
        place=place,
        kind=kind,
        start=secret[:_SHOWN] if len(secret) >= _MIN_SHOWN and not own else "",
        length=len(secret),
        interaction=interaction,
    )
