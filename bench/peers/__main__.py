"""python -m bench.peers: measure dtm and its peers in turn. A peer that fails is named, and fails the run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import click
import msgspec
from msgspec import Struct

from bench.machine import Machine, this_machine
from bench.peers import own
from bench.peers.debian import require
from bench.peers.measure import PYTHON, measure
from bench.peers.peer import PEERS, Peer
from bench.peers.report import heading, report
from bench.peers.rows import Missing, Row
from bench.peers.stores import STORES
from bench.process import Failed

LAST_LINES = 20


class Run(Struct, frozen=True):
    """Everything that one run has found."""

    machine: Machine
    own: Row
    peers: list[Row | Missing]
    again: Row


@click.command()
@click.argument("names", metavar="[PEER]...", nargs=-1, type=click.Choice(list(PEERS)))
@click.option(
    "--tasks",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="Tasks of a run; fast ones take more of them, slow ones fewer, as the table says.",
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=gettempdir,
    help="Where the data is kept: the disk to be measured.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here too, as JSON.")
def main(*, names: Sequence[str], tasks: int, folder: Path, output: Path | None) -> None:
    """Measure dtm and its peers; by default all of them."""
    # As Ctrl-C does: what was started ends with this.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not PYTHON.exists():
        raise click.ClickException("wanted the peers' environment .venv-peers; make it with: make bench-peers")
    peers = [PEERS[name] for name in names or PEERS]
    pairs = [(peer, store) for peer in peers for store in peer.stores]
    try:
        require({package for _, store in pairs if (package := STORES[store].package)})
        machine = this_machine(folder)
        click.echo(heading(machine))
        mine = _own("dtm", folder, tasks, machine)
        rows = [_peer(peer, store, folder, tasks) for peer, store in pairs]
        again = _own("dtm again", folder, tasks, machine)
    except Failed as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"\n{report(mine, rows, again)}")
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(Run(machine, mine, rows, again))) + b"\n")
    sys.exit(any(isinstance(row, Missing) for row in rows))


def _own(name: str, folder: Path, tasks: int, machine: Machine) -> Row:
    click.echo(f"measuring {name} …", err=True)
    with TemporaryDirectory(prefix="dtm-bench-", dir=folder) as place:
        return own.measure(name, Path(place), tasks, machine)


def _peer(peer: Peer, store: str, folder: Path, tasks: int) -> Row | Missing:
    durability = f"{STORES[store].name} {STORES[store].durability}"
    click.echo(f"measuring {peer.name}, {durability} …", err=True)
    with TemporaryDirectory(prefix="dtm-bench-", dir=folder) as place:
        # PostgreSQL's own user must get through to its folder.
        Path(place).chmod(0o711)
        try:
            return measure(peer, store, Path(place), tasks)
        except (Failed, OSError) as error:
            return Missing(peer.name, durability, _brief(str(error)))


def _brief(reason: str) -> str:
    """Leave out the middle of a reason that ends with a long log."""
    first, *others = reason.splitlines()
    return "\n".join([first, *others[-LAST_LINES:]])


if __name__ == "__main__":
    main()
