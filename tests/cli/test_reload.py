"""`--reload`: changes below a folder are seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from anyio import fail_after

from dtm.cli.reload import changed, snapshot
from tests.waiting import LONG_S


def rewrite(folder: Path) -> str:
    """Write as many bytes as were there."""
    (folder / "a.py").write_text("x = 2")
    os.utime(folder / "a.py", ns=(1, 1))
    return "a.py"


def add(folder: Path) -> str:
    """Write a new file, in a folder."""
    (folder / "deep" / "c.py").write_text("")
    return "deep/c.py"


def remove(folder: Path) -> str:
    """Remove a file."""
    (folder / "deep" / "b.py").unlink()
    return "deep/b.py"


@pytest.mark.parametrize("change", [rewrite, add, remove])
async def test_a_change_is_named(tmp_path: Path, change: Callable[[Path], str]) -> None:
    """Whatever it is, and at any depth."""
    (tmp_path / "deep").mkdir()
    for name in ("a.py", "deep/b.py"):
        (tmp_path / name).write_text("x = 1")
    before = snapshot(tmp_path)
    name = change(tmp_path)

    with fail_after(LONG_S):
        assert await changed(tmp_path, before) == str(tmp_path / name)


async def test_what_nobody_imports_as_a_task_is_passed_over(tmp_path: Path) -> None:
    """Hidden folders, caches and other files."""
    for folder in (".venv", "__pycache__", "node_modules"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("")
    (tmp_path / "notes.txt").write_text("")

    assert snapshot(tmp_path) == {}
