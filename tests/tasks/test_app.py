"""Apps: functions become tasks, options are checked where they are written, and the server is found."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

import dtm
from dtm.client.origin import told
from dtm.core.addresses import Address
from dtm.protocol.messages import RetryPolicy, SubmittedTask
from dtm.security.errors import Misconfigured
from dtm.security.files import CredentialFiles
from dtm.tasks.options import Settings, SubmitOptions, TaskOptions, checked, combined, submitted
from dtm.tasks.server import Server, variables


def double(number: int) -> int:
    """Double it."""
    return 2 * number


def inside() -> Any:
    """Give a function that stands in no module."""

    def inner() -> None: ...

    return inner


async def triple(number: int) -> int:
    """Triple it."""
    return 3 * number


async def test_a_call_runs_the_function_here() -> None:
    """With no server in sight."""
    app = dtm.App("127.0.0.1:1")

    assert app.task(double)(4) == 8
    assert await app.task(triple)(4) == 12


def test_a_task_is_known_by_its_kind() -> None:
    """The function's name, or another."""
    app = dtm.App()
    app.task(double)
    named = app.task(kind="Doubler")(double)

    assert list(app.tasks) == list(app.handlers) == ["double", "Doubler"]
    assert (named.kind, named.__name__, named.__doc__) == ("Doubler", "double", "Double it.")  # type: ignore[attr-defined]


def test_two_functions_of_one_kind_are_refused() -> None:
    """One would be lost; the same function again, as after a reload of its module, is none of them."""
    app = dtm.App()
    app.task(double)
    app.task(double)
    with pytest.raises(dtm.BadTask, match=r"found two for 'double': .*double and .*triple"):
        app.task(kind="double")(triple)


