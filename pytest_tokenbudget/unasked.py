"""The cassettes beside those of a run that none of its tests asked for."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def unasked_cassettes(asked: Iterable[str]) -> list[Path]:
    """The cassettes in the folders of those that tests asked for, without those.

    Args:
        asked: paths of cassettes, whether they exist or not.

    Returns:
        Absolute paths, folder by folder, each in the order of its names. A shared fixture's (with ``@``) is none of
        them: the tests that want it may not have run.
    """
    real_folder = cache(os.path.realpath)  # of many cassettes in one folder, all but the last part is the same

    def real(folder: str, name: str) -> str:
        path = os.path.join(real_folder(folder), name)  # noqa: PTH118 - an object for each takes ten times as long
        return os.path.realpath(path) if os.path.islink(path) else path  # noqa: PTH114 - likewise

    used = {real(*os.path.split(path)) for path in asked}
    return [
        folder / name
        for folder in sorted({Path(each) for each in map(os.path.dirname, used)})
        for name in _cassettes_in(folder)
        if "@" not in name and real(str(folder), name) not in used
    ]


def _cassettes_in(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - likewise
    except OSError:
        return []  # there is none: whoever asked for a cassette in it has failed
    return sorted(name for name in names if name.endswith(".yaml"))
