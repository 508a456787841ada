"""python -m bench: run benchmarks, print their figures, and write them down if asked to."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import click
import msgspec
from msgspec import Struct

from bench import drain, latency, single, submit, together
from bench.figures import Figure
from bench.machine import Machine, this_machine
from bench.process import Failed
from bench.report import heading, report

BENCHMARKS: dict[str, Callable[[Path, int], Iterator[Figure]]] = {
    "submit": submit.measure,
    "single": single.measure,
    "drain": drain.measure,
    "together": together.measure,
    "latency": latency.measure,
}


class Run(Struct, frozen=True):
    """Everything that one run has found."""

    machine: Machine
    figures: list[Figure]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--tasks", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True, help="Tasks of a run.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=gettempdir,
    help="Where the databases are made, each in a folder of its own: the disk to be measured.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here too, as JSON.")
def main(*, names: Sequence[str], tasks: int, folder: Path, output: Path | None) -> None:
    """Measure dtm with real programs on a real disk; by default all of them."""
    # As Ctrl-C does: what was started ends with this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = this_machine()
    click.echo(heading(machine))
    figures = [figure for name in names or BENCHMARKS for figure in _measure(name, folder, tasks)]
    click.echo(f"\n{report(figures)}")
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(Run(machine, figures))) + b"\n")


def _measure(name: str, folder: Path, tasks: int) -> list[Figure]:
    click.echo(f"running {name} …", err=True)
    with TemporaryDirectory(prefix="dtm-bench-", dir=folder) as place:
        try:
            return list(BENCHMARKS[name](Path(place), tasks))
        except Failed as error:
            raise click.ClickException(f"{name}: {error}") from error


if __name__ == "__main__":
    main()
