"""python -m bench.compare REV: measure another revision and this tree by turns, and fail if this one has become slower.

The other revision is checked out into a folder of its own, with an environment that its own Makefile makes. Both are
measured by the benchmarks of this tree, copied to where neither of them is.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import click
import msgspec
from tabulate import tabulate

from bench.__main__ import BENCHMARKS
from bench.comparison import Change, Runs, compare, only_in_one
from bench.process import TOP
from bench.report import Run, heading

# What takes seconds. The rest can be named.
DEFAULT = ("submit", "single", "drain", "together", "latency")


@click.command()
@click.argument("revision", metavar="REV")
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Runs of each, by turns.")
@click.option("--tasks", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True, help="Tasks of a run.")
@click.option("--allowed", type=click.IntRange(0, 99), default=20, show_default=True, help="How many percent may go.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=gettempdir,
    help="Where the databases are made: the disk to be measured.",
)
def main(*, revision: str, names: Sequence[str], rounds: int, tasks: int, allowed: int, folder: Path) -> None:
    """Compare this tree with REV, and exit with 1 if a figure has fallen by more than is allowed.

    By default: submit, single, drain, together and latency. The best of all rounds counts; when a figure seems to have
    fallen, as many rounds again must confirm it.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with TemporaryDirectory(prefix="dtm-compare-") as place, _checked_out(revision, Path(place) / "tree") as python:
        top = _copied_benchmarks(Path(place))
        options = ("--tasks", str(tasks), "--folder", str(folder))
        before = _Side(python, top, options, top / "before")
        after = _Side(Path(sys.executable), top, options, top / "after")
        changes = _measure(before, after, names or DEFAULT, rounds)
        if any(change.has_fallen(allowed / 100) for change in changes):
            changes = _measure(before, after, names or DEFAULT, rounds)
    _tell(before, after, changes, allowed / 100)
    fallen = sum(change.has_fallen(allowed / 100) for change in changes)
    if fallen:
        raise click.ClickException(f"{fallen} of {len(changes)} figures have fallen by more than {allowed} %")


class _Side:
    """One of the two, and its runs so far."""

    def __init__(self, python: Path, top: Path, options: Sequence[str], results: Path) -> None:
        self.runs: list[Run] = []
        self._python = python
        self._top = top
        self._options = options
        self._results = results

    @property
    def figures(self) -> Runs:
        return [run.figures for run in self.runs]

    def run(self, name: str) -> None:
        results = self._results / str(len(self.runs))
        _do(str(self._python), "-m", "bench", name, *self._options, "--output", str(results), folder=self._top)
        (file,) = results.glob("*.json")
        self.runs.append(msgspec.json.decode(file.read_bytes(), type=Run))


def _measure(before: _Side, after: _Side, names: Sequence[str], rounds: int) -> list[Change]:
    """Let both run each benchmark, one right after the other: whatever the machine does besides, both suffer."""
    for number in range(rounds):
        click.echo(f"round {number + 1} of {rounds} …", err=True)
        for name in names:
            # What a first run leaves behind, such as warm caches, helps each side as often.
            for side in (before, after) if number % 2 == 0 else (after, before):
                side.run(name)
    return compare(before.figures, after.figures)


def _tell(before: _Side, after: _Side, changes: Sequence[Change], allowed: float) -> None:
    click.echo(f"before: {heading(before.runs[0].machine)}\nafter:  {heading(after.runs[0].machine)}\n")
    headers = ("figure", "", "before", "after", "ratio", "")
    rows = [_row(change, "FALLEN" if change.has_fallen(allowed) else "") for change in changes]
    click.echo(tabulate(rows, headers, colalign=("left", "left", "right", "right", "right"), disable_numparse=True))
    for name in only_in_one(before.figures, after.figures):
        click.echo(f"not compared, since only one has it: {name}")


def _row(change: Change, verdict: str) -> tuple[str, ...]:
    return change.name, change.unit, f"{change.before:,.2f}", f"{change.after:,.2f}", f"{change.ratio:.2f}", verdict


@contextmanager
def _checked_out(revision: str, tree: Path) -> Iterator[Path]:
    """Have a revision beside this one, as long as the context lasts; gives the Python that runs it."""
    _do("git", "-C", str(TOP), "worktree", "prune")  # what a killed run left
    _do("git", "-C", str(TOP), "worktree", "add", "--quiet", "--detach", str(tree), revision)
    try:
        click.echo(f"making an environment for {revision} …", err=True)
        _do("make", "--silent", "-C", str(tree), ".venv/.installed", f"PYTHON={sys.executable}")
        yield tree / ".venv/bin/python"
    finally:
        _do("git", "-C", str(TOP), "worktree", "remove", "--force", str(tree))


def _copied_benchmarks(folder: Path) -> Path:
    top = folder / "benchmarks"
    shutil.copytree(TOP / "bench", top / "bench", ignore=shutil.ignore_patterns("results", "__pycache__"))
    return top


def _do(*command: str, folder: Path = TOP) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main()
