"""python -m bench: run benchmarks, print their figures, and write them down."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import click

from bench import backlog, clients, drain, due, idle, latency, payloads, single, submit, together
from bench.figures import Figure
from bench.machine import this_machine
from bench.process import TOP, Failed
from bench.report import Run, heading, report, write

BENCHMARKS: dict[str, Callable[[Path, int], Iterator[Figure]]] = {
    "submit": submit.measure,
    "single": single.measure,
    "drain": drain.measure,
    "together": together.measure,
    "payloads": payloads.measure,
    "clients": clients.measure,
    "latency": latency.measure,
    "due": due.measure,
    "backlog": backlog.measure,
    "idle": idle.measure,
}
RESULTS = TOP / "bench/results"


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--tasks", type=click.IntRange(1, 10_000_000), default=100_000, show_default=True, help="Tasks of a run.")
@click.option(
    "--backlog",
    "waiting",
    type=click.IntRange(1_000, 10_000_000),
    default=1_000_000,
    show_default=True,
    help="The largest backlog; ten million take 3 GB of disk.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=gettempdir,
    help="Where the databases are made, each in a folder of its own: the disk to be measured.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=RESULTS,
    help="Folder for the results, as JSON and as tables, named by date.  [default: bench/results, which git ignores]",
)
def main(*, names: Sequence[str], tasks: int, waiting: int, folder: Path, output: Path) -> None:
    """Measure dtm with real programs on a real disk; by default everything.

    \b
    submit    bulk submission
    single    submissions of one task, each awaited; 1, 8 and 64 at once
    drain     tasks that wait, run by 1 and by 2 client processes
    together  submission and processing at the same time
    payloads  the same with payloads of 100 B, 10 kB and 960 KiB
    clients   a drain by 1, 10, 100 and 1,000 clients, of which all or one has work
    latency   one task on an idle server: to a client's hands, to its result
    due       scheduled tasks that fall due at once, and submissions meanwhile
    backlog   submissions, claims, memory, restart and statistics while 1 k to 1 M tasks wait
    idle      memory and CPU of server and client that have nothing to do
    """
    # As Ctrl-C does: what was started ends with this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = this_machine(folder)
    click.echo(heading(machine))
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{machine.at:%Y-%m-%dT%H-%M-%S}.json"
    figures: list[Figure] = []
    for name in names or BENCHMARKS:
        figures += _measure(name, folder, waiting if name == "backlog" else tasks)
        # After each: what is measured stays, though the next one fails.
        write(Run(machine, figures), file)
    click.echo(f"\n{report(figures)}\n\nwritten to {file}")


def _measure(name: str, folder: Path, size: int) -> list[Figure]:
    click.echo(f"running {name} …", err=True)
    with TemporaryDirectory(prefix="dtm-bench-", dir=folder) as place:
        try:
            return list(BENCHMARKS[name](Path(place), size))
        except Failed as error:
            raise click.ClickException(f"{name}: {error}") from error


if __name__ == "__main__":
    main()
