"""dtm beside its peers: the work is the same, wrong results are seen, and the table tells of everybody."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.machine import this_machine
from bench.peers.measure import require_right
from bench.peers.peer import PEERS
from bench.peers.report import heading, report
from bench.peers.rows import Missing, Row, fastest_equal
from bench.peers.stores import STORES
from bench.process import TOP, Failed
from bench.texts import SHORT

OWN = Row(
    peer="dtm",
    version="0.1.0",
    store="SQLite 3.40.1",
    durability="synchronous=FULL",
    equal=True,
    settings="",
    tasks=1_000,
    submit_per_s=80_000,
    drain_per_s=30_000,
    p50_ms=1,
    p99_ms=2,
)
SLOW = replace(OWN, peer="Slow", drain_per_s=1_000, submit_per_s=20_000, p50_ms=2.5)
FAST = replace(OWN, peer="Fast", drain_per_s=12_000)
AGAIN = replace(OWN, peer="dtm again", drain_per_s=29_000)
CARELESS = replace(OWN, peer="Careless", drain_per_s=60_000, equal=False)


def test_peers_hash_what_dtm_hashes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The peers' own environment has no dtm, so its work is written down twice; both must be the same."""
    monkeypatch.setenv("BENCH_SERVER", "")
    monkeypatch.setenv("BENCH_FOLDER", str(tmp_path))
    work = runpy.run_path(str(TOP / "bench/peers/programs/work.py"))

    require_right([work["hash_text"](work["text"](number)) for number in range(100)], 100)

    assert [path.name for path in tmp_path.iterdir()] == [f"began-{os.getpid()}"]


def right(tasks: int) -> list[str | None]:
    """Give the results that dtm would give."""
    return [SHORT.result(number).strip('"') for number in range(tasks)]


@pytest.mark.parametrize(
    "found",
    [right(2), right(4), [*right(2), None], [*right(2), right(4)[3]], []],
    ids=["one too few", "one too many", "one missing", "one wrong", "none"],
)
def test_wrong_results_fail_a_peer(found: list[str | None]) -> None:
    """A rate counts for nothing unless each result is there and right."""
    with pytest.raises(Failed, match="wanted 3 right results"):
        require_right(found, 3)


def test_verdict_leaves_out_weaker_durability() -> None:
    """Who answers before the disk has it may be faster, and is no measure."""
    text = report(OWN, [SLOW, CARELESS, FAST], AGAIN)

    assert "dtm drains 30,000 tasks/s: 2.5 times the fastest peer of equal durability, Fast" in text
    assert text.splitlines()[6].startswith("| dtm again")
    assert "synchronous=FULL (weaker)" in text
    assert fastest_equal([CARELESS]) is None


def test_table_says_how_many_times_as_fast_dtm_is() -> None:
    """Above 1 always speaks for dtm: in tasks a second dtm over the peer, in milliseconds the peer over dtm."""
    row = next(line for line in report(OWN, [SLOW], AGAIN).splitlines() if "Slow" in line)

    assert [cell.strip() for cell in row.split("|")[6:-1]] == ["20,000", "4.0", "1,000", "30.0", "2.50", "2.00", "2.50"]


def test_peer_that_failed_is_named() -> None:
    """No peer vanishes silently."""
    text = report(OWN, [SLOW, Missing("Broken", "Redis appendfsync always", "wanted rq to run")], AGAIN)

    assert "FAILED Broken, Redis appendfsync always: wanted rq to run" in text


def test_heading_names_the_load(tmp_path: Path) -> None:
    """Figures of a busy machine can be told from others."""
    machine = replace(this_machine(tmp_path), load=1.26)

    assert "load 1.3" in heading(machine)


def test_every_peer_stands_on_a_store_of_equal_durability() -> None:
    """The first row of each peer is the one that can be compared."""
    assert [name for name, peer in PEERS.items() if not STORES[peer.stores[0]].equal] == []
