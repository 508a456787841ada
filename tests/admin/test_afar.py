"""dtm-admin and a real server behind TLS and tokens: from afar, and on the same machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from msgspec import structs

from dtm.server.inquiries import INQUIRIES, PAGE_BYTES, PAGE_ROWS
from dtm.storage.batch import Failed, Failure, NewTask, Selection
from dtm.storage.lock import Holder, StoreLock
from dtm_admin.approach import to_holder
from dtm_admin.cli import main
from dtm_admin.remote import conversation
from tests.admin.scene import Outcome, Scene
from tests.certificates import Authority
from tests.security.files import ADMIN, PRODUCER, WORKER, token_file
from tests.server.live import serving

Run = Callable[..., Outcome]


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[int]:
    """Run a server on the store in `folder` in a thread, and give its port."""
    options = {"use_uvloop": find_spec("uvloop") is not None}
    with (
        start_blocking_portal("asyncio", options) as portal,
        portal.wrap_async_context_manager(serving(folder, **settings)) as live,
    ):
        yield live.port


@dataclass(frozen=True)
class Guarded:
    """What is needed to run a guarded server, and to come to it."""

    scene: Scene
    settings: dict[str, Any]
    authority: Authority
    folder: Path

    def options(self, port: int, *, token: str = ADMIN, role: str = "admin", host: str = "localhost") -> list[str]:
        """Write the command line of somebody who comes from afar."""
        file = token_file(self.folder, f"{role} {token}", name=f"{role}-{token[0]}.token")
        return ["--server", f"{host}:{port}", "--token-file", str(file), "--tls-ca", str(self.authority.file)]


@pytest.fixture
def guarded(scene: Scene, tmp_path: Path) -> Guarded:
    """A store, and the files that guard its server."""
    authority = Authority(tmp_path)
    tokens = token_file(tmp_path, f"admin {ADMIN}", f"worker {WORKER}", f"producer {PRODUCER}")
    settings = {"token_file": tokens, **authority.issue().options}
    return Guarded(scene, settings, authority, tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `dtm-admin` in another folder than the store's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    def run(*words: str) -> Outcome:
        code = main(list(words))
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.mark.parametrize(
    "words",
    [
        ("tasks", "list"),
        ("tasks", "list", "--state", "dead"),
        ("tasks", "list", "--kind", "mul", "--limit", "1"),
        ("tasks", "show", "1"),
        ("tasks", "show", "2"),
        ("deadletter", "list"),
        ("deadletter", "list", "--error", "BOOM", "--limit", "1"),
        ("deadletter", "list", "--kind", "none"),
        ("deadletter", "clear", "--all", "--dry-run"),
        ("deadletter", "reprocess", "1", "77", "--dry-run"),
    ],
)
def test_each_view_is_the_same_from_afar(guarded: Guarded, run: Run, words: tuple[str, ...]) -> None:
    """Digit by digit, what is said beside it, and the exit code."""
    guarded.scene.bury(count=3)
    guarded.scene.submit(NewTask("mul", '{"payload": "ä\\u2028"}'), NewTask("mul", "1"))
    with running(guarded.folder, **guarded.settings) as port:
        here = run(*words, "-o", "json", "--db", str(guarded.scene.db))
        afar = run(*words, "-o", "json", *guarded.options(port))

    assert afar == here


def test_what_is_not_there_is_not_found_from_afar(guarded: Guarded, run: Run) -> None:
    """With what is known of it; the store is named by its server."""
    guarded.scene.bury()
    with running(guarded.folder, **guarded.settings) as port:
        options = guarded.options(port)
        cleared = run("deadletter", "clear", "1", "--yes", *options)
        gone = run("tasks", "show", "1", *options)
        never = run("tasks", "show", "99", *options)

    assert (cleared.code, cleared.out) == (0, "Cleared 1 dead letter.\n")
    assert gone.code == never.code == 4
    assert "it was cleared at" in gone.err
    assert f"found no such task in localhost:{port}" in never.err


def test_figures_come_from_afar(guarded: Guarded, run: Run) -> None:
    """At the server's time; the file's path and the process stay unknown."""
    guarded.scene.bury(count=3)
    with running(guarded.folder, **guarded.settings) as port:
        here = run("stats", "-o", "json", "--db", str(guarded.scene.db)).document
        afar = run("stats", "-o", "json", *guarded.options(port)).document
        table = run("stats", *guarded.options(port)).out

    assert afar["server"] == {"host": "localhost", "port": port, "pid": None}
    assert afar["db"] is None
    for key in ("kinds", "total", "oldest_waiting", "dead_letters", "clients", "retries"):
        assert afar[key] == here[key]
    assert f"running at localhost:{port}\n" in table


def test_long_lists_come_in_pages(guarded: Guarded, run: Run) -> None:
    """As many as were asked for, none twice."""
    guarded.scene.bury(count=2 * PAGE_ROWS + 7)
    with running(guarded.folder, **guarded.settings) as port:
        for words in (("tasks", "list"), ("deadletter", "list")):
            for limit in ("7", str(PAGE_ROWS), str(2 * PAGE_ROWS), "1000"):
                here = run(*words, "--limit", limit, "-o", "json", "--db", str(guarded.scene.db))
                assert run(*words, "--limit", limit, "-o", "json", *guarded.options(port)) == here


def test_large_rows_come_one_by_one(guarded: Guarded, run: Run) -> None:
    """A payload that fits into a line by itself, of letters that are written twice as long."""
    large = json.dumps('"' * 400_000)
    assert len(large) > PAGE_BYTES // 2
    guarded.scene.bury(count=5, payload=large)
    with running(guarded.folder, **guarded.settings) as port:
        for words in (("tasks", "list"), ("tasks", "show", "3"), ("deadletter", "list")):
            here = run(*words, "-o", "json", "--db", str(guarded.scene.db))
            assert run(*words, "-o", "json", *guarded.options(port)) == here
            assert len(here.out) > len(large)


def test_a_long_history_comes_in_pages(guarded: Guarded, run: Run) -> None:
    """Attempts with long tracebacks, of a task that died again and again."""
    scene, failure = guarded.scene, Failure("ValueError", "boom", "line\n" * 80_000)
    scene.submit(NewTask("add", '"x"'))
    worker = scene.connect("w", "add")
    for _ in range(9):
        scene.report(scene.assign(worker, "add"), Failed(failure, may_retry=False))
        scene.reprocess(1)
    with running(guarded.folder, **guarded.settings) as port:
        here = run("tasks", "show", "1", "-o", "json", "--db", str(scene.db))
        afar = run("tasks", "show", "1", "-o", "json", *guarded.options(port))

    assert len(here.document["attempts"]) == len(here.document["dead_letters"]) == 9
    assert len(here.out) > 3 * PAGE_BYTES
    assert afar == here


@pytest.mark.parametrize("verb", ["reprocess", "clear"])
def test_dead_letters_are_settled_from_afar(guarded: Guarded, run: Run, verb: str) -> None:
    """More than one command settles, and only what was meant."""
    guarded.scene.bury(count=3)
    other = guarded.scene.bury("mul")
    with running(guarded.folder, **guarded.settings) as port:
        outcome = run("deadletter", verb, "--kind", "add", "--yes", "-o", "json", *guarded.options(port))
        states = guarded.scene.states(1, 2, 3, *other)

    assert outcome.document == {
        "command": verb,
        "dry_run": False,
        "selected": 3,
        "done": 3,
        "not_found": [],
    }
    assert states == [*["pending" if verb == "reprocess" else None] * 3, "dead"]


@pytest.mark.parametrize(("role", "token"), [("worker", WORKER), ("producer", PRODUCER)])
@pytest.mark.parametrize("words", [("stats",), ("tasks", "show", "1"), ("deadletter", "clear", "--all", "--yes")])
def test_another_role_is_refused(guarded: Guarded, run: Run, role: str, token: str, words: tuple[str, ...]) -> None:
    """Exit code 1, with both roles named; nothing was done."""
    guarded.scene.bury()
    with running(guarded.folder, **guarded.settings) as port:
        outcome = run(*words, *guarded.options(port, token=token, role=role))

    assert outcome.code == 1
    assert f"wanted a token of role admin for Admin, found one of {role} (forbidden)" in outcome.err
    assert guarded.scene.states(1) == ["dead"]


def test_whoever_is_not_trusted_is_told_why(guarded: Guarded, run: Run, tmp_path: Path) -> None:
    """Each in one line, exit code 1, or 3 where nobody is."""
    other = Authority(tmp_path, "other")
    settings = {**guarded.settings, **guarded.authority.issue("localhost", called="by-name").options}
    with running(guarded.folder, **settings) as port:
        right = guarded.options(port)
        plain = right[:-2]
        cases = [
            (guarded.options(port, token="x" * 32), 1, "this server knows no such token"),
            ([*plain, "--tls-ca", str(other.file)], 1, "no TLS: its certificate does not hold: unable to get local"),
            ([*plain, "--tls"], 1, "no TLS: its certificate does not hold"),
            (guarded.options(port, host="127.0.0.1"), 1, "no TLS: its certificate does not hold: IP address mismatch"),
            (plain, 1, "this server speaks TLS; name the CA of its certificate"),
            (guarded.options(1), 3, "wanted a dtm server at localhost:1, found nobody there"),
        ]
        for options, code, complaint in cases:
            outcome = run("stats", *options)
            assert (outcome.code, outcome.out) == (code, "")
            assert complaint in outcome.err
            assert len(outcome.err.splitlines()) == 1


def test_a_server_without_tls_is_told_apart(scene: Scene, guarded: Guarded, run: Run, tmp_path: Path) -> None:
    """Nothing was said to it."""
    with running(tmp_path, token_file=guarded.settings["token_file"]) as port:
        outcome = run("stats", *guarded.options(port))

    assert scene.db.exists()
    assert outcome.code == 1
    assert "no TLS: the other side speaks no TLS" in outcome.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--server", "localhost:1"), "wanted --token-file FILE with --server"),
        (("--server", "localhost:1", "--token-file", "absent", "--db", "x"), "wanted --db or --server, found both"),
        (("--server", "localhost:1", "--token-file", "absent"), "token file absent: it cannot be read"),
        (("--server", "nowhere", "--token-file", "absent"), "add a port"),
    ],
)
def test_wrong_usage_is_refused(run: Run, words: tuple[str, ...], complaint: str) -> None:
    """Exit code 2."""
    outcome = run("stats", *words)

    assert outcome.code == 2
    assert complaint in outcome.err


def test_a_token_file_that_others_may_read_is_refused(guarded: Guarded, run: Run) -> None:
    """With the command that mends it, and without a word of the token."""
    options = guarded.options(1)
    (guarded.folder / "admin-a.token").chmod(0o644)
    outcome = run("stats", *options)

    assert outcome.code == 2
    assert "run: chmod 600" in outcome.err
    assert ADMIN not in outcome.err


def test_a_variable_for_dtm_client_does_not_lead_astray(
    guarded: Guarded, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DTM_SERVER alone, or beside a `--db` on the command line, leaves the file; with a token it is the server."""
    with running(guarded.folder, **guarded.settings) as port:
        for name, value in zip(*[iter(guarded.options(port))] * 2, strict=True):
            monkeypatch.setenv(f"DTM_{name.removeprefix('--').replace('-', '_').upper()}", value)
        afar = run("stats", "-o", "json").document
        beside = run("stats", "-o", "json", "--db", str(guarded.scene.db)).document
        monkeypatch.delenv("DTM_TOKEN_FILE")
        alone = run("stats", "-o", "json")

    assert afar["db"] is None
    assert beside["db"] == str(guarded.scene.db)
    assert alone.code == 4
    assert "tasks.db: no such database" in alone.err


