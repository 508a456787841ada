"""Whole worlds in made-up time: the real server and clients, a bad network, crashes, and an oracle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
BATCH = 50
LONG_S = 280


def simulate(*arguments: object, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """Run worlds in a process of their own, whose sets have the same order each time."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *map(str, arguments)],
        cwd=TOP,
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


@pytest.mark.parametrize("first", range(1, 401, BATCH))
def test_no_world_breaks_a_promise(first: int) -> None:
    """Whatever its seed makes go wrong."""
    done = simulate("--seed", first, "--seeds", BATCH)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{BATCH} seeds from {first}: 0 failed" in done.stdout


def test_a_seed_is_one_order_of_events() -> None:
    """Whatever ran before it in the same process, and however Python hashes: a failure can be seen again."""
    together = simulate("--seed", 20, "--seeds", 3, "--digests").stdout.splitlines()[:3]
    alone = [simulate("--seed", seed, "--digests", hash_seed=seed).stdout.splitlines()[0] for seed in (20, 21, 22)]

    assert together == alone
    assert len({line.split()[1] for line in together}) == 3


def test_a_failing_seed_is_told_with_the_way_to_see_it_again(tmp_path: Path) -> None:
    """A world whose server's code is broken fails, and says with which command."""
    for folder in ("dtm", "tests"):
        (tmp_path / folder).symlink_to(TOP / folder)
    (tmp_path / "sitecustomize.py").write_text(
        "from dtm.server.roster import Roster\nRoster.departures = lambda self, now_s: []\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", "40", "--most-failures", "1"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "not everything has ended" in done.stdout
    assert "again: make simulate SEEDS=1 SEED=" in done.stdout
