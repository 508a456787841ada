"""`make mutate`: weaken each safety line in a copy of the tree, and show which test turns red."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from tabulate import tabulate

from tests.mutations.lines import MUTATIONS
from tests.mutations.mutation import Mutation
from tests.mutations.workshop import Outcome, Run, Workshop


@click.command()
@click.option("--jobs", type=click.IntRange(1, 64), default=os.cpu_count() or 1, help="Copies that work side by side.")
@click.option("--only", default="", help="Only the mutations with this in their names.")
def main(jobs: int, only: str) -> None:
    """Weaken each safety line in turn; exit 0 if every one turns a test red."""
    chosen = [mutation for mutation in MUTATIONS if only in mutation.name]
    if not chosen:
        raise click.UsageError(f"wanted part of a mutation's name, found {only!r}")
    with tempfile.TemporaryDirectory(prefix="dtm-mutate-") as place:
        workshops: queue.SimpleQueue[Workshop] = queue.SimpleQueue()
        for number in range(jobs):
            workshops.put(Workshop(Path(place, str(number))))
        _require_green(workshops, chosen)
        with ThreadPoolExecutor(jobs) as pool:
            rows = list(pool.map(lambda mutation: _row(workshops, mutation), chosen))
    click.echo(tabulate(rows, headers=("safety line", "file", "tests", "s", "turned red"), disable_numparse=True))
    red = sum(row[2] == Outcome.RED for row in rows)
    click.echo(f"\n{red} of {len(rows)} mutations red")
    sys.exit(red != len(rows))


def _require_green(workshops: queue.SimpleQueue[Workshop], chosen: list[Mutation]) -> None:
    """Make sure that the tests pass where nothing is weakened; otherwise red would prove nothing."""
    workshop = workshops.get()
    tests = sorted({test for mutation in chosen for test in mutation.tests})
    click.echo(f"{len(chosen)} mutations; first the {len(tests)} tests and files on the tree as it is …", err=True)
    run = workshop.test(tests)
    workshops.put(workshop)
    if run.outcome is not Outcome.GREEN:
        raise click.ClickException(f"the tests do not pass on the tree as it is:\n{run.text}")


def _row(workshops: queue.SimpleQueue[Workshop], mutation: Mutation) -> tuple[str, str, str, str, str]:
    workshop = workshops.get()
    began = time.monotonic()
    try:
        run = workshop.try_out(mutation)
    finally:
        workshops.put(workshop)
    took = f"{time.monotonic() - began:.0f}"
    click.echo(f"{run.outcome:6} {mutation.name}", err=True)
    if run.outcome is not Outcome.RED:
        click.echo(run.text[-2_000:], err=True)
    return (mutation.name, mutation.file, str(run.outcome), took, _short(run))


def _short(run: Run) -> str:
    return run.witness.removeprefix("tests/").split("[")[0]


if __name__ == "__main__":
    main()