# On the same machine.


@pytest.mark.parametrize("demands", [("token_file",), ("tls",), ("token_file", "tls"), ("token_file", "tls", "ca")])
def test_the_operator_of_the_machine_needs_nothing_but_the_store(
    guarded: Guarded, run: Run, demands: tuple[str, ...]
) -> None:
    """Whatever the server asks of others: what lies beside the store is enough for both sides."""
    guarded.scene.bury(count=2)
    settings = dict(guarded.settings) if "tls" in demands else {}
    settings["token_file"] = guarded.settings["token_file"] if "token_file" in demands else None
    settings["tls_client_ca"] = guarded.authority.file if "ca" in demands else None
    with running(guarded.folder, **settings):
        outcome = run("deadletter", "clear", "--all", "--yes", "--db", str(guarded.scene.db))

    assert (outcome.code, outcome.out) == (0, "Cleared 2 dead letters.\n")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"certificate": "0" * 64}, "has another certificate than the one that holds the store"),
        ({"secret": "0" * 64}, "this server knows no such token"),
        ({"certificate": ""}, "this server speaks TLS"),
    ],
)
def test_a_record_that_is_not_the_servers_leads_nowhere(
    guarded: Guarded, run: Run, changes: dict[str, str], complaint: str
) -> None:
    """Another process at its address is told nothing."""
    guarded.scene.bury()
    with running(guarded.folder, **guarded.settings):
        lock = StoreLock(guarded.scene.db)
        holder = lock.holder()
        assert holder is not None
        lock.announce(structs.replace(holder, **changes))
        outcome = run("deadletter", "clear", "--all", "--yes", "--db", str(guarded.scene.db))
        lock.announce(holder)

    assert outcome.code == 1
    assert complaint in outcome.err
    assert holder.secret not in outcome.err
    assert guarded.scene.states(1) == ["dead"]


