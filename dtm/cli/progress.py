"""A progress bar on standard error, on a terminal only: how many of the tasks read so far are done."""

from __future__ import annotations

import sys
from typing import Self

import click


class Progress:
    """Counts up two numbers; shows nothing where nobody looks."""

    def __init__(self, label: str) -> None:
        self._bar = click.progressbar(
            length=0, label=label, show_pos=True, file=sys.stderr, hidden=not sys.stderr.isatty(), update_min_steps=100
        )

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.render_finish()

    def expect(self, tasks: int) -> None:
        """Note that so many tasks more have been read."""
        self._bar.length = (self._bar.length or 0) + tasks

    def advance(self) -> None:
        """Note that one task more is done."""
        self._bar.update(1)
