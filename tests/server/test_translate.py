"""From the wire's words to the store's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from dtm.protocol import messages
from dtm.protocol.codec import ErrorCode
from dtm.protocol.framing import MAX_VALUE
from dtm.protocol.messages import SubmittedTask
from dtm.server.commands import MAX_COMMAND, command
from dtm.server.limits import Limits
from dtm.server.translate import Unacceptable, outcome, submission
from dtm.storage.batch import Clear, Failed, Failure, NewTask, Reprocess, Selection, Submission, Success


def taken(*tasks: SubmittedTask, limits: Limits = Limits()) -> Submission:  # noqa: B008  a frozen value
    """Give the tasks of a `Submit`."""
    return submission(messages.Submit(1, list(tasks)), limits)


def result(**fields: Any) -> messages.Result:
    """Write a `Result`."""
    return messages.Result(1, 1, **fields)


def admin(name: str, args: object) -> messages.Admin:
    """Write an `Admin`."""
    return messages.Admin(1, name, Raw(json.dumps(args).encode()))


def test_what_a_task_does_not_say_stays_open() -> None:
    """The store's policy fills it in."""
    assert taken(SubmittedTask("A")).tasks == (NewTask("A", "null"),)


def test_seconds_become_microseconds() -> None:
    """Rounded, not cut: 0.1 is no binary fraction."""
    tasks = taken(
        SubmittedTask("A", Raw(b'{"a": 1}'), "k", 5, delay=0.1, max_retries=2, timeout=1e-6),
        SubmittedTask("A", run_at=1_800_000_000.000_001),
    ).tasks

    assert tasks == (
        NewTask("A", '{"a": 1}', "k", 5, delay=100_000, max_retries=2, timeout=1),
        NewTask("A", "null", run_at=1_800_000_000_000_001),
    )


def test_two_times_to_run_are_one_too_many() -> None:
    """Even if they agree."""
    with pytest.raises(Unacceptable, match="delay or run_at, found both") as refusal:
        taken(SubmittedTask("A", delay=0, run_at=0))

    assert refusal.value.code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize("size", [MAX_VALUE - 1, MAX_VALUE, MAX_VALUE + 1])
def test_a_payload_may_be_so_large_and_no_larger(size: int) -> None:
    """In bytes of its JSON text."""
    payload = Raw(b'"' + b"x" * (size - 2) + b'"')
    if size <= MAX_VALUE:
        assert len(taken(SubmittedTask("A", payload)).tasks[0].payload) == size
        return
    with pytest.raises(Unacceptable, match="wanted a payload of at most 983,040 bytes, found 983,041") as refusal:
        taken(SubmittedTask("A", payload))
    assert refusal.value.code is ErrorCode.PAYLOAD_TOO_LARGE


def test_a_server_may_take_less_than_the_protocol_allows() -> None:
    """Fewer tasks, smaller payloads; one of them that is too large refuses the whole submission."""
    limits = Limits(max_tasks_per_submit=2, max_payload=6)
    sound, large = SubmittedTask("A", Raw(b'"1234"')), SubmittedTask("A", Raw(b'"12345"'))

    assert len(taken(sound, sound, limits=limits).tasks) == 2
    with pytest.raises(Unacceptable, match="at most 2 tasks, found 3") as too_many:
        taken(sound, sound, sound, limits=limits)
    with pytest.raises(Unacceptable, match="at most 6 bytes, found 7") as too_large:
        taken(sound, large, limits=limits)
    assert (too_many.value.code, too_large.value.code) == (ErrorCode.TOO_MANY_TASKS, ErrorCode.PAYLOAD_TOO_LARGE)


def test_a_result_is_a_value_or_a_failure() -> None:
    """A failure says whether another try may go better, and has words even if the client had none."""
    assert outcome(result(ok=True, value=Raw(b"[1]"))) == Success("[1]")
    assert outcome(result(ok=True)) == Success("null")
    words = messages.Failure("E", "m", "t")
    assert outcome(result(ok=False, error=words)) == Failed(Failure("E", "m", "t"), may_retry=True)
    assert outcome(result(ok=False, error=words, retry=False)) == Failed(Failure("E", "m", "t"), may_retry=False)
    assert outcome(result(ok=False)) == Failed(Failure("Unknown", "the client gave no reason"), may_retry=True)


@pytest.mark.parametrize(("name", "kind"), [("deadletter.reprocess", Reprocess), ("deadletter.clear", Clear)])
def test_a_command_has_a_selection_and_a_limit(name: str, kind: type[Reprocess | Clear]) -> None:
    """Both are the store's own words."""
    selection = {"ids": [1, 2], "kind": "A", "error": "x", "died_before": 5, "everything": True, "through": 9}

    assert command(admin(name, {"selection": selection, "limit": MAX_COMMAND})) == kind(
        Selection((1, 2), "A", "x", 5, everything=True, through=9), MAX_COMMAND
    )