# What a server answers to questions that dtm-admin does not ask.


@pytest.mark.parametrize(
    ("command", "args", "complaint"),
    [
        ("tasks.list", {}, "missing required field `limit`"),
        ("tasks.list", {"limit": 0}, "$.limit"),
        ("tasks.list", {"limit": -1}, "$.limit"),
        ("tasks.list", {"limit": 1, "before": 2**63}, "$.before"),
        ("tasks.list", {"limit": 1, "sort": "id"}, "`sort`"),
        ("tasks.show", {"id": -1}, "$.id"),
        ("tasks.show", {"id": 1, "after": "x"}, "$.after"),
        ("tasks.deaths", {"id": 2**64}, "$.id"),
        ("deadletter.list", {"selection": {"idz": [1]}, "limit": 1}, "`idz`"),
        ("deadletter.count", {"selection": {"through": 2**63}}, "$.selection.through"),
        ("deadletter.tasks", {"selection": {}, "limit": -1}, "$.limit"),
        ("stats", {"now": 1}, "`now`"),
    ],
)
def test_wrong_questions_are_refused(scene: Scene, command: str, args: dict[str, Any], complaint: str) -> None:
    """By the field's name; the connection goes on."""
    with running(scene.db.parent), conversation(to_holder(_holder(scene)), timeout_s=10) as server:
        with pytest.raises(Exception, match="bad-arguments") as refusal:
            server.ask(command, object, **args)
        assert complaint in str(refusal.value)
        assert server.ask("deadletter.count", dict, selection=Selection()) == {"count": 0, "newest": 0}


