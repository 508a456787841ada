"""What `make demo` shows comes true."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.wheel import TOP, run


def test_demo_ends_well(tmp_path: Path) -> None:
    """The demonstration runs from any folder to its last line, and leaves nothing behind."""
    shown = run(sys.executable, TOP / "examples" / "demo.py", cwd=tmp_path)

    assert "died" in shown
    assert "Reprocessed 1 dead letter." in shown
    assert "All of it true" in shown
    assert list(tmp_path.iterdir()) == []
