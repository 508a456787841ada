"""`dtm-admin deadletter reprocess` and `clear`, straight into the file of a stopped server."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from dtm.storage.batch import Failure
from dtm.storage.lock import StoreLock
from tests.admin.scene import Admin, Scene

PROGRAM = [sys.executable, "-c", "import sys; from dtm_admin.cli import main; sys.exit(main())"]
VERBS = ["reprocess", "clear"]
# Where a task stands that was reprocessed, and one that was cleared.
AFTER = {"reprocess": "pending", "clear": None}
PAST = {"reprocess": "Reprocessed", "clear": "Cleared"}


def _audited(scene: Scene) -> list[tuple[str, int]]:
    return [(line["event"], line["task"]) for line in scene.audit() if line["event"] != "dead"]


@pytest.mark.parametrize("verb", VERBS)
def test_named_tasks_are_settled_and_audited(verb: str, scene: Scene, admin: Admin) -> None:
    """Those and no others, each with a line in the audit."""
    first, second, third = scene.bury(count=3)

    outcome = admin("deadletter", verb, str(first), str(third), "--yes")

    assert (outcome.code, outcome.out, outcome.err) == (0, f"{PAST[verb]} 2 dead letters.\n", "")
    assert scene.states(first, second, third) == [AFTER[verb], "dead", AFTER[verb]]
    assert _audited(scene) == [(PAST[verb].lower(), first), (PAST[verb].lower(), third)]


def test_reprocessed_task_starts_anew(scene: Scene, admin: Admin) -> None:
    """The same id, no retries on its account, and its history kept."""
    (id,) = scene.bury()

    admin("deadletter", "reprocess", str(id), "-y")

    task = scene.task(id)
    assert task is not None
    assert task.retry_count == 0
    shown = admin("tasks", "show", str(id), "-o", "json").document
    assert len(shown["attempts"]) == 1
    assert shown["dead_letters"][0]["resolution"] == "reprocessed"


@pytest.mark.parametrize("verb", VERBS)
def test_all_means_all(verb: str, scene: Scene, admin: Admin) -> None:
    """`--all` needs nothing beside it."""
    ids = [*scene.bury(count=12)]

    assert admin("deadletter", verb, "--all", "--yes").out == f"{PAST[verb]} 12 dead letters.\n"
    assert scene.states(*ids) == [AFTER[verb]] * 12


def test_filters_choose(scene: Scene, admin: Admin) -> None:
    """The same filters as those of the list, alone or together, and also beside `--all` and ids."""
    one, two = scene.bury("add", count=2)
    (old,) = scene.bury("add", ago_s=7_200)
    (slow,) = scene.bury("mul", failure=Failure("Timeout", "too slow"))

    assert admin("deadletter", "reprocess", "--error", "TIMEOUT", "-y").out == "Reprocessed 1 dead letter.\n"
    assert scene.states(slow) == ["pending"]
    assert admin("deadletter", "reprocess", "--older-than", "1h", "-y").out == "Reprocessed 1 dead letter.\n"
    assert scene.states(old) == ["pending"]
    assert admin("deadletter", "clear", "--all", "--kind", "mul", "-y").out == "No dead letters match.\n"
    assert admin("deadletter", "clear", str(one), "--id", str(two), "--kind", "add", "-y").code == 0
    assert scene.states(one, two) == [None, None]


@pytest.mark.parametrize("verb", VERBS)
def test_empty_selection_is_wrong_usage_and_never_all(verb: str, scene: Scene, admin: Admin) -> None:
    """A slip must not settle everything, whatever else is said."""
    (id,) = scene.bury()

    outcome = admin("deadletter", verb, "--yes")

    assert outcome.code == 2
    assert "wanted ids, a filter or --all, found none" in outcome.err
    assert scene.states(id) == ["dead"]


@pytest.mark.parametrize("words", [["1", "--all"], ["--id", "1", "--all"]])
def test_ids_with_all_are_wrong_usage(words: list[str], scene: Scene, admin: Admin) -> None:
    """They contradict each other."""
    (id,) = scene.bury()

    outcome = admin("deadletter", "clear", *words, "--yes")

    assert outcome.code == 2
    assert "wanted ids or --all, found both" in outcome.err
    assert scene.states(id) == ["dead"]


@pytest.mark.parametrize("words", [["--kind", ""], ["--error", ""], [""], ["1x"]])
def test_empty_or_wrong_words_are_wrong_usage(words: list[str], scene: Scene, admin: Admin) -> None:
    """What an unset variable of a script makes of a filter settles nothing."""
    (id,) = scene.bury()

    assert admin("deadletter", "clear", *words, "--yes").code == 2
    assert scene.states(id) == ["dead"]


@pytest.mark.parametrize("verb", VERBS)
def test_without_terminal_and_yes_it_is_wrong_usage(verb: str, scene: Scene, admin: Admin) -> None:
    """A script is told what to do, and never hangs."""
    ids = scene.bury(count=12)

    outcome = admin("deadletter", verb, "--all")

    assert outcome.code == 2
    assert f"wanted an answer to '{verb.capitalize()} 12 dead letters?', found no terminal to ask" in outcome.err
    assert "--yes goes on, --dry-run only looks" in outcome.err
    assert scene.states(*ids) == ["dead"] * 12


@pytest.mark.parametrize("verb", VERBS)
def test_dry_run_changes_nothing_and_says_what_would(verb: str, scene: Scene, admin: Admin) -> None:
    """Nobody is asked, the file stays as it is, and a live server is not needed."""
    ids = scene.bury(count=12)

    outcome = admin("deadletter", verb, "--all", "--dry-run")

    assert outcome.code == 0
    assert outcome.out == (
        f"Would {verb} 12 dead letters: 12, 11, 10, 9, 8, 7, 6, 5, 4, 3 and 2 more. Nothing was changed.\n"
    )
    assert scene.states(*ids) == ["dead"] * 12
    assert _audited(scene) == []


def test_dry_run_wins_over_yes(scene: Scene, admin: Admin) -> None:
    """The careful one of two contrary words counts."""
    (id,) = scene.bury()

    assert admin("deadletter", "clear", "--all", "-n", "-y").out.startswith("Would clear 1 dead letter: 1.")
    assert scene.states(id) == ["dead"]


@pytest.mark.parametrize("verb", VERBS)
def test_ids_that_are_no_dead_letters_are_named(verb: str, scene: Scene, admin: Admin) -> None:
    """Exit code 4; the others are settled all the same."""
    first, second = scene.bury(count=2)

    outcome = admin("deadletter", verb, "77", str(first), "66", "77", "--yes")

    assert outcome.code == 4
    assert outcome.err.startswith("Found no such dead letter: 77, 66;")
    assert outcome.out == f"{PAST[verb]} 1 dead letter.\n"
    assert scene.states(first, second) == [AFTER[verb], "dead"]


@pytest.mark.parametrize("words", [[], ["--dry-run"], ["--yes"]])
def test_only_ids_that_are_no_dead_letters(words: list[str], scene: Scene, admin: Admin) -> None:
    """Nothing to ask and nothing to do: exit code 4."""
    (reprocessed,) = scene.bury()
    admin("deadletter", "reprocess", str(reprocessed), "-y")

    outcome = admin("deadletter", "reprocess", str(reprocessed), "99", *words)

    assert outcome.code == 4
    assert outcome.err.startswith(f"Found no such dead letter: {reprocessed}, 99;")
    assert outcome.out == "No dead letters match.\n"


@pytest.mark.parametrize("words", [["--all"], ["--kind", "none"], ["--error", "none"], ["--older-than", "1h"]])
def test_filters_that_match_nothing_are_no_failure(words: list[str], scene: Scene, admin: Admin) -> None:
    """Exit code 0: a script that clears what is old has nothing to do today."""
    if words != ["--all"]:
        scene.bury()

    outcome = admin("deadletter", "clear", *words)

    assert (outcome.code, outcome.out, outcome.err) == (0, "No dead letters match.\n", "")


@pytest.mark.parametrize(
    ("word", "said"),
    [("--yes", {"dry_run": False, "done": 2}), ("--dry-run", {"dry_run": True, "done": 0})],
    ids=["yes", "dry-run"],
)
def test_report_for_programs(word: str, said: dict[str, object], scene: Scene, admin: Admin) -> None:
    """One document on standard output, and nothing else there."""
    scene.bury(count=2)

    outcome = admin("deadletter", "reprocess", "1", "2", "9", "-o", "json", word)

    assert outcome.document == {"command": "reprocess", "selected": 2, "not_found": [9], **said}


def test_more_ids_than_a_slice_holds(scene: Scene, admin: Admin) -> None:
    """A long list of ids is carried out in parts."""
    ids = scene.bury(count=2_500)

    outcome = admin("deadletter", "clear", *map(str, ids), *map(str, range(100_000, 133_000)), "--yes")

    assert outcome.code == 4
    assert outcome.out == "Cleared 2,500 dead letters.\n"
    assert outcome.err.endswith("132999; 'dtm-admin tasks show ID' tells what it is.\n")


def test_lock_is_given_back(scene: Scene, admin: Admin) -> None:
    """A server can start right after."""
    scene.bury()
    admin("deadletter", "clear", "--all", "--yes")

    lock = StoreLock(scene.db)
    lock.acquire()
    lock.release()


# At a terminal.


@contextmanager
def _at_terminal(scene: Scene, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command whose standard input is a terminal; give it and the terminal's other end."""
    master, slave = pty.openpty()
    command = [*PROGRAM, "deadletter", *words, "--db", str(scene.db)]
    try:
        with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            # A question that never comes must not hang the tests.
            deadline = threading.Timer(20, process.kill)
            deadline.start()
            try:
                yield process, master
            finally:
                deadline.cancel()
                process.kill()
    finally:
        os.close(slave)
        os.close(master)


