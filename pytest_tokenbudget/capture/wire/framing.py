"""From bytes to JSON objects: one document, server-sent events, lines of JSON, AWS event streams."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_tokenbudget.capture.wire.encodings import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_EVENTS = 1_000_000
_MAX_RUN_TOGETHER = 1_000
_SSE_STARTS = ("data:", "event:", "id:", "retry:", ":")
_PRELUDE = struct.Struct(">III")
_FRAME_OVERHEAD = 16
_STRING_HEADER = 7
_FIXED_HEADERS = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Event(NamedTuple):
    """One JSON object of an answer, with the name that its frame gave it."""

    name: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """An answer's JSON objects in order.

    Attributes:
        events: the objects; a plain JSON answer is one.
        streamed: whether they came as a stream.
        done: whether the stream's own end mark (``[DONE]``) was seen.
        intact: whether everything in the body could be read.
    """

    events: tuple[Event, ...] = ()
    streamed: bool = False
    done: bool = False
    intact: bool = True


def parse_json(text: str | bytes) -> Any:
    """Parse one JSON document.

    Raises:
        UnreadableError: it is none, or is nested too deep, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise UnreadableError("the body is nested too deep") from error
    except ValueError as error:
        raise UnreadableError("the body is not JSON") from error


def parse_frames(body: bytes) -> Frames:
    """Find the frames of an answer's body by their shape; content types are missing or wrong too often.

    Raises:
        UnreadableError: nothing in it can be read.
    """
    if not body.strip():
        raise UnreadableError("the body is empty")
    if body[:3] == b"\x00\x00\x00" or (body[:1] == b"\x00" and len(body) > _FRAME_OVERHEAD):
        return _collect(_read_event_stream(body), streamed=True)
    text = body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith(_SSE_STARTS):
        return _collect(_read_server_sent_events(text), streamed=True)
    if not text.startswith(("{", "[")):
        raise UnreadableError("the body is not JSON")
    try:
        document = parse_json(text)
    except UnreadableError:
        lines = iter(text.split("\n")) if text.startswith("{") else _open_array(text)
        frames = _collect((("", line) for line in lines), streamed=True)
        if not frames.events:
            raise
        return frames
    if isinstance(document, list):
        # Gemini streams a JSON array where it was not asked for server-sent events.
        events = tuple(Event("", each) for each in document if isinstance(each, dict))
        return Frames(events=events, streamed=True, intact=len(events) == len(document))
    return Frames(events=(Event("", document),))


def _collect(pieces: Iterator[tuple[str, str]], *, streamed: bool) -> Frames:
    events: list[Event] = []
    done, intact = False, True
    for number, (name, text) in enumerate(pieces):
        if number >= _MAX_EVENTS:
            raise UnreadableError("the stream has more than a million events")
        if not text.strip():
            continue
        if text.strip() == "[DONE]":
            done = True
            continue
        found = _parse_piece(text)
        intact = intact and found is not None
        events += [Event(name, each) for each in found or ()]
    return Frames(events=tuple(events), streamed=streamed, done=done, intact=intact)


def _parse_piece(text: str) -> list[dict[str, Any]] | None:
    try:
        document = parse_json(text)
    except UnreadableError:
        lines = text.split("\n")
        if not 1 < len(lines) <= _MAX_RUN_TOGETHER:
            return None
        # Servers that forget the blank line between two events run them into one.
        parsed = [_parse_piece(line) or [] for line in lines if line.strip() not in {"", "[DONE]"}]
        return [each for some in parsed for each in some] or None
    return [document] if isinstance(document, dict) else None


def _read_server_sent_events(text: str) -> Iterator[tuple[str, str]]:
    # Not splitlines: it also splits at separators that JSON strings may hold as they are.
    name = ""
    data: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "", []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            name = line[6:].strip()
    if data:
        yield name, "\n".join(data)


def _open_array(text: str) -> Iterator[str]:
    """Yield the whole objects of a JSON array that was cut."""
    decoder = json.JSONDecoder()
    position = 1
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        try:
            _, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            return
        yield text[position:end]
        position = end


def _read_event_stream(body: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and payload of each frame of ``application/vnd.amazon.eventstream``.

    Source: the frame layout of AWS event streams: total length, length of the headers, checksum of these, headers,
    payload, checksum of all; integers are big-endian.
    """
    position = 0
    while position + _FRAME_OVERHEAD <= len(body):
        total, headers_length, checksum = _PRELUDE.unpack_from(body, position)
        start = position + _PRELUDE.size
        end = position + total
        if total < _FRAME_OVERHEAD + headers_length or end > len(body):
            break
        if binascii.crc32(body[position : position + 8]) != checksum:
            raise UnreadableError("the event stream is damaged")
        payload = body[start + headers_length : end - 4].decode("utf-8", "replace")
        yield _read_event_name(body[start : start + headers_length]), _open_payload(payload)
        position = end
    if position == 0:
        raise UnreadableError("the event stream is damaged")
    if position < len(body):
        yield "", "cut"  # not JSON, so the frames count as not intact


def _read_event_name(headers: bytes) -> str:
    position = 0
    found = ""
    while position < len(headers):
        key_end = position + 1 + headers[position]
        key = headers[position + 1 : key_end]
        kind = headers[key_end] if key_end < len(headers) else -1
        if kind in _FIXED_HEADERS:
            position = key_end + 1 + _FIXED_HEADERS[kind]
        elif kind in {6, _STRING_HEADER} and key_end + 3 <= len(headers):
            value_end = key_end + 3 + int.from_bytes(headers[key_end + 1 : key_end + 3], "big")
            if key in {b":event-type", b":exception-type"}:
                found = headers[key_end + 3 : value_end].decode("utf-8", "replace")
            position = value_end
        else:
            break
    return found


def _open_payload(payload: str) -> str:
    """Take the wrapping off that InvokeModel puts around a model's own events."""
    if '"bytes"' not in payload[:4096]:
        return payload
    try:
        wrapped = parse_json(payload)
        if isinstance(wrapped, dict) and isinstance(wrapped.get("bytes"), str):
            return base64.b64decode(wrapped["bytes"], validate=True).decode("utf-8", "replace")
    except (UnreadableError, ValueError):
        return payload
    return payload
