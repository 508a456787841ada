"""dtm-client submit, against a real server with a real worker."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dtm.server.limits import Limits
from tests.cli import site as sites
from tests.cli.site import Site, Terminal
from tests.client.scripted import free_port

PRIMES = {2: "true", 9: "false", 97: "true", -7: "false", 2**127 - 1: "true"}


# Where payloads come from.


def test_a_payload_is_a_text(site: Site) -> None:
    """Its id is printed once the task is on the disk."""
    outcome = site.submit("Other", "hello world")

    assert outcome == type(outcome)(0, "1\n", "")
    assert [(task.kind, task.payload, task.state) for task in site.tasks()] == [("Other", '"hello world"', "pending")]


def test_with_wait_its_result_is_printed(site: Site) -> None:
    """Instead of the id."""
    outcome = site.submit("HashText", "hello", "--wait")

    assert outcome == type(outcome)(0, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n", "")


@pytest.mark.parametrize("words", [("-",), ("--file", "-")])
def test_lines_of_standard_input_are_tasks(site: Site, words: tuple[str, ...]) -> None:
    """In their order, as are the results."""
    outcome = site.submit("CheckPrime", *words, "--wait", stdin="".join(f"{n}\n" for n in PRIMES).encode())

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.lines == list(PRIMES.values())


def test_lines_of_a_file_are_tasks(site: Site, tmp_path: Path) -> None:
    """Its last line needs no end, and an empty one is a task too."""
    (tmp_path / "words").write_bytes("ä\n\nlast".encode())
    outcome = site.submit("Echo", "--file", str(tmp_path / "words"), "--wait", "-o", "json")

    assert outcome.code == 0
    assert [json.loads(line)["result"] for line in outcome.lines] == ["ä", "", "last"]


@pytest.mark.parametrize(
    "words",
    [
        ("-7",),
        ("--wait", "-7"),
        ("-7", "-o", "json"),
        ("--priority", "-7", "-7"),
        ("--priority=-7", "-7"),
        ("--", "-7"),
        ("--json", "-7"),
    ],
)
def test_a_negative_number_is_a_payload_and_no_option(site: Site, words: tuple[str, ...]) -> None:
    """Wherever it stands; after an option that takes a value it is that value."""
    outcome = site.submit("CheckPrime", *words)

    assert outcome.code == 0, outcome.err
    (task,) = site.tasks()
    assert task.payload.strip('"') == "-7"
    assert task.priority == (-7 if words[0].startswith("--priority") else 0)


@pytest.mark.parametrize("words", [(), ("x", "--file", "y")], ids=["none", "both"])
def test_one_source_is_wanted(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Not none, and not two."""
    outcome = terminal.run("submit", "A", *words)

    assert outcome.code == 2
    assert "wanted either a PAYLOAD (- reads lines from standard input) or --file FILE" in outcome.err


def test_json_is_passed_on_as_it_is(site: Site) -> None:
    """Checked, not rewritten."""
    outcome = site.submit("Echo", '{"b": 1.50, "a": [null]}', "--json", "--wait", "-o", "json")

    assert json.loads(outcome.out)["result"] == {"b": 1.5, "a": [None]}
    assert site.tasks()[0].payload == '{"b": 1.50, "a": [null]}'


def test_a_payload_that_is_no_json_is_refused(site: Site) -> None:
    """Nothing is submitted."""
    outcome = site.submit("Echo", "{", "--json")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("Error: wanted JSON, found '{'")
    assert site.tasks() == []


@pytest.mark.parametrize("good", [0, 2, 2_500])
def test_a_bad_line_is_named_and_ends_the_input(site: Site, tmp_path: Path, good: int) -> None:
    """By its number. The lines before it are tasks, and their ids are printed; those after it are not."""
    (tmp_path / "lines").write_bytes(b"1\n" * good + b"three\n4\n")
    outcome = site.submit("Other", "--file", str(tmp_path / "lines"), "--json")

    assert outcome.code == 1
    assert outcome.err == (
        f"Error: line {good + 1}: wanted JSON, found 'three': it is no JSON "
        "(JSON is malformed: invalid character (byte 1)); nothing from this line on is submitted\n"
    )
    assert outcome.lines == [str(number) for number in range(1, good + 1)]
    assert len(site.tasks()) == good


