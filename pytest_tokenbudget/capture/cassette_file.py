"""A cassette's file for vcrpy: read strictly, written whole or not at all, and never over what others wrote."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import math
import os
import tempfile
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.request import Request
from vcr.serialize import serialize
from vcr.serializers.compat import convert_to_bytes

from pytest_tokenbudget.capture.cassette_reader import (
    MAX_BYTES,
    check_exchanges,
    parse_document,
    read_bytes,
    read_document,
)
from pytest_tokenbudget.capture.scrub import scrub_body, scrub_request, scrub_response
from pytest_tokenbudget.errors import CassetteError
from pytest_tokenbudget.files import PREFIX, SUFFIX, check_regular, locked, write_atomically

if TYPE_CHECKING:
    from pytest_tokenbudget.capture.playback import Playback

PARTIAL = ".partial"
"""Ends the name of a recording that is not whole; it is never replayed."""


class CassetteFile:
    """vcrpy's persister for one playback.

    Attributes:
        own: whether it is recorded, and this run has written it: another of its tests or fixtures records to it too.
        fresh: whether what the file holds is to be forgotten.
        suffix: is put behind the file's name where the recording is not whole.

    Raises:
        CassetteError: it is to be recorded, and can't be looked at.
    """

    def __init__(self, playback: Playback) -> None:
        self.suffix = ""
        self._path = playback.path
        self._records = playback.live
        self._written = playback.written
        # Looked at once: another worker may save between two looks, and each would see another file.
        try:
            self._found, saved = _look(playback.path) if playback.live else (None, -math.inf)
        except OSError as error:
            raise self._unrecordable(error) from error
        # What is dated in the future, by another clock, was not written by this run.
        self.own = playback.live and (
            playback.path in playback.written or playback.others_since <= saved <= time.time()
        )
        self.fresh = playback.record == "rewrite" and not self.own

    def check_writable(self) -> None:
        """Find out before money is spent that the recording could not be saved.

        Raises:
            CassetteError: it could not.
        """
        try:
            check_regular(self._path)
            folder = Path(os.path.realpath(self._path)).parent  # a link stays, and what it points to is replaced
            folder.mkdir(parents=True, exist_ok=True)
            # By name, as it will be saved: some file systems take a file without a name all the same.
            with tempfile.NamedTemporaryFile(dir=folder, prefix=PREFIX, suffix=SUFFIX):
                pass
            if self._path.exists() and not os.access(self._path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with locked(self._path):
                pass
        except OSError as error:
            raise self._unrecordable(error) from error

    def _unrecordable(self, error: OSError) -> CassetteError:
        return CassetteError(f"{self._path} can't be recorded: {error.strerror or error}")

    def load_cassette(self, path: str, serializer: Any) -> Any:  # noqa: ARG002 - vcrpy's signature; we tell by the text
        """Read the file, as vcrpy wants it: requests, responses and, where there are any, metadata.

        Raises:
            CassetteError: it is refused; the message says why.
            CassetteNotFoundError: there is none, or it is to be forgotten.
        """
        return _read_exchanges(path, self._content(path))

    def load_shared(self, path: str) -> Any:
        """As ``load_cassette``, for one who changes nothing of it: what many tests play is read once."""
        return _read_once(path, self._content(path))

    def _content(self, path: str) -> bytes:
        data = None if self.fresh else self._found if self._records else read_bytes(path)
        if data is None:
            raise CassetteNotFoundError
        return data

    def save_cassette(self, path: str, cassette_dict: dict[str, Any], serializer: Any) -> None:
        """Write the file, with what others saved to it meanwhile.

        What can't be saved is kept as ``*.partial`` where that is possible: it has been paid for.

        Raises:
            OSError: it can't be written; the old one is as it was.
            CassetteError: somebody has put something else in its place, which stays.
        """
        if self.suffix:
            self._write_partial(path, cassette_dict, serializer)
            return
        try:
            self._write_whole(path, cassette_dict, serializer)
            self._written.add(Path(path))
        except (OSError, CassetteError) as error:
            with contextlib.suppress(OSError):
                self._write_partial(path, cassette_dict, serializer)
                error.add_note(f"what was recorded is in {Path(path).name}{PARTIAL}")
            raise
        with contextlib.suppress(OSError):  # it is saved, whatever becomes of an older try
            Path(path + PARTIAL).unlink()

    def _write_whole(self, path: str, cassette_dict: dict[str, Any], serializer: Any) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target):
            check_regular(target)
            joined = self._join(cassette_dict, serializer)
            data = _serialized(joined, serializer)
            if len(data) > MAX_BYTES:
                raise CassetteError(f"it would be larger than {MAX_BYTES // 2**20} MiB, and would not be replayed")
            write_atomically(target, data)
        # What others have put there is not ours to leave out the next time: a fixture saves twice.
        self._found = data if joined is cassette_dict else _serialized(cassette_dict, serializer)

    def _write_partial(self, path: str, cassette_dict: dict[str, Any], serializer: Any) -> None:
        target = Path(path + PARTIAL)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()  # what it points to is none of ours
        with locked(target):
            check_regular(target)
            write_atomically(target, _serialized(cassette_dict, serializer))

    def _join(self, cassette_dict: dict[str, Any], serializer: Any) -> dict[str, Any]:
        """What is to be saved, together with what others have done to the same file since it was read.

        What they added stays, what this recording left out of the file goes, and what it added is put behind.
        """
        now, _ = _look(self._path)
        if now is None or now == self._found:
            return cassette_dict
        document = read_document(str(self._path), now) or {"interactions": []}
        theirs, found = _exchanges(document), _exchanges(parse_document(self._found or b"") or {"interactions": []})
        mine = cassette_dict["requests"], cassette_dict["responses"]
        of_theirs, of_found, of_mine = (_identities(each, serializer) for each in (theirs, found, mine))
        left_out, added = Counter(of_found) - Counter(of_mine), Counter(of_mine) - Counter(of_found)
        kept = [each for each, name in zip(_pairs(theirs), of_theirs, strict=True) if not _take(left_out, name)]
        backwards = zip(reversed(_pairs(mine)), reversed(of_mine), strict=True)
        new = [each for each, name in backwards if _take(added, name)][::-1]
        requests, responses = zip(*kept, *new, strict=True) if kept or new else ((), ())
        return {**cassette_dict, "requests": list(requests), "responses": list(responses)}


def _read_exchanges(path: str, data: bytes) -> tuple[Any, ...]:
    document = read_document(path, data) or {"interactions": []}
    requests, responses = _exchanges(document)
    check_exchanges(path, requests, responses)
    metadata = document.get("metadata")
    return (requests, responses, metadata) if metadata else (requests, responses)


_read_once = lru_cache(maxsize=8)(_read_exchanges)


def _scrubbed(cassette_dict: dict[str, Any]) -> dict[str, Any]:
    """What is to be saved, without secrets: also of exchanges that other tools recorded, and of what hooks put in."""
    return {
        "requests": [scrub_request(copy.deepcopy(request)) for request in cassette_dict["requests"]],
        "responses": [scrub_response(response) for response in cassette_dict["responses"]],
        "metadata": scrub_body(cassette_dict.get("metadata")),
    }


def _serialized(cassette_dict: dict[str, Any], serializer: Any) -> bytes:
    text: str = serialize(_scrubbed(cassette_dict), _Unshared(serializer))
    return text.encode("utf-8")


class _Unshared:
    """A serializer that writes out again what a filter of the user's put into several places.

    YAML would say it once and then refer to it, and a cassette with references is refused.
    """

    def __init__(self, serializer: Any) -> None:
        self._serializer = serializer

    def serialize(self, document: Any) -> str:
        return str(self._serializer.serialize(_copy(document)))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value


def _look(path: Path) -> tuple[bytes | None, float]:
    """A file's content, at most one byte more than a cassette may have, and when it was saved; without a file, none.

    Raises:
        OSError: it can't be read; whoever took that for an empty file would lose what others recorded.
    """
    check_regular(path)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None, -math.inf


def _exchanges(document: dict[str, Any]) -> tuple[list[Request], list[Any]]:
    interactions = document["interactions"]
    return (
        [Request._from_dict(each["request"]) for each in interactions],  # noqa: SLF001 - vcrpy's own way back
        [convert_to_bytes(each["response"]) for each in interactions],
    )


def _pairs(exchanges: tuple[list[Request], list[Any]]) -> list[tuple[Request, Any]]:
    return list(zip(*exchanges, strict=True))


def _identities(exchanges: tuple[list[Request], list[Any]], serializer: Any) -> list[str]:
    """What each exchange says when it is saved, whatever form it has now."""
    requests, responses = exchanges
    document = parse_document(_serialized({"requests": requests, "responses": responses}, serializer))
    interactions = () if document is None else document["interactions"]
    return [json.dumps(each, sort_keys=True, default=repr) for each in interactions]


def _take(stock: Counter[str], name: str) -> bool:
    """Take one of a kind out, if there is one left."""
    if not stock[name]:
        return False
    stock[name] -= 1
    return True
