"""Where a cassette lies: pytest-recording's layout, with a short hash where that would not tell two tests apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

FORBIDDEN = "<>?%*:|\"'/\\"
"""What pytest-recording replaces by a dash.

Source: ``get_default_cassette_name`` of pytest-recording 0.14.
"""

MAX_NAME_BYTES = 240
"""File systems take 255; our suffixes and temporary names need some of them."""

HASH_LENGTH = 8


def cassette_name(class_name: str | None, test_name: str) -> str:
    """The file name, without suffix, that pytest-recording gives a test's cassette."""
    name = f"{class_name}.{test_name}" if class_name else test_name
    for character in FORBIDDEN:
        name = name.replace(character, "-")
    return name


def unique_name(class_name: str | None, test_name: str, names: Iterable[str]) -> str:
    """The name of a test's cassette among those of its module.

    Args:
        class_name: the test's class, if it has one.
        test_name: the test's name with its parameters.
        names: the ``cassette_name`` of every test of the module, itself included.
    """
    name = cassette_name(class_name, test_name)
    folded = name.casefold()
    shared = sum(other.casefold() == folded for other in names) > 1
    if not shared and len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES and _is_plain(name):
        return name
    identity = f"{class_name or ''}.{test_name}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(identity).hexdigest()[:HASH_LENGTH]
    room = MAX_NAME_BYTES - HASH_LENGTH - 1
    encoded = "".join(c if c.isprintable() else "-" for c in name).encode("utf-8", "replace")
    return f"{encoded[:room].decode('utf-8', 'ignore')}-{digest}"


def fixture_name(fixture: str, scope: str) -> str:
    """The name of the cassette of a fixture that several tests share."""
    return f"{cassette_name(None, fixture)}@{scope}"


def module_folder(test_file: Path, cassette_dir: Path | None, rootdir: Path) -> Path:
    """The folder of a test module's cassettes.

    Args:
        test_file: the test module.
        cassette_dir: the folder that the ini option names; without one, ``cassettes`` beside the module.
        rootdir: where node ids start.
    """
    if cassette_dir is None:
        return test_file.parent / "cassettes" / test_file.stem
    try:
        inside = test_file.relative_to(rootdir)
    except ValueError:
        inside = Path(test_file.name)
    return cassette_dir / inside.with_suffix("")


def named_cassette(folder: Path, name: str) -> Path:
    """The path of a cassette that a marker names, inside the folder of all cassettes.

    Raises:
        ValueError: the name is empty or leads out of that folder.
    """
    if not name.strip() or "\0" in name:
        raise ValueError("a cassette needs a name")
    path = folder / name
    if path.suffix not in (".yaml", ".yml", ".json"):
        path = path.with_name(path.name + ".yaml")
    check_inside(path, folder.parent)
    return path


def check_inside(path: Path, home: Path) -> None:
    """Refuse a path that leads out of the folder of cassettes, links followed.

    Raises:
        ValueError: it does.
    """
    if not path.resolve().is_relative_to(home.resolve()):
        raise ValueError(f"{path} leads out of {home}")


def _is_plain(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return name.isprintable()