def test_the_results_before_a_bad_line_are_printed(site: Site) -> None:
    """All of them; the exit code says that something was wrong."""
    outcome = site.submit("Echo", "-", "--json", "--wait", stdin=b"1\n2\nthree\n")

    assert (outcome.code, outcome.lines) == (1, ["1", "2"])
    assert outcome.err.startswith("Error: line 3: ")


def test_an_argument_that_is_no_utf_8_is_refused(site: Site) -> None:
    """A shell may pass any bytes."""
    outcome = site.submit("Echo", "gr\udcfcn")

    assert outcome.code == 1
    assert outcome.err.startswith("Error: wanted UTF-8 text, found 'gr\\xfcn'")


def test_a_file_that_cannot_be_read_is_named(site: Site, tmp_path: Path) -> None:
    """At once."""
    outcome = site.submit("Echo", "--file", str(tmp_path / "none"))

    assert outcome.code == 1
    assert "none: cannot be read (No such file or directory)" in outcome.err


def test_an_empty_file_is_no_task(site: Site) -> None:
    """And no mistake."""
    outcome = site.submit("Echo", "-", "--wait")

    assert outcome == type(outcome)(0, "", "")


# What is printed.


def test_results_come_in_the_order_of_the_lines(site: Site) -> None:
    """Whichever task ends first; thousands of them, over several submissions."""
    count = 3_000
    outcome = site.submit("Echo", "-", "--wait", stdin="".join(f"{n}\n" for n in range(count)).encode())

    assert outcome.code == 0
    assert outcome.lines == [str(n) for n in range(count)]
    assert [task.payload for task in site.tasks()] == [f'"{n}"' for n in range(count)]


def test_ids_come_in_the_order_of_the_lines(site: Site) -> None:
    """One a line."""
    outcome = site.submit("Other", "-", stdin=b"x\n" * 2_500)

    assert outcome.lines == [str(n) for n in range(1, 2_501)]


def test_json_tells_id_state_result_and_error(site: Site) -> None:
    """For each task, with wait; without, the id."""
    assert json.loads(site.submit("Other", "x", "-o", "json").out) == {"id": 1}
    outcome = site.submit("Echo", "x", "--wait", "-o", "json")

    assert json.loads(outcome.out) == {"id": 2, "state": "completed", "result": "x", "error": None}


def test_a_task_that_died_is_an_exit_code_and_a_reason(site: Site) -> None:
    """The reason on standard error; the others are printed as if nothing had happened, and lines still pair."""
    outcome = site.submit("CheckPrime", "-", "--wait", stdin=b"7\nseven\n9\n")

    assert outcome.code == 1
    assert outcome.lines == ["true", "", "false"]
    assert outcome.err.startswith("task 2 died: Reject: CheckPrime wanted an integer")


# Options.


def test_a_key_names_the_task(site: Site) -> None:
    """The same key again is the same task, and its result is there again."""
    first = site.submit("HashText", "hello", "--key", "k")
    again = site.submit("HashText", "hello", "--key", "k")
    waited = site.submit("HashText", "hello", "--key", "k", "--wait")

    assert (first.out, again.out) == ("1\n", "1\n")
    assert waited.out.startswith("2cf24dba")
    assert len(site.tasks()) == 1


def test_each_line_has_its_own_key(site: Site) -> None:
    """A file that was interrupted can be submitted again, whole, and longer than before."""
    first = site.submit("Other", "-", "--key", "k", stdin=b"a\nb\n")
    longer = site.submit("Other", "-", "--key", "k", stdin=b"a\nb\nc\n")

    assert (first.lines, longer.lines) == (["1", "2"], ["1", "2", "3"])
    assert [task.key for task in site.tasks()] == ["k-1", "k-2", "k-3"]


def test_a_key_of_another_task_is_refused(site: Site) -> None:
    """With the task that has it."""
    site.submit("Other", "a", "--key", "k")
    outcome = site.submit("Other", "b", "--key", "k")

    assert outcome.code == 1
    assert "Error: key 'k' already belongs to task 1" in outcome.err


