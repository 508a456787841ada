"""What a run has done so far: plain numbers that add up."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field

MAX_STORY = 2_000


class Failure(Struct, frozen=True):
    """A promise that was not kept: which schedule shows it, and how."""

    replay: str
    story: str


class Tally(Struct):
    """The work of one process, or of several."""

    schedules: int = 0
    crashes: int = 0
    power_losses: int = 0
    recoveries: int = 0
    lives: int = 0
    kill_points: int = 0
    kill_points_hit: int = 0
    kills_by_call: dict[str, int] = {}
    deaths_in_a_row: dict[int, int] = {}
    cpu_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another one did."""
        for name in self.__struct_fields__:
            mine, its = getattr(self, name), getattr(other, name)
            setattr(self, name, dict(Counter(mine) + Counter(its)) if isinstance(mine, dict) else mine + its)

    def count_kill(self, call: str) -> None:
        """Note a crash at that kind of call."""
        self.crashes += 1
        self.kills_by_call[call] = self.kills_by_call.get(call, 0) + 1

    def summary(self, elapsed_s: float) -> list[str]:
        """Say it in lines."""
        calls = ", ".join(f"{call} {times:,}" for call, times in sorted(self.kills_by_call.items()))
        rows = ", ".join(f"{times:,}×{depth}" for depth, times in sorted(self.deaths_in_a_row.items()))
        rate, cpu_ms = self.schedules / elapsed_s, 1000 * self.cpu_s / max(1, self.schedules)
        return [
            f"schedules       {self.schedules:,} in {elapsed_s:,.0f} s, {rate:,.1f} a second, CPU {cpu_ms:.0f} ms each",
            f"crashes         {self.crashes:,}{rows and f'; in a row: {rows}'}",
            f"  at the call   {calls}",
            f"power losses    {self.power_losses:,}",
            f"recoveries      {self.recoveries:,}, each checked",
            f"kill points     {self.kill_points_hit:,} hit of {self.kill_points:,} in {self.lives:,} lives",
            f"failures        {len(self.failures):,}",
        ]
