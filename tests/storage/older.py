"""Stores of earlier releases, made by the migrations that those releases had."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config

from dtm.storage.engine import writer_engine

FIRST_RELEASE = "0001"


def older_store(path: Path, revision: str = FIRST_RELEASE) -> None:
    """Make an empty store of `revision` at `path`."""
    path.touch(0o600)
    engine = writer_engine(path)
    with engine.begin() as connection, as_file(files("dtm_migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
