"""What the user has said, in the ini file and by ``-o``, as it stands there, and how messages name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tokenbudget.options import ini_keys

if TYPE_CHECKING:
    import pytest

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def ini_value(name: str, config: pytest.Config) -> object:
    """What the ini file or ``-o`` says, as it stands there; ``None`` for nothing."""
    if (said := ini_keys(config).get(name)) is not None:
        return getattr(said, "value", said)
    return config.getini(name)  # before pytest 9 an -o is only found here


def one_text(value: object) -> str:
    """The text of a value; a native TOML table may hold a number, a day or a boolean, fine where its text is.

    Raises:
        ValueError: it is no single value; the message says what is allowed.
    """
    if isinstance(value, list | dict):
        raise ValueError("one value")  # noqa: TRY004 - callers report one kind of fault
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(value: object) -> str:
    """The value on one line, and no longer than a line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def ini_origin(name: str, config: pytest.Config) -> str:
    """How messages name an ini key: with its file, or with ``-o``."""
    if name in overridden(config):
        return f"-o {name}"
    where = f" in {config.inipath.name}" if config.inipath else ""
    return f"{name}{where}"


def overridden(config: pytest.Config) -> list[str]:
    """The keys that ``-o`` sets."""
    return [text.partition("=")[0] for text in config.getoption("override_ini") or ()]
