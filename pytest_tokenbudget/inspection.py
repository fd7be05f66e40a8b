"""What a look through recordings found, as plain values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSecret:
    """A secret in a recording, and as little of it as tells it from others.

    Attributes:
        kind: what it is: ``OpenAI key``.
        place: where it stands: ``request header authorization``, ``response body``, ``line 12``.
        interaction: the number of the exchange, from 1; ``None`` for the file itself.
        start: its first characters, four at most; empty for a short one.
        length: how many characters it has.
    """

    kind: str
    place: str
    interaction: int | None
    start: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedFile:
    """One cassette that was looked through.

    Attributes:
        path: where it lies, as it may be shown.
        recordings: how many exchanges it holds.
        fault: why no test can play it; ``None`` where it is whole.
        partial: whether it is the leftover of a recording that did not come to its end.
        secrets: what it should not hold.
        old: which of its recordings are older than allowed, in words; ``None`` where none is.
        undated: how many of its recordings have no date, where ages are judged.
        unused: why it seems that no test uses it; ``None`` where one does, or where that can't be told.
    """

    path: str
    recordings: int = 0
    fault: str | None = None
    partial: bool = False
    secrets: tuple[FoundSecret, ...] = ()
    old: str | None = None
    undated: int = 0
    unused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedUse:
    """What the report of a run says of the use of recordings.

    Attributes:
        report: its file.
        complete: whether that run came to its end; only then does it know what no test used.
        unused: cassettes that no test used.
        unplayed: recordings that a test left, each one line.
    """

    report: str
    complete: bool
    unused: tuple[str, ...]
    unplayed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Everything that was found.

    Attributes:
        files: every cassette, in the order of their paths.
        max_age_days: how old a recording may be; ``None`` for any age.
        use: what a report says of their use; ``None`` without one, where each file's own guess stands.
    """

    files: tuple[InspectedFile, ...]
    max_age_days: int | None = None
    use: ReportedUse | None = None

    @property
    def unusable(self) -> bool:
        """Whether something must not stay so: a secret, a broken file, an age that does not hold."""
        return any(
            file.secrets or (file.fault is not None and not file.partial) or file.old or file.undated
            for file in self.files
        )

    @property
    def untidy(self) -> bool:
        """Whether something lies about that nobody needs, or that may be so."""
        left = (
            self.use.unused or self.use.unplayed if self.use is not None else any(file.unused for file in self.files)
        )
        return bool(left) or any(file.partial for file in self.files)
