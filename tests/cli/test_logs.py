"""The log: one look for everything that is logged, on standard error."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from dtm.cli.logs import LOG_LEVELS, LogLevel, _formatter, configure_logging
from dtm.client.current import CurrentTask, running

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Give logging back as it was; it is global."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("dtm").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_json_line_begins_with_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Event, level and time first, then the values in the order in which they were given."""
    configure_logging("json", "info")
    log.info("task.dead", task=7, retries=3, kind="é\n")
    out, err = capsys.readouterr()

    assert out == ""
    line = json.loads(err)
    assert list(line) == ["event", "level", "timestamp", "task", "retries", "kind"]
    assert (line["event"], line["level"], line["task"], line["kind"]) == ("task.dead", "info", 7, "é\n")
    assert err.count("\n") == 1


def test_times_are_iso_and_utc(capsys: pytest.CaptureFixture[str]) -> None:
    """Readable by machines, the same on every machine."""
    configure_logging("json", "info")
    log.info("started")
    stamp = json.loads(capsys.readouterr().err)["timestamp"]

    assert stamp.endswith("Z")
    assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)


def test_a_console_line_names_the_event_and_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, event, then the values in the order in which they were given."""
    configure_logging("console", "info")
    log.info("task.dead", task=7, kind="CheckPrime", client="a b")

    words = capsys.readouterr().err.split()
    assert words[1:] == ["[info", "]", "task.dead", "task=7", "kind=CheckPrime", "client='a", "b'"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_bound_and_contextual_values_are_shown(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """A connection binds its client once."""
    configure_logging("json" if log_format == "json" else "console", "info")
    with structlog.contextvars.bound_contextvars(connection=4):
        log.bind(client=9).info("left")

    err = capsys.readouterr().err
    assert "connection" in err
    assert "client" in err


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_the_level_is_the_lowest_that_dtm_shows(capsys: pytest.CaptureFixture[str], level: LogLevel) -> None:
    """Each level hides the ones below it."""
    configure_logging("json", level)
    for name in LOG_LEVELS:
        getattr(log, name)(name)

    shown = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert shown == list(LOG_LEVELS[LOG_LEVELS.index(level) :])


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_libraries_are_heard_from_warnings_up(
    capsys: pytest.CaptureFixture[str], level: LogLevel, shown: list[str]
) -> None:
    """Their chatter is for those who debug; their lines look like ours and name them."""
    configure_logging("json", level)
    for name in LOG_LEVELS:
        getattr(logging.getLogger("library.part"), name)("%s", name)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == shown
    assert all(line["logger"] == "library.part" and "timestamp" in line for line in lines)


def test_what_is_logged_in_a_task_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever writes the line; and from the same level up as what dtm writes."""
    configure_logging("json", "info")
    with running(CurrentTask(7, "Resize", 1)):
        log.info("resizing", width=3)
        log.info("about another", task=8)
        logging.getLogger("users.own").info("resized %d", 3)
        logging.getLogger("users.own").debug("chatter")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", stacklevel=1)
    log.info("idle")

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line.get("task") for line in lines] == [7, 8, 7, 7, None]
    assert [line.get("kind") for line in lines] == ["Resize", "Resize", "Resize", "Resize", None]
    assert [line["event"] for line in lines[:3]] == ["resizing", "about another", "resized 3"]


def test_python_warnings_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A deprecation in a library does not break up the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging("json", "info")
        warnings.warn("old", stacklevel=1)

    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "warning"
    assert "UserWarning: old" in line["event"]


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_an_exception_is_shown_with_its_traceback(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """From dtm and from libraries, in both forms."""
    configure_logging("json" if log_format == "json" else "console", "info")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log.exception("ours.failed")
        logging.getLogger("library").exception("theirs failed")

    err = capsys.readouterr().err
    assert err.count("RuntimeError: boom") == 2
    assert err.count("Traceback (most recent call last)") == 2
    if log_format == "json":
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["ours.failed", "theirs failed"]


def colours(stream: io.StringIO) -> bool:
    """Say whether a line for this stream carries colours."""
    record = logging.makeLogRecord({"msg": "event", "levelname": "WARNING", "name": "library"})
    return "\x1b[" in _formatter("console", stream).format(record)


@pytest.mark.skipif(sys.platform == "win32", reason="needs colorama there")
def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for files and pipes, and not for those who set NO_COLOR to anything."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours(Terminal())
    assert not colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "0")
    assert not colours(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    assert colours(Terminal())


def test_a_value_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A client may call itself anything; the operator's screen stays what it is."""
    configure_logging("console", "info")
    log.info("client.joined", client="\x1b[2J\x9b31m\u202e", note="two\nlines")
    logging.getLogger("library").warning("from \x1b]0;title\x07")
    err = capsys.readouterr().err

    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(err)
    assert "client=\\x1b[2J\\x9b31m\\u202e" in err
    assert err.count("\n") == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("a \x1b[2J\n", "'a \\x1b[2J\\n'"),
        ("a b\\c", "'a b\\c'"),
        ("it's", '"it\'s"'),
        ("plain", "plain"),
    ],
)
def test_a_value_is_escaped_once(capsys: pytest.CaptureFixture[str], value: str, shown: str) -> None:
    """Also where the line quotes it."""
    configure_logging("console", "info")
    log.info("task.dead", error=value)

    assert f" error={shown}\n" in capsys.readouterr().err


def test_a_traceback_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines stay lines; what the exception quotes is escaped."""
    configure_logging("console", "info")
    try:
        raise RuntimeError("found \x1b[2J\u202e")
    except RuntimeError:
        log.exception("failed")
    err = capsys.readouterr().err

    assert "\nRuntimeError: found \\x1b[2J\\u202e" in err
    assert not {"\x1b", "\u202e"} & set(err)


def test_a_log_that_cannot_be_written_does_not_stop_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error may be closed, or its reader gone."""
    configure_logging("json", "info")
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    closed = io.StringIO()
    closed.close()
    handler.setStream(closed)
    log.info("started")

    assert "ValueError: I/O operation on closed file" in capsys.readouterr().err


def test_configuring_twice_does_not_log_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """The last configuration counts, also for loggers made and used before."""
    configure_logging("console", "error")
    log.error("first")
    configure_logging("json", "info")
    log.info("second")

    assert [line[:20] for line in capsys.readouterr().err.splitlines()][1:] == ['{"event": "second", ']
