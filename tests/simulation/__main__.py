"""`python -m tests.simulation`: run seeds, print what broke, and how to see it again."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click

from tests.simulation.world import Outcome, play

OnLine = Callable[[str], object]


@click.command()
@click.option("--seeds", default=1, help="How many seeds to run.")
@click.option("--seed", default=1, help="The first of them.")
@click.option("--jobs", default=1, help="Processes to run them in.")
@click.option("--trace", is_flag=True, help="Print every event.")
@click.option("--digests", is_flag=True, help="Print every seed's digest.")
@click.option("--most-failures", default=10, help="Stop after so many seeds have failed.")
def main(*, seeds: int, seed: int, jobs: int, trace: bool, digests: bool, most_failures: int) -> None:
    """Run seeds."""
    began_s = time.perf_counter()
    failed = ran = tasks = 0
    simulated_s = 0.0
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    with tempfile.TemporaryDirectory(prefix="dtm-simulation-", dir=_memory()) as folder:
        numbers = range(seed, seed + seeds)
        for outcome in _outcomes(numbers, Path(folder), jobs=jobs, on_line=click.echo if trace else None):
            ran, tasks, simulated_s = ran + 1, tasks + outcome.tasks, simulated_s + outcome.took_s
            if digests:
                click.echo(f"{outcome.seed} {outcome.digest}")
            if outcome.violations:
                failed += 1
                _complain(outcome)
                if failed == most_failures:
                    break
    took_s, cpu_s = time.perf_counter() - began_s, sum(os.times()[:4])
    click.echo(
        f"{ran} seeds from {seed}: {failed} failed; {tasks} tasks, {simulated_s / 3600:.1f} simulated hours; "
        f"{took_s:.1f} s, {60 * ran / took_s / jobs:,.0f} seeds a minute and process, "
        f"{60 * ran / cpu_s:,.0f} a minute of CPU time"
    )
    sys.exit(1 if failed else 0)


def _outcomes(numbers: Iterable[int], folder: Path, *, jobs: int, on_line: OnLine | None) -> Iterator[Outcome]:
    if jobs == 1:
        yield from (_play(folder, on_line, number) for number in numbers)
        return
    with get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(partial(_play, folder, None), numbers, chunksize=4)


def _play(folder: Path, on_line: OnLine | None, seed: int) -> Outcome:
    own = folder / str(os.getpid())
    own.mkdir(exist_ok=True)
    try:
        return play(seed, own, on_line=on_line)
    except Exception:  # noqa: BLE001  whatever a world ends with, its seed is what helps
        return Outcome(seed, "", [traceback.format_exc()], [], 0, 0.0)


def _memory() -> Path | None:
    """Give a place for files that never reach a disk, if the system has one: how a disk syncs is not the subject."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


def _complain(outcome: Outcome) -> None:
    click.echo(f"seed {outcome.seed} failed (troubles: {', '.join(outcome.troubles)})")
    for violation in outcome.violations[:10]:
        click.echo(f"  {violation}")
    click.echo(f"  again: make simulate SEEDS=1 SEED={outcome.seed} JOBS=1 ARGS=--trace")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            os.environ | {"PYTHONHASHSEED": "0"},
        )
    main()
