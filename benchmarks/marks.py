"""A pytest plugin for the inner runs: tells what a test costs once all is warm.

It takes the first tests as a warm-up, measures the ones after, and leaves the process. Under valgrind it switches the
counting on only for these, so that slow imports cost no time; ``os.getloadavg`` is nothing but a C function whose
calls callgrind can see.
"""

from __future__ import annotations

import os
import subprocess
import time

WARM = int(os.environ.get("MARKS_WARM", "0"))
COUNTED = int(os.environ.get("MARKS_COUNTED", "0"))
SETTLE = 2
"""Tests between the switch and the first mark: what was translated anew has run."""

_state = {"tests": 0}


def pytest_runtest_logreport(report):
    """A test that fails is measured for nothing."""
    if report.failed:
        print(report.longreprtext, flush=True)
        os._exit(1)


def pytest_runtest_logfinish():
    _state["tests"] += 1
    if _state["tests"] == WARM:
        control = subprocess.Popen(["callgrind_control", "-i", "on", str(os.getpid())], stdout=subprocess.DEVNULL)
        while control.poll() is None:
            time.sleep(0.005)  # valgrind obeys only while the process runs
    if _state["tests"] == WARM + SETTLE:
        os.getloadavg()
    if _state["tests"] == WARM + SETTLE + COUNTED:
        os.getloadavg()
        os._exit(0)
