"""What every reader of a cassette's text refuses, and the signal by which it says so."""

from __future__ import annotations

MAX_DEPTH = 64
"""How many mappings and lists may lie in each other."""


class Refused(Exception):  # noqa: N818 - an inner signal
    """The reason why a text is no cassette's, without the name of its file."""
