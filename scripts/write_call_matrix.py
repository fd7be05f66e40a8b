"""Run the call matrix and write docs/call-matrix.md from its outcomes; needs the development extra."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "capture")]

from call_matrix import run_row  # noqa: E402 - found in tests/capture
from call_matrix_page import render_page  # noqa: E402 - likewise
from call_matrix_rows import ROWS  # noqa: E402 - likewise


def main() -> int:
    """Write the page; fail where an outcome is not the right one."""
    warnings.simplefilter("ignore")
    outcomes = []
    for row in ROWS:
        if row.missing:
            print(f"{row.id}: not installed: {', '.join(row.missing)}", file=sys.stderr)
            return 1
        outcome = run_row(row)
        if outcome != row.expected:
            print(f"{row.id}: {outcome}, not {row.expected}", file=sys.stderr)
            return 1
        outcomes.append((row, outcome))
    (ROOT / "docs" / "call-matrix.md").write_text(render_page(outcomes), encoding="utf-8")
    print(f"wrote {len(outcomes)} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