def test_without_a_key_each_command_makes_new_tasks(site: Site) -> None:
    """They get keys nobody else has, so that a broken connection makes no second one."""
    outcomes = [site.submit("Other", "x").out for _ in range(2)]

    assert outcomes == ["1\n", "2\n"]
    assert len({task.key for task in site.tasks()} - {None}) == 2


def test_what_a_task_may_say_is_passed_on(site: Site) -> None:
    """Priority, delay and tries."""
    site.submit("Other", "x", "--priority", "5", "--delay", "1h", "--max-retries", "9")

    (task,) = site.tasks()
    assert (task.priority, task.state, task.max_retries) == (5, "scheduled", 9)
    assert task.run_at - task.created_at == 3_600_000_000


@pytest.mark.parametrize(
    "words",
    [
        ("--priority", "2147483648"),
        ("--max-retries", "0"),
        ("--delay", "-1s"),
        ("--delay", "soon"),
        ("-o", "xml"),
        ("--server", "nowhere"),
        ("--no-such-option",),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_sent(terminal: Terminal, words: tuple[str, ...]) -> None:
    """As wrong usage."""
    outcome = terminal.run("submit", "A", "x", *words)

    assert outcome.code == 2
    assert outcome.err.startswith("Usage: ")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("submit", "", "x"), "KIND"),
        (("submit", "x" * 256, "x"), "KIND"),
        (("submit", "\udcff", "x"), "KIND"),
        (("submit", "A", "x", "--key", ""), "--key"),
        (("submit", "A", "x", "--key", "k" * 236), "--key"),
        (("submit", "A", "x", "--key", "\udcff\x1b"), "--key"),
        (("work", "--name", ""), "--name"),
        (("work", "--name", "n" * 256), "--name"),
        (("work", "--name", "\udcff"), "--name"),
    ],
)
def test_what_no_message_can_carry_is_wrong_usage(terminal: Terminal, words: tuple[str, ...], option: str) -> None:
    """It is refused before anything is sent, under the name of the option; a long text is quoted in part."""
    outcome = terminal.run(*words)

    assert outcome.code == 2
    assert f"'{option}'" in outcome.err
    assert "wanted 1 to " in outcome.err or "wanted UTF-8 text, found '\\xff" in outcome.err
    assert len(outcome.err) < 500


def test_the_longest_names_are_taken(site: Site) -> None:
    """Line numbers find room behind the key."""
    outcome = site.submit("k" * 255, "-", "--key", "y" * 235, stdin=b"x\nx\n")

    assert outcome.code == 0
    assert [task.key for task in site.tasks()] == [f"{'y' * 235}-1", f"{'y' * 235}-2"]


def test_a_server_that_is_not_there_is_an_exit_code_of_its_own(terminal: Terminal) -> None:
    """At once, with the address and what to do."""
    asked_s = time.monotonic()
    outcome = terminal.run("submit", "A", "x", "--server", f"127.0.0.1:{free_port()}")

    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err.startswith("Error: cannot reach 127.0.0.1:")
    assert time.monotonic() - asked_s < 3


def test_a_server_that_takes_fewer_tasks_at_once_gets_them_in_parts(tmp_path: Path, terminal: Terminal) -> None:
    """Their results come in order all the same."""
    limits = Limits(max_tasks_per_submit=10)
    with sites.site(tmp_path, terminal, limits=limits) as site:
        numbers = [str(number) for number in range(95)]
        outcome = site.submit("Echo", "-", "--json", "--wait", stdin="\n".join(numbers).encode())

    assert (outcome.code, outcome.lines) == (0, numbers)


def test_a_payload_that_the_server_does_not_take_is_an_error(tmp_path: Path, terminal: Terminal) -> None:
    """One line, for good: asking again would not help."""
    with sites.site(tmp_path, terminal, limits=Limits(max_payload=10)) as site:
        outcome = site.submit("Echo", "123456789")

    assert outcome.code == 1
    assert outcome.err.startswith("Error: wanted a payload of at most 10 bytes, found 11")
    assert len(outcome.err.splitlines()) == 1
