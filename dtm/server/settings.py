"""How a server is to run; the defaults are those that its command line shows."""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from dtm.server.limits import Limits
from dtm.storage.retention import Retention

BALANCES = ("least-loaded", "round-robin", "random")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything an operator can choose. Durations are seconds, infinite ones for ever."""

    db: Path = Path("tasks.db")
    host: str = "127.0.0.1"
    port: int = 12345
    heartbeat_interval_s: float = 10.0
    # Two missed pings can be a slow garbage collection; three are a death.
    heartbeat_timeout_s: float = 30.0
    heartbeat_check_s: float = 5.0
    reconnect_grace_s: float = 2.0
    dispatch_check_s: float = 0.1
    max_retries: int = 3
    retry_backoff_s: tuple[float, float] = (1.0, 300.0)
    balance: str = "least-loaded"
    stats_interval_s: float = 300.0
    keep_completed_s: float = 7 * 24 * 3600.0
    keep_cancelled_s: float = 7 * 24 * 3600.0
    keep_dead_s: float = math.inf
    dead_letter_log: Path = Path("dead-letter-queue.log")
    shutdown_timeout_s: float = 30.0
    limits: Limits = Limits()
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    demo: bool = False
    demo_interval_s: float = 2.0

    @property
    def retention(self) -> Retention:
        """For how long tasks stay once they have ended."""
        kept = (self.keep_completed_s, self.keep_cancelled_s, self.keep_dead_s)
        return Retention(*(None if math.isinf(age_s) else round(age_s * 1_000_000) for age_s in kept))
