"""Bodies of HTTP/1.1 as they pass through ``http.client``: their framing, and a file that notes what is read."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tokenbudget.capture.streams import Observer

_END_OF_HEAD = b"\r\n\r\n"
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*\bchunked[ \t]*(?=\r\n|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})", re.IGNORECASE)


def is_complete(request: bytes | bytearray) -> bool:
    """Whether a request has come to its end, by what its head says of its body."""
    end = request.find(_END_OF_HEAD)
    if end < 0:
        return False
    head = bytes(request[:end])
    start = end + len(_END_OF_HEAD)
    if _CHUNKED.search(head):
        chunks = Chunks()
        if request.endswith(b"0\r\n\r\n"):
            chunks.feed(bytes(request[start:]))
        return chunks.ended
    length = _LENGTH.search(head)
    return length is None or len(request) - start >= int(length[1])


def body_of(request: bytes) -> bytes:
    """The body of a request that was sent, or of what was sent of it, without its framing."""
    head, _, body = request.partition(_END_OF_HEAD)
    return Chunks().feed(body) if _CHUNKED.search(head) else body


def headers_of(request: bytes) -> dict[str, str]:
    """The headers of a request that was sent, without those that say how its body was framed."""
    lines = request.partition(_END_OF_HEAD)[0].decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name: value.strip() for name, _, value in pairs if name.lower() != "transfer-encoding"}


def split_request(request: bytes) -> list[bytes]:
    """A request's head, and its body if there is one, as they are sent."""
    head, end, body = request.partition(_END_OF_HEAD)
    return [piece for piece in (head + end, body) if piece]


class Chunks:
    """Takes HTTP's chunked framing off a body that comes in pieces.

    Attributes:
        ended: whether the last chunk, the empty one, has come.
    """

    def __init__(self) -> None:
        self.ended = False
        self._waiting = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the framed body, and give what it holds of the plain one."""
        self._waiting += data
        plain = []
        while self._waiting and not self.ended:
            if self._left > 2:  # noqa: PLR2004 - the line end after the chunk
                piece = self._waiting[: self._left - 2]
                self._waiting = self._waiting[len(piece) :]
                self._left -= len(piece)
                plain.append(piece)
            elif self._left:
                ending = self._waiting[: self._left]
                self._waiting = self._waiting[len(ending) :]
                self._left -= len(ending)
            else:
                line, found, rest = self._waiting.partition(b"\n")
                if not found:
                    break
                self._waiting = rest
                size = _size(line)
                self.ended = size == 0
                self._left = size + 2
        return b"".join(plain)


def _size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0].strip() or b"0", 16)
    except ValueError:
        return 0  # no framing that anybody can read: the client will say so


class Tee:
    """The file that a response is read from, noting each byte as it is taken."""

    def __init__(self, file: Any, observer: Observer, *, chunked: bool, length: int | None) -> None:
        self._file = file
        self._observer = observer
        self._chunks = Chunks() if chunked else None
        self._left = None if chunked else length

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_file"), name)  # a copy in the making has none yet

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as a binary file does: less than was asked for is all that there is."""
        wanted = sys.maxsize if size is None or size < 0 else size
        return self._note(self._heard(self._file.read, size), wanted=wanted)

    def read1(self, size: int = -1, /) -> bytes:
        """Read as a buffered file does: what is there."""
        return self._note(self._heard(self._file.read1, size), wanted=min(1, abs(size)))

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line."""
        return self._note(self._heard(self._file.readline, size), wanted=0 if size == 0 else 1)

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer."""
        count: int = self._heard(self._file.readinto, buffer)
        with memoryview(buffer) as view:
            self._note(bytes(view.cast("B")[:count]), wanted=view.nbytes)
        return count

    def close(self) -> None:
        """Note that nobody reads on."""
        try:
            self._file.close()
        finally:
            self._observer.finish(complete=False)

    def _heard(self, read: Callable[[Any], Any], size: Any) -> Any:
        try:
            return read(size)
        except BaseException as error:
            self._observer.break_off(error)
            raise

    def _note(self, data: bytes, *, wanted: int) -> bytes:
        """Note a piece.

        Args:
            data: what was read.
            wanted: so many bytes would have been read if they had come: with less, the connection has ended.
        """
        if self._chunks is not None:
            self._observer.feed(self._chunks.feed(data))
            ended = self._chunks.ended
        else:
            self._observer.feed(data)
            if self._left is None:
                ended = len(data) < wanted  # the connection's end is the body's
            else:
                self._left -= len(data)
                ended = self._left <= 0
        if ended:
            self._observer.finish(complete=True)
        elif len(data) < wanted:
            self._observer.break_off(ConnectionError("the server hung up before the body's end"))
        return data
