"""`make fuzz LINES=1000000 SEED=7`: so many fuzzed lines into the codec, and as many into a server process.

Prints the seed, the pace and what was answered; exits with 1, and says how to see it again, at the first failure.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import anyio

from tests.acceptance.cluster import Cluster
from tests.faults.dialogue import Books
from tests.faults.fuzz import complaints, target_of, try_codec, try_server

ROUND = 20_000
"""Lines between two reports."""


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    wanted = parser.parse_args()
    _say(
        f"seed {wanted.seed}, {wanted.lines:,} lines each way; "
        f"replay with: make fuzz LINES={wanted.lines} SEED={wanted.seed}"
    )
    _codec(wanted.seed, wanted.lines)
    with tempfile.TemporaryDirectory(prefix="dtm-fuzz-") as folder:
        cluster = Cluster(Path(sys.executable).parent, Path(folder))
        try:
            _server(cluster, wanted.seed, wanted.lines)
        finally:
            cluster.kill_all()


def _codec(seed: int, lines: int) -> None:
    counts: Counter[str] = Counter()
    started_s = time.perf_counter()
    for first in range(0, lines, ROUND):
        counts += try_codec(f"{seed} {first}", min(ROUND, lines - first))
    _report("codec", counts, counts.total(), started_s)


def _server(cluster: Cluster, seed: int, lines: int) -> None:
    server = cluster.start_server()
    target, books, started_s = target_of(cluster.db), Books(), time.perf_counter()
    while books.lines < lines:
        part = min(ROUND, lines - books.lines)
        anyio.run(partial(try_server, target, f"{seed} {books.lines}", lines=part, books=books))
        _say(f"  {books.lines:,} lines, {books.lines / (time.perf_counter() - started_s):,.0f} a second")
    _report("server", books.answers, books.lines, started_s)
    server.send_signal(signal.SIGTERM)
    code = server.wait(60.0)
    logs = cluster.logs()
    assert code == 0, f"the server ended with {code}\n{logs[-5_000:]}"
    assert "Traceback" not in logs, logs[-5_000:]
    assert "connection.failed" not in logs, logs[-5_000:]
    wrong = dict(complaints(cluster.db, books))
    assert not wrong, wrong
    _say(
        f"  {books.conversations:,} conversations; {len(books.payloads):,} payloads and {len(books.values):,} results "
        f"kept to the byte; a healthy client was served {books.healthy:,} times; the server ended well"
    )


def _report(name: str, counts: Counter[str], lines: int, started_s: float) -> None:
    took_s = time.perf_counter() - started_s
    _say(f"{name}: {lines:,} lines in {took_s:,.0f} s, {lines / took_s:,.0f} a second, and no failure")
    for answer, times in counts.most_common():
        _say(f"  {times:>12,}  {answer}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
