"""``python -m pytest_tokenbudget``."""

from __future__ import annotations

import sys

from pytest_tokenbudget.cli import main

sys.exit(main())
