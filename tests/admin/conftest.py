"""What the tests of dtm-admin share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtm_admin.cli import main
from tests.admin.scene import Admin, Outcome, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty store."""
    return Scene(tmp_path / "tasks.db")


@pytest.fixture
def admin(scene: Scene, capsys: pytest.CaptureFixture[str]) -> Admin:
    """Runs `dtm-admin` on the scene's store, without a terminal."""

    def run(*words: str) -> Outcome:
        code = main([*words, "--db", str(scene.db)])
        return Outcome(code, *capsys.readouterr())

    return run
