"""Whatever is asked for wrongly gets one clear line and a fixed exit code, and nothing is lost by it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.cluster import DEADLINE_S, Cluster, end

pytest_plugins = ("tests.wheel",)

PROGRAMS = ("dtm-server", "dtm-client", "dtm-admin")


@pytest.mark.parametrize("program", PROGRAMS)
def test_unknown_option_is_named(cluster: Cluster, program: str) -> None:
    """A mistyped option is a usage error that names it."""
    done = cluster.finish(program, "--colour", code=2)

    assert "--colour" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_in_use_is_refused(cluster: Cluster) -> None:
    """A second server on the same port says so and what to do."""
    cluster.start_server()

    done = cluster.finish("dtm-server", "--db", "other.db", "--port", cluster.address.rpartition(":")[2], code=1)

    assert "the port is in use" in done.stderr
    assert "--port" in done.stderr


def test_second_server_on_a_database_names_the_first(cluster: Cluster) -> None:
    """Two servers never share a file; the second names the holder."""
    server = cluster.start_server()

    done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)

    assert f"pid {server.pid}" in done.stderr
    assert cluster.address in done.stderr


def test_killed_server_leaves_no_lock(cluster: Cluster) -> None:
    """After kill -9 the next server takes over at once."""
    server = cluster.start_server()
    server.kill()
    server.wait()

    cluster.start_server()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"SQLite format 3\0" + bytes(100), "is no sound database"),
        (b"hello" * 1_000, "is no sound database"),
    ],
    ids=["empty", "damaged", "text"],
)
def test_file_that_is_no_store_is_refused_untouched(cluster: Cluster, content: bytes, reason: str) -> None:
    """Server and admin refuse it with path and reason, and leave every byte as it was."""
    cluster.db.write_bytes(content)

    server = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)
    admin = cluster.finish("dtm-admin", "stats", code=1)

    for done in (server, admin):
        assert f"tasks.db: {reason}" in done.stderr
    assert cluster.db.read_bytes() == content


def test_foreign_database_is_refused_untouched(cluster: Cluster) -> None:
    """Another program's SQLite file is not dtm's to change."""
    with closing(sqlite3.connect(cluster.db)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    before = cluster.db.read_bytes()

    done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)

    assert "another program's database" in done.stderr
    assert cluster.db.read_bytes() == before


def test_newer_database_is_refused(cluster: Cluster) -> None:
    """A file that a later version has migrated is refused, with the remedy."""
    end(cluster.start_server())
    with closing(sqlite3.connect(cluster.db, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)

    assert "newer than" in done.stderr


def test_locked_database_is_refused(cluster: Cluster) -> None:
    """A write lock that another program holds is reported, not waited for without end."""
    end(cluster.start_server())
    with closing(sqlite3.connect(cluster.db, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")

        done = cluster.finish("dtm-server", "--db", "tasks.db", "--port", "0", code=1)

    assert "another program holds" in done.stderr


def test_missing_folder_is_named(cluster: Cluster) -> None:
    """A database cannot be created in a folder that does not exist."""
    done = cluster.finish("dtm-server", "--db", "nowhere/tasks.db", "--port", "0", code=1)

    assert "nowhere/tasks.db: its folder does not exist" in done.stderr
    assert not (cluster.folder / "nowhere").exists()


def test_admin_never_creates_a_database(cluster: Cluster) -> None:
    """A missing database is exit code 4 and stays missing."""
    done = cluster.finish("dtm-admin", "stats", code=4)

    assert "no such database" in done.stderr
    assert list(cluster.folder.iterdir()) == []


@pytest.mark.parametrize("words", [("submit", "HashText", "hello"), ("result", "1")])
def test_absent_server_is_reported(cluster: Cluster, words: tuple[str, ...]) -> None:
    """Without a server the commands end with 3 and say how to start one."""
    done = cluster.finish("dtm-client", *words, "--server", "127.0.0.1:1", code=3)

    assert "cannot reach 127.0.0.1:1" in done.stderr
    assert "dtm-server" in done.stderr


def test_unreadable_input_file_is_named(cluster: Cluster) -> None:
    """A file that cannot be read is named with the reason."""
    cluster.start_server()

    done = cluster.finish(
        "dtm-client", "submit", "HashText", "--file", "absent.txt", "--server", cluster.address, code=1
    )

    assert "absent.txt: cannot be read" in done.stderr


def test_payload_too_large_is_refused(cluster: Cluster) -> None:
    """A payload beyond the limit is refused before anything is sent; a smaller one still works."""
    cluster.start_server()
    cluster.start_client("worker")

    done = cluster.finish(
        "dtm-client", "submit", "HashText", "-", "--server", cluster.address, stdin="x" * 1_100_000, code=1
    )
    accepted = cluster.client("submit", "HashText", "-", "--wait", stdin="x" * 900_000)

    assert "line 1:" in done.stderr
    assert len(accepted) == 65


def test_setting_comes_from_flag_environment_file_and_default_in_that_order(cluster: Cluster) -> None:
    """A flag beats DTM_…, which beats the file, which beats the default."""
    Path(cluster.folder, "dtm.toml").write_text('db = "file.db"\nport = 0\nhost = "127.0.0.1"\n')
    environment = {**os.environ, "DTM_DB": "environment.db"}

    for words, env, expected in (
        (("--db", "flag.db"), environment, "flag.db"),
        ((), environment, "environment.db"),
        ((), dict(os.environ), "file.db"),
    ):
        held = cluster.folder / f"{expected}.lock"
        held.mkdir()
        done = cluster.finish("dtm-server", "--config", "dtm.toml", *words, code=1, env=env)

        assert f"{expected} cannot be locked" in done.stderr.replace(":", "")


def test_interrupt_ends_a_submission_that_waits_for_input(cluster: Cluster) -> None:
    """Ctrl-C ends `submit KIND -` at once, although nobody ever types anything."""
    cluster.start_server()
    command = [str(cluster.program("dtm-client")), "submit", "HashText", "-", "--server", cluster.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        cluster.eventually("it is connected", lambda: cluster.logs().count("client.connect") or None)

        process.send_signal(signal.SIGINT)
        code = process.wait(DEADLINE_S)

        assert process.stderr is not None
        assert (code, process.stderr.read().strip()) == (130, "Interrupted.")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_full_disk_under_the_output_is_reported(cluster: Cluster) -> None:
    """Output that cannot be written is one line on standard error and exit code 1."""
    end(cluster.start_server())

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [cluster.program("dtm-admin"), "stats"],
            cwd=cluster.folder,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.startswith("Error: the output cannot be written")
