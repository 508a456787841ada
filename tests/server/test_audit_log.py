"""The dead-letter log on disk: what is mended, what is refused, and what is noticed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dtm.core import auditline
from dtm.server.audit_log import AuditLog, LogRefused
from dtm.storage.auditfiles import MAX_APPEND


def some_lines(count: int, *, first: int = 1, padding: int = 0) -> list[str]:
    """Write lines as a store does."""
    lines, prev = [], auditline.FIRST_PREV
    for seq in range(first, first + count):
        lines.append(auditline.render(seq, 0, "dead", {"payload": "x" * padding}, prev=prev))
        prev = auditline.digest(lines[-1])
    return lines


LINES = some_lines(3)
WHOLE = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    """A log that does not exist yet."""
    log = AuditLog(tmp_path / "dead.log")
    yield log
    log.close()


def test_a_new_log_is_empty_and_its_owners_alone(log: AuditLog) -> None:
    """Payloads may be secret."""
    assert log.open() is None

    assert log.path.read_bytes() == b""
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_lines_are_appended_and_the_last_is_found_again(log: AuditLog) -> None:
    """The file is its own witness of how far it is."""
    log.open()
    log.append(LINES[:1])
    log.append(LINES[1:])
    assert log.path.read_bytes() == WHOLE

    assert AuditLog(log.path).open() == LINES[-1]


def test_a_torn_tail_is_cut_off_wherever_it_was_torn(log: AuditLog) -> None:
    """At every single byte: what is whole stays, what is not goes, and the file is taken for a log."""
    for length in range(len(WHOLE) + 1):
        log.path.write_bytes(WHOLE[:length])
        whole = WHOLE[:length].count(b"\n")

        assert log.open() == (LINES[whole - 1] if whole else None), length
        assert log.path.read_bytes() == "".join(f"{line}\n" for line in LINES[:whole]).encode()


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 512, LINES[2].encode()[:-1] + b"\n", LINES[2].replace("dead", "DEAD").encode() + b"\n", b"\n", b"junk\n"],
    ids=["zeros", "cut", "changed", "blank", "foreign"],
)
def test_bad_lines_at_the_end_are_cut_off_with_all_that_follows(log: AuditLog, tail: bytes) -> None:
    """What was not written whole is written again from the database; also what somebody else added."""
    sound = "".join(f"{line}\n" for line in LINES[:2]).encode()
    log.path.write_bytes(sound + tail + LINES[2].encode() + b"\n")

    assert log.open() == LINES[1]
    assert log.path.read_bytes() == sound


def test_the_zeros_of_a_first_sector_that_was_never_written_are_cut_off(log: AuditLog) -> None:
    """A power cut may leave them in a file that has just begun."""
    log.path.write_bytes(b"\0" * 512 + WHOLE[512:])

    assert log.open() is None
    assert log.path.read_bytes() == b""


def test_a_long_log_is_read_from_its_end(log: AuditLog) -> None:
    """What stands far before the end is not looked at."""
    lines = some_lines(60, padding=50_000)
    log.path.write_bytes(b"".join([b"#" * 50_000, b"\n", *[f"{line}\n".encode() for line in lines], b"torn"]))
    size = log.path.stat().st_size

    assert log.open() == lines[-1]
    assert log.path.stat().st_size == size - len("torn")


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary\n",
        b"Dear diary",
        b"\n",
        b'{"seq": 1}\n',
        b'{"seq":1,"level":"info"}\n',
        b'[{"seq":1}]',
        b"x" * 3 * MAX_APPEND,
        b"x\n" * 2 * MAX_APPEND,
        b"\xff\xfe\n",
    ],
    ids=["text", "unfinished", "blank", "json", "numbered", "list", "one-long-line", "many-lines", "bytes"],
)
def test_a_foreign_file_is_refused_untouched(log: AuditLog, content: bytes) -> None:
    """A path may be mistyped; what stands there is somebody's."""
    log.path.write_bytes(content)

    with pytest.raises(LogRefused, match=r"dead\.log: is not a dead-letter log; move it away"):
        log.open()
    assert log.path.read_bytes() == content


def test_a_symbolic_link_is_refused(log: AuditLog) -> None:
    """It may point to anything, also to what it did not point to a moment ago."""
    target = log.path.with_name("target")
    target.write_bytes(WHOLE + b"torn")
    log.path.symlink_to(target)

    with pytest.raises(LogRefused, match="is a symbolic link"):
        log.open()
    assert target.read_bytes() == WHOLE + b"torn"


