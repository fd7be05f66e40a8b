"""The lines of a report that stays open while it is needed: of a test's only call, its figures alone are taken."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, BinaryIO

from pytest_tokenbudget.errors import ConfigurationError
from pytest_tokenbudget.patterns import COUNT, NotPlain, count_of, pattern_of
from pytest_tokenbudget.record import model_tokens
from pytest_tokenbudget.report import templates
from pytest_tokenbudget.report.call_rows import PARTS, amount_of, name_of, one_of, read_calls
from pytest_tokenbudget.report.text import printable
from pytest_tokenbudget.usage import Role, Source
from pytest_tokenbudget.written_call import WrittenCall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_tokenbudget.record import ModelTokens
    from pytest_tokenbudget.usage import ModelCall

# What the encoder would write of such a text or amount is that very text, and so a line of them can be copied.
_ASIS_TEXT = r'"[ !#-\[\]-~]*"'
_ASIS_USD = r'"(?:0|[1-9][0-9]{0,30})(?:\.[0-9]{0,49}[1-9])?"'
_FIGURES = pattern_of(templates.figures, *[f"({COUNT})"] * 6, f"({_ASIS_USD})")
_take_only_call = re.compile(
    pattern_of(
        templates.used,
        pattern_of(
            templates.usage_object,
            *("1", f"(?P<figures>{_FIGURES})", f"({_ASIS_USD})", f"({COUNT})", "([01])", "0", r"\[\]"),
        ),
        pattern_of(
            templates.call_row,
            *(f"({_ASIS_TEXT})", f"({_ASIS_TEXT})", _ASIS_TEXT, f"({one_of(Source)})", "(?:(false)|true)"),
            # The sum has the same figures as the call, or it is not the sum.
            *(f"(?:null|{_ASIS_TEXT})", "(?P=figures)", f"(null|{PARTS})"),
        ),
    )
).fullmatch
_take_roles = re.compile(rf'"({one_of(Role)})"').findall


class WrittenLines:
    """The lines of one report that hold a test's only call; see ``written_call.Lines``.

    A line is known again by its hash: the file may be changed in its place while it is open.

    Args:
        path: the report's, for messages.
        file: the report, which is closed by whoever opened it.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._begins = array("Q")
        self._hashes = array("q")
        self._sizes = array("L")
        self._used = array("L")
        self._records: list[object] = []

    def take(
        self, row: str, used: str, end: int, known: Mapping[str, ModelTokens] | None
    ) -> tuple[WrittenCall, int] | None:
        """The only call of a test and its cache hits; ``None`` where the test has more, or the call is not plain.

        Args:
            row: the whole test.
            used: its end, but for a brace; see ``templates.used``.
            end: the place in the file behind the row.
            known: the test's entry in the baseline, whose tokens serve the call as well where they are the same.

        Raises:
            NotPlain: the line contradicts itself.
        """
        found = _take_only_call(used)
        if found is None:
            return None
        (_, given, cached, written, made, reasoning, total, cost, spent, hits, estimated, model, provider, source,
         live, parts) = found.groups()  # fmt: skip
        tokens = model_tokens((1, count_of(given), count_of(cached), count_of(written), count_of(made)))
        roles = _take_roles(parts)
        if (
            count_of(total) != tokens.input + tokens.output
            or spent != (cost if live else '"0"')
            or (estimated == "1") != (source == "estimate")
            or len(set(roles)) < len(roles)
        ):
            raise NotPlain
        number = len(self._begins)
        self._records.append(None)
        size = len(row) if row.isascii() else len(row.encode())
        self._begins.append(end - size)
        self._sizes.append(size)
        self._used.append(len(used))
        self._hashes.append(hash(row))
        name = name_of(model)
        same = None if known is None else known.get(name)
        return WrittenCall(
            name,
            name_of(provider),
            same if same is not None and same == tokens else tokens,
            count_of(reasoning),
            amount_of(cost),
            source,  # type: ignore[arg-type]
            not live,
            self,
            number,
        ), count_of(hits)

    def text_of(self, number: int) -> str:
        """See ``written_call.Lines``."""
        return self._line(number)[-1 - self._used[number] : -1]

    def keep(self, number: int, record: object) -> None:
        """See ``written_call.Lines``."""
        self._records[number] = record

    def whole_of(self, number: int, record: object) -> str | None:
        """See ``written_call.Lines``."""
        return self._line(number) if record is self._records[number] else None

    def forget(self) -> None:
        """Let go of the records, whose calls know these lines: the report is being closed."""
        self._records = [None] * len(self._records)

    def _line(self, number: int) -> str:
        try:
            self._file.seek(self._begins[number])
            text = self._file.read(self._sizes[number]).decode("utf-8", "replace")
        except (OSError, ValueError) as error:  # ValueError: it is closed
            raise self._refusal(f"can't be read: {getattr(error, 'strerror', None) or error}") from error
        if hash(text) != self._hashes[number]:
            raise self._refusal("has changed while it was read")
        return text

    def call_of(self, number: int) -> ModelCall:
        """See ``written_call.Lines``."""
        (call,), _ = read_calls(self.text_of(number))
        return call

    def _refusal(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"report {printable(str(self._path))}: {reason}")
