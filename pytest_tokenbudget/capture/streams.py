"""Bodies of httpx and httpx2: live ones that are noted as they pass, and recorded ones that come as they came live.

Each library wants streams of its own classes, so they are made once per library.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

EVENT_STREAMS = ("text/event-stream", "application/x-ndjson", "application/stream+json")
"""Content types whose bodies a server sends piece by piece."""

_EVENT = re.compile(rb".*?(?:\r?\n){2}|.+", re.DOTALL)
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Observer(Protocol):
    """Who is told of a body as it passes."""

    def feed(self, chunk: bytes) -> None:
        """Note a piece."""

    def finish(self, *, complete: bool) -> None:
        """Note that the body has ended, or, where it is not complete, that its client reads no further."""

    def break_off(self, error: BaseException) -> None:
        """Note that the connection failed before the body ended."""


class Observers:
    """Several who are told of one body."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def feed(self, chunk: bytes) -> None:
        """Note a piece."""
        for each in self._observers:
            each.feed(chunk)

    def finish(self, *, complete: bool) -> None:
        """Note that the body has ended, or that its client reads no further."""
        for each in self._observers:
            each.finish(complete=complete)

    def break_off(self, error: BaseException) -> None:
        """Note that the connection failed before the body ended."""
        for each in self._observers:
            each.break_off(error)


class Streams(NamedTuple):
    """What replay and counting need of one library.

    Attributes:
        tee: wraps a synchronous stream; each chunk is passed on and noted.
        async_tee: likewise for an asynchronous one.
        response_of: makes the library's response of a recorded one.
    """

    tee: Callable[[Any, Observer], Any]
    async_tee: Callable[[Any, Observer], Any]
    response_of: Callable[[dict[str, Any]], Any]


def make_streams(module: ModuleType) -> Streams:
    """Make the streams of httpx or httpx2."""
    return Streams(_sync_tee(module), _async_tee(module), _response_maker(module))


def split_events(body: bytes, content_type: str) -> list[bytes]:
    """A recorded body in the pieces that a server would have sent: event by event, else whole."""
    if not content_type.startswith(EVENT_STREAMS):
        return [body]
    pattern = _EVENT if content_type.startswith(EVENT_STREAMS[0]) else _LINE
    return pattern.findall(body)


def _sync_tee(module: ModuleType) -> type:
    class Tee(module.SyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, stream: Any, observer: Observer) -> None:
            self._stream = stream
            self._observer = observer

        def __getattr__(self, name: str) -> Any:
            return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    self._observer.feed(chunk)
                    yield chunk
            except GeneratorExit:  # its client reads no further
                raise
            except BaseException as error:  # above all a cancelled wait: more would have come
                self._observer.break_off(error)
                raise
            self._observer.finish(complete=True)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._observer.finish(complete=False)

    return Tee


def _async_tee(module: ModuleType) -> type:
    class AsyncTee(module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, stream: Any, observer: Observer) -> None:
            self._stream = stream
            self._observer = observer

        def __getattr__(self, name: str) -> Any:
            return getattr(object.__getattribute__(self, "_stream"), name)  # a copy in the making has none yet

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    self._observer.feed(chunk)
                    yield chunk
            except GeneratorExit:  # its client reads no further
                raise
            except BaseException as error:  # above all a cancelled wait: more would have come
                self._observer.break_off(error)
                raise
            self._observer.finish(complete=True)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._observer.finish(complete=False)

    return AsyncTee


def _response_maker(module: ModuleType) -> Callable[[dict[str, Any]], Any]:
    class RecordedStream(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[name-defined, misc]
        def __init__(self, pieces: list[bytes]) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pieces)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._pieces:
                yield piece

    def response_of(recorded: dict[str, Any]) -> Any:
        recorded = modernised(recorded)
        status = recorded["status"]
        reason = status.get("message")
        headers = module.Headers(
            [
                (name, value)
                for name, values in (recorded.get("headers") or {}).items()
                for value in ([values] if isinstance(values, str) else values)
            ]
        )
        return module.Response(
            status["code"],
            headers=headers,
            stream=RecordedStream(split_events(recorded["body"]["string"], headers.get("content-type", ""))),
            # Without a phrase of its own, the library takes the one that belongs to the code.
            extensions={"reason_phrase": reason.encode("ascii", "replace")} if reason else None,
        )

    return response_of


def modernised(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded response in vcrpy's form of today: older versions recorded httpx in one of its own."""
    if "status_code" not in recorded:
        return recorded
    from vcr.filters import decode_response  # noqa: PLC0415 - slow, and needed for such files only
    from vcr.serializers.compat import convert_body_to_bytes  # noqa: PLC0415 - likewise

    modern: dict[str, Any] = decode_response(
        convert_body_to_bytes(
            {
                "headers": recorded["headers"],
                "body": {"string": recorded["content"]},
                "status": {"code": recorded["status_code"], "message": None},
            }
        )
    )
    return modern
