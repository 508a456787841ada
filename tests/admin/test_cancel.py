"""`dtm-admin tasks cancel`, and what `tasks show` and `list` tell of a task's terms."""

from __future__ import annotations

import json

import pytest

from dtm.storage.batch import Batch, Cancellation, NewTask, Progress
from dtm_admin.clock import SECOND
from tests.admin.scene import Admin, Scene
from tests.admin.test_afar import running

ADD = NewTask("add", "1")


def test_named_tasks_are_cancelled(scene: Scene, admin: Admin) -> None:
    """Those and no others; what runs is asked, and the dead-letter log has no line of it."""
    scene.submit(ADD)
    scene.assign(scene.connect("w", "add"), "add")
    scene.submit(ADD, NewTask("add", "1", delay=60 * SECOND), ADD)
    outcome = admin("tasks", "cancel", "1", "2", "3", "--yes")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "Cancelled 3 tasks; those that run are asked to stop.\n"
    assert scene.states(1, 2, 3, 4) == ["assigned", "cancelled", "cancelled", "pending"]
    assert scene.audit() == []


def test_filters_choose(scene: Scene, admin: Admin) -> None:
    """Kind, state and age, alone or together."""
    scene.submit(ADD, NewTask("mul", "1"), ago_s=7_200)
    scene.submit(ADD, NewTask("mul", "1", delay=60 * SECOND))

    assert admin("tasks", "cancel", "--kind", "add", "--older-than", "1h", "-y").code == 0
    assert scene.states(1, 2, 3, 4) == ["cancelled", "pending", "pending", "scheduled"]
    assert admin("tasks", "cancel", "--state", "scheduled", "-y").code == 0
    assert scene.states(1, 2, 3, 4) == ["cancelled", "pending", "pending", "cancelled"]
    assert admin("tasks", "cancel", "--all", "-y", "-o", "json").document["done"] == 2
    assert scene.states(2, 3) == ["cancelled", "cancelled"]


def test_what_has_ended_or_is_not_there_is_not_found(scene: Scene, admin: Admin) -> None:
    """The others are cancelled all the same."""
    (dead,) = scene.bury()
    (waiting,) = scene.submit(ADD)
    outcome = admin("tasks", "cancel", str(dead), str(waiting), "99", "-y")

    assert outcome.code == 4
    assert outcome.err == f"Found no such task to cancel: {dead}, 99; 'dtm-admin tasks show ID' tells what it is.\n"
    assert scene.states(dead, waiting) == ["dead", "cancelled"]


def test_a_dry_run_changes_nothing(scene: Scene, admin: Admin) -> None:
    """It says what would be done."""
    scene.submit(ADD, ADD)

    assert admin("tasks", "cancel", "--all", "-n").out == "Would cancel 2 tasks: 2, 1. Nothing was changed.\n"
    assert scene.states(1, 2) == ["pending", "pending"]


@pytest.mark.parametrize("words", [[], ["1", "--all"], ["--state", "dead"], ["--kind", ""], ["1x"]])
def test_a_slip_cancels_nothing(words: list[str], scene: Scene, admin: Admin) -> None:
    """Wrong usage."""
    scene.submit(ADD)

    assert admin("tasks", "cancel", *words, "--yes").code == 2
    assert scene.states(1) == ["pending"]


def test_nobody_who_could_answer_is_no_yes(scene: Scene, admin: Admin) -> None:
    """A script has to say it."""
    scene.submit(ADD)
    outcome = admin("tasks", "cancel", "1")

    assert outcome.code == 2
    assert "wanted an answer to 'Cancel 1 task?'" in outcome.err
    assert scene.states(1) == ["pending"]


def test_many_are_cancelled_in_slices(scene: Scene, admin: Admin) -> None:
    """More than one transaction takes."""
    scene.submit(*[ADD] * 2_500)

    assert admin("tasks", "cancel", "--all", "-y").out.startswith("Cancelled 2,500 tasks")
    assert set(scene.states(*range(1, 2_501))) == {"cancelled"}


def test_a_live_server_does_it(scene: Scene, admin: Admin) -> None:
    """The count and the command travel through it."""
    scene.submit(ADD, NewTask("mul", "1"), ADD)
    with running(scene.db.parent):
        looked = admin("tasks", "cancel", "--all", "-n")
        outcome = admin("tasks", "cancel", "--kind", "add", "-y")
        missing = admin("tasks", "cancel", "1", "-y")

    assert looked.out == "Would cancel 3 tasks: 3, 2, 1. Nothing was changed.\n"
    assert (outcome.code, outcome.out) == (0, "Cancelled 2 tasks; those that run are asked to stop.\n")
    assert missing.code == 4
    assert scene.states(1, 2, 3) == ["cancelled", "pending", "cancelled"]


def test_a_stopped_servers_overdue_attempts_are_left_to_it(scene: Scene, admin: Admin) -> None:
    """Their clients cannot report now."""
    scene.submit(NewTask("add", "1", timeout=SECOND), ADD, ago_s=60)
    scene.assign(scene.connect("w", "add"), "add", ago_s=60)
    admin("tasks", "cancel", "2", "-y")

    assert scene.states(1, 2) == ["assigned", "cancelled"]


# --- what is shown ---------------------------------------------------------------------------------------------


def test_the_terms_of_a_task_are_shown(scene: Scene, admin: Admin) -> None:
    """Policy, deadline, expiry, uniqueness, progress, and that it is to stop."""
    retry = json.dumps({"delay": 5})
    scene.submit(NewTask("add", "1", timeout=7_230 * SECOND, expires=3_630 * SECOND, unique="u1", retry=retry))
    (assigned,) = scene.assign(scene.connect("w", "add"), "add")
    progress = {(assigned.assignment_id, 1): Progress(0.25, "quarter\x1b")}
    scene.apply(Batch(progress=progress, cancellations=[Cancellation((1,))]))
    shown = {line[0]: line[1] for line in admin("tasks", "show", "1").table if len(line) > 1}
    document = admin("tasks", "show", "1", "-o", "json").document

    assert shown["Retry policy:"] == retry
    assert shown["Unique:"] == "u1"
    assert shown["Expires:"].endswith("(in 1h)")
    assert shown["Deadline:"].endswith("(in 2h)")
    assert shown["Cancel asked:"] != "-"
    assert shown["Progress:"] == "asked to stop, 25%, quarter\\x1b"
    assert document["progress"] == {"fraction": 0.25, "note": "quarter\x1b"}
    assert (document["retry"], document["unique"]) == ({"delay": 5}, "u1")
    assert document["expires_at"] < document["deadline_at"]
    assert document["cancel_requested_at"] is not None
    assert "asked to stop, 25%, quarter" in admin("tasks", "list").out


def test_a_task_without_terms_shows_that(scene: Scene, admin: Admin) -> None:
    """Its retries are the server's."""
    scene.submit(ADD)
    shown = {line[0]: line[1] for line in admin("tasks", "show", "1").table if len(line) > 1}

    assert shown["Retry policy:"] == "the server's"
    assert {shown[name] for name in ("Unique:", "Expires:", "Deadline:", "Cancel asked:", "Progress:")} == {"-"}
