"""The Python that runs pytest inside of tests."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from warm_python import WarmPython


@pytest.fixture(scope="session")
def warm():
    with tempfile.TemporaryDirectory() as folder, WarmPython(Path(folder)) as warm:
        yield warm


@pytest.fixture
def python(warm):
    """The Python of inner runs; a module whose tests look at what is imported has a cold one."""
    return warm.executable
