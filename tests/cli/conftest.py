"""What the tests of the command lines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import site as sites
from tests.cli.site import Site, Terminal


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Runs dtm-client, with no DTM_ variables around."""
    return Terminal(capsys, monkeypatch)


@pytest.fixture
def site(tmp_path: Path, terminal: Terminal) -> Iterator[Site]:
    """A server and a worker, and the commands that talk to it."""
    with sites.site(tmp_path, terminal) as site:
        yield site