def test_functions_that_share_a_place_are_not_taken_for_one() -> None:
    """Lambdas of one module, and what a function makes each time it is called."""
    app = dtm.App()

    def make(factor: int) -> dtm.Task[[int], int]:
        @app.task
        def multiply(number: int) -> int:
            return factor * number

        return multiply

    make(2)
    with pytest.raises(dtm.BadTask, match="found two for 'multiply'"):
        make(3)
    app.task(lambda number: number)
    with pytest.raises(dtm.BadTask, match="found two for '<lambda>'"):
        app.task(lambda number: 2 * number)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": "a b"}, "kind: wanted the name of a kind, without commas and blanks, found 'a b'"),
        ({"kind": "a,b"}, "kind: wanted the name of a kind"),
        ({"kind": ""}, "kind: expected `str` of length >= 1"),
        ({"executor": "fork"}, "executor: wanted 'thread', 'async' or 'process', found 'fork'"),
        ({"max_retries": 0}, "max_retries: expected `int` >= 1, found 0"),
        ({"max_retries": True}, "max_retries: expected `int`, got `bool`"),
        ({"timeout": 0}, "timeout: wanted a duration above 0"),
        ({"timeout": -1}, "timeout: wanted a duration from 0 to 36500d, found -1"),
        ({"timeout": "soon"}, "timeout: wanted a duration such as 500ms"),
        ({"timeout": True}, "timeout: wanted a duration such as"),
        ({"timeout": float("nan")}, "timeout: wanted a duration from"),
        ({"priority": "high"}, "priority: expected `int`, got `str`, found 'high'"),
        ({"priority": 2**31}, "priority: expected `int` <= 2147483647"),
        ({"expires": datetime(2026, 1, 1)}, "expires: wanted a datetime with a time zone"),  # noqa: DTZ001
        ({"unique": 1}, "unique: expected `str`, got `int`"),
        ({"retry": 3}, "retry: wanted dtm.Constant, dtm.Linear or dtm.Exponential, found 3"),
        ({"retry_for": [OSError, "x"]}, "retry_for: wanted exception types, such as (OSError, ValueError), found 'x'"),
        ({"retry_for": "ValueError"}, "found 'ValueError'; write the type itself, without quotes"),
        ({"retry_for": ""}, "retry_for: wanted exception types, such as (OSError, ValueError), found ''; write"),
        ({"no_retry_for": b"ValueError"}, "(OSError, ValueError), found b'ValueError'"),
        ({"no_retry_for": OSError()}, "(OSError, ValueError), found OSError()"),
        ({"no_retry_for": Exception}, "no_retry_for: wanted narrower exception types than Exception"),
        ({"max_retry": 3}, "there is no option 'max_retry'; did you mean 'max_retries'?"),
        ({"delay": 3}, "there is no option 'delay'; the options here are: "),
    ],
)
def test_a_wrong_option_is_refused_at_the_decoration(options: dict[str, Any], complaint: str) -> None:
    """With its name, what was wanted and what was found."""
    with pytest.raises(dtm.BadTask) as caught:
        dtm.App().task(**options)

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("function", "executor", "complaint"),
    [
        (
            double,
            "async",
            (
                'double: wanted a coroutine function for executor="async", found a plain one;'
                " write async def, or leave the executor out: it runs in a thread then"
            ),
        ),
        (
            inside(),
            "process",
            (
                "inner: wanted a place that a process can import it from, found none;"
                " write the function at the top of a module, not inside of another"
            ),
        ),
    ],
)
def test_a_function_that_cannot_run_there_is_refused_at_the_decoration(
    function: Any, executor: Any, complaint: str
) -> None:
    """With what was wanted, what was found, and what to do."""
    with pytest.raises(dtm.BadTask) as caught:
        dtm.App().task(executor=executor)(function)

    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: dtm.Exponential("soon"), "wanted a duration such as"),
        (lambda: dtm.Exponential("10m", "1m"), "wanted a max_delay not below the delay, found '1m' and '10m'"),
        (lambda: dtm.Linear(jitter=1.1), "wanted a jitter from 0 to 1, found 1.1"),
        (lambda: dtm.Constant(1, jitter=True), "wanted a jitter from 0 to 1, found True"),
    ],
)
def test_a_wrong_backoff_is_refused_where_it_is_written(make: Any, complaint: str) -> None:
    """With what is wrong."""
    with pytest.raises(ValueError, match=r"^wanted") as caught:
        make()

    assert complaint in str(caught.value)


def on_wire(task: Settings, submission: Settings) -> SubmittedTask:
    """Write what a task with these options, submitted with those, is on the wire."""
    settings = combined(checked(task, of=TaskOptions), checked(submission, of=SubmitOptions))
    return submitted("A", Raw(b"1"), settings, key="k", unique=None)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("task", "submission", "wire"),
    [
        ({}, {}, {}),
        ({"priority": 3, "timeout": "1m"}, {}, {"priority": 3, "timeout": 60.0}),
        ({"timeout": timedelta(hours=1)}, {"timeout": 0.5, "priority": -1}, {"timeout": 0.5, "priority": -1}),
        ({"timeout": "1m"}, {"timeout": None}, {}),
        ({"max_retries": 5}, {"delay": "10s"}, {"max_retries": 5, "delay": 10.0}),
        ({}, {"run_at": NOON}, {"run_at": NOON.timestamp()}),
        ({"expires": "1h"}, {}, {"expires": 3600.0}),
        ({"expires": "1h"}, {"expires": NOON}, {"expires_at": NOON.timestamp()}),
        ({"retry_for": OSError}, {}, {"retry": RetryPolicy(retry_for=["OSError"])}),
        (
            {"retry": dtm.Exponential("2s", "1m", 0.1), "no_retry_for": (KeyError, ValueError)},
            {},
            {"retry": RetryPolicy("exponential", 2.0, 60.0, 0.1, no_retry_for=["KeyError", "ValueError"])},
        ),
        (
            {"retry": dtm.Linear(), "retry_for": OSError},
            {"retry": dtm.Constant(3)},
            {"retry": RetryPolicy("constant", 3.0, 3.0, 0.0, retry_for=["OSError"])},
        ),
    ],
)
def test_options_reach_the_wire_and_a_submission_overrides_its_task(
    task: dict[str, Any], submission: dict[str, Any], wire: dict[str, Any]
) -> None:
    """In the wire's units; None asks for the server's own."""
    assert on_wire(task, submission) == SubmittedTask("A", Raw(b"1"), key="k", **wire)