def _question(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stderr is not None
    seen = b""
    while not seen.endswith(b":"):
        letter = process.stderr.read(1)
        assert letter, f"it ended with {seen!r}"
        seen += letter
    return seen


def _answered(scene: Scene, words: Sequence[str], answer: bytes) -> tuple[int, bytes, bytes, bytes]:
    with _at_terminal(scene, *words) as (process, terminal):
        question = _question(process)
        os.write(terminal, answer)
        out, err = process.communicate(timeout=10)
        return process.returncode, question, out, err


def test_question_tells_how_many_and_yes_goes_on(scene: Scene) -> None:
    """The number comes before the answer."""
    ids = scene.bury(count=12)

    code, question, out, _ = _answered(scene, ["reprocess", "--all"], b"y\n")

    assert question == b"Reprocess 12 dead letters? [y/N]:"
    assert (code, out.strip()) == (0, b"Reprocessed 12 dead letters.")
    assert scene.states(*ids) == ["pending"] * 12


@pytest.mark.parametrize("answer", [b"n\n", b"\n"], ids=["no", "enter"])
def test_no_changes_nothing(answer: bytes, scene: Scene) -> None:
    """No is the answer of whoever only presses enter; the exit code says that nothing was done."""
    (id,) = scene.bury()

    code, question, out, err = _answered(scene, ["clear", str(id)], answer)

    assert question == b"Clear 1 dead letter? [y/N]:"
    assert (code, out.strip(), err) == (1, b"", b"Nothing was changed.\n")
    assert scene.states(id) == ["dead"]


def test_what_dies_after_the_count_is_not_touched(scene: Scene) -> None:
    """Who agrees to one dead letter agrees to that one."""
    (counted,) = scene.bury()
    with _at_terminal(scene, "clear", "--all") as (process, terminal):
        assert _question(process) == b"Clear 1 dead letter? [y/N]:"
        (later,) = scene.bury()
        os.write(terminal, b"y\n")
        out, _ = process.communicate(timeout=10)

    assert out.strip() == b"Cleared 1 dead letter."
    assert scene.states(counted, later) == [None, "dead"]


def test_task_that_dies_again_after_the_count_is_not_touched(scene: Scene) -> None:
    """An id means the death that was counted, not the next one."""
    (id,) = scene.bury()
    with _at_terminal(scene, "clear", str(id)) as (process, terminal):
        _question(process)
        scene.reprocess(id)
        scene.fail("add")
        os.write(terminal, b"y\n")
        out, _ = process.communicate(timeout=10)

    assert out.strip() == b"Cleared 0 dead letters."
    assert scene.states(id) == ["dead"]
