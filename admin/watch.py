"""The same again and again, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from .exits import EXIT_INTERRUPTED


def repeat(draw: Callable[[], str], *, interval_s: float, redraws: bool) -> int:
    """Show what `draw` gives every `interval_s`, each in place of the last or below it; give the exit code."""
    try:
        while True:
            text = draw()
            if redraws:
                click.clear()
            click.echo(text)
            time.sleep(interval_s)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
