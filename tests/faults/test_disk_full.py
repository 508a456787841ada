"""A disk that fills up: refusals while there is still room, and a full stop when there is none."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, end
from tests.faults import oracle, serverlog
from tests.faults.crowd import MEBIBYTE, Visitor, crowd
from tests.faults.ledger import Ledger
from tests.server.live import registration, submission, success
from tests.waiting import in_the_end
from tests.wire import Line

PAYLOAD = "x" * 10_000
MOST = 5_000


@pytest.fixture
def small_disk(cluster: Cluster) -> Iterator[Path]:
    """A disk of 4 MiB, with the database and the log on it."""
    with _mounted(cluster.folder / "disk") as disk:
        cluster.db, cluster.log = disk / "tasks.db", disk / "dead.log"
        yield disk
        cluster.kill_all()


def test_on_a_disk_that_fills_up_tasks_are_refused_until_there_is_room(
    cluster: Cluster, ledger: Ledger, small_disk: Path
) -> None:
    """No restart is needed. Results are taken all the while, and what was acknowledged is there."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 * MEBIBYTE // 2))
    # The mark has to be above what is written between two looks: here a few tasks at most.
    often = ("--dispatch-check", "10ms", "--min-free-disk", "1MiB")
    server = cluster.start_server(*_here(cluster), *often, *serverlog.JSON)
    with crowd(cluster.address, 2) as (worker, producer):
        assert worker.ask(registration("A", capacity=5)) is not None
        number = _submit_until_refused(producer, ledger)
        assert number > 5
        (low,) = serverlog.events(cluster.folder, "disk.low")
        assert low["folder"] == str(small_disk)
        for _ in range(5):
            _finish_one(worker, ledger)
        filler.unlink()
        in_the_end(lambda: serverlog.events(cluster.folder, "disk.recovered"))
        for again in range(number, number + 20):
            assert _submit(producer, ledger, again)["type"] == "SubmitResponse"

        assert server.poll() is None
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


def test_on_a_full_disk_the_server_stops_and_nothing_acknowledged_is_lost(
    cluster: Cluster, ledger: Ledger, small_disk: Path
) -> None:
    """Without a low-water mark. The batch that met the end is answered by nobody; with room it starts again."""
    server = cluster.start_server(*_here(cluster), "--min-free-disk", "0", *serverlog.JSON)
    producer = Visitor(cluster.address)
    number = 0
    while (answer := producer.ask(_intended(ledger, number))) is not None:
        ledger.acknowledge([_task(number)], answer["ids"])
        number += 1
        assert number < MOST
    assert server.wait(30) == 1
    assert "disk is full" in cluster.logs()
    assert "make room" in cluster.logs()
    producer.close()
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)

    server = cluster.start_server(*_here(cluster), *("--min-free-disk", "0"), *serverlog.JSON)
    with crowd(cluster.address, 1) as (again,):
        answer = again.ask(_intended(ledger, number))
        assert answer is not None
        ledger.acknowledge([_task(number)], answer["ids"])
    assert number > 50
    assert end(server) == 0
    oracle.check_running(cluster.db, cluster.log, ledger)


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("wanted root, to mount a small disk")
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "dtm-test", folder], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"wanted to mount a small disk: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _here(cluster: Cluster) -> tuple[str, ...]:
    return "--db", str(cluster.db), "--dead-letter-log", str(cluster.log)


def _task(number: int) -> Line:
    return {"kind": "A", "payload": PAYLOAD, "key": f"k{number}"}


def _intended(ledger: Ledger, number: int) -> Line:
    return submission(*ledger.intend([_task(number)]))


def _submit(producer: Visitor, ledger: Ledger, number: int) -> Line:
    answer = producer.ask(_intended(ledger, number))
    assert answer is not None
    if answer["type"] == "SubmitResponse":
        ledger.acknowledge([_task(number)], answer["ids"])
    return answer


def _submit_until_refused(producer: Visitor, ledger: Ledger) -> int:
    for number in range(MOST):
        answer = _submit(producer, ledger, number)
        if answer["type"] == "Error":
            assert answer["code"] == "low-disk"
            assert "less than 1MiB are free" in answer["message"]
            return number
        time.sleep(0.01)
    raise AssertionError("never refused")


def _finish_one(worker: Visitor, ledger: Ledger) -> None:
    task = worker.hear()
    while task is not None and task["type"] != "Task":
        ledger.hear(task)
        task = worker.hear()
    assert task is not None
    worker.say(ledger.send(success(task, 1)))
