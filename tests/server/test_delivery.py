"""What is said once a batch is committed: to whom first, and in which order on one connection."""

from __future__ import annotations

from collections.abc import Sequence

from dtm.core.lifecycle import State
from dtm.protocol.messages import Message, ResultResponse, Task, TaskFinished
from dtm.server.delivery import Delivery
from dtm.server.openbatch import OpenBatch
from dtm.server.roster import Member, Roster
from dtm.server.watchers import Watchers
from dtm.storage.batch import NewTask, Report, Submission, Success
from dtm.storage.receipt import Assigned, Ended, Receipt, Submitted, Verdict


class Noting:
    """A connection that notes what it is told."""

    is_full = False
    is_heard = True

    def __init__(self, heard: list[object]) -> None:
        self._heard = heard

    def flush(self) -> None:
        """Note it."""
        self._heard.append("flush")

    def send(self, messages: Sequence[Message]) -> None:
        """Note which messages."""
        self._heard.append([type(message) for message in messages])

    def cut(self, reason: str) -> None:
        """Note it."""
        self._heard.append("cut")


def test_what_a_worker_waits_for_is_written_at_once() -> None:
    """It hears the verdict on its last task before its next one; who submitted hears in the loop's next turn."""
    heard: list[object] = []
    roster, worker, taken = Roster(), Noting(heard), OpenBatch()
    roster.join(Member(1, "w", worker, kinds=frozenset(["A"]), capacity=1), 0.0)
    taken.submit(Submission((NewTask("A", "2"),)), heard.append)
    taken.report(Report(1, 1, 1, Success("1")), worker)
    answer = Submitted([2], [])
    receipt = Receipt(
        submissions=[answer],
        reports=[Verdict(accepted=True, state="completed")],
        assigned=[Assigned(1, 2, 2, "A", "2", 0, None)],
    )

    Delivery(roster, Watchers(), lambda: None)(taken, receipt)

    assert heard == [answer, [ResultResponse, Task], "flush"]


def test_who_waits_for_a_result_has_it_before_its_worker_is_answered() -> None:
    """The worker goes on without that answer."""
    heard: list[object] = []
    worker, producer, watchers, taken = Noting(heard), Noting(heard), Watchers(), OpenBatch()
    watchers.watch(producer, [1], follows=False)
    taken.report(Report(1, 1, 1, Success("1")), worker)
    receipt = Receipt(
        reports=[Verdict(accepted=True, state="completed")],
        ended=[Ended(1, "A", State.COMPLETED, value="1")],
    )

    Delivery(Roster(), watchers, lambda: None)(taken, receipt)

    assert heard == [[TaskFinished], "flush", [ResultResponse]]
