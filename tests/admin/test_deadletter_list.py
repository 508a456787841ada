"""`dtm-admin deadletter list`."""

from __future__ import annotations

from datetime import datetime

import pytest

from dtm.storage.batch import Failure
from tests.admin.scene import Admin, Outcome, Scene


def _tasks(outcome: Outcome) -> list[int]:
    return [letter["task_id"] for letter in outcome.document["dead_letters"]]


def test_columns_tell_what_died_when_and_of_what(scene: Scene, admin: Admin) -> None:
    """Task, kind, time and age of death, reason, retries, error and payload."""
    (task,) = scene.bury("1e5", payload='{"a": 1}', ago_s=185)

    headers, row = admin("deadletter", "list").table

    assert headers == ["TASK", "KIND", "DIED", "REASON", "RETRIES", "ERROR", "PAYLOAD"]
    died, age = row.pop(2).split(" ", 1)
    assert row == [str(task), "1e5", "rejected", "1", "ValueError: boom", '{"a": 1}']
    assert age == "(3m ago)"
    assert died.endswith("Z")
    assert datetime.fromisoformat(died).microsecond == 0


def test_newest_comes_first(scene: Scene, admin: Admin) -> None:
    """The last death is the first line."""
    first, second, third = scene.bury(count=3)

    assert _tasks(admin("deadletter", "list", "-o", "json")) == [third, second, first]


def test_cut_list_says_so_on_standard_error(scene: Scene, admin: Admin) -> None:
    """The table stays a table; how much is missing goes beside it."""
    scene.bury(count=60)

    outcome = admin("deadletter", "list")

    assert len(outcome.table) == 1 + 50
    assert outcome.err == "Showing 50 of 60; --limit shows more.\n"
    assert outcome.code == 0


def test_limit_is_followed(scene: Scene, admin: Admin) -> None:
    """JSON says how many there are in all."""
    scene.bury(count=5)

    outcome = admin("deadletter", "list", "--limit", "2", "-o", "json")

    assert outcome.document["total"] == 5
    assert len(outcome.document["dead_letters"]) == 2
    assert outcome.err == "Showing 2 of 5; --limit shows more.\n"


def test_whole_list_says_nothing_beside(scene: Scene, admin: Admin) -> None:
    """Nothing is missing, so nothing is said."""
    scene.bury(count=5)

    assert admin("deadletter", "list", "--limit", "5").err == ""


def test_filters_add_up(scene: Scene, admin: Admin) -> None:
    """Kind, ids, error text in any case, and age; together they leave what meets them all."""
    old, *_ = scene.bury("add", ago_s=7_200), scene.bury("add"), scene.bury("mul", ago_s=7_200)
    (other,) = scene.bury("mul", failure=Failure("Timeout", "Connection RESET by peer"))

    def listed(*filters: str) -> list[int]:
        return sorted(_tasks(admin("deadletter", "list", "-o", "json", *filters)))

    assert listed("--kind", "mul") == [3, 4]
    assert listed("--id", "1", "--id", "4", "--id", "77") == [1, 4]
    assert listed("--error", "connection reset") == [other]
    assert listed("--older-than", "1h") == [1, 3]
    assert listed("--older-than", "1h", "--kind", "add") == old
    assert listed("--kind", "add", "--error", "reset") == []


def test_error_text_beyond_ascii_is_found_as_it_is_written(scene: Scene, admin: Admin) -> None:
    """The database folds the case of ASCII only; what is typed as it was written is found all the same."""
    (task,) = scene.bury(failure=Failure("Error", "MÜLLER: kein Zugriff"))

    assert _tasks(admin("deadletter", "list", "-o", "json", "--error", "mÜller")) == [task]


def test_percent_sign_is_no_wildcard(scene: Scene, admin: Admin) -> None:
    """A text is a text."""
    scene.bury(failure=Failure("Error", "100 per cent"))

    assert _tasks(admin("deadletter", "list", "-o", "json", "--error", "%")) == []


def test_settled_letters_are_not_listed(scene: Scene, admin: Admin) -> None:
    """Only open ones are."""
    first, second = scene.bury(count=2)
    scene.reprocess(first)

    assert _tasks(admin("deadletter", "list", "-o", "json")) == [second]


def test_nothing_is_told_as_nothing(admin: Admin) -> None:
    """No empty table, and no failure."""
    outcome = admin("deadletter", "list")

    assert (outcome.code, outcome.out) == (0, "No dead letters match.\n")
    assert admin("deadletter", "list", "-o", "json").document == {"total": 0, "dead_letters": []}


def test_long_payload_is_shortened_in_the_table_only(scene: Scene, admin: Admin) -> None:
    """A cell has sixty places; JSON has no limit."""
    payload = '"' + "x" * 500 + '"'
    scene.bury(payload=payload)

    assert admin("deadletter", "list").table[1][-1] == payload[:59] + "…"
    assert admin("deadletter", "list", "-o", "json").document["dead_letters"][0]["payload"] == "x" * 500


def test_nothing_steers_the_terminal(scene: Scene, admin: Admin) -> None:
    """Escape, bell, line feed, the eight-bit CSI and the turn of direction come out as escapes."""
    scene.bury("k\x1b[31m", payload='"\x9b2J \u202e"', failure=Failure("E", "\x1b]0;owned\x07\nTASK  KIND"))

    outcome = admin("deadletter", "list")

    assert len(outcome.table) == 2
    assert all(letter.isprintable() or letter == "\n" for letter in outcome.out)
    assert "\\x1b]0;owned\\x07\\nTASK" in outcome.out
    assert admin("deadletter", "list", "-o", "json").out.isascii()


def test_payload_is_a_value_in_json(scene: Scene, admin: Admin) -> None:
    """Programs need not decode it a second time; times have microseconds."""
    scene.bury(payload='{"b": [1, null, "é"]}')

    (letter,) = admin("deadletter", "list", "-o", "json").document["dead_letters"]

    assert letter["payload"] == {"b": [1, None, "é"]}
    assert letter["retry_count"] == 1
    assert len(letter["died_at"]) == len("2025-01-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--kind", ""], "wanted a text to look for, found an empty one"),
        (["--error", "\udcff"], "wanted UTF-8 text, found '\\udcff'"),
        (["--id", "seven"], "wanted the id of a task, a whole number from 0 up, found 'seven'"),
        (["--id", str(2**63)], "wanted the id of a task"),
        (["--older-than", "yore"], "wanted a duration"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_value_is_wrong_usage(words: list[str], complaint: str, admin: Admin) -> None:
    """Exit code 2, and what was wanted."""
    outcome = admin("deadletter", "list", *words)

    assert outcome.code == 2
    assert complaint in outcome.err
