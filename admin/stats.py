"""`dtm-admin stats`: the store at a glance, once or again and again."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from dtm.cli.options import DURATION

from .options import Output, store_options
from .place import Place

# Faster would be a load on the store and a flicker to the eye.
_SHORTEST_INTERVAL_S = 0.1


@click.command
@store_options
@click.option(
    "--watch",
    "interval_s",
    metavar="[DURATION]",
    type=DURATION,
    is_flag=False,
    flag_value="2s",
    help="Show it again at this interval (2s if none is given), until Ctrl-C. With -o json each is one line.",
)
def stats(place: Place, output: Output, interval_s: float | None) -> int:
    """Show tasks, clients, retries, dead letters and throughput."""
    if interval_s is None:
        click.echo(_drawing(place, output, in_one_line=False)())
        return 0
    if interval_s < _SHORTEST_INTERVAL_S:
        raise click.BadParameter(f"wanted at least 100ms, found {interval_s:g}s", param_hint="'--watch'")
    from .watch import repeat

    redraws = output == "table" and sys.stdout.isatty()
    return repeat(_drawing(place, output, in_one_line=True), interval_s=interval_s, redraws=redraws)


def _drawing(place: Place, output: Output, *, in_one_line: bool) -> Callable[[], str]:
    from . import documents, overview_document, overview_text
    from .clock import utc_now
    from .overview import read

    write = documents.line if in_one_line else documents.page

    def draw() -> str:
        overview = read(place, utc_now())
        if output == "json":
            return write(overview_document.document(overview))
        # What follows in a watch stands apart.
        return overview_text.text(overview) + ("\n" if in_one_line else "")

    return draw
