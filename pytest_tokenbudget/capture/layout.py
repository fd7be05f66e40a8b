"""Where a cassette lies: pytest-recording's layout, with a short hash where that would not tell two tests apart."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

FORBIDDEN = "<>?%*:|\"'/\\"
"""What pytest-recording replaces by a dash.

Source: ``get_default_cassette_name`` of pytest-recording 0.14.
"""

MAX_NAME_BYTES = 240
"""File systems take 255; our suffixes and temporary names need some of them."""

HASH_LENGTH = 8

RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{name}{n}" for name in ("com", "lpt") for n in range(1, 10)})
"""Windows keeps these for devices, with whatever suffix.

Source: https://learn.microsoft.com/windows/win32/fileio/naming-a-file
"""

_DASHES = str.maketrans(dict.fromkeys(FORBIDDEN, "-"))


class CaseName(NamedTuple):
    """A test within its module.

    Attributes:
        owner: the qualified name of its class; ``None`` for a function of the module.
        name: its name with its parameters.
    """

    owner: str | None
    name: str


def cassette_name(test: CaseName) -> str:
    """The file name, without suffix, that pytest-recording gives a test's cassette."""
    name = test.name if test.owner is None else f"{test.owner.rpartition('.')[2]}.{test.name}"
    return name.translate(_DASHES)


def shared_names(tests: Iterable[CaseName]) -> frozenset[str]:
    """Those names, as ``fold`` makes them, that several of a module's tests would share."""
    counts = Counter(fold(cassette_name(test)) for test in set(tests))
    return frozenset(name for name, count in counts.items() if count > 1)


def fold(name: str) -> str:
    """A name as file systems compare it that know neither case nor how an accent is written: macOS's, Windows'."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def unique_name(test: CaseName, shared: Container[str]) -> str:
    """The name of a test's cassette among those of its module.

    Args:
        test: the test.
        shared: the ``shared_names`` of its module.
    """
    name = cassette_name(test)
    short = len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES
    if short and fold(name) not in shared and _is_plain(name):
        return name
    identity = f"{test.owner or ''}.{test.name}".encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(identity).hexdigest()[:HASH_LENGTH]
    room = MAX_NAME_BYTES - HASH_LENGTH - 1
    encoded = "".join(c if c.isprintable() else "-" for c in name).encode("utf-8", "replace")
    return f"{encoded[:room].decode('utf-8', 'ignore')}-{digest}"


def fixture_cassette(folder: Path, fixture: str, scope: str) -> Path:
    """The cassette of a fixture that several tests share.

    Args:
        folder: the cassettes of the first test module that uses it.
        fixture: its name.
        scope: its scope.

    Raises:
        ValueError: the file is a link that leads out of the folder of cassettes.
    """
    name = f"{cassette_name(CaseName(None, fixture))}@{scope}.yaml"
    path = folder / name
    if scope in ("package", "session") and not path.exists():
        # Which module comes first depends on which tests were selected: one beside it may have been.
        path = min(folder.parent.glob(f"*/{name}"), default=path)
    check_inside(path, folder.parent)
    return path


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


def own_cassette(folder: Path, name: str) -> Path:
    """The path of a test's own cassette.

    Args:
        folder: the cassettes of its module.
        name: what ``unique_name`` says.

    Raises:
        ValueError: the file, or its folder, is a link that leads out of the folder of cassettes.
    """
    path = folder / f"{name}.yaml"
    check_inside(path, folder.parent, folder=folder)
    return path


def named_cassette(folder: Path, name: str) -> Path:
    """The path of a cassette that a marker names, inside the folder of all cassettes.

    Raises:
        ValueError: the name is empty or leads out of that folder.
    """
    if not name.strip() or "\0" in name:
        raise ValueError("a cassette needs a name")
    if any(len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in Path(name).parts):
        raise ValueError(f"its name, or a folder's in it, is longer than {MAX_NAME_BYTES} bytes")
    path = folder / name
    if path.suffix not in (".yaml", ".yml", ".json"):
        path = path.with_name(path.name + ".yaml")
    check_inside(path, folder.parent)
    return path


def check_inside(path: Path, home: Path, *, folder: Path | None = None) -> None:
    """Refuse a path that leads out of the folder of cassettes, links followed.

    Args:
        path: the path.
        home: the folder of cassettes.
        folder: the one that it lies in, from who has it at hand: a path is hashed once, and dear to make.

    Raises:
        ValueError: it does.
    """
    try:
        # What can't be looked at is found out when it is opened.
        is_link = os.path.islink(path)  # noqa: PTH114 - the path's own method raises then
        inside = _leads_into(path, home) if is_link else _folder_leads_into(folder or path.parent, home)
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise ValueError(f"{path} can't be followed: {error}") from None
    if not inside:
        raise ValueError(f"{path} leads out of {home}")


def _is_plain(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return name.isprintable() and name.partition(".")[0].casefold() not in RESERVED


def _leads_into(path: Path, home: Path) -> bool:
    return path.resolve().is_relative_to(home.resolve())


_folder_leads_into = lru_cache(maxsize=256)(_leads_into)
"""Asked for each test, of the few folders of its cassettes."""
