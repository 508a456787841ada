"""What tasks may ask of the server, and what their submitters may: a task that watches over a slow delivery.

dtm-server --db tasks.db
dtm-client --app control --app-dir examples
python examples/control.py
"""

from __future__ import annotations

import asyncio
import time

import dtm

app = dtm.App()


@app.task(unique="args", max_retries=5)
def fetch(page: int) -> str:
    """Say oneself when to try again, and when never."""
    if page < 0:
        raise dtm.Reject(f"there is no page {page}")
    if dtm.current().attempt == 1:
        raise dtm.Retry(after="200ms", reason="the page is not there yet")
    return f"page {page} at attempt {dtm.current().attempt}"


@app.task
async def watch(until: float) -> str:
    """Come back later without blame, until the time has come."""
    if time.time() < until:
        raise dtm.Snooze("200ms")
    return f"seen, at attempt {dtm.current().attempt}"


@app.task(timeout="10m")
async def stream(hours: int) -> None:
    """Run for long; a cancellation or the timeout stops it where it awaits."""
    for hour in range(hours):
        dtm.current().progress(hour / hours, f"hour {hour}")
        await asyncio.sleep(3_600)


@app.task(executor="process", timeout="1s", max_retries=1)
def spin() -> None:
    """Run for ever; in a process, a timeout ends even this."""
    while True:
        pass


async def end_of(job: dtm.Job[object]) -> str:
    """Put the end of a task into words."""
    try:
        return f"completed: {await job.result(timeout='1m')}"
    except dtm.TaskFailed as error:
        return f"dead: {error.type}"
    except dtm.TaskCancelled:
        return "cancelled"
    except dtm.TaskExpired:
        return "expired"


async def main() -> None:
    """Submit tasks, and say how each ends."""
    async with app:
        once, twice = await fetch.submit(1), await fetch.submit(1)
        print("the same while it is active:", once.id == twice.id)
        print("asks for another try:", await end_of(once))
        print("asks for none:", await end_of(await fetch.submit(-1)))
        print("comes back later:", await end_of(await watch.submit(time.time() + 0.5)))
        print("too late:", await end_of(await watch.options(delay="1h", expires="300ms").submit(0)))
        print("takes too long:", await end_of(await spin.submit()))

        running = await stream.submit(24)
        async for update in running.updates():
            if update.note:
                break
        print("stopped at", update.note + ":", await running.cancel(), "then", await end_of(running))


if __name__ == "__main__":
    asyncio.run(main())
