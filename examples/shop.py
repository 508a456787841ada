"""A program with tasks of its own. Its tests are in test_shop.py, beside it.

dtm-server --db tasks.db
dtm-client --app shop --app-dir examples
python examples/shop.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date

import dtm

app = dtm.App()


@dataclass
class Item:
    """A line of an order."""

    name: str
    cents: int
    count: int = 1


class OutOfStock(Exception):
    """There is nothing left to send."""


@app.task
def total(items: list[Item], discount: int = 0) -> int:
    """Add up an order, in a thread; `discount` is in per cent."""
    return sum(item.cents * item.count for item in items) * (100 - discount) // 100


@app.task(max_retries=5, timeout="30s", retry=dtm.Exponential("1s", "1m"), no_retry_for=OutOfStock)
async def ship(order: int, on: date) -> str:
    """Send an order, in the event loop, telling how far it is."""
    for step, word in enumerate(("packed", "labelled", "handed over"), start=1):
        dtm.current().progress(step / 3, word)
        await asyncio.sleep(0)
    if order == 13:
        raise OutOfStock(f"order {order} cannot be sent")
    return f"order {order} left on {on:%d.%m.%Y}"


@app.task(unique="args", executor="process", timeout="1m")
def report(month: str) -> dict[str, int]:
    """Compute something long, in a process that can be stopped; the same month is computed once at a time."""
    return {month: sum(number * number for number in range(10_000))}


async def main() -> None:
    """Submit tasks, and wait for their results."""
    async with app:
        sums = await total.submit_many(
            [total.args([Item("tea", 450)]), total.args([Item("cup", 1_200, 6)], discount=10)]
        )
        print("totals:", [await job.result(timeout="1m") for job in sums])
        job = await ship.options(priority=5, key="order-7").submit(7, date(2026, 1, 31))
        async for update in job.updates():
            print("shipping:", update.state, update.note)
        print(await job.result())
        print(await (await report.submit("2026-01")).result(timeout="1m"))


if __name__ == "__main__":
    asyncio.run(main())
