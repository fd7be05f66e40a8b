"""AWS event streams: their frames tell their lengths and checksums, so a changed payload needs a new frame."""

from __future__ import annotations

import base64
import binascii
import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + _CHECKSUM.size
_WRAPPED = re.compile(rb'"bytes"\s*:\s*"([A-Za-z0-9+/=]*)"')


def is_event_stream(body: bytes) -> bool:
    """Whether a body begins with a whole frame."""
    return _frame_end(body, 0) is not None


def change_payloads(body: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The same stream with changed payloads; also those that InvokeModel wraps in base64.

    Args:
        body: a stream of frames; what stands behind the last whole one is changed as it is.
        change: gives what is to take a payload's place.
    """
    pieces = []
    position = 0
    while (end := _frame_end(body, position)) is not None:
        _, headers_length, _ = _PRELUDE.unpack_from(body, position)
        start = position + _PRELUDE.size + headers_length
        payload = body[start : end - _CHECKSUM.size]
        changed = change(_WRAPPED.sub(lambda match: _changed_base64(match, change), payload))
        pieces.append(
            body[position:end] if changed == payload else _frame(body[position + _PRELUDE.size : start], changed)
        )
        position = end
    return b"".join([*pieces, change(body[position:])])


def _changed_base64(match: re.Match[bytes], change: Callable[[bytes], bytes]) -> bytes:
    try:
        inner = base64.b64decode(match[1], validate=True)
    except ValueError:
        return match[0]
    changed = change(inner)
    return match[0] if changed == inner else match[0].replace(match[1], base64.b64encode(changed))


def _frame_end(body: bytes, position: int) -> int | None:
    """Where the frame that starts there ends; ``None`` where none does."""
    if position + _OVERHEAD > len(body):
        return None
    total, headers_length, checksum = _PRELUDE.unpack_from(body, position)
    end = position + total
    if total < _OVERHEAD + headers_length or end > len(body):
        return None
    return end if binascii.crc32(body[position : position + 8]) == checksum else None


def _frame(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", _OVERHEAD + len(headers) + len(payload), len(headers))
    frame = lengths + _CHECKSUM.pack(binascii.crc32(lengths)) + headers + payload
    return frame + _CHECKSUM.pack(binascii.crc32(frame))
