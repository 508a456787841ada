"""The options that protect, on the command lines of server and client: what is refused before anything is opened."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from dtm.cli.program import run_cli
from dtm.cli.server import EXIT_CODES, server
from dtm.security.exposure import Exposed
from dtm.security.files import CredentialFiles
from dtm.server.protection import refuse_exposure
from dtm.server.settings import Settings
from tests.certificates import Authority
from tests.cli.site import Terminal
from tests.cli.test_server import started
from tests.security.files import PRODUCER, WORKER, token_file
from tests.server.live import serving


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that gets further than it should must not leave a store in the source tree."""
    monkeypatch.chdir(tmp_path)


def start(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a server that does not get as far as serving; give its exit code and what it says.

    Were it not refused for what it is tried for, the folder of its database would be missing: it never listens.
    """
    code = run_cli(server, ["--db", "nowhere/tasks.db", *words], exit_codes=EXIT_CODES)
    return code, capsys.readouterr().err


# Where a server may listen.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
def test_a_server_that_others_reach_wants_protection(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, host: str
) -> None:
    """Exit code 2, one sentence with every way out, and no file made."""
    code, told = start(capsys, "--host", host, "--port", "0")

    assert code == 2
    (line,) = told.splitlines()
    assert line.startswith("Error: wanted protection to listen on ")
    assert "add --token-file FILE and --tls-cert FILE --tls-key FILE, listen on 127.0.0.1" in line
    assert line.endswith("or accept the risk with --insecure")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_already_is_not_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A token alone lacks TLS, TLS alone a token."""
    tokens = token_file(tmp_path, f"worker {WORKER}")
    pair = Authority(tmp_path).issue()

    _, without_tls = start(capsys, "--host", "0.0.0.0", "--token-file", str(tokens))
    _, without_token = start(capsys, "--host", "0.0.0.0", "--tls-cert", str(pair.cert), "--tls-key", str(pair.key))

    assert "add --tls-cert FILE --tls-key FILE, listen" in without_tls
    assert "add --token-file FILE, listen" in without_token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
async def test_loopback_needs_no_protection(host: str) -> None:
    """By number and by name."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with capture_logs() as events:
        await refuse_exposure(Settings(host=host))

    assert events == []


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_with_both_a_server_may_listen_anywhere(tmp_path: Path) -> None:
    """And nothing is logged of it."""
    pair = Authority(tmp_path).issue()
    tokens = token_file(tmp_path, f"worker {WORKER}")
    with capture_logs() as events:
        await refuse_exposure(Settings(host="0.0.0.0", token_file=tokens, **pair.options))

    assert events == []


async def test_insecure_is_one_warning(tmp_path: Path) -> None:
    """It says what is missing; on loopback there is nothing to warn of."""
    tokens = token_file(tmp_path, f"worker {WORKER}")
    with pytest.raises(Exposed):
        await refuse_exposure(Settings(host="0.0.0.0", token_file=tokens))
    with capture_logs() as events:
        await refuse_exposure(Settings(host="0.0.0.0", token_file=tokens, insecure=True))
        await refuse_exposure(Settings(host="127.0.0.1", insecure=True))

    assert events == [
        {
            "event": "server.exposed",
            "log_level": "warning",
            "host": "0.0.0.0",
            "missing": ["--tls-cert FILE --tls-key FILE"],
        }
    ]


async def test_an_exposed_server_runs_if_told_to(tmp_path: Path) -> None:
    """The flag reaches it, also from a file; the address is none of this machine's, so that nobody is exposed."""
    (tmp_path / "dtm.toml").write_text('insecure = true\nhost = "192.0.2.1"\nport = 0\n')
    async with started(tmp_path, "--config", "dtm.toml") as running:
        assert (await running.logged("server.exposed"))["level"] == "warning"
        await running.logged("database")
        assert await running.ended() == 1


# Files.


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--token-file", "absent"), "token file absent: it cannot be read (No such file or directory)"),
        (("--token-file", "open"), "run: chmod 600 open"),
        (("--token-file", "short"), "token file short: line 1: wanted a token of at least 32 characters, found 5"),
        (("--tls-cert", "absent"), "wanted --tls-cert and --tls-key together"),
        (("--tls-key", "absent"), "wanted --tls-cert and --tls-key together"),
        (("--tls-client-ca", "absent"), "wanted --tls-cert and --tls-key together"),
        (("--tls-cert", "absent", "--tls-key", "absent"), "--tls-cert absent: it cannot be read"),
    ],
)
def test_a_server_refuses_wrong_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], complaint: str
) -> None:
    """Exit code 2, before the database is made."""
    token_file(tmp_path, f"worker {WORKER}", name="open", mode=0o644)
    token_file(tmp_path, "worker short", name="short")
    code, told = start(capsys, *words, "--port", "0")

    assert code == 2
    assert complaint in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("command", [("work",), ("submit", "HashText", "x"), ("result", "1")])
