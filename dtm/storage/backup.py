"""A whole copy of the store as it is at one moment, and the way back.

A copy carries a mark: no server works on it before `restore` has given it numbers of its own.
"""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct
from sqlalchemy import Connection, select, text, update

from dtm.core import auditline
from dtm.storage.draft import COMPANIONS, put_in_place, require_no_remains
from dtm.storage.engine import writer_engine
from dtm.storage.errors import StoreRefused
from dtm.storage.inspect import is_backup, revision_of
from dtm.storage.migrate import migrate
from dtm.storage.schema import BACKUP_MARK, assignments, audit, clients, dead_letters, meta, tasks
from dtm.storage.witness import remembered

_LAST_LINE = select(audit.c.seq, audit.c.line).order_by(audit.c.seq.desc()).limit(1)
_NUMBERED = (tasks, clients, assignments, dead_letters)
_NUMBERS = text("SELECT name, seq FROM sqlite_sequence")
_SET_NUMBER = text("UPDATE sqlite_sequence SET seq = :seq WHERE name = :name")
_ADD_NUMBER = text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)")


class Restored(Struct, frozen=True):
    """The store that was put in place, and the number after which all its new ones come."""

    store: str
    was: str
    last_seq: int
    floor: int


def back_up(path: Path, target: Path, *, replace: bool) -> int:
    """Copy the store at `path` to `target`, which is whole and on disk at the end, and give its size in bytes.

    Reads only, in one transaction of its own, so that a server may go on writing meanwhile.

    Args:
        path: the store.
        target: where the copy goes.
        replace: whether an earlier backup may stand there.

    Raises:
        StoreMissing: there is no store.
        StoreRefused: it is not one of this version, or the copy cannot be made there.
    """
    revision_of(path)
    _require_free(path, target, replace=replace)
    put_in_place(target, lambda draft: _copy(path, draft, target, mark=BACKUP_MARK))
    return target.stat().st_size


def restore(backup: Path, path: Path, *, now: int) -> Restored:
    """Put a copy of `backup` at `path`, with an identity of its own; the lock of `path` is the caller's.

    Every number it gives out is above `now` (UTC microseconds), and above everything it remembers. A store gives out
    fewer than one a microsecond, so none that the lost time knew can come again.

    Raises:
        StoreMissing: there is no backup.
        StoreRefused: it is damaged, or something stands at `path` already.
    """
    revision_of(backup)
    if path.exists() or path.is_symlink():
        aside = ", ".join(f"{path.name}{end}" for end in ("", *COMPANIONS[:2]))
        raise StoreRefused(path, "is there already", f"move it away first ({aside})")
    require_no_remains(path)
    restored: list[Restored] = []
    put_in_place(path, lambda draft: restored.append(_build(backup, draft, path, now)))
    return restored[0]


def _require_free(path: Path, target: Path, *, replace: bool) -> None:
    if target.is_symlink():
        raise StoreRefused(target, "is a symbolic link", "name the file itself")
    if not target.exists():
        require_no_remains(target)
    elif not replace:
        raise StoreRefused(target, "is there already", "name another file, or let --force replace an earlier backup")
    elif not is_backup(target):
        raise StoreRefused(target, "is no backup", "name another file; only a backup is ever replaced")


def _copy(path: Path, draft: Path, target: Path, *, mark: int) -> None:
    try:
        # Not through the reader's engine: its query_only forbids this statement, though mode=ro is guard enough.
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute("VACUUM INTO ?", [str(draft)])
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA user_version = {mark}")
    except sqlite3.OperationalError as error:
        raise StoreRefused(
            target, f"cannot be written ({error})", "check that its folder may be written and has room"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StoreRefused(path, f"is damaged ({error})", "'dtm-admin check' tells more") from error


def _build(backup: Path, draft: Path, path: Path, now: int) -> Restored:
    _copy(backup, draft, path, mark=0)
    migrate(draft)
    engine = writer_engine(draft)
    try:
        with engine.begin() as connection:
            _require_sound(connection, backup)
            return _renew(connection, path, now)
    finally:
        engine.dispose()


def _require_sound(connection: Connection, backup: Path) -> None:
    (found,) = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalars().all()
    if found != "ok":
        raise StoreRefused(backup, f"is damaged ({found})", "restore another backup")


def _renew(connection: Connection, path: Path, now: int) -> Restored:
    was, epoch = connection.execute(select(meta.c.store_id, meta.c.epoch)).one()
    seq, line = connection.execute(_LAST_LINE).one_or_none() or (0, None)
    known = remembered(path)
    numbers = {row.name: int(row.seq) for row in connection.execute(_NUMBERS)}
    floor = max(now, seq, *numbers.values())
    store = secrets.token_hex(16)
    connection.execute(update(meta).values(store_id=store, epoch=max(epoch, known.epoch if known is not None else 0)))
    for table in _NUMBERED:
        statement = _SET_NUMBER if table.name in numbers else _ADD_NUMBER
        connection.execute(statement, {"name": table.name, "seq": floor})
    prev = auditline.FIRST_PREV if line is None else auditline.digest(line)
    told = auditline.render(floor + 1, now, "restored", {"store": store, "was": was, "after": seq}, prev=prev)
    connection.execute(audit.insert().values(seq=floor + 1, at=now, event="restored", line=told))
    return Restored(store, was, seq, floor)
