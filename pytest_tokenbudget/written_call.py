"""A call that is still where a report was read from: its figures in memory, and all else in the report's line.

Most tests of a suite make one call. What is said of a whole run (sums, an order, a verdict) asks for the figures of
every call, and for the rest of a few: in memory a call's figures take less than half of the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_tokenbudget.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from pytest_tokenbudget.record import ModelTokens
    from pytest_tokenbudget.usage import ModelCall, Source


class Lines(Protocol):
    """The lines of a report, each known by its number."""

    def keep(self, number: int, record: object) -> None:
        """Note that a line, whole, is just what we would write of a record."""

    def whole_of(self, number: int, record: object) -> str | None:
        """A line, whole, where it was noted to be that of the record; ``None`` where it was not.

        Raises:
            ConfigurationError: it is no longer what it was when it was read, or can't be read any more.
        """

    def text_of(self, number: int) -> str:
        """What a line says of a test's usage and calls.

        Raises:
            ConfigurationError: likewise.
        """

    def call_of(self, number: int) -> ModelCall:
        """The only call of a line.

        Raises:
            ConfigurationError: likewise.
        """


class WrittenCall:  # noqa: PLW1641 - no call has a hash: it holds a dictionary
    """The calls of a test that made just one, whose usage and cost are known.

    It has that call like a tuple, and reads it anew each time that it is asked for. (It is no ``Sequence``: whether
    an object is of an abstract class takes long to tell.)

    Attributes:
        model: see ``ModelCall``, as all others.
        provider: who bills.
        tokens: one request and its tokens, as a baseline remembers them.
        reasoning_tokens: the part of the output that was hidden reasoning.
        cost: USD.
        source: where the usage comes from.
        replayed: answered from a cassette.
        reason: nothing about it is unknown.
    """

    __slots__ = (
        "_lines",
        "_number",
        "cost",
        "model",
        "provider",
        "reasoning_tokens",
        "replayed",
        "source",
        "tokens",
    )

    reason = None

    def __init__(  # noqa: PLR0913, PLR0917 - by position, for speed: there is one for each test of a suite
        self,
        model: str,
        provider: str,
        tokens: ModelTokens,
        reasoning_tokens: int,
        cost: Decimal,
        source: Source,
        replayed: bool,  # noqa: FBT001 - likewise
        lines: Lines,
        number: int,
    ) -> None:
        self.model = model
        self.provider = provider
        self.tokens = tokens
        self.reasoning_tokens = reasoning_tokens
        self.cost = cost
        self.source = source
        self.replayed = replayed
        self._lines = lines
        self._number = number

    @property
    def usage(self) -> Usage:
        """Its tokens; made anew each time."""
        _, given, cached, written, made = self.tokens
        return Usage(
            input_tokens=given,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            output_tokens=made,
            reasoning_tokens=self.reasoning_tokens,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.tokens.input + self.tokens.output

    @property
    def estimated(self) -> bool:
        """Whether the tokens were counted locally."""
        return self.source == "estimate"

    @property
    def text(self) -> str:
        """Its test's usage, cache hits included, and calls as JSON: the report's text, which is what we would write.

        Raises:
            ConfigurationError: the report is no longer what it was when it was read.
        """
        return self._lines.text_of(self._number)

    def stand_whole_for(self, record: object) -> None:
        """Let all of its line stand for a record, of which we would write just that; nobody can change a record."""
        self._lines.keep(self._number, record)

    def line_of(self, record: object) -> str | None:
        """Its whole line, where that stands for the record; ``None`` where we may write something else.

        Raises:
            ConfigurationError: likewise.
        """
        return self._lines.whole_of(self._number, record)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[ModelCall]:
        yield self._lines.call_of(self._number)

    def __getitem__(self, place: int) -> ModelCall:
        return tuple(self)[place]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == (tuple(other) if isinstance(other, WrittenCall) else other)
