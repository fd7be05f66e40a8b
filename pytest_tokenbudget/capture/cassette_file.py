"""A cassette's file for vcrpy: read strictly, written whole or not at all, and never over what others wrote."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcr.persisters.filesystem import CassetteNotFoundError
from vcr.request import Request
from vcr.serialize import serialize
from vcr.serializers.compat import convert_to_bytes

from pytest_tokenbudget.capture.cassette_reader import check_exchanges, parse_document, read_document
from pytest_tokenbudget.capture.scrub import scrub_body, scrub_request, scrub_response
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

    def load_cassette(self, path: str, serializer: Any) -> Any:  # noqa: ARG002 - vcrpy's signature; we tell by the text
        """Read the file, as vcrpy wants it: requests, responses and, where there are any, metadata.

        Raises:
            CassetteError: it is refused; the message says why.
            CassetteNotFoundError: there is none, or it is to be forgotten.
        """
        document = None if self.fresh else read_document(path)
        if document is None:
            raise CassetteNotFoundError
        requests, responses = _exchanges(document)
        check_exchanges(path, requests, responses)
        metadata = document.get("metadata")
        return (requests, responses, metadata) if metadata else (requests, responses)

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
                cassette_dict = self._join(cassette_dict)
            data = serialize(_scrubbed(cassette_dict), _Unshared(serializer)).encode("utf-8")
            write_atomically(target, data)
        if not self.suffix:
            self._found = data
            with contextlib.suppress(FileNotFoundError):
                Path(path + ".partial").unlink()

    def _join(self, cassette_dict: dict[str, Any]) -> dict[str, Any]:
        """What is to be saved, behind what others saved to the same file since it was read."""
        now = _read_bytes(self._path)
        if now is None or now == self._found:
            return cassette_dict
        known = Counter(_identities(parse_document(self._found or b"")))
        document = read_document(str(self._path)) or {"interactions": []}
        requests, responses = [], []
        identities = _identities(document)  # before bodies become bytes
        for request, response, identity in zip(*_exchanges(document), identities, strict=True):
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


def _scrubbed(cassette_dict: dict[str, Any]) -> dict[str, Any]:
    """What is to be saved, without secrets: also of exchanges that other tools recorded, and of what hooks put in."""
    return {
        "requests": [scrub_request(copy.deepcopy(request)) for request in cassette_dict["requests"]],
        "responses": [scrub_response(response) for response in cassette_dict["responses"]],
        "metadata": scrub_body(cassette_dict.get("metadata")),
    }


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


def _exchanges(document: dict[str, Any]) -> tuple[list[Request], list[Any]]:
    interactions = document["interactions"]
    return (
        [Request._from_dict(each["request"]) for each in interactions],  # noqa: SLF001 - vcrpy's own way back
        [convert_to_bytes(each["response"]) for each in interactions],
    )


def _identities(document: dict[str, Any] | None) -> list[str]:
    """What each interaction of a file says; none where it can't be read: that one is being replaced."""
    interactions = () if document is None else document["interactions"]
    return [json.dumps(each, sort_keys=True, default=repr) for each in interactions]
