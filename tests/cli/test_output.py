"""Output: one line a task on standard output, reasons on standard error, and the exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET, Raw

from dtm.cli.output import Printer, TroubleOnce
from dtm.client.watches import MISSING
from dtm.protocol.messages import Failure, TaskFinished

BOOM = Failure("ValueError", "boom", "Traceback …")


def completed(value: Any) -> TaskFinished:
    """Make the end of a task that went well."""
    return TaskFinished(7, "completed", Raw(json.dumps(value).encode()))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("text", "text"),
        ("", ""),
        ("ä€😀", "ä€😀"),
        ("a\tb", "a\tb"),
        (True, "true"),
        (None, "null"),
        (12345678901234567890123, "12345678901234567890123"),
        (1.5, "1.5"),
        ({"a": [1, "x"]}, '{"a": [1, "x"]}'),
    ],
)
def test_a_result_is_printed_bare(capsys: pytest.CaptureFixture[str], value: Any, line: str) -> None:
    """A text without its quotes, everything else as JSON."""
    printer = Printer("text")
    printer.finished(completed(value))

    assert capsys.readouterr() == (f"{line}\n", "")
    assert printer.exit_code == 0


@pytest.mark.parametrize("text", ["two\nlines", "with\r\nreturn", "bell\x07 and \x1b[31mred", "line\u2028separator"])
def test_a_result_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """So that lines and tasks pair, and a terminal shows what there is; as JSON it is exact."""
    Printer("text").finished(completed(text))

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == text


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a\u202egnp.exe", "a\u202egnp.exe"),
        ("é\tü", "é\tü"),
        ("é\x1b[2J", '"é\\u001b[2J"'),
        (["é\x7f\x9b\u2028\u2066"], '["é\\u007f\\u009b\\u2028\\u2066"]'),
        ({"\x85": 10**30}, '{"\\u0085": 1000000000000000000000000000000}'),
    ],
)
def test_a_pipe_is_given_the_text_if_a_line_can_hold_it(
    capsys: pytest.CaptureFixture[str], value: Any, line: str
) -> None:
    """In JSON an escape means the same, so that is harmless to a terminal too."""
    Printer("text").finished(TaskFinished(7, "completed", Raw(json.dumps(value, ensure_ascii=False).encode())))

    assert capsys.readouterr().out == f"{line}\n"


def test_a_result_in_json_is_harmless_and_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its blanks, digits and characters are."""
    Printer("json").finished(TaskFinished(7, "completed", Raw('[1.10,\r\t1e999,"\x7f\u202e\u2029é"]'.encode())))

    out = capsys.readouterr().out
    assert '"result":[1.10, \t1e999,"\\u007f\\u202e\\u2029é"]' in out


def test_a_dead_task_leaves_its_line_empty_and_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines and tasks still pair."""
    printer = Printer("text")
    printer.finished(TaskFinished(7, "dead", error=BOOM))
    printer.finished(TaskFinished(8, "dead", error=Failure("ClientDied")))
    printer.finished(TaskFinished(9, "dead"))

    assert capsys.readouterr() == (
        "\n\n\n",
        "task 7 died: ValueError: boom\ntask 8 died: ClientDied\ntask 9 died: no reason is known\n",
    )
    assert printer.exit_code == 1


def test_a_reason_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the handler's exception says, and escaped once."""
    Printer("text").finished(TaskFinished(7, "dead", error=Failure("E\u202e", "two\nlines \x1b[31m 'a\\b'")))

    assert capsys.readouterr().err == "task 7 died: E\\u202e: two\\nlines \\x1b[31m 'a\\b'\n"


def test_a_task_that_has_not_ended_leaves_its_line_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines and tasks still pair, and standard error says where it stands."""
    printer = Printer("text")
    printer.finished(TaskFinished(7, "assigned"))

    assert capsys.readouterr() == ("\n", "task 7 has not ended: it is assigned\n")
    assert printer.exit_code == 1


@pytest.mark.parametrize(
    ("state", "reason", "code"),
    [
        ("cancelled", "task 7 was cancelled\n", 1),
        ("expired", "task 7 expired while it waited\n", 1),
        ("cleared", "task 7: there is no such task\n", 4),
    ],
)
def test_an_end_without_a_run_is_named(capsys: pytest.CaptureFixture[str], state: str, reason: str, code: int) -> None:
    """It is an end, and no success; a task that was cleared while somebody waited is not there any more."""
    printer = Printer("text")
    printer.finished(TaskFinished(7, state))

    assert capsys.readouterr() == ("\n", reason)
    assert printer.exit_code == code


def test_a_missing_task_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever became of the others."""
    printer = Printer("text")
    printer.finished(TaskFinished(7, "dead", error=BOOM))
    printer.finished(TaskFinished(8, MISSING))
    printer.finished(completed(1))

    out, err = capsys.readouterr()
    assert out == "\n\n1\n"
    assert err.endswith("task 8: there is no such task\n")
    assert printer.exit_code == 4


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (completed([1]), {"id": 7, "state": "completed", "result": [1], "error": None}),
        (
            TaskFinished(7, "completed", Raw(b'"a\\nb"')),
            {"id": 7, "state": "completed", "result": "a\nb", "error": None},
        ),
        (
            TaskFinished(7, "dead", UNSET, BOOM),
            {
                "id": 7,
                "state": "dead",
                "result": None,
                "error": {"type": "ValueError", "message": "boom", "traceback": "Traceback …"},
            },
        ),
        (TaskFinished(7, "pending"), {"id": 7, "state": "pending", "result": None, "error": None}),
        (TaskFinished(7, MISSING), {"id": 7, "state": "missing", "result": None, "error": None}),
    ],
)
def test_json_says_everything_on_one_line(
    capsys: pytest.CaptureFixture[str], end: TaskFinished, expected: dict[str, Any]
) -> None:
    """For every state the same fields."""
    Printer("json").finished(end)

    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == expected
    assert list(json.loads(line)) == ["id", "state", "result", "error"]


def test_an_accepted_task_is_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    """Or an object with it."""
    Printer("text").accepted(7)
    Printer("json").accepted(7)

    assert capsys.readouterr().out == '7\n{"id":7}\n'


def test_input_that_cannot_be_read_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever became of the tasks before it."""
    printer = Printer("text")
    printer.unreadable("line 3: no")
    printer.finished(completed(1))

    assert capsys.readouterr() == ("1\n", "Error: line 3: no\n")
    assert printer.exit_code == 1


def test_trouble_is_told_once_a_break(capsys: pytest.CaptureFixture[str]) -> None:
    """Not once a try."""
    tell = TroubleOnce()
    for reason in ("closed", "refused", "refused", "refused", "closed"):
        tell(reason)

    assert capsys.readouterr().err == "closed; trying again\nrefused; trying again\nclosed; trying again\n"
