"""Measure pytest-tokenbudget beside pytest-recording, vcrpy and LangChain's own tracking.

``python benchmarks/run.py`` makes the environments and prints the table; ``--write`` puts it into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import table
from environments import CHECKOUT, Environments
from quantities import ORDER, QUANTITIES, Bench

PAGE = CHECKOUT / "docs" / "performance.md"


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, print it, and write it if that is asked for too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=QUANTITIES, help="measure this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, with this interpreter: does it run at all")
    parser.add_argument("--rounds", type=int, help="how often the clock is read (5; quick: 1)")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/performance.md")
    parser.add_argument("--environments", type=Path, help="a folder in which the environments stay for the next run")
    asked = parser.parse_args(arguments)
    if asked.quick and asked.write:
        parser.error("--quick measures nothing that is worth writing")
    if not asked.quick:
        os.environ.pop("PYTHONPATH", None)  # the environments have all that is measured
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        environments = Environments(
            (asked.environments or Path(folder, "environments")).resolve(), sys.executable if asked.quick else None
        )
        bench = Bench(
            environments=environments,
            folder=Path(folder),
            rounds=asked.rounds or (1 if asked.quick else 5),
            quick=asked.quick,
        )
        rows = []
        for name in asked.only or QUANTITIES:
            print(f"{name} ...", file=sys.stderr)
            rows += QUANTITIES[name](bench)
        print(table.render(row.cells() for row in rows))
        if asked.write:
            table.write(PAGE, rows, environments.versions(), ORDER)
    return 0


if __name__ == "__main__":
    sys.exit(main())
