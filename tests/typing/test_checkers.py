"""Type checkers know what a task takes and what its result is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FILE = Path("tests/typing/signatures.py")


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_both_find_each_mistake_and_no_other(checker: str) -> None:
    """Every line that is wrong is an error to them, and every `assert_type` holds."""
    lines = (TOP / FILE).read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    done = subprocess.run(
        [sys.executable, "-m", checker, FILE], cwd=TOP, capture_output=True, text=True, check=False, timeout=300
    )
    found = {int(number) for number in re.findall(rf"{FILE.name}:(\d+):.*\berror: ", done.stdout)}
    found |= {int(number) for number in re.findall(rf"{FILE.name}:(\d+):\d+ - error: ", done.stdout)}

    assert found == wrong, done.stdout + done.stderr
    assert len(wrong) > 10
