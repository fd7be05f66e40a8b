"""The wire ring: pure functions from an HTTP request and its answer to the model and its usage.

Only the standard library is imported, and nothing is read or written.
"""

from __future__ import annotations

from pytest_tokenbudget.capture.wire.exchange import Exchange, Reading
from pytest_tokenbudget.capture.wire.routes import read, recognise

__all__ = ["Exchange", "Reading", "read", "recognise"]