def test_delay_and_instant_exclude_each_other() -> None:
    """The server would refuse it too, but later."""
    with pytest.raises(dtm.BadTask, match="wanted delay or run_at, found both"):
        on_wire({}, {"delay": 1, "run_at": NOON})


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        ({}, {}, "127.0.0.1:12345"),
        ({}, {"DTM_SERVER": "a:1"}, "a:1"),
        ({"address": "b:2"}, {"DTM_SERVER": "a:1"}, "b:2"),
    ],
)
def test_the_server_is_named_by_argument_or_environment(
    given: dict[str, Any], environment: dict[str, str], found: str
) -> None:
    """In this order."""
    address, files = Server(**given).find(environment)

    assert str(address) == found
    assert list(files.words()) == []


def test_credentials_are_named_as_for_the_command_line() -> None:
    """By the same variables, each of which an argument overrides."""
    environment = {"DTM_TOKEN_FILE": "t", "DTM_TLS": "true", "DTM_TLS_CA": "ca.pem"}
    _, files = Server(tls_ca=Path("mine.pem")).find(environment)

    assert list(files.words()) == ["--token-file", "t", "--tls", "--tls-ca", "mine.pem"]


def test_in_a_worker_the_server_is_the_one_that_the_tasks_are_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that the worker has for it and nothing of the environment's; an app's own server has that as before."""
    environment = {"DTM_SERVER": "a:1", "DTM_TLS_CERT": "cert.pem"}
    files, here = CredentialFiles(token_file=Path("t"), tls=True), Path.cwd()
    with told(variables(Address("::1", 2), files)):
        monkeypatch.chdir(tmp_path)
        address, found = Server().find(environment)
        other, others = Server(address="b:3").find(environment)
        _, mixed = Server(token_file=Path("mine")).find(environment)

    assert str(address) == "[::1]:2"
    assert found == CredentialFiles(token_file=here / "t", tls=True)
    assert mixed == CredentialFiles(token_file=Path("mine"), tls=True)
    assert (str(other), others) == ("b:3", CredentialFiles(tls_cert=Path("cert.pem")))
    assert str(Server().find(environment)[0]) == "a:1"


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"DTM_SERVER": "nowhere"}, "DTM_SERVER: wanted HOST:PORT"),
        ({"DTM_TLS": "perhaps"}, "DTM_TLS: wanted true or false, found 'perhaps'"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], complaint: str) -> None:
    """It stands in no line of the program."""
    with pytest.raises(Misconfigured, match=complaint):
        Server().find(environment)


def test_a_wrong_address_is_refused_at_once() -> None:
    """Where it is written."""
    with pytest.raises(ValueError, match="wanted HOST:PORT"):
        dtm.App("nowhere")


@pytest.mark.parametrize("id", ["7", -1, 2**70, 7.0, True, None])
def test_a_job_wants_the_id_of_a_task(id: Any) -> None:
    """Where it is written, with async and without."""
    app = dtm.App()
    task = app.task(double)
    for make in (app.job, task.job, task.sync.job):
        with pytest.raises(ValueError, match=r"wanted the id of a task, .* found " + re.escape(repr(id))):
            make(id)
    assert app.job(2**63 - 1).id == 2**63 - 1


def test_public_names_are_imported_when_they_are_named() -> None:
    """All of them are there, and the server's programs, which name none, do not pay for them."""
    program = (
        "import dtm, sys; print([m for m in sys.modules if m.startswith('dtm.')]); [getattr(dtm, n) for n in dir(dtm)]"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        dtm.Nothing  # noqa: B018
