"""The shim, seen from Python: built by the system's compiler, told what to watch, and its record read back."""

from __future__ import annotations

import ctypes
import mmap
import pickle
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

SOURCE = Path(__file__).with_name("shim.c")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

# One life of a server writes a few MiB at most; pages that are never touched cost nothing.
MEMORY = 256 * 1024 * 1024

_HEAD = struct.Struct("QQQ")
_RECORD = struct.Struct("IIQQ")


class Kind(IntEnum):
    """What a record tells; the same numbers stand in shim.c."""

    SEEN = 0
    CREATED = 1
    WROTE = 2
    CUT = 3
    SYNCED = 4
    SYNCED_FOLDER = 5
    RENAMED = 6
    LINKED = 7
    UNLINKED = 8
    NOTED = 9


class Moment(IntEnum):
    """When, in a call, a process is killed; the same numbers stand in shim.c."""

    BEFORE = 1
    HALFWAY = 2
    AFTER = 3


class Step(NamedTuple):
    """One record: a call on the file of that number (its inode's), or a note."""

    kind: Kind
    file: int
    offset: int
    data: bytes

    def note(self) -> Any:
        """Give the note that this step is."""
        return pickle.loads(self.data)

    def half(self) -> Step | None:
        """Give what is left of this step if the process is killed half-way through the call: half of a write."""
        return self._replace(data=self.data[: len(self.data) // 2]) if self.kind is Kind.WROTE else None


def build(folder: Path) -> Path:
    """Compile the shim into `folder`."""
    assert COMPILER is not None, "no C compiler: install cc, gcc or clang"
    library = folder / "shim.so"
    words = [COMPILER, "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]
    subprocess.run([*words, library, SOURCE, "-ldl"], check=True)
    return library


class Recorder:
    """The shim that was loaded into this process, and the memory that it shares with its children."""

    def __init__(self) -> None:
        self._shim = ctypes.CDLL(None)
        if not hasattr(self._shim, "crash_watch"):
            raise RuntimeError("the shim is not loaded: wanted its path in LD_PRELOAD before Python starts")
        self._shim.crash_watch.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
        self._shim.crash_arm.argtypes = [ctypes.c_uint64, ctypes.c_int]
        self._shim.crash_note.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._memory = mmap.mmap(-1, MEMORY)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def watch(self, folder: Path) -> None:
        """Begin a new record of what happens to the files of `folder`."""
        self._shim.crash_watch(str(folder).encode(), self._address, MEMORY)

    def arm(self, call: int, moment: Moment) -> None:
        """Let this process be killed at its call of that number (from 1)."""
        self._shim.crash_arm(call, moment)

    def note(self, note: object) -> None:
        """Write down what is said between two calls."""
        data = pickle.dumps(note, pickle.HIGHEST_PROTOCOL)
        self._shim.crash_note(data, len(data))

    def stop(self) -> None:
        """Watch no longer."""
        self._shim.crash_stop()

    @property
    def calls(self) -> int:
        """How many calls were counted since `watch`."""
        _, calls, _ = _HEAD.unpack_from(self._memory)
        return int(calls)

    @property
    def last_call(self) -> Kind:
        """Which kind of call was counted last: the one that killed the process, if one did."""
        _, _, last = _HEAD.unpack_from(self._memory)
        return Kind(last)

    def steps(self) -> list[Step]:
        """Read the record, whoever wrote it."""
        return list(self._steps())

    def _steps(self) -> Iterator[Step]:
        used, _, _ = _HEAD.unpack_from(self._memory)
        at, end = _HEAD.size, _HEAD.size + used
        while at < end:
            kind, size, file, offset = _RECORD.unpack_from(self._memory, at)
            at += _RECORD.size
            yield Step(Kind(kind), file, offset, self._memory[at : at + size])
            at += (size + 7) & ~7
