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

# The fastest come first, right after dtm: a machine is never the same for minutes.
PEERS = {
    "pgqueuer": Peer(
        name="PgQueuer",
        program="on_pgqueuer",
        stores=("postgresql",),
        workers=(f"{PROGRAMS}.on_pgqueuer", f"{PROGRAMS}.on_pgqueuer"),
        settings="batches of 500; enqueue of 1,000; VACUUM ANALYZE after it; results committed to a table",
        share=3,
    ),
    "beanstalkd": Peer(
        name="beanstalkd",
        program="on_beanstalkd",
        stores=("beanstalkd", "beanstalkd-50ms"),
        workers=(f"{PROGRAMS}.on_beanstalkd", f"{PROGRAMS}.on_beanstalkd"),
        settings="has no results: the worker puts each into a reply tube; up to 200 commands in one write",
        share=2,
    ),
    "dramatiq": Peer(
        name="Dramatiq",
        program="on_dramatiq",
        stores=("redis", "redis-everysec"),
        workers=(f"dramatiq {PROGRAMS}.on_dramatiq --processes 2 --threads 8",),
        settings="its default of 8 threads in each of two processes; its result backend; has no bulk, so one by one",
    ),
    "saq": Peer(
        name="SAQ",
        program="on_saq",
        stores=("redis", "redis-everysec"),
        workers=(f"saq {PROGRAMS}.on_saq.settings --quiet", f"saq {PROGRAMS}.on_saq.settings --quiet"),
        settings="100 at once in each worker and in the submitter; it has no bulk",
    ),
    "huey": Peer(
        name="Huey",
        program="on_huey",
        stores=("sqlite",),
        workers=(f"huey.bin.huey_consumer {PROGRAMS}.on_huey.huey -k process -w 2 -n -q -d 0.001 -m 0.001",),
        settings="one consumer with two worker processes, its manual's choice for work on the CPU; WAL; looks every ms",
    ),
    "procrastinate": Peer(
        name="Procrastinate",
        program="on_procrastinate",
        stores=("postgresql",),
        workers=tuple(
            f"procrastinate --app {PROGRAMS}.on_procrastinate.app worker --concurrency 10 --name {name}"
            for name in ("one", "two")
        ),
        settings="10 at once in each worker; batch_defer of 1,000; VACUUM ANALYZE after it; results as PgQueuer",
        share=0.3,
    ),
    "celery": Peer(
        name="Celery",
        program="on_celery",
        stores=("redis", "redis-everysec"),
        workers=(
            f"celery --app {PROGRAMS}.on_celery worker -c 2 -P prefork -l WARNING --without-gossip --without-mingle",
        ),
        settings="prefork with two processes; acks late; prefetch 128; sent in groups of 1,000; its result backend",
        share=0.4,
    ),
    "rq": Peer(
        name="RQ",
        program="on_rq",
        stores=("redis", "redis-everysec"),
        workers=(_RQ_WORKER, _RQ_WORKER),
        settings="SimpleWorker, which does not fork for each job; JSON; enqueue_many, a pipeline of 1,000 jobs",
        share=0.4,
    ),
}
