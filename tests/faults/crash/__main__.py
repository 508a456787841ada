"""The command behind `make crash`: shares schedules among processes, shows progress, and sums up."""

from __future__ import annotations

import sys
import time

import click

from tests.faults.crash.crew import Crew
from tests.faults.crash.scenarios import SCENARIOS
from tests.faults.crash.tally import Tally
from tests.faults.crash.worker import Order

PROGRESS_S = 10.0
SHOWN = 5


@click.command()
@click.option("--schedules", default=1_000, show_default=True, help="How many random schedules to play.")
@click.option("--seed", default=None, help="Where chance begins; a new one is drawn and printed if there is none.")
@click.option("--jobs", default=2, show_default=True, help="Processes to share the work.")
@click.option("--walk", is_flag=True, help="Walk every kill point of every scenario instead.")
@click.option("--only", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this scenario; may be repeated.")
@click.option("--replay", metavar="SEED/GROUP/NUMBER", help="Play this one schedule again.")
def main(schedules: int, seed: str | None, jobs: int, walk: bool, replay: str | None, only: tuple[str, ...]) -> None:  # noqa: FBT001
    """Crash dtm as often as you like, and see whether it keeps its promises."""
    only = only or tuple(SCENARIOS)
    seed = seed or str(time.time_ns())
    if replay is not None:
        seed, group, number = replay.rsplit("/", 2)
        orders = [Order(seed=seed, scenarios=only, only=(int(group), int(number)))]
    else:
        orders = [
            Order(seed=seed, scenarios=only, schedules=schedules, walk=walk, part=part, of=jobs) for part in range(jobs)
        ]
    click.echo(f"seed {seed}, {len(orders)} processes")
    tally, elapsed_s = _run(orders)
    for failure in tally.failures[:SHOWN]:
        click.echo(f"\nFAILED {failure.replay}\n{failure.story}")
    click.echo("\n".join(tally.summary(elapsed_s)))
    if walk:
        click.echo(f"walked          {', '.join(only)}: every call, before, half-way and after")
    if tally.failures:
        again = f"WALK=1 SEED={seed}" if walk else f"REPLAY={tally.failures[0].replay}"
        # Which scenarios there were to choose from is part of what a schedule follows from.
        limits = " ".join(f"--only {name}" for name in only if only != tuple(SCENARIOS))
        click.echo(f"one again       make crash {again}" + (f" ARGS='{limits}'" if limits else ""))
    sys.exit(bool(tally.failures))


def _run(orders: list[Order]) -> tuple[Tally, float]:
    started_s = shown_s = time.monotonic()
    tally = Tally()
    with Crew(orders) as crew:
        for part in crew.tallies():
            tally.add(part)
            if time.monotonic() - shown_s > PROGRESS_S:
                shown_s = time.monotonic()
                rate = tally.schedules / (shown_s - started_s)
                click.echo(f"{tally.schedules:>9,} schedules, {rate:,.0f} a second, {len(tally.failures)} failures")
    return tally, time.monotonic() - started_s


if __name__ == "__main__":
    main()