def test_a_pipe_is_refused_at_once(log: AuditLog) -> None:
    """Opening one would wait for its reader, and nothing in it can be read again."""
    os.mkfifo(log.path)

    with pytest.raises(LogRefused, match="is not a regular file"):
        log.open()


def test_a_log_is_current_until_somebody_touches_it(log: AuditLog) -> None:
    """Its own appends do not count as touching."""
    found = [log.is_current]
    log.open()
    log.append(LINES)
    found.append(log.is_current)
    log.close()

    assert [*found, log.is_current] == [False, True, False]


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_suffix(".1")),
        lambda path: path.with_suffix(".2").write_bytes(WHOLE) and path.with_suffix(".2").replace(path),
        lambda path: os.truncate(path, 10),
        _append,
    ],
    ids=["deleted", "moved", "replaced", "cut", "written"],
)
def test_what_others_do_to_the_file_is_noticed(log: AuditLog, touch: object) -> None:
    """Before the next line goes where nobody will ever see it."""
    log.open()
    log.append(LINES)
    assert callable(touch)
    touch(log.path)

    assert not log.is_current


def test_a_rotated_log_carries_its_last_number_in_its_name(log: AuditLog) -> None:
    """So the names stand in the order of the lines, and none is ever taken twice."""
    log.open()
    for lines in (LINES[:2], LINES[2:], LINES[2:]):
        log.append(lines)
        log.rotate(auditline.seq_of(lines[-1].encode()) or 0)
    names = sorted(path.name for path in log.path.parent.iterdir())

    assert names == ["dead.log", *(f"dead.log.{n}" for n in (f"{2:016}", f"{3:016}", f"{3:016}0"))]
    assert (log.is_current, log.path.read_bytes()) == (True, b"")
    assert log.path.with_name(names[1]).read_text().splitlines() == LINES[:2]


def test_a_rotated_log_is_its_owners_alone(log: AuditLog) -> None:
    """The old file and the new one, whatever the umask."""
    for umask in (0, 0o022):
        old = os.umask(umask)
        try:
            log.open()
            log.append(LINES)
            log.rotate(3)
        finally:
            os.umask(old)

    assert {stat.S_IMODE(path.stat().st_mode) for path in log.path.parent.iterdir()} == {0o600}


def test_of_rotated_files_the_highest_line_counts(log: AuditLog) -> None:
    """Whatever their names say; the last line of one may be torn."""
    for name, lines in (("dead.log.3", LINES[:1]), ("dead.log-20261124", LINES[:2]), ("dead.log.7", [])):
        log.path.with_name(name).write_text("".join(f"{line}\n" for line in lines) + "torn")

    assert (log.open(), log.stands_in.name) == (LINES[1], "dead.log-20261124")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Be somebody whom the rights of files bind."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_log_whose_place_cannot_be_read_is_not_open() -> None:
    """Nothing is appended before it is known after what; a rotated file that may only be read will do."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        with as_nobody(), closing(AuditLog(Path(folder, "dead.log"))) as log:
            log.open()
            log.append(LINES)
            aside = log.rotate(3)
            assert aside is not None
            aside.chmod(0)
            with pytest.raises(PermissionError):
                log.open()
            assert not log.is_current
            aside.chmod(0o400)

            assert log.open() == LINES[-1]


@pytest.mark.parametrize("name", ["dead.log.old", "dead.log.1.gz", "dead.log1", "xdead.log.1", "dead_log.1"])
def test_a_file_of_another_name_is_no_part_of_the_log(log: AuditLog, name: str) -> None:
    """So a log can be moved away in the same folder."""
    log.path.with_name(name).write_bytes(WHOLE)

    assert log.open() is None


def test_a_link_among_the_rotated_files_is_passed_over(log: AuditLog) -> None:
    """As at the log's own path."""
    target = log.path.with_name("target")
    target.write_bytes(WHOLE)
    log.path.with_name("dead.log.1").symlink_to(target)

    assert log.open() is None


def test_an_append_that_fails_closes_the_file(log: AuditLog) -> None:
    """How much of it was written is not known; opening it again tells."""
    log.open()
    log.append(LINES[:1])
    assert log._descriptor is not None
    reader = os.open(log.path, os.O_RDONLY)
    os.dup2(reader, log._descriptor)
    os.close(reader)

    with pytest.raises(OSError, match="Bad file descriptor"):
        log.append(LINES[1:2])
    assert not log.is_current
    assert log.open() == LINES[0]
