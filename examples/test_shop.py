"""How a program with tasks is tested: at once without a server, and on a real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from shop import Item, app, main, ship, total  # type: ignore[import-not-found]

import dtm
import dtm.testing


@pytest.fixture
def inline() -> Iterator[None]:
    """Let submissions run at once."""
    with dtm.testing.inline(app):
        yield


@pytest.fixture
def server() -> Iterator[dtm.testing.TestServer]:
    """A server and a worker, for this test alone."""
    with dtm.testing.server(app) as server:
        yield server


def test_a_task_is_a_function() -> None:
    """It needs nothing but its arguments."""
    assert total([Item("tea", 450), Item("cup", 1_200, 6)], discount=10) == 6_885


@pytest.mark.usefixtures("inline")
def test_a_task_that_is_submitted() -> None:
    """Its arguments and its result travel as they would."""
    assert ship.sync.submit(7, date(2026, 1, 31)).result() == "order 7 left on 31.01.2026"
    with pytest.raises(dtm.TaskFailed, match="OutOfStock: order 13 cannot be sent"):
        ship.sync.submit(13, date(2026, 1, 31)).result()


@pytest.mark.anyio
@pytest.mark.usefixtures("server")
async def test_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The program as it is, on a server."""
    await main()

    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "totals: [450, 6480]"
    assert "shipping: completed handed over" in printed
    assert printed[-2:] == ["order 7 left on 31.01.2026", "{'2026-01': 333283335000}"]
