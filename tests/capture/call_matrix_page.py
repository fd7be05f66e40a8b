"""The page that tells which ways to call a model are held against the server's ledger, and with what outcome."""

from __future__ import annotations

from collections import Counter

HEAD = """\
<!-- Written by scripts/write_call_matrix.py from a run of the matrix; do not edit. -->
# Ways to call a model

Each row is a program that calls a model on a loopback server with a ledger. What was counted for it is compared with what
the server billed and reported: every request once, to the token. `tests/capture/test_call_matrix.py` runs them all.

| outcome | |
|---|---|
| measured | the provider reported the usage; it is equal to the ledger |
| estimated | it reported none; counted locally, and labelled |
| unmeasured | nobody can know it; labelled, and never zero |
| cache hit | LangChain answered from its own cache; nothing was sent |
| nothing | nothing was sent, or nothing is billed |

"""


def render_page(outcomes):
    """The page for (row, outcome) pairs."""
    kinds = Counter(outcome for _, outcome in outcomes)
    lines = [
        HEAD + f"{len(outcomes)} rows: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "."
    ]
    group = None
    merged = {}
    for row, outcome in outcomes:
        merged.setdefault((row.group, row.name, outcome, row.why), []).append(row.form)
    for (named, name, outcome, why), forms in merged.items():
        if named != group:
            group = named
            lines += ["", f"## {group}", "", "| way | forms | outcome |", "|---|---|---|"]
        reason = f": {why}" if why else ""
        lines.append(f"| {name} | {', '.join(forms)} | {outcome}{reason} |".replace("\n", " "))
    return "\n".join(lines) + "\n"
