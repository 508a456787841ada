"""What a producer asks for, and which answers fit it.

Knows no connection.
"""

from __future__ import annotations

from asyncio import Event
from typing import TypeAlias

from dtm.core.errors import DtmError
from dtm.protocol.messages import (
    CancelRequest,
    CancelResponse,
    Error,
    Query,
    QueryResponse,
    Submit,
    SubmitResponse,
)

Question: TypeAlias = Submit | Query | CancelRequest
Answer: TypeAlias = SubmitResponse | QueryResponse | CancelResponse


class RequestRefused(DtmError):
    """The server said no, and nothing of the request was done."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Request:
    """Something asked for, until it is answered."""

    def __init__(self, message: Question) -> None:
        self.message = message
        self._over = Event()
        self._answer: Answer | DtmError | None = None

    def answer(self, answer: Answer | Error) -> None:
        """Let whoever asked have the answer."""
        self._answer = RequestRefused(answer.code, answer.message) if isinstance(answer, Error) else answer
        self._over.set()

    def fail(self, error: DtmError) -> None:
        """Let whoever asked know that no answer will come."""
        self._answer = error
        self._over.set()

    async def answered(self) -> Answer:
        """Wait for the answer.

        Raises:
            RequestRefused: the server said no.
            DtmError: no answer will come.
        """
        await self._over.wait()
        assert self._answer is not None
        if isinstance(self._answer, DtmError):
            # A copy: whoever waits for the same connection gets the same reason, and each its own traceback.
            raise self._answer.with_traceback(None)
        return self._answer


def fits(answer: Answer | Error, question: Question) -> bool:
    """Whether `answer` can be one to `question`."""
    match answer, question:
        case SubmitResponse(ids=ids), Submit(tasks=tasks):
            return len(ids) == len(tasks)
        case QueryResponse(tasks=statuses), Query(ids=ids):
            # Null stands for a task that does not exist.
            found = [id if status is None else status.task_id for id, status in zip(ids, statuses, strict=False)]
            return found == ids and len(statuses) == len(ids)
        case CancelResponse(states=states), CancelRequest(ids=ids):
            return len(states) == len(ids)
    return isinstance(answer, Error)
