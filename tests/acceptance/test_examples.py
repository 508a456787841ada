"""The examples are true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_their_tests_pass() -> None:
    """As a user would run them, with a server and a worker of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", ".", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        [*command, "-W", "error"], cwd=TOP / "examples", capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
