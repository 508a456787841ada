"""Each peer: its program, its worker processes, the store that it stands on, and why it is set so."""

from __future__ import annotations

from msgspec import Struct

PROGRAMS = "bench.peers.programs"


class Peer(Struct, frozen=True, kw_only=True):
    """A peer at its own best practice."""

    name: str
    program: str
    stores: tuple[str, ...]
    # Each is what stands after `python -m`; together they are two processes that work.
    workers: tuple[str, ...]
    settings: str
    # Of the tasks that are asked for: enough for seconds, not for minutes.
    share: float = 1


_RQ_WORKER = (
    f"rq.cli worker --config {PROGRAMS}.on_rq --worker-class rq.worker.SimpleWorker --serializer json"
    " --disable-job-desc-logging --quiet"
)

PEERS = {
    "huey": Peer(
        name="Huey",
        program="on_huey",
        stores=("sqlite",),
        workers=(f"huey.bin.huey_consumer {PROGRAMS}.on_huey.huey -k process -w 2 -n -q -d 0.001 -m 0.001",),
        settings="one consumer with two worker processes, its manual's choice for work on the CPU; WAL; looks every ms",
    ),
    "rq": Peer(
        name="RQ",
        program="on_rq",
        stores=("redis", "redis-everysec"),
        workers=(_RQ_WORKER, _RQ_WORKER),
        settings="SimpleWorker, which does not fork for each job; JSON; enqueue_many, a pipeline of 1,000 jobs",
        share=0.4,
    ),
    "dramatiq": Peer(
        name="Dramatiq",
        program="on_dramatiq",
        stores=("redis", "redis-everysec"),
        workers=(f"dramatiq {PROGRAMS}.on_dramatiq --processes 2 --threads 8",),
        settings="its default of 8 threads in each of two processes; its result backend; has no bulk, so one by one",
    ),
    "beanstalkd": Peer(
        name="beanstalkd",
        program="on_beanstalkd",
        stores=("beanstalkd", "beanstalkd-50ms"),
        workers=(f"{PROGRAMS}.on_beanstalkd", f"{PROGRAMS}.on_beanstalkd"),
        settings="has no results: the worker puts each into a reply tube; up to 200 commands in one write",
        share=2,
    ),
}
