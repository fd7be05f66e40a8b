"""A cassette's file for vcrpy: read strictly, written whole or not at all, and never over what others wrote."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.serialize import deserialize, serialize

from pytest_tokenbudget.capture.cassette_check import check_document, check_exchanges
from pytest_tokenbudget.errors import CassetteError
from pytest_tokenbudget.files import locked, write_atomically

if TYPE_CHECKING:
    from pytest_tokenbudget.capture.playback import Playback


class CassetteFile:
    """vcrpy's persister for one playback.

    Attributes:
        own: whether this run has written the file: another of its tests or fixtures records to it too.
        fresh: whether what the file holds is to be forgotten.
        suffix: is put behind the file's name where the recording is not whole.
    """

    def __init__(self, playback: Playback) -> None:
        self.suffix = ""
        self._path = playback.path
        self._found = _read_bytes(playback.path) if playback.live else None
        self.own = self._is_newer_than(playback.since)
        self.fresh = playback.record == "rewrite" and not self.own

    def check_writable(self) -> None:
        """Find out before money is spent that the recording could not be saved.

        Raises:
            CassetteError: it could not.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._path.parent):
                pass
            if self._path.exists() and not os.access(self._path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise CassetteError(f"{self._path} can't be recorded: {error.strerror or error}") from error

    def load_cassette(self, path: str, serializer: Any) -> Any:
        """Read the file, as vcrpy wants it.

        Raises:
            CassetteError: it is refused; the message says why.
            CassetteNotFoundError: there is none, or it is to be forgotten.
        """
        if self.fresh:
            raise CassetteNotFoundError
        text = check_document(path)
        if text is None:
            raise CassetteNotFoundError
        loaded = deserialize(text, serializer)
        check_exchanges(path, loaded[0], loaded[1])
        return loaded

    def save_cassette(self, path: str, cassette_dict: dict[str, Any], serializer: Any) -> None:
        """Write the file, with what others saved to it meanwhile.

        Raises:
            OSError: it can't be written; the old one is as it was.
        """
        target = Path(path + self.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.suffix and target.is_symlink():
            target.unlink()  # what it points to is none of ours
        with locked(target):
            if not self.suffix:
                cassette_dict = self._join(cassette_dict, serializer)
            data = serialize(cassette_dict, _Unshared(serializer)).encode("utf-8")
            write_atomically(target, data)
        if not self.suffix:
            self._found = data
            with contextlib.suppress(FileNotFoundError):
                Path(path + ".partial").unlink()

    def _join(self, cassette_dict: dict[str, Any], serializer: Any) -> dict[str, Any]:
        """What is to be saved, behind what others saved to the same file since it was read."""
        now = _read_bytes(self._path)
        if now is None or now == self._found:
            return cassette_dict
        known = Counter(_identities(self._found, serializer))
        requests, responses = [], []
        theirs = deserialize(check_document(str(self._path)) or "", serializer)
        for request, response, identity in zip(theirs[0], theirs[1], _identities(now, serializer), strict=True):
            if known[identity]:
                known[identity] -= 1
            else:
                requests.append(request)
                responses.append(response)
        return {
            **cassette_dict,
            "requests": [*requests, *cassette_dict["requests"]],
            "responses": [*responses, *cassette_dict["responses"]],
        }

    def _is_newer_than(self, moment: float) -> bool:
        try:
            return self._path.stat().st_mtime >= moment
        except OSError:
            return False


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


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _identities(data: bytes | None, serializer: Any) -> list[str]:
    """What each interaction of a file says; none where it can't be read."""
    if data is None:
        return []
    try:
        document = serializer.deserialize(data.decode("utf-8").lstrip("\ufeff"))
        return [json.dumps(each, sort_keys=True, default=repr) for each in document["interactions"]]
    except Exception:  # noqa: BLE001 - a broken file, which is being replaced, has nothing to keep
        return []
