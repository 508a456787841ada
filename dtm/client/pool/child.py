"""A process of the pool: takes a task, runs it in its main thread, says how it ended, takes the next.

Knows no server.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from functools import cache
from queue import SimpleQueue
from typing import Protocol

from dtm.client.current import CurrentTask, running
from dtm.client.failures import Failure, failure
from dtm.client.handlers import Handler, Outcome, Returned, Success, run_async, run_sync
from dtm.client.origin import told
from dtm.client.pool.childlog import forward_logs
from dtm.client.pool.sources import CannotLoad, load
from dtm.client.pool.speech import Begun, Channel, Failed, Order, PutOff, Request, Setup, Succeeded, Told, Word

# The client does not look more often, and hears the last word at the end.
_TELL_S = 0.1

_load = cache(load)


class Stopped(SystemExit):
    """The client asks the task to stop."""


class Say(Protocol):
    """How words get to the client."""

    def __call__(self, *words: Word) -> None: ...


class Child:
    """This process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._task: CurrentTask | None = None
        self._saying = threading.Lock()
        self._is_asked = False
        # Whether a wish to stop may cut in here: not while a line is half said, nor when a task has ended.
        self._is_open = True

    def run(self) -> None:
        """Run task after task, until one is asked to stop or the client is gone."""
        signal.signal(signal.SIGTERM, self._stop)
        words = _words(self._channel)
        setup = next(words)
        assert isinstance(setup, Setup)
        sys.path[:] = setup.path
        forward_logs(self._say, setup.level)
        threading.Thread(target=self._hear, args=(words,), name="client", daemon=True).start()
        with told(setup.origin):
            while not self._is_asked:
                self._perform(self._orders.get())

    def _perform(self, order: Order) -> None:
        task = _TellingTask(order.task_id, order.kind, order.attempt, _say=self._say)
        self._task = task
        try:
            with running(task):
                outcome = copy_context().run(self._outcome, order)
            self._is_open = False
        except KeyboardInterrupt as error:
            # This process has a session of its own, so it is no Ctrl-C of a user's, which `run_sync` lets pass.
            self._is_open = False
            outcome = failure(error, retry=True)
        except Stopped as error:
            # It came between the lines of the handler and those of this program.
            outcome = failure(error, retry=True)
        sys.stdout.flush()
        sys.stderr.flush()
        self._say(*task.last_word(), _ending(outcome))
        self._task = None
        self._is_open = True

    def _outcome(self, order: Order) -> Outcome:
        try:
            handler = _load(order.source, order.kind)
        except CannotLoad as error:
            return failure(error, retry=False)
        except Exception as error:  # noqa: BLE001  an import runs the user's code
            return failure(error, retry=True)
        self._say(Begun())
        if handler.is_async:
            try:
                return asyncio.run(self._awaited(handler, order))
            finally:
                # A loop that closes leaves the system's own way behind: to end at once.
                signal.signal(signal.SIGTERM, self._stop)
        return run_sync(handler, order.payload, max_result_bytes=order.max_value)

    async def _awaited(self, handler: Handler, order: Order) -> Outcome:
        task = asyncio.current_task()
        assert task is not None

        def cancel() -> None:
            self._note_stop()
            task.cancel()

        # What cuts into the loop itself would not show where the handler was.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, cancel)
        try:
            return await run_async(handler, order.payload, max_result_bytes=order.max_value)
        except asyncio.CancelledError as error:
            return failure(error, retry=True)

    def _say(self, *words: Word) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._send(words)
            return
        was_open, self._is_open = self._is_open, False
        self._send(words)
        self._is_open = was_open
        if was_open and self._is_asked:
            self._cut_in()

    def _send(self, words: tuple[Word, ...]) -> None:
        with self._saying:
            self._channel.say(*words)

    def _hear(self, words: Iterator[Request]) -> None:
        try:
            for order in words:
                assert isinstance(order, Order)
                self._orders.put(order)
        finally:
            # The client is gone: nobody waits for what runs here, and it may run elsewhere already.
            os._exit(1)

    def _note_stop(self) -> None:
        self._is_asked = True
        if self._task is not None:
            self._task.cancel_requested = True

    def _stop(self, *_: object) -> None:
        self._note_stop()
        if self._is_open:
            self._cut_in()

    def _cut_in(self) -> None:
        self._is_open = False
        raise Stopped("the client asked the task to stop")


class _TellingTask(CurrentTask, kw_only=True, eq=False):
    """A task whose progress is told to the client."""

    _say: Say
    _told: tuple[float | None, str] | None = None
    _told_s: float = 0.0

    def progress(self, fraction: float | None, note: str = "") -> None:
        """Say how much is done, as in any other task."""
        super().progress(fraction, note)
        if time.monotonic() - self._told_s >= _TELL_S:
            self._told_s = time.monotonic()
            self._say(*self.last_word())

    def last_word(self) -> list[Word]:
        """Give what the client has not heard yet."""
        if self.latest is None or self.latest is self._told:
            return []
        self._told = self.latest
        return [Told(*self.latest)]


def _ending(outcome: Outcome) -> Word:
    match outcome:
        case Success(value):
            return Succeeded(value)
        case Returned(delay_s):
            return PutOff(delay_s)
        case Failure():
            return Failed(
                outcome.type, outcome.message, outcome.traceback, outcome.retry, outcome.after_s, outcome.bases
            )


def _words(channel: Channel) -> Iterator[Request]:
    while True:
        yield from channel.hear()


def main(number: int) -> None:
    """Serve the client at the other end of the socket of that number."""
    # A crash in C code says where, and the client reads it.
    faulthandler.enable(all_threads=False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    end = socket.socket(fileno=number)
    end.set_inheritable(False)
    Child(Channel(end, Request)).run()
