"""`dtm-admin audit verify`: the log held against the database, line by line."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from dtm.core import auditline
from dtm.storage.lock import Holder
from dtm.storage.reader import Reader
from tests.admin.scene import Admin, Outcome, Scene

HOLDER = Holder(4711, "127.0.0.1", 12345, "open sesame")

Lines = list[str]


def rows(scene: Scene) -> Lines:
    """Give the lines that the log is to have."""
    with closing(Reader.open(scene.db)) as reader:
        return [line.line for line in reader.audit_lines(after=0, limit=100_000)]


@pytest.fixture
def lines(scene: Scene) -> Lines:
    """Five dead letters, as lines."""
    scene.bury(count=5)
    return rows(scene)


def write(scene: Scene, *parts: Lines, end: str = "\n") -> Path:
    """Write the log in parts, all but the last rotated, and give its path."""
    log = scene.db.parent / "dead.log"
    for number, part in enumerate(parts, start=1):
        path = log if number == len(parts) else log.with_name(f"dead.log.{number}")
        path.write_text("".join(f"{line}\n" for line in part).removesuffix("\n") + (end if part else ""))
    return log


def verify(scene: Scene, admin: Admin, *words: str) -> Outcome:
    """Run the command on the log that `write` writes."""
    return admin("audit", "verify", "--dead-letter-log", str(scene.db.parent / "dead.log"), *words)


@pytest.mark.parametrize("cuts", [(), (2,), (1, 4), (5,)], ids=str)
def test_a_log_that_is_right_is_equal(scene: Scene, admin: Admin, lines: Lines, cuts: tuple[int, ...]) -> None:
    """In one file or in several; an empty one after a rotation is right too."""
    bounds = [0, *cuts, 5]
    write(scene, *[lines[start:end] for start, end in pairwise(bounds)])

    found = verify(scene, admin)

    files = "1 file" if not cuts else f"{len(cuts) + 1} files"
    assert (found.code, found.out) == (0, f"5 lines in {files} equal the database, number 1 to 5.\n")


def test_rotated_files_are_put_in_order_by_what_they_hold(scene: Scene, admin: Admin, lines: Lines) -> None:
    """logrotate numbers them from the newest to the oldest."""
    log = write(scene, lines[2:4], lines[:2], lines[4:])

    assert verify(scene, admin, "-o", "json").document["files"] == [f"{log}.2", f"{log}.1", str(log)]


def test_what_was_rotated_away_is_told_and_no_difference(scene: Scene, admin: Admin, lines: Lines) -> None:
    """Old files are archived; what is here has to be right."""
    write(scene, lines[2:])

    found = verify(scene, admin)

    assert (found.code, "2 lines before that stand in no file here" in found.out) == (0, True)


@pytest.mark.parametrize("end", ["whole", "torn"])
def test_a_log_that_lags_is_behind(scene: Scene, admin: Admin, lines: Lines, end: str) -> None:
    """While a server is at work that is no difference; without one it is, as nobody is about to write the rest."""
    if end == "torn":
        write(scene, [*lines[:3], lines[3][:-7]], end="")
    else:
        write(scene, lines[:3])

    stopped = verify(scene, admin)
    with scene.held(HOLDER):
        working = verify(scene, admin)
        document = verify(scene, admin, "-o", "json").document

    assert (stopped.code, "behind by 2 lines; the next start" in stopped.out) == (1, True)
    assert (working.code, "behind by 2 lines; the server is about" in working.out) == (0, True)
    assert (document["equal"], document["behind"], document["torn"], document["last"]) == (True, 2, end == "torn", 3)


def _forged(line: str, **changes: object) -> str:
    """Change a line and make its CRC right again, as somebody would who does not want it to show."""
    fields = {**json.loads(line), **changes}
    body = {name: value for name, value in fields.items() if name not in {"seq", "at", "event", "prev", "crc"}}
    made = auditline.render(fields["seq"], 0, fields["event"], body, prev=fields["prev"])
    at = re.compile(r'"at":"[^"]*"')
    whole = at.sub(f'"at":"{fields["at"]}"', made, count=1)
    body_text = whole.rpartition(',"crc":"')[0]
    return f'{body_text},"crc":"{zlib.crc32(body_text.encode()):08x}"}}'


SPOILT: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "changed": (lambda n: [n[0], n[1].replace("boom", "doom"), *n[2:]], 2, "its CRC does not fit"),
    "forged": (lambda n: [n[0], _forged(n[1], error="doom"), *n[2:]], 2, "differs from the database's row"),
    "cut": (lambda n: [n[0], n[1][:40], *n[2:]], 2, "its CRC does not fit"),
    "blank": (lambda n: [n[0], "", *n[1:]], 2, "its CRC does not fit"),
    "noted": (lambda n: [*n[:4], "a note"], 5, "its CRC does not fit"),
    "missing": (lambda n: [n[0], *n[2:]], 2, "is number 3, where number 2 is missing"),
    "twice": (lambda n: [*n[:2], *n[1:]], 3, "is number 2 again, after number 2"),
    "swapped": (lambda n: [n[0], n[2], n[1], *n[3:]], 2, "is number 3, where number 2 is missing"),
    "beyond": (
        lambda n: [*n, _forged(n[4], seq=6, prev=auditline.digest(n[4]))],
        6,
        "is number 6, which the database does not have",
    ),
    "foreign": (lambda n: [_forged(n[0], seq=77)], 1, "is number 77, which the database does not have"),
}


@pytest.mark.parametrize(("spoil", "line", "what"), SPOILT.values(), ids=SPOILT.keys())
@pytest.mark.parametrize("place", ["current", "rotated"])
def test_the_first_difference_is_told_exactly(
    scene: Scene, admin: Admin, lines: Lines, spoil: Callable[[Lines], Lines], line: int, what: str, place: str
) -> None:
    """File and line, what is wrong, what was wanted and what was found; also beside a live server."""
    spoilt = spoil(lines)
    log = write(scene, *([spoilt, []] if place == "rotated" else [spoilt]))
    with scene.held(HOLDER):
        found = verify(scene, admin)
        difference = verify(scene, admin, "-o", "json").document["difference"]

    where = f"{log}.1" if place == "rotated" else str(log)
    assert found.code == 1
    assert found.out.startswith(f"DIFFERENT: {where}, line {line}: ")
    assert what in difference["what"]
    assert (difference["file"], difference["line"]) == (where, line)
    assert difference["found"] == spoilt[line - 1]
    if what.startswith("its CRC"):
        assert difference["wanted"] == lines[line - 1]


@pytest.mark.parametrize(
    ("changed", "line", "what"),
    [
        (lambda line: line.replace("boom", "doom"), 3, "its CRC does not fit"),
        (lambda line: _forged(line, error="doom"), 4, "does not follow the line before it"),
    ],
    ids=["carelessly", "with-care"],
)
def test_what_was_changed_in_the_database_too_is_told(
    scene: Scene, admin: Admin, lines: Lines, changed: Callable[[str], str], line: int, what: str
) -> None:
    """Whoever changes both alike has to forge every line that follows."""
    forged = [*lines[:2], changed(lines[2]), *lines[3:]]
    with closing(scene.connection()) as connection:
        connection.execute("UPDATE audit SET line = ? WHERE seq = 3", [forged[2]])
    write(scene, forged)

    found = verify(scene, admin)

    assert found.code == 1
    assert f"line {line}: " in found.out
    assert what in found.out


def test_a_torn_rotated_file_is_a_difference(scene: Scene, admin: Admin, lines: Lines) -> None:
    """Nobody writes it any more, so nobody will mend it."""
    write(scene, lines[:2], lines[2:])
    old = scene.db.parent / "dead.log.1"
    old.write_text(old.read_text() + lines[2][:20])

    assert "dead.log.1, line 3: is torn" in verify(scene, admin).out


def test_a_log_that_is_not_there_is_not_found(scene: Scene, admin: Admin, lines: Lines) -> None:
    """The path is a slip more often than the log is lost."""
    found = verify(scene, admin)

    assert found.code == 4
    assert "found no file there; name it as --dead-letter-log" in found.err


def test_strange_letters_do_not_reach_the_terminal(scene: Scene, admin: Admin, lines: Lines) -> None:
    """Whoever spoils a line may have put there what steers a terminal."""
    write(scene, [lines[0], "\x1b[2J\u2028\r", *lines[1:]])

    found = verify(scene, admin)

    assert "\x1b" not in found.out
    assert "\\x1b[2J" in found.out
