"""The fixtures of the acceptance tests: everything runs as installed from the wheel, from another folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster


@pytest.fixture
def cluster(wheel_bin: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Give a cluster without any process yet."""
    cluster = Cluster(wheel_bin, tmp_path)
    yield cluster
    cluster.kill_all()
