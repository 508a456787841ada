"""beanstalkd, spoken to as its protocol.txt says, many commands in one go wherever that is possible.

It knows no results, so the worker puts each into a second tube before it deletes the job: a reply is as safe as a job.
python -m bench.peers.programs.on_beanstalkd is the worker.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from bench.peers.programs import work

PACKAGE = None
# As many as a worker takes and answers in one go, if so many wait.
PART = 200

JOBS, REPLIES = "jobs", "replies"
RESERVE_NOW = b"reserve-with-timeout 0\r\n"
RESERVE = b"reserve\r\n"


class Failed(Exception):
    """beanstalkd said something else."""


class Connection:
    """A connection that puts into one tube and takes from another."""

    def __init__(self, *, puts_into: str, takes_from: str) -> None:
        host, _, port = work.SERVER.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        tubes = f"use {puts_into}\r\nwatch {takes_from}\r\nignore default\r\n"
        self.call([tubes.encode()], "USING", "WATCHING", "WATCHING")

    def call(self, commands: Iterable[bytes], *wanted: str) -> list[tuple[list[str], bytes]]:
        """Send commands in one go, and give for each the words of its answer and its body."""
        self._socket.sendall(b"".join(commands))
        return [self._answer(word) for word in wanted]

    def _answer(self, wanted: str) -> tuple[list[str], bytes]:
        words = self._file.readline().decode().split()
        if not words or words[0] not in wanted.split("|"):
            raise Failed(f"wanted {wanted}, found {' '.join(words) or 'the end of the connection'}")
        if words[0] not in {"RESERVED", "OK"}:
            return words, b""
        return words, self._file.read(int(words[-1]) + 2)[:-2]

    def put(self, bodies: Sequence[bytes]) -> None:
        """Put jobs in, in one go."""
        self.call(map(_put, bodies), *["INSERTED"] * len(bodies))

    def take(self, most: int) -> list[tuple[str, bytes]]:
        """Wait for a job, and take up to `most` that wait: the id and the body of each."""
        more = most - 1
        answers = self.call([RESERVE, *[RESERVE_NOW] * more], "RESERVED", *["RESERVED|TIMED_OUT"] * more)
        return [(words[1], body) for words, body in answers if words[0] == "RESERVED"]

    def waiting(self, tube: str) -> int:
        """Count the jobs that wait in a tube."""
        words, body = self.call([f"stats-tube {tube}\r\n".encode()], "OK|NOT_FOUND")[0]
        if words[0] == "NOT_FOUND":
            return 0
        stats = dict(line.split(": ", 1) for line in body.decode().splitlines() if ": " in line)
        return int(stats["current-jobs-ready"])


_producers: list[Connection] = []


def _producer() -> Connection:
    if not _producers:
        _producers.append(Connection(puts_into=JOBS, takes_from=REPLIES))
    return _producers[0]


async def prepare() -> None:
    """beanstalkd needs nothing."""


async def submit(tasks: int) -> None:
    """Put jobs in."""
    for numbers in work.parts(tasks, PART):
        _producer().put([_job(number) for number in numbers])


async def settle() -> None:
    """Nothing to do."""


async def all_done(tasks: int) -> bool:
    """Count the replies."""
    return _producer().waiting(REPLIES) == tasks


async def digests(tasks: int) -> Sequence[str | None]:
    """Take the replies out of their tube."""
    found: dict[str, str] = {}
    for numbers in work.parts(tasks, PART):
        for _, body in _producer().take(len(numbers)):
            number, _, digest = body.decode().partition(" ")
            found[number] = digest
    return [found.get(str(number)) for number in range(tasks)]


async def run_one(number: int) -> str | None:
    """Put a job in, and reserve its reply."""
    producer = _producer()
    producer.put([_job(number)])
    ((reply, body),) = producer.take(1)
    producer.call([_delete(reply)], "DELETED")
    found, _, digest = body.decode().partition(" ")
    return digest if int(found) == number else None


def run_worker() -> None:
    """Take jobs, put their replies in, and delete them, for ever."""
    connection = Connection(puts_into=REPLIES, takes_from=JOBS)
    most = 1
    while True:
        jobs = connection.take(most)
        replies = [_put(_reply(body)) for _, body in jobs]
        deletes = [_delete(job) for job, _ in jobs]
        connection.call([*replies, *deletes], *["INSERTED"] * len(jobs), *["DELETED"] * len(jobs))
        # A job that comes alone does not pay for asking after two hundred others.
        most = min(PART, 2 * len(jobs))


def _job(number: int) -> bytes:
    return f"{number} {work.text(number)}".encode()


def _reply(job: bytes) -> bytes:
    number, _, text = job.decode().partition(" ")
    return f"{number} {work.hash_text(text)}".encode()


def _put(body: bytes) -> bytes:
    return b"put 0 0 60 %d\r\n%b\r\n" % (len(body), body)


def _delete(job: str) -> bytes:
    return f"delete {job}\r\n".encode()


if __name__ == "__main__":
    run_worker()
