"""The command line as a whole: help, versions, settings, and what it does with files that are no store."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dtm.storage.batch import NewTask
from dtm_admin.cli import main
from tests.admin.scene import Admin, Scene

COMMANDS = [
    ["stats"],
    ["stats", "--watch"],
    ["deadletter", "list"],
    ["deadletter", "reprocess", "--all", "--yes"],
    ["deadletter", "clear", "7", "--yes"],
    ["tasks", "list"],
    ["tasks", "show", "7"],
    ["audit", "verify"],
    ["check"],
]
SLOW = ("sqlalchemy", "alembic", "tabulate", "structlog", "anyio", "asyncio")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["stats"],
        ["audit", "verify"],
        ["check"],
        ["backup"],
        ["restore"],
        ["deadletter", "reprocess"],
        ["tasks", "show"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    """`--help` waits neither for the database library nor for the table maker."""
    program = (
        "import sys\n"
        "from dtm_admin.cli import main\n"
        f"code = main({[*words, '--help']!r})\n"
        f"print([name for name in {SLOW!r} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "Usage:" in ran.stdout
    assert ran.stderr == "[]\n"


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names dtm and SQLite."""
    assert main(["--version"]) == 0
    assert "SQLite" in capsys.readouterr().out


def test_exit_codes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` says what the exit codes mean."""
    main(["--help"])

    assert "3 server unreachable, 4 not found" in " ".join(capsys.readouterr().out.split())


def test_db_comes_from_the_environment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DTM_DB names the database where no flag does."""
    monkeypatch.setenv("DTM_DB", str(scene.db))

    assert main(["stats"]) == 0
    assert str(scene.db) in capsys.readouterr().out


def test_settings_come_from_a_file(scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--config` gives what no flag gives."""
    config = tmp_path / "dtm.toml"
    config.write_text(f"db = '{scene.db}'\noutput = 'json'\n")

    assert main(["tasks", "list", "--config", str(config)]) == 0
    assert capsys.readouterr().out == '{\n  "tasks": []\n}\n'


def test_db_is_tasks_db_here(scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any word of it the database is `tasks.db` in the current folder."""
    monkeypatch.delenv("DTM_DB", raising=False)
    monkeypatch.chdir(scene.db.parent)

    assert main(["stats"]) == 0
    assert "tasks.db" in capsys.readouterr().out


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_missing_database_is_not_found_and_not_created(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 4 with a remedy, and the folder is as empty as before."""
    code = main([*words, "--db", str(tmp_path / "absent.db")])

    assert code == 4
    assert "no such database; name an existing one, or let dtm-server create it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_database(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 100)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()


def _newer(path: Path) -> None:
    Scene(path)
    _write(path, "UPDATE alembic_version SET version_num = '9999'")


def _older(path: Path) -> None:
    Scene(path)
    _write(path, "UPDATE alembic_version SET version_num = '0000'")


def _cut(path: Path) -> None:
    Scene(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def _folder(path: Path) -> None:
    path.mkdir()


def _write(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_empty, "is empty, so no store"),
        (_no_database, "is no sound database"),
        (_foreign, "is another program's database"),
        (_newer, "has schema 9999, newer than"),
        (_older, "has schema 0000, older than"),
        (_cut, "is no sound database"),
        (_folder, "is not a regular file"),
    ],
    ids=["empty", "no-database", "foreign", "newer", "older", "cut", "folder"],
)
def test_unfit_file_is_refused_with_the_reason(
    words: list[str], make: Callable[[Path], None], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and one line that says what is wrong."""
    path = tmp_path / "tasks.db"
    make(path)

    assert main([*words, "--db", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Error: {path}: {reason}")


def test_damage_inside_is_an_error_and_no_traceback(scene: Scene, admin: Admin) -> None:
    """A page that is damaged shows when it is read; that too is one line and exit code 1."""
    scene.bury(count=50, payload='"' + "x" * 2_000 + '"')
    with scene.db.open("r+b") as file:
        file.seek(24 * 4_096)
        file.write(b"\xff" * (scene.db.stat().st_size - 25 * 4_096))

    outcome = admin("tasks", "list")

    assert outcome.code == 1
    assert outcome.err.startswith("Error: the database cannot be read")


def test_letters_that_the_terminal_lacks_are_escaped(scene: Scene) -> None:
    """A Latin-1 terminal gets an escape for what it has no letter for, and no crash."""
    scene.submit(NewTask("add", '"日本"'))
    program = "import sys; from dtm_admin.cli import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program, "tasks", "list", "--db", str(scene.db)],
        capture_output=True,
        env={"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        check=True,
    )

    assert rb'"\u65e5\u672c"' in ran.stdout
