"""Where a process of the pool begins: `python -m dtm.client.pool NUMBER CLIENT`, the socket's number and the client's.

Binds its life to the client's before it imports anything that takes time: a client may be killed at any moment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from importlib import import_module

_PR_SET_PDEATHSIG = 1


def _die_with(client: int) -> None:
    """Let the system end this process with the client, even if it is deep in C code and hears nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have died before the system knew.
    if os.getppid() != client:
        os._exit(1)


def main() -> None:
    """Serve the client that has started this process."""
    number, client = map(int, sys.argv[1:])
    _die_with(client)
    import_module("dtm.client.pool.child").main(number)


if __name__ == "__main__":
    main()
