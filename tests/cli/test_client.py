"""dtm-client: its commands, and `result`."""

from __future__ import annotations

import json

import pytest

from tests.cli.site import Site, Terminal
from tests.client.scripted import free_port


@pytest.mark.parametrize("words", [(), ("work",), ("submit",), ("result",)])
def test_help_names_options_and_variables(terminal: Terminal, words: tuple[str, ...]) -> None:
    """Of the group and of each command."""
    outcome = terminal.run(*words, "--help")

    assert outcome.code == 0
    assert outcome.out.startswith("Usage: ")
    assert words == () or "DTM_SERVER" in outcome.out


def test_the_version_is_told(terminal: Terminal) -> None:
    """Of everything that matters."""
    assert terminal.run("--version").out.startswith("dtm ")


def test_an_unknown_command_is_named(terminal: Terminal) -> None:
    """It is not taken for an option of the default one."""
    outcome = terminal.run("sumbit", "A", "x")

    assert outcome.code == 2
    assert "No such command 'sumbit'" in outcome.err


def test_results_are_printed_in_the_order_of_the_ids(site: Site) -> None:
    """Each once."""
    site.submit("Echo", "-", "--wait", stdin=b"a\nb\nc\n")
    outcome = site.result("3", "1", "3", "2")

    assert (outcome.code, outcome.out, outcome.err) == (0, "c\na\nb\n", "")


def test_a_task_that_died_is_an_exit_code_and_a_reason(site: Site) -> None:
    """And an empty line."""
    site.submit("Reject", "x", "--wait")
    outcome = site.result("1")

    assert (outcome.code, outcome.out, outcome.err) == (1, "\n", "task 1 died: Reject: never\n")


def test_a_task_that_does_not_exist_is_an_exit_code_of_its_own(site: Site) -> None:
    """Whatever became of the others."""
    site.submit("Echo", "a", "--wait")
    outcome = site.result("99", "1")

    assert (outcome.code, outcome.out) == (4, "\na\n")
    assert outcome.err == "task 99: there is no such task\n"


@pytest.mark.parametrize("wait", [(), ("--wait",)])
def test_json_tells_every_state(site: Site, wait: tuple[str, ...]) -> None:
    """Also of what is missing."""
    site.submit("Echo", "a", "--wait")
    outcome = site.result("1", "99", "-o", "json", *wait)

    assert [json.loads(line) for line in outcome.lines] == [
        {"id": 1, "state": "completed", "result": "a", "error": None},
        {"id": 99, "state": "missing", "result": None, "error": None},
    ]


def test_what_has_not_ended_is_said_so(site: Site) -> None:
    """It is no success."""
    site.submit("Other", "a")
    outcome = site.result("1")

    assert (outcome.code, outcome.out, outcome.err) == (1, "\n", "task 1 has not ended: it is pending\n")


def test_with_wait_the_end_is_waited_for(site: Site) -> None:
    """However long it takes."""
    site.submit("Echo", "a", "--delay", "300ms")
    outcome = site.result("1", "--wait")

    assert (outcome.code, outcome.out) == (0, "a\n")


@pytest.mark.parametrize("words", [(), ("x",), ("-1",), ("9223372036854775808",)])
def test_ids_are_numbers(terminal: Terminal, words: tuple[str, ...]) -> None:
    """As the store has them."""
    assert terminal.run("result", *words).code == 2


def test_a_server_that_is_not_there_is_an_exit_code_of_its_own(terminal: Terminal) -> None:
    """As for every command."""
    outcome = terminal.run("result", "1", "--server", f"127.0.0.1:{free_port()}")

    assert outcome.code == 3
    assert "dtm-server --db tasks.db" in outcome.err


def test_the_environment_names_the_server(site: Site, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all commands at once."""
    monkeypatch.setenv("DTM_SERVER", site.address)

    assert terminal.run("submit", "Echo", "a", "--wait").out == "a\n"
    assert terminal.run("result", "1").out == "a\n"
