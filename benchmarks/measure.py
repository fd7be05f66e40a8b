"""Instructions by valgrind, CPU seconds by the kernel, medians."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from environments import variables
from marks import SETTLE

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Mapping

WARM = 6
_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_FINE = (0, 5)
"""The exit status of pytest where all passed, and where there was no test, as asked."""


def has_valgrind() -> bool:
    """Whether instructions can be counted."""
    return shutil.which("valgrind") is not None and shutil.which("callgrind_control") is not None


def count_instructions(python: str, arguments: list[str], folder: Path, *, autoload: bool = False) -> int:
    """User-space instructions of one whole run. Run it once before, so that its bytecode is there.

    Args:
        python: the interpreter.
        arguments: its own.
        folder: where to run.
        autoload: whether pytest takes all the plugins that are installed, as it does by itself.
    """
    with tempfile.TemporaryDirectory() as out:
        _run([*_callgrind(out), python, *arguments], folder, {}, autoload=autoload)
        return _total(Path(out) / "callgrind")


def count_instructions_of_all(python: str, arguments: list[str], folder: Path) -> int:
    """User-space instructions of one whole run and of all processes that it starts, as ``count_instructions``."""
    with tempfile.TemporaryDirectory() as out:
        _run([*_callgrind(out, children=True), python, *arguments], folder, {})
        return sum(map(_total, Path(out).iterdir()))


def count_per_test(python: str, arguments: list[str], folder: Path, tests: int) -> float:
    """User-space instructions of one test of a suite, once the first ones have run.

    Args:
        python: the interpreter.
        arguments: of pytest.
        folder: of the suite, which has ``tests_needed(tests)`` tests.
        tests: how many to count.
    """
    marks = {"MARKS_WARM": str(WARM), "MARKS_COUNTED": str(tests)}
    with tempfile.TemporaryDirectory() as out:
        valgrind = [*_callgrind(out), "--instr-atstart=no", "--dump-before=getloadavg"]
        _run([*valgrind, python, "-m", "pytest", "-p", "marks", *arguments], folder, marks)
        return _total(Path(out) / "callgrind.2") / tests


def tests_needed(tests: int) -> int:
    """How many tests a suite must have for so many to be measured."""
    return WARM + SETTLE + tests


def cpu_seconds(python: str, arguments: list[str], folder: Path, *, autoload: bool = False) -> float:
    """CPU seconds of one whole run, the kernel's included.

    Args:
        python: the interpreter.
        arguments: its own.
        folder: where to run.
        autoload: whether pytest takes all the plugins that are installed, as it does by itself.
    """
    usage = _used(python, arguments, folder, autoload=autoload)
    return usage.ru_utime + usage.ru_stime


def cpu_seconds_and_peak(python: str, arguments: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds of one whole run, and the most memory that it had at once, in MiB."""
    usage = _used(python, arguments, folder)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _used(python: str, arguments: list[str], folder: Path, *, autoload: bool = False) -> resource.struct_rusage:
    environment = variables(autoload=autoload)
    process = subprocess.Popen(
        [python, *arguments], cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in _FINE:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage


def interleave(rounds: int, measures: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Measure one after the other, round by round, so that a busy moment hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def together(counts: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Count instructions at the same time: they do not depend on the clock."""
    with ThreadPoolExecutor(len(counts)) as pool:
        return dict(zip(counts, pool.map(lambda count: count(), counts.values()), strict=True))


def paired(more: list[float], less: list[float]) -> float:
    """The median difference of what was measured in the same round."""
    return median(a - b for a, b in zip(more, less, strict=True))


def ratio(more: list[float], less: list[float]) -> float:
    """The median ratio of what was measured in the same round."""
    return median(a / b for a, b in zip(more, less, strict=True))


def _callgrind(out: str, *, children: bool = False) -> list[str]:
    file, followed = ("callgrind.%p", "yes") if children else ("callgrind", "no")
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/{file}", f"--trace-children={followed}"]


def _total(file: Path) -> int:
    return int(_TOTALS.findall(file.read_text())[-1])


def _run(command: list[str], folder: Path, more: dict[str, str], *, autoload: bool = False) -> str:
    environment = variables(autoload=autoload) | more
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode not in _FINE:
        raise SystemExit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
    return ran.stdout
