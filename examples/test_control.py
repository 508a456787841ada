"""How each task of control.py ends, on a real server."""

from __future__ import annotations

import pytest
from control import app, main  # type: ignore[import-not-found]

import dtm.testing


@pytest.mark.anyio
async def test_each_ends_as_it_should(capsys: pytest.CaptureFixture[str]) -> None:
    """The program as it is."""
    with dtm.testing.server(app):
        await main()

    assert capsys.readouterr().out.splitlines() == [
        "the same while it is active: True",
        "asks for another try: completed: page 1 at attempt 2",
        "asks for none: dead: Reject",
        "comes back later: completed: seen, at attempt 1",
        "too late: expired",
        "takes too long: dead: TimeoutError",
        "stopped at hour 0: assigned then cancelled",
    ]