def test_every_question_has_an_answer(scene: Scene) -> None:
    """Also about a store in which nothing ever was."""
    args: dict[str, dict[str, object]] = {
        "space": {},
        "stats": {},
        "tasks.list": {"limit": 5},
        "tasks.show": {"id": 1},
        "tasks.deaths": {"id": 1},
        "tasks.count": {"selection": {"everything": True}},
        "tasks.active": {"selection": {"everything": True}, "limit": 5},
        "deadletter.list": {"selection": {"everything": True}, "limit": 5},
        "deadletter.count": {"selection": {"everything": True}},
        "deadletter.tasks": {"selection": {"everything": True}, "limit": 5},
    }
    with running(scene.db.parent), conversation(to_holder(_holder(scene)), timeout_s=10) as server:
        answers = {command: server.ask(command, object, **args[command]) for command in INQUIRIES}

    assert answers.pop("stats")
    assert answers.pop("space")
    assert answers == {
        "tasks.list": [],
        "tasks.show": {"history": None},
        "tasks.deaths": [],
        "tasks.count": {"count": 0, "newest": 0},
        "tasks.active": [],
        "deadletter.list": [],
        "deadletter.count": {"count": 0, "newest": 0},
        "deadletter.tasks": [],
    }


def _holder(scene: Scene) -> Holder:
    holder = StoreLock(scene.db).holder()
    assert holder is not None
    return holder
