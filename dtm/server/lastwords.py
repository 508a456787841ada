"""What running tasks say of themselves, kept until its turn comes to be written down: of each the last word.

Knows no store and no connections.
"""

from __future__ import annotations

from itertools import islice

from dtm.server.clock import Clock
from dtm.storage.batch import Progress, Report

PAUSE_S = 0.5
"""Words go to the disk so seldom, and with whatever else goes there."""

MOST = 2_000
"""Tasks whose word goes there at once; the others' waits for the next time, and who has waited longest comes first."""

Words = dict[tuple[int, int], Progress]
"""By assignment and task."""


class LastWords:
    """The last word of each running task that has said one and is not written down."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._words: Words = {}
        self._taken_s = clock.monotonic_s() - PAUSE_S

    def note(self, assignment_id: int, task_id: int, word: Progress) -> None:
        """Keep a word in the place of the one before it."""
        self._words[assignment_id, task_id] = word

    def take_of(self, report: Report) -> Words:
        """Take out what the task said last of which this tells the end."""
        if not self._words:
            return {}
        its = (report.assignment_id, report.task_id)
        return {its: self._words.pop(its)} if its in self._words else {}

    def take_due(self) -> Words:
        """Take out what is to be written down now."""
        now_s = self._clock.monotonic_s()
        if not self._words or now_s < self._taken_s + PAUSE_S:
            return {}
        self._taken_s = now_s
        return {its: self._words.pop(its) for its in list(islice(self._words, MOST))}

    @property
    def due_at(self) -> int | None:
        """When something is to be written down next (UTC microseconds), None if nothing is."""
        return self._clock.at(self._taken_s + PAUSE_S) if self._words else None
