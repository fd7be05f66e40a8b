"""The wire ring: pure functions from an HTTP request and its answer to the model and its usage.

Only the standard library is imported, and nothing is read or written. Bytes become frames of JSON (``encodings``,
``framing``), an exchange is taken apart once (``traffic``), and ``routes`` picks the family that reads it. A new
provider is one module here, one line in the table of ``routes``, and its name in ``providers``.
"""

from __future__ import annotations

from pytest_tokenbudget.capture.wire.exchange import Exchange, Reading
from pytest_tokenbudget.capture.wire.routes import read, recognise

__all__ = ["Exchange", "Reading", "read", "recognise"]
