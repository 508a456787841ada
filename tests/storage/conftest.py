"""What the tests of the storage share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.stage import Stage, what_is_wrong


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An empty store. Whatever the test does with it, what must always hold is looked at in the end."""
    stage = Stage(tmp_path / "tasks.db")
    yield stage
    stage.close()
    assert what_is_wrong(stage.path) == {}
