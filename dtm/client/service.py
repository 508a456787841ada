"""One connection of a worker, from its registration to its loss.

Knows no handlers and no threads: what is held and run is the workload's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio
import structlog
from anyio import create_task_group, move_on_after

from dtm.client.link import Link, LinkLost
from dtm.client.outgoing import Outgoing, ping_forever
from dtm.client.workload import Workload
from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.messages import ClientMessage, ServerMessage
from dtm.security.errors import NotAdmitted
from dtm.security.introduction import REFUSES_CLIENT

REGISTER_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 2.0

log = structlog.get_logger()


class Service:
    """What a worker and a server say to each other over one link."""

    def __init__(
        self,
        link: Link,
        workload: Workload,
        on_welcome: Callable[[messages.RegisterResponse], None],
        *,
        name: str,
        instance: str,
    ) -> None:
        self._link = link
        self._name = name
        self._instance = instance
        self._workload = workload
        self._on_welcome = on_welcome
        self._outgoing = Outgoing()
        self._welcome: messages.RegisterResponse | None = None
        self._welcomed = anyio.Event()
        self._cancels: list[messages.Cancel] = []

    def say(self, messages: Iterable[ClientMessage]) -> None:
        """Send messages, if the server knows already who speaks; what must not be lost, the workload keeps."""
        if self._welcome is not None:
            self._outgoing.put(messages)

    def flush(self) -> None:
        """Send now what was said: nothing more is to be said in this turn of the loop."""
        self._outgoing.flush()

    async def leave(self) -> None:
        """Say goodbye, so that what is still held goes back at once and without blame."""
        self.say([messages.Goodbye()])
        with move_on_after(GOODBYE_TIMEOUT_S):
            await self._outgoing.flushed()

    async def run(self) -> None:
        """Register and serve.

        Raises:
            LinkLost: once the connection is gone.
            NotAdmitted: the server does not take this client for a worker.
        """
        end: LinkLost | NotAdmitted = LinkLost("the connection broke")
        try:
            async with create_task_group() as group:
                group.start_soon(self._outgoing.send_over, self._link)
                group.start_soon(self._register)
                await self._link.listen(self._hear_all)
        except* LinkLost as lost:
            end = LinkLost(str(lost.exceptions[0]))
        except* NotAdmitted as refused:
            end = NotAdmitted(str(refused.exceptions[0]))
        finally:
            await self._link.close()
        raise end

    async def _register(self) -> None:
        workload = self._workload
        registration = messages.Register(
            self._name, workload.kinds, workload.capacity, workload.assignments, self._instance
        )
        self._outgoing.put([registration])
        with move_on_after(REGISTER_TIMEOUT_S):
            await self._welcomed.wait()
        if self._welcome is None:
            raise LinkLost(f"no answer to the registration within {REGISTER_TIMEOUT_S:g} s")
        interval_s, timeout_s = self._welcome.heartbeat_interval, self._welcome.heartbeat_timeout
        await ping_forever(self._link, self._outgoing, interval_s=interval_s, timeout_s=timeout_s)

    def _hear_all(self, messages: Iterable[ServerMessage]) -> None:
        for message in messages:
            self._hear(message)
        if self._cancels:
            # All of one read together: what has not begun is looked through once.
            cancels, self._cancels = self._cancels, []
            self.say(self._workload.cancel(cancels))

    def _hear(self, message: ServerMessage) -> None:
        match message:
            case messages.Task():
                if returned := self._workload.take(message):
                    self.say(returned)
            case messages.ResultResponse():
                self._workload.answered(message)
            case messages.Cancel():
                self._cancels.append(message)
            case messages.RegisterResponse():
                self._begin(message)
            case messages.ShuttingDown():
                log.info("server.shutting-down")
                self.say(self._workload.give_back())
            case messages.Error(code=code, message=reason):
                self._complain(code, reason)

    def _begin(self, welcome: messages.RegisterResponse) -> None:
        self._welcome = welcome
        self._workload.lost(welcome.lost)
        self._workload.bound_values(welcome.max_value)
        # Only now does the server know whose results these are.
        self.say([messages.Capacity(self._workload.capacity), *self._workload.unheard])
        log.info(
            "registered",
            client=welcome.client_id,
            server=welcome.server,
            resumed=len(welcome.resumed),
            lost=len(welcome.lost),
        )
        self._on_welcome(welcome)
        self._welcomed.set()

    def _complain(self, code: str, reason: str) -> None:
        if self._welcome is None and (code in REFUSES_CLIENT or code == ErrorCode.FORBIDDEN):
            raise NotAdmitted(f"the server refused this client: {reason} ({code})")
        if self._welcome is None:
            raise LinkLost(f"the server refused the registration: {reason} ({code})")
        log.error("server.error", code=code, reason=reason)
