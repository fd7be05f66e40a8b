"""All rows of the call matrix."""

from __future__ import annotations

import call_matrix_chat
import call_matrix_completions
import call_matrix_faults
import call_matrix_graphs
import call_matrix_responses
import call_matrix_threads

MODULES = (
    call_matrix_completions,
    call_matrix_chat,
    call_matrix_responses,
    call_matrix_graphs,
    call_matrix_faults,
    call_matrix_threads,
)
ROWS = [row for module in MODULES for row in module.ROWS]
