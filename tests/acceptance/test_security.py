"""A guarded server and its clients as an operator starts them: everybody does his part, and nobody another's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster, Process, end
from tests.certificates import Authority
from tests.security.files import ADMIN, BOTH, PRODUCER, WORKER, token_file

pytest_plugins = ("tests.wheel",)

TOKENS = {"worker": WORKER, "producer": PRODUCER, "admin": ADMIN}


@dataclass(frozen=True)
class Guarded:
    """A cluster whose server asks who is there."""

    cluster: Cluster
    port: str

    def credentials(self, role: str) -> tuple[str, ...]:
        """Write the options of a client of that role."""
        return ("--token-file", f"{role}.token", "--tls-ca", "ca.pem")

    @property
    def server(self) -> tuple[str, str]:
        """Write where the server is, by the name in its certificate."""
        return ("--server", f"localhost:{self.port}")


@pytest.fixture
def guarded(cluster: Cluster) -> Guarded:
    """A server with a token of each role, TLS, and certificates demanded of nobody."""
    folder = cluster.folder
    pair = Authority(folder).issue()
    token_file(folder, *(f"{role} {token}" for role, token in TOKENS.items()), f"worker,producer {BOTH}")
    for role, token in TOKENS.items():
        token_file(folder, f"{role} {token}", name=f"{role}.token")
    files = ("--token-file", "tokens", "--tls-cert", pair.cert.name, "--tls-key", pair.key.name)
    cluster.start_server(*files)
    return Guarded(cluster, cluster.address.rpartition(":")[2])


def test_each_does_his_part_through_tls(guarded: Guarded) -> None:
    """A worker runs, a producer submits and hears, an operator looks and settles from afar."""
    cluster = guarded.cluster
    worker, log = cluster.start(
        "dtm-client", *guarded.server, *guarded.credentials("worker"), "--name", "w", "--processes", "2"
    )
    cluster.eventually("both are registered", lambda: log.read_text().count("registered") >= 2, of=worker, log=log)
    producer = (*guarded.server, *guarded.credentials("producer"))
    answer = cluster.finish("dtm-client", "submit", "CheckPrime", "-", "--wait", *producer, stdin="7\n8\n9\n").stdout
    cluster.finish("dtm-client", "submit", "CheckPrime", "no number", "--wait", *producer, code=1)
    operator = (*guarded.server, *guarded.credentials("admin"))
    stats = cluster.admin("stats", *operator)
    letters = cluster.admin("deadletter", "list", *operator)
    settled = cluster.admin("deadletter", "clear", "--all", "--yes", *operator)
    commands = _command_lines(worker)

    assert answer == "true\nfalse\nfalse\n"
    assert stats["total"]["completed"] == 3
    assert [client["status"] for client in stats["clients"]] == ["idle", "idle"]
    assert [letter["payload"] for letter in letters["dead_letters"]] == ["no number"]
    assert settled["done"] == 1
    assert end(worker) == 0
    assert len(commands) == 3
    for token in TOKENS.values():
        assert token not in cluster.logs()
        assert token not in commands.__repr__()


def _command_lines(parent: Process) -> list[str]:
    """Read what everybody on the machine may read of a process and its children."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        pytest.skip("looks for processes in /proc")
    pids = [str(parent.pid), *children.read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in pids]


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("producer", ("dtm-client", "work")),
        ("admin", ("dtm-client", "work")),
        ("worker", ("dtm-client", "submit", "HashText", "x")),
        ("admin", ("dtm-client", "submit", "HashText", "x")),
        ("worker", ("dtm-client", "result", "1")),
        ("worker", ("dtm-admin", "stats")),
        ("producer", ("dtm-admin", "deadletter", "clear", "--all", "--yes")),
    ],
)
def test_nobody_does_anothers_part(guarded: Guarded, role: str, words: tuple[str, ...]) -> None:
    """One line that names both roles, and exit code 1."""
    done = guarded.cluster.finish(*words, *guarded.server, *guarded.credentials(role), code=1)

    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert f"found one of {role}" in line
    assert "Traceback" not in done.stderr
    assert TOKENS[role] not in done.stderr
    assert guarded.cluster.rows("SELECT count(*) FROM tasks") == [(0,)]


def test_the_operator_of_the_machine_goes_on_as_before(guarded: Guarded) -> None:
    """Without a token, a certificate or an address."""
    guarded.cluster.admin("deadletter", "clear", "--all", "--yes")


def test_a_token_is_replaced_without_a_gap(guarded: Guarded) -> None:
    """Old and new side by side, the clients one after the other, then the old one goes."""
    cluster, new = guarded.cluster, "n" * 40
    both = [f"producer {PRODUCER}", f"producer {new}"]
    submit = ("dtm-client", "submit", "HashText", "x", *guarded.server)

    token_file(cluster.folder, f"producer {new}", name="new.token")
    results = []
    for lines in ([both[0]], both, [both[1]]):
        token_file(cluster.folder, *lines)
        cluster.kill_all()
        cluster.start_server(*_server_files(), port=guarded.port)
        for role in ("producer", "new"):
            is_known = f"producer {PRODUCER if role == 'producer' else new}" in lines
            cluster.finish(*submit, *guarded.credentials(role), code=0 if is_known else 1)
            results.append(is_known)

    assert results == [True, False, True, True, False, True]


RELAY = """
import os
import dtm

app = dtm.App()
elsewhere = dtm.App("127.0.0.1:1")

@app.task
def leaf(word: str) -> str:
    return word

@app.task
async def coroutine() -> str:
    async with app:
        return await (await leaf.submit("coroutine")).result("30s")

@app.task
def thread() -> str:
    return leaf.sync.submit("thread").result("30s")

@app.task(executor="process")
def process() -> str:
    os.chdir("/")
    return leaf.sync.submit("process").result("30s")

@app.task(executor="process", max_retries=1)
def abroad() -> str:
    return elsewhere.task(leaf.function).sync.submit("abroad").result("30s")
"""


def test_what_a_task_submits_goes_where_the_task_is_from(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its worker's credentials, whatever the environment says; only an app with a server of its own has that."""
    cluster = guarded.cluster
    (cluster.folder / "relay.py").write_text(RELAY)
    token_file(cluster.folder, f"worker,producer {BOTH}", name="both.token")
    submit = ("dtm-client", "submit", *guarded.server, *guarded.credentials("producer"), "--json", "--wait")
    for variable, wrong in (("SERVER", "127.0.0.1:1"), ("TOKEN_FILE", "none.token"), ("TLS_CA", "none.pem")):
        monkeypatch.setenv(f"DTM_{variable}", wrong)
    worker, log = cluster.start(
        "dtm-client", *guarded.server, *guarded.credentials("both"), "--app", "relay:app", "--concurrency", "4"
    )
    cluster.eventually("it is registered", lambda: "registered" in log.read_text(), of=worker, log=log)

    for kind in ("coroutine", "thread", "process"):
        assert cluster.finish(*submit, kind, "{}").stdout == f"{kind}\n"
    assert "none.token" in cluster.finish(*submit, "--max-retries", "1", "abroad", "{}", code=1).stderr
    assert end(worker) == 0


def _server_files() -> tuple[str, ...]:
    return ("--token-file", "tokens", "--tls-cert", "ca-server.pem", "--tls-key", "ca-server.key")
