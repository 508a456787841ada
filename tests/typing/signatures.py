"""What type checkers make of the task API. Never run: tests/typing/test_checkers.py has it checked.

A line that ends in `# wrong` must be an error to each of them, and no other may be.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, assert_type

import dtm

app = dtm.App()


@app.task
def resize(path: str, width: int = 800) -> bytes:
    """Have no options."""
    return b""


@app.task(kind="Greet", max_retries=5, timeout="30s", retry=dtm.Exponential("1s"), retry_for=(OSError,))
async def greet(name: str, *, loud: bool = False) -> list[str]:
    """Have options, and be awaited."""
    return [name]


@app.task(executor="process", timeout=timedelta(minutes=1), no_retry_for=ValueError)
def check(number: int, /) -> bool:
    """Take a whole payload."""
    return True


async def submits() -> None:
    """Submit with async."""
    assert_type(resize("a", 3), bytes)
    assert_type(await greet("you"), list[str])
    greeting: Coroutine[Any, Any, list[str]] = greet("you", loud=True)
    greeting.close()

    assert_type(await resize.submit("a.png", width=3), dtm.Job[bytes])
    assert_type(await (await resize.submit("a.png")).result(timeout="1m"), bytes)
    assert_type(
        await (await greet.options(priority=5, delay="10s", key="k").submit("a", loud=True)).result(), list[str]
    )
    assert_type(await (await check.submit(7)).result(), bool)
    assert_type(resize.job(7), dtm.Job[bytes])
    assert_type(app.job(7), dtm.Job[Any])
    async for update in (await resize.submit("a")).updates():
        assert_type(update, dtm.Update)
    assert_type((await resize.job(7).status()).retry_count, int)

    jobs = await resize.submit_many([resize.args("a"), resize.args("b", width=3)])
    assert_type(jobs, dtm.Jobs[bytes])
    assert_type(await jobs[0].result(), bytes)

    await resize.submit(3)  # wrong
    await resize.submit("a", "b")  # wrong
    await resize.submit("a", wdth=3)  # wrong
    await resize.submit()  # wrong
    await greet.submit("a", True)  # wrong
    await greet.options(priority="high").submit("a")  # wrong
    await greet.options(prioriti=3).submit("a")  # wrong
    resize.args(3)  # wrong


def submits_without_async() -> None:
    """Submit without async."""
    assert_type(resize.sync.submit("a.png").result(), bytes)
    assert_type(greet.options(delay=3).sync.submit("you").result(timeout=3), list[str])
    assert_type(resize.sync.submit_many(["a"])[0].result(), bytes)
    resize.sync.submit(3)  # wrong


def decorates() -> None:
    """Give options that there are not."""
    app.task(max_retry=3)  # wrong
    app.task(timeout=[])  # wrong
    app.task(executor="fork")  # wrong
    app.task(retry="exponential")  # wrong


def tells() -> None:
    """Look at the task that runs."""
    task = dtm.current()
    assert_type(task.id, int)
    task.progress(0.5, "half way")
    raise dtm.Retry(after="1m")
