"""Content encodings that are still on a body: taken off, bounded."""

from __future__ import annotations

import importlib
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY = 64 * 1024 * 1024
"""Bytes of one answer that are looked at; no model's answer is larger, a decompression bomb is."""

_MAX_LAYERS = 2
_MAX_MEMBERS = 64
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_EVENT_STREAM = b"\x00\x00"
_PLAIN_STARTS = (b"{", b"[", b"data:", b"event:", b"id:", b"retry:", b":")


class UnreadableError(ValueError):
    """A body that can't be read; the message says why in a few words."""


def decode_body(body: bytes, headers: Mapping[str, str], *, complete: bool) -> bytes:
    """Return ``body`` without its content encodings.

    Clients hand bodies over both packed and unpacked under the same header, so a body that is plain already
    is taken as it is. A cut stream is unpacked as far as it goes.

    Raises:
        UnreadableError: it is larger than ``MAX_BODY``, damaged, or of an encoding that can't be unpacked here.
    """
    named = [each.strip().lower() for each in headers.get("content-encoding", "").split(",")]
    layers = [each for each in named if each not in {"", "identity"}]
    if len(body) > MAX_BODY:
        raise UnreadableError("the body is larger than 64 MiB")
    if len(layers) > _MAX_LAYERS:
        raise UnreadableError("the body is encoded more than twice")
    for layer in reversed(layers):
        if not body or _looks_plain(body):
            break
        body = _unpack(layer, body, complete=complete)
    for _ in range(_MAX_LAYERS - len(layers)):
        # Packed without saying so, as clients that drop the header leave it.
        if not body.startswith(_GZIP):
            break
        body = _unpack("gzip", body, complete=complete)
    return body


def _looks_plain(body: bytes) -> bool:
    start = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith(_PLAIN_STARTS) or body.startswith(_EVENT_STREAM)


def _unpack(encoding: str, body: bytes, *, complete: bool) -> bytes:
    if encoding in {"gzip", "x-gzip"}:
        if not body.startswith(_GZIP):
            return body
        return _inflate(body, (31,), complete=complete)
    if encoding == "deflate":
        # Servers send both the zlib form that the standard asks for and the bare one.
        return _inflate(body, (15, -15), complete=complete)
    if encoding == "br":
        return _unbrotli(body, complete=complete)
    if encoding == "zstd":
        return _unzstd(body, complete=complete)
    raise UnreadableError(f"the body's encoding {encoding[:20]!r} is not known")


def _inflate(body: bytes, windows: tuple[int, ...], *, complete: bool) -> bytes:
    for window in windows:
        try:
            return _inflate_members(body, window, complete=complete)
        except zlib.error:
            continue
    raise UnreadableError("the compressed body is damaged")


def _inflate_members(body: bytes, window: int, *, complete: bool) -> bytes:
    unpacked = bytearray()
    for _ in range(_MAX_MEMBERS):
        inflater = zlib.decompressobj(window)
        unpacked += inflater.decompress(body, MAX_BODY + 1 - len(unpacked))
        if len(unpacked) > MAX_BODY:
            raise UnreadableError("the body is larger than 64 MiB")
        if not inflater.eof:
            if complete:
                raise UnreadableError("the compressed body is cut short")
            break
        body = inflater.unused_data
        if not body.startswith(_GZIP):
            return bytes(unpacked)
    if complete:
        raise UnreadableError("the compressed body has too many parts")
    return bytes(unpacked)


def _unbrotli(body: bytes, *, complete: bool) -> bytes:
    library = _find_library("brotli", "brotlicffi")
    if library is None:
        raise UnreadableError("the body is brotli, and no brotli package is installed")
    decoder = library.Decompressor()
    unpacked = bytearray()
    try:
        # In pieces, since the library has no bound of its own; a piece of this size unpacks to some MiB at most.
        for start in range(0, len(body), 256):
            unpacked += decoder.process(body[start : start + 256])
            if len(unpacked) > MAX_BODY:
                raise UnreadableError("the body is larger than 64 MiB")
        finished = decoder.is_finished()
    except library.error as error:
        raise UnreadableError("the compressed body is damaged") from error
    if complete and not finished:
        raise UnreadableError("the compressed body is cut short")
    return bytes(unpacked)


def _unzstd(body: bytes, *, complete: bool) -> bytes:
    library = _find_library("compression.zstd", "backports.zstd")
    if library is not None:
        return _unzstd_standard(library, body, complete=complete)
    library = _find_library("zstandard")
    if library is None:
        raise UnreadableError("the body is zstd, and no zstd package is installed")
    unpacked = bytearray()
    try:
        reader = library.ZstdDecompressor().stream_reader(body, read_across_frames=True)
        while piece := reader.read(1024 * 1024):
            unpacked += piece
            if len(unpacked) > MAX_BODY:
                raise UnreadableError("the body is larger than 64 MiB")
    except library.ZstdError as error:
        raise UnreadableError("the compressed body is damaged") from error
    return bytes(unpacked)


def _unzstd_standard(library: Any, body: bytes, *, complete: bool) -> bytes:
    unpacked = bytearray()
    try:
        for _ in range(_MAX_MEMBERS):
            if not body.startswith(_ZSTD):
                break
            decoder = library.ZstdDecompressor()
            unpacked += decoder.decompress(body, max_length=MAX_BODY + 1 - len(unpacked))
            if len(unpacked) > MAX_BODY:
                raise UnreadableError("the body is larger than 64 MiB")
            if not decoder.eof:
                if complete:
                    raise UnreadableError("the compressed body is cut short")
                break
            body = decoder.unused_data
    except library.ZstdError as error:
        raise UnreadableError("the compressed body is damaged") from error
    return bytes(unpacked)


def _find_library(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
