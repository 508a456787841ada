"""How many files this process may open, and so how many connections it can have.

Touches nothing but the process's own limit.
"""

from __future__ import annotations

import importlib
import sys

OWN = 128
"""Descriptors besides the clients': database, readers, logs, listeners, the operator's, strangers at a full gate."""


def raise_limit(connections: int) -> int:
    """Raise the process's soft limit as far as `connections` need it and the hard limit allows.

    Returns:
        How many connections there can be, at least one.
    """
    if sys.platform == "win32":
        return connections
    resource = importlib.import_module("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - OWN))
