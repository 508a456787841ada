"""Token files: what is taken, what is refused, and that no token is ever shown."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import traceback
from pathlib import Path

import pytest

from dtm.security.errors import Misconfigured
from dtm.security.tokens import Grant, Role, Token, grant_locally, read_grants, read_token
from tests.security.files import ADMIN, BOTH, PRODUCER, WORKER, token_file

SIGNED = b"anything"


def signs_like(grant: Grant, secret: str) -> bool:
    """Whether the grant's token is this one."""
    return grant.token.sign(SIGNED) == Token(secret).sign(SIGNED)


def test_lines_are_roles_and_tokens(tmp_path: Path) -> None:
    """Comments, blank lines, several roles, several tokens of one role, and any line end."""
    path = token_file(
        tmp_path,
        "# rotated in May",
        "",
        f"worker {WORKER}",
        f"  worker\t{'n' * 40}  \r",
        f"admin,producer {BOTH}",
        "   # done",
    )

    grants = read_grants(path)

    assert [grant.roles for grant in grants] == [{Role.WORKER}, {Role.WORKER}, {Role.ADMIN, Role.PRODUCER}]
    assert all(map(signs_like, grants, (WORKER, "n" * 40, BOTH)))
    assert not any(grant.is_local for grant in grants)


def test_a_token_may_have_every_printable_character(tmp_path: Path) -> None:
    """From the exclamation mark to the tilde."""
    secret = "".join(map(chr, range(33, 127)))

    (grant,) = read_grants(token_file(tmp_path, f"worker {secret}"))
    assert signs_like(grant, secret)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ((), "wanted at least one line"),
        (("# nothing",), "wanted at least one line"),
        ((WORKER,), r"line 1: wanted 'ROLE\[,ROLE\] TOKEN', two words, found 1"),
        ((f"worker {WORKER} x",), "line 1: .* found 3"),
        (("# one", f"{WORKER} worker"), "line 2: wanted roles first, of worker, producer, admin"),
        ((f"boss {WORKER}",), "line 1: wanted roles first"),
        ((f"worker, {WORKER}",), "line 1: wanted roles first"),
        ((f"Worker {WORKER}",), "line 1: wanted roles first"),
        ((f"worker {WORKER[:31]}",), "line 1: wanted a token of at least 32 characters, found 31"),
        ((f"worker {WORKER}ä",), "line 1: wanted a token of printable ASCII characters"),
        ((f"worker {WORKER}\x7f",), "line 1: wanted a token of printable ASCII characters"),
        ((f"worker {WORKER}", "", f"admin {WORKER}"), "line 3 has the token of line 1"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_not_quoted(
    tmp_path: Path, lines: tuple[str, ...], complaint: str
) -> None:
    """Whatever is wrong with it, part of it may be a token."""
    path = token_file(tmp_path, *lines)

    with pytest.raises(Misconfigured, match=complaint) as refusal:
        read_grants(path)
    told = "".join(traceback.format_exception(refusal.value))
    assert str(path) in str(refusal.value)
    assert WORKER[:31] not in told


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    """With the command that mends it."""
    path = token_file(tmp_path, f"worker {WORKER}", mode=mode)

    with pytest.raises(Misconfigured, match=f"others may use it \\(mode {mode:04o}\\); run: chmod 600 {path}"):
        read_grants(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_for_its_owner_is_taken(tmp_path: Path, mode: int) -> None:
    """Even one that nobody may write."""
    assert len(read_grants(token_file(tmp_path, f"worker {WORKER}", mode=mode))) == 1


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A folder, a missing file, and a pipe, which would be waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path, complaint in ((tmp_path, "not a regular file"), (tmp_path / "no", "No such file"), (pipe, "regular")):
        with pytest.raises(Misconfigured, match=complaint):
            read_grants(path)


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    """It is not read to its end."""
    path = token_file(tmp_path, "# " + "x" * 1024 * 1024)

    with pytest.raises(Misconfigured, match="wanted at most 1,048,576 bytes"):
        read_grants(path)


def test_a_client_has_one_token(tmp_path: Path) -> None:
    """The server's file with everybody's is none for a client."""
    token = read_token(token_file(tmp_path, "# mine", f"worker,producer {WORKER}"))
    everybodys = token_file(tmp_path, f"worker {WORKER}", f"producer {PRODUCER}", name="all")

    assert token.sign(SIGNED) == Token(WORKER).sign(SIGNED)
    with pytest.raises(Misconfigured, match="wanted one token, the client's own, found 2"):
        read_token(everybodys)


def test_no_token_is_shown() -> None:
    """Neither by itself nor by what it is part of; and it cannot be written anywhere."""
    grant = grant_locally(ADMIN)

    for shown in (repr(grant), str(grant.token), f"{grant.token}", repr([grant.token]), repr({"token": grant.token})):
        assert ADMIN not in shown
    assert (grant.roles, grant.is_local) == (frozenset({Role.ADMIN}), True)
    for write in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not written anywhere"):
            write(grant.token)
