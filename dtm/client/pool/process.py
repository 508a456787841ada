"""One process of the pool, as the client sees it: it runs a task to its end, and is ended when the task must.

All is done in the thread that calls, but `kill_soon`. Knows no server and no pool.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from math import inf

import structlog
from msgspec import Raw

from dtm.client.failures import MOST_TRACEBACK_LINES, Failure
from dtm.client.handlers import Outcome, Returned, Success
from dtm.client.origin import Origin
from dtm.client.pool.output import Output
from dtm.client.pool.speech import Answer, Begun, Channel, Failed, Logged, Order, PutOff, Setup, Succeeded, Told, Word
from dtm.client.work import Work

# How long a task that is told to stop may take to clean up, before its process is killed.
GRACE_S = 2.0
# How long a process may take to start and to import the user's code.
START_S = 60.0
# The longest that a wish to stop, or the end of a process, stays unseen.
_LOOK_S = 0.05
# How long the system may take to bury a process that has closed its socket.
_BURIAL_S = 1.0

log = structlog.get_logger()


class PoolProcess:
    """A process that runs one task at a time."""

    def __init__(self, origin: Origin) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._popen = _started(theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._channel = Channel(ours, Answer)
        self._outputs = [Output(self._popen.stdout, "stdout"), Output(self._popen.stderr, "stderr")]
        self._selector = selectors.DefaultSelector()
        for number in (ours.fileno(), *(output.number for output in self._outputs)):
            self._selector.register(number, selectors.EVENT_READ)
        self._unsaid: list[Word] = [Setup(sys.path, log.bind().get_effective_level(), dict(origin))]
        self._errors: deque[str] = deque(maxlen=MOST_TRACEBACK_LINES)
        self._is_gone = False
        self._is_told_to_stop = False
        self._has_begun = False
        self._limit_at = self._kill_at = inf

    @property
    def pid(self) -> int:
        """Its number."""
        return self._popen.pid

    @property
    def is_usable(self) -> bool:
        """Whether it can run another task."""
        return not (self._is_gone or self._is_told_to_stop or self._has_exited())

    def run(self, work: Work, *, max_value: int) -> Outcome:
        """Run `work` to its end, which comes early if it is asked to stop or takes longer than it may."""
        self._has_begun = False
        self._limit_at = time.monotonic() + START_S
        self._errors.clear()
        self._say(_order(work, max_value))
        while True:
            self._obey(work)
            outcome = self._listen(work)
            if outcome is not None:
                self._relay_rest(work)
                return outcome
            if self._is_gone:
                return self._death(work)

    def kill_soon(self) -> None:
        """Let whoever runs a task here kill the process; may be called in any thread."""
        self._kill_at = 0.0

    def end(self) -> int:
        """End the process and all that it has started; give its exit code."""
        self._is_gone = True
        if self._popen.returncode is None:
            self._signal(signal.SIGKILL)
            self._popen.wait()
            self._selector.close()
            self._channel.socket.close()
            for output in self._outputs:
                output.close()
        return self._popen.returncode

    def _say(self, order: Order) -> None:
        words, self._unsaid = [*self._unsaid, order], []
        try:
            self._channel.say(*words)
        except OSError:
            self._is_gone = True

    def _obey(self, work: Work) -> None:
        now_s = time.monotonic()
        if now_s > self._limit_at:
            self._limit_at = inf
            if self._has_begun:
                work.ask_to_stop("timeout")
            else:
                self._kill_at = now_s
        if work.stop_reason is not None and not self._is_told_to_stop:
            self._is_told_to_stop = True
            self._signal(signal.SIGTERM)
            self._kill_at = min(self._kill_at, now_s + GRACE_S)
        if now_s >= self._kill_at:
            self._kill_at = inf
            self._is_told_to_stop = True
            self._signal(signal.SIGKILL)

    def _listen(self, work: Work) -> Outcome | None:
        has_exited = self._has_exited()
        ready = self._selector.select(0 if has_exited else _LOOK_S)
        self._relay(work)
        if any(key.fd == self._channel.socket.fileno() for key, _ in ready):
            return self._hear(work)
        # Whatever it still said has been heard.
        self._is_gone = self._is_gone or has_exited
        return None

    def _hear(self, work: Work) -> Outcome | None:
        outcome = None
        try:
            for word in self._channel.hear():
                outcome = self._understand(word, work) or outcome
        except (EOFError, OSError, ValueError):
            self._is_gone = True
        return outcome

    def _understand(self, word: Word, work: Work) -> Outcome | None:
        match word:
            case Succeeded(value):
                return Success(value)
            case Failed():
                return Failure(word.error, word.message, word.traceback, word.retry, word.after_s, word.bases)
            case PutOff(delay_s):
                return Returned(delay_s)
            case Begun():
                self._has_begun = True
                self._limit_at = inf if work.timeout_s is None else time.monotonic() + work.timeout_s
            case Told(fraction, note):
                work.current.latest = fraction, note
            case Logged():
                _log(work, word)
        return None

    def _relay(self, work: Work) -> None:
        for output in self._outputs:
            for line in output.lines():
                self._print(work, output, line)
            if output.is_closed and output.number in self._selector.get_map():
                # A pipe without writers is always ready, and never says anything.
                self._selector.unregister(output.number)

    def _relay_rest(self, work: Work) -> None:
        self._relay(work)
        for output in self._outputs:
            if rest := output.rest():
                self._print(work, output, rest)

    def _print(self, work: Work, output: Output, line: str) -> None:
        if output.stream == "stderr":
            self._errors.append(line)
        log.info("task.output", task=work.task_id, kind=work.handler.kind, stream=output.stream, line=line)

    def _death(self, work: Work) -> Failure:
        """Say how the process has ended, with what it said last."""
        buried_at = time.monotonic() + _BURIAL_S
        while not self._has_exited() and time.monotonic() < buried_at:
            time.sleep(_LOOK_S / 10)
        self._relay_rest(work)
        how = _way_to_end(self.end())
        if self._has_begun:
            message = f"the process that ran the task {how}"
        else:
            message = f"the process that was to import {work.handler.source} {how} before it had done so"
        return Failure("ProcessDied", message, "\n".join(self._errors), retry=True)

    def _has_exited(self) -> bool:
        """Whether it has, without waiting for it in the system's sense: its number stays its own until `end`."""
        try:
            return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._popen.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # it has just ended


def _started(number: int) -> subprocess.Popen[bytes]:
    """Start a process that has the socket of that number.

    No fork, since this process has threads; a session of its own, so that all that it starts ends with it.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "dtm.client.pool", str(number), str(os.getpid())],
        pass_fds=[number],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _order(work: Work, max_value: int) -> Order:
    return Order(
        task_id=work.task_id,
        kind=work.handler.kind,
        attempt=work.current.attempt,
        source=work.handler.source or "",
        payload=Raw(work.payload),
        max_value=max_value,
    )


def _log(work: Work, line: Logged) -> None:
    named = {"task": work.task_id, "kind": work.handler.kind, **line.values}
    if line.logger:
        named["logger"] = line.logger
    log.bind(**named).log(line.level, line.event)


def _way_to_end(code: int) -> str:
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
    hint = " (if nobody did that on purpose, the system was out of memory)" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