@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--token-file", "all"), "token file all: wanted one token, the client's own, found 2"),
        (("--token-file", "open"), "run: chmod 600 open"),
        (("--tls-ca", "absent"), "--tls-ca absent: it cannot be read"),
        (("--tls", "--tls-cert", "absent"), "wanted --tls-cert and --tls-key together"),
    ],
)
def test_a_client_refuses_wrong_files(
    terminal: Terminal, tmp_path: Path, command: tuple[str, ...], words: tuple[str, ...], complaint: str
) -> None:
    """Exit code 2, before it connects."""
    token_file(tmp_path, f"worker {WORKER}", name="open", mode=0o640)
    token_file(tmp_path, f"worker {WORKER}", f"producer {PRODUCER}", name="all")
    outcome = terminal.run(*command, "--server", "127.0.0.1:1", *words)

    assert outcome.code == 2
    assert complaint in outcome.err
    assert WORKER not in outcome.err


def test_credentials_as_words_are_paths(tmp_path: Path) -> None:
    """What one process tells another stands in a command line, where everybody may read it."""
    path = token_file(tmp_path, f"worker {WORKER}")
    files = CredentialFiles(token_file=path, tls=True)
    more = CredentialFiles(tls_ca=Path("ca.pem"), tls_cert=Path("c.pem"), tls_key=Path("k.pem"))

    assert list(files.words()) == ["--token-file", str(path), "--tls"]
    assert list(more.words()) == ["--tls-ca", "ca.pem", "--tls-cert", "c.pem", "--tls-key", "k.pem"]
    assert WORKER not in repr(files.read())
    assert list(CredentialFiles().words()) == []


def test_naming_a_file_for_tls_asks_for_tls(tmp_path: Path) -> None:
    """Whoever names an authority must not find out later that he spoke in the clear."""
    authority = Authority(tmp_path)
    mine = authority.issue("worker", called="client")

    assert CredentialFiles().read().tls is None
    for files in (
        CredentialFiles(tls=True),
        CredentialFiles(tls_ca=authority.file),
        CredentialFiles(tls_cert=mine.cert, tls_key=mine.key),
    ):
        assert files.read().tls is not None


@pytest.mark.parametrize("command", [("submit", "HashText", "x"), ("result", "1"), ("work",)])
async def test_a_client_that_is_not_let_in_says_so_in_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Exit code 1, in the server's words."""
    tokens = token_file(tmp_path, f"worker {WORKER}", f"producer {PRODUCER}")
    mine = token_file(tmp_path, f"worker {'x' * 32}", name="mine")
    async with serving(tmp_path, token_file=tokens) as live:
        for words, complaint in (
            ((), "this server wants a token; name the file that holds it with --token-file FILE (unauthenticated)"),
            (("--token-file", str(mine)), "it refused this client: this server knows no such token"),
        ):
            done = await _finish(*command, "--server", f"127.0.0.1:{live.port}", *words)
            assert done.returncode == 1
            (line,) = [line for line in done.stderr.decode().splitlines() if line.startswith("Error:")]
            assert complaint in line
            assert b"Traceback" not in done.stderr
            assert b"x" * 32 not in done.stderr


async def _finish(*words: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DTM_")}
    return await anyio.run_process([sys.executable, "-m", "dtm.cli.client", *words], env=environment, check=False)


def test_help_tells_of_security_in_a_section_of_its_own() -> None:
    """With what each option is for."""
    text: Result = CliRunner().invoke(server, ["--help"])
    section = text.output.split("Security:")[1].split("Limits:")[0]

    for flag in ("--token-file", "--tls-cert", "--tls-key", "--tls-client-ca", "--insecure"):
        assert flag in section
