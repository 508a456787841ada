"""What the fault tests share: programs that start in milliseconds, a cluster of them, a ledger, and a seed."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.faults.ledger import Ledger
from tests.faults.nursery import Nursery

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Give a way to have something measured shown at the end of the run."""
    return request.config.stash.setdefault(FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what was measured."""
    if figures := config.stash.get(FIGURES, []):
        terminalreporter.section("measured")
        for line in figures:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Give the process that forks programs."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def cluster(nursery: Nursery, tmp_path: Path) -> Iterator[Cluster]:
    """Give a cluster without any process yet."""
    cluster = Cluster(Path(sys.executable).parent, tmp_path, nursery.spawn)
    yield cluster
    cluster.kill_all()


@pytest.fixture
def ledger() -> Ledger:
    """Give an empty ledger."""
    return Ledger()


@pytest.fixture
def chance() -> random.Random:
    """Give the source of all chance in a test; its seed is shown when the test fails, and SEED=… sets it."""
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    sys.stdout.write(f"replay with SEED={seed}\n")
    return random.Random(seed)
