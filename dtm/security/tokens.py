"""Tokens and what they allow: the file of an operator, read and checked.

A token never leaves this page except as a proof: it is in no text, no error and no log.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from msgspec import Struct

from dtm.security.errors import Misconfigured

SHORTEST_TOKEN = 32
"""Characters. Whoever hears a handshake can try tokens at home; so many random ones are never found."""

_MAX_FILE_BYTES = 1024 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PRINTABLE = frozenset(map(chr, range(33, 127)))


class Role(StrEnum):
    """What a client is."""

    WORKER = "worker"
    PRODUCER = "producer"
    ADMIN = "admin"


class Token:
    """A shared secret that signs and is never shown."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode("ascii")

    def __repr__(self) -> str:
        return "Token(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not written anywhere")

    def sign(self, message: bytes) -> bytes:
        """Give the HMAC-SHA256 of `message` under this token."""
        return hmac.digest(self._secret, message, "sha256")


class Grant(Struct, frozen=True):
    """A token, and the roles of whoever has it; `is_local` if it is the secret of this machine's operator."""

    token: Token
    roles: frozenset[Role]
    is_local: bool = False


def grant_locally(secret: str) -> Grant:
    """Give what the record beside the store grants to whoever can read it."""
    return Grant(Token(secret), frozenset({Role.ADMIN}), is_local=True)


def read_grants(path: Path) -> list[Grant]:
    """Read a server's token file.

    Raises:
        Misconfigured: it is no file for the owner's eyes alone, or a line of it is wrong.
    """
    grants = list(_grants(path))
    if not grants:
        _refuse(path, "wanted at least one line 'ROLE[,ROLE] TOKEN', found none")
    return grants


def read_token(path: Path) -> Token:
    """Read a client's token file, which has the same form and exactly one token.

    Raises:
        Misconfigured: it is no file for the owner's eyes alone, or not of one right line.
    """
    grants = read_grants(path)
    if len(grants) != 1:
        _refuse(path, f"wanted one token, the client's own, found {len(grants)}; give each client a file of its own")
    return grants[0].token


def _grants(path: Path) -> Iterator[Grant]:
    seen: dict[bytes, int] = {}
    for number, line in enumerate(_read_private(path).split(b"\n"), start=1):
        words = line.decode("latin-1").split()
        if not words or words[0].startswith("#"):
            continue
        roles, secret = _checked(path, number, words)
        first = seen.setdefault(secret.encode(), number)
        if first != number:
            _refuse(path, f"line {number} has the token of line {first}; write its roles into one line")
        yield Grant(Token(secret), roles)


def _checked(path: Path, number: int, words: Sequence[str]) -> tuple[frozenset[Role], str]:
    # No word of the line may be quoted: where the two are swapped, the first one is the token.
    named, *rest = words
    if len(rest) != 1:
        _refuse(path, f"line {number}: wanted 'ROLE[,ROLE] TOKEN', two words, found {len(words)}")
    (secret,) = rest
    if not set(named.split(",")) <= set(Role):
        _refuse(path, f"line {number}: wanted roles first, of {', '.join(Role)} (joined by commas), found another word")
    if not set(secret) <= _PRINTABLE:
        _refuse(path, f"line {number}: wanted a token of printable ASCII characters, found others")
    if len(secret) < SHORTEST_TOKEN:
        _refuse(path, f"line {number}: wanted a token of at least {SHORTEST_TOKEN} characters, found {len(secret)}")
    return frozenset(map(Role, named.split(","))), secret


def _read_private(path: Path) -> bytes:
    try:
        # Without NONBLOCK a pipe in its place would be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        _refuse(path, f"it cannot be read ({error.strerror})")
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            _refuse(path, "it is not a regular file")
        if os.name != "nt" and found.st_mode & _OTHERS:
            _refuse(path, f"others may use it (mode {stat.S_IMODE(found.st_mode):04o}); run: chmod 600 {path}")
        data = os.read(descriptor, _MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > _MAX_FILE_BYTES:
        _refuse(path, f"wanted at most {_MAX_FILE_BYTES:,} bytes, found more")
    return data


def _refuse(path: Path, complaint: str) -> NoReturn:
    raise Misconfigured(f"token file {path}: {complaint}")
