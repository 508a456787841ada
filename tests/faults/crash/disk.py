"""A folder on a disk: what processes see in it, what is durable of that, and what a power loss leaves.

The rules stand in the package's docstring. Knows nothing of what the files mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.crash.recorder import Kind, Step

SECTOR = 512


class Weather(NamedTuple):
    """How a power loss treats what was not synced."""

    survival: float
    """Chance that a write to a sector reaches the disk."""
    keeps_order: bool
    """Whether names are lost from the last one back, as a journal does."""


WEATHERS = [Weather(survival, order) for survival in (0.0, 0.1, 0.5, 0.9, 1.0) for order in (True, False)]


class File:
    """The content of a file: as processes see it, as it was at its last sync, and the calls since then."""

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self.seen = bytearray(content)
        self._durable = bytearray(content)
        self._since: list[Step] = []

    def copy(self) -> File:
        """Give a file that goes its own way from here."""
        other = File()
        other.seen, other._durable, other._since = bytearray(self.seen), bytearray(self._durable), list(self._since)
        return other

    def change(self, step: Step) -> None:
        """Carry out a write or a cut."""
        _CHANGES[step.kind](self.seen, step)
        self._since.append(step)

    def sync(self) -> None:
        """Make everything so far durable."""
        for step in self._since:
            _CHANGES[step.kind](self._durable, step)
        self._since.clear()

    def after_power_loss(self, weather: Weather, chance: Random) -> File:
        """Give the file that the disk has once the power is back."""
        cache, left, size = bytearray(self._durable), bytearray(self._durable), len(self._durable)
        # The calls that changed the size take effect in their order; some of the last did not.
        effective = round(len(self._since) * min(1.0, chance.random() * 2 * weather.survival))
        for number, step in enumerate(self._since):
            _CHANGES[step.kind](cache, step)
            if step.kind is Kind.WROTE:
                _keep_sectors(left, cache, step, lambda: chance.random() < weather.survival)
                size = max(size, step.offset + len(step.data)) if number < effective else size
            elif number < effective:
                _cut(left, step)
                size = step.offset
        _cut(left, Step(Kind.CUT, 0, size, b""))
        return File(left)


def _write(content: bytearray, step: Step) -> None:
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.data)] = step.data


def _cut(content: bytearray, step: Step) -> None:
    del content[step.offset :]
    content.extend(bytes(step.offset - len(content)))


_CHANGES: dict[Kind, Callable[[bytearray, Step], None]] = {Kind.WROTE: _write, Kind.CUT: _cut}


def _keep_sectors(left: bytearray, cache: bytearray, step: Step, survives: Callable[[], bool]) -> None:
    """Copy to `left`, as they are in `cache` now, some of the sectors that a write has touched."""
    first = step.offset // SECTOR * SECTOR
    for start in range(first, step.offset + len(step.data), SECTOR):
        if survives():
            sector = bytes(cache[start : start + SECTOR])
            _write(left, Step(Kind.WROTE, 0, start, sector))


class Entry(NamedTuple):
    """A change of a folder: this file (None: nothing) now stands under `name`, and none any more under `gone`."""

    name: str
    file: File | None
    gone: str | None = None

    def apply(self, names: dict[str, File]) -> None:
        """Carry it out."""
        if self.gone is not None:
            names.pop(self.gone, None)
        if self.file is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.file


class Disk:
    """One folder."""

    def __init__(self) -> None:
        self._names: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._since: list[Entry] = []
        self._numbers: dict[int, File] = {}

    def copy(self) -> Disk:
        """Give a disk that goes its own way from here, for other processes: inodes get new numbers."""
        files = {*self._names.values(), *self._durable.values(), *(entry.file for entry in self._since)}
        twins = {file: file.copy() for file in files if file is not None}
        other = Disk()
        other._names = {name: twins[file] for name, file in self._names.items()}
        other._durable = {name: twins[file] for name, file in self._durable.items()}
        other._since = [entry._replace(file=entry.file and twins[entry.file]) for entry in self._since]
        return other

    def contents(self) -> dict[str, bytearray]:
        """Give what processes see."""
        return {name: file.seen for name, file in self._names.items()}

    def put(self, folder: Path) -> None:
        """Write what processes see into an empty folder."""
        for name, file in self._names.items():
            (folder / name).write_bytes(file.seen)

    def apply(self, step: Step) -> None:
        """Follow one call."""
        match step.kind:
            case Kind.WROTE | Kind.CUT:
                self._numbers[step.file].change(step)
            case Kind.SYNCED:
                self._numbers[step.file].sync()
            case Kind.SEEN:
                self._numbers[step.file] = self._names[step.data.decode()]
            case Kind.CREATED:
                file = self._numbers[step.file] = File()
                self._enter(Entry(step.data.decode(), file))
            case Kind.SYNCED_FOLDER:
                self._durable, self._since = dict(self._names), []
            case Kind.UNLINKED:
                self._enter(Entry(step.data.decode(), None))
            case Kind.RENAMED | Kind.LINKED:
                source, target = step.data.decode().split("/")
                gone = source if step.kind is Kind.RENAMED else None
                self._enter(Entry(target, self._names[source], gone))

    def _enter(self, entry: Entry) -> None:
        entry.apply(self._names)
        self._since.append(entry)

    def after_power_loss(self, weather: Weather, chance: Random) -> Disk:
        """Give the disk as it is once the power is back: all that is left is durable."""
        names = dict(self._durable)
        for entry in _surviving(self._since, weather, chance):
            entry.apply(names)
        left = {file: file.after_power_loss(weather, chance) for file in dict.fromkeys(names.values())}
        disk = Disk()
        disk._names = {name: left[file] for name, file in names.items()}
        disk._durable = dict(disk._names)
        return disk


def _surviving(entries: list[Entry], weather: Weather, chance: Random) -> list[Entry]:
    if weather.keeps_order:
        return entries[: round(len(entries) * min(1.0, chance.random() * 2 * weather.survival))]
    return [entry for entry in entries if chance.random() < weather.survival]
