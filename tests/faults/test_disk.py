"""The model of a disk: what a power loss may leave of what was not synced, and what it may not."""

from __future__ import annotations

from random import Random

from tests.faults.crash.disk import SECTOR, Disk, Weather
from tests.faults.crash.recorder import Kind, Step

FAIR = Weather(0.5, keeps_order=False)
ORDERLY = Weather(0.5, keeps_order=True)


def step(kind: Kind, data: bytes = b"", *, file: int = 1, offset: int = 0) -> Step:
    """One call."""
    return Step(kind, file, offset, data)


def created(name: bytes = b"a", *, file: int = 1) -> Step:
    """A new file."""
    return step(Kind.CREATED, name, file=file)


def sectors(text: str) -> bytes:
    """A sector full of each letter."""
    return b"".join(letter.encode() * SECTOR for letter in text)


SYNC, SYNC_FOLDER = step(Kind.SYNCED), step(Kind.SYNCED_FOLDER)


def outcomes(*steps: Step, weather: Weather = FAIR) -> set[tuple[tuple[str, str], ...]]:
    """Give every folder that power losses after these calls leave: names, and each sector's first letter (0: zeros)."""
    disk = Disk()
    for one in steps:
        disk.apply(one)
    chance = Random(7)
    return {_brief(disk.after_power_loss(weather, chance)) for _ in range(600)}


def _brief(disk: Disk) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, _letters(content)) for name, content in disk.contents().items()))


def _letters(content: bytearray) -> str:
    found = [set(content[start : start + SECTOR]) for start in range(0, len(content), SECTOR)]
    assert all(len(letters) == 1 for letters in found), "a sector is torn"
    return "".join(chr(min(letters) or ord("0")) for letters in found)


def files(*contents: str) -> set[tuple[tuple[str, str], ...]]:
    """A folder with the file `a`, of any of these contents."""
    return {(("a", content),) for content in contents}


def test_what_was_synced_with_its_name_stays() -> None:
    """Nothing else is possible."""
    assert outcomes(created(), step(Kind.WROTE, sectors("xy")), SYNC, SYNC_FOLDER) == files("xy")


def test_a_synced_file_without_a_synced_name_may_be_gone() -> None:
    """The file's own fsync does not help its name."""
    assert outcomes(created(), step(Kind.WROTE, sectors("x")), SYNC) == {()} | files("x")


def test_unsynced_sectors_survive_each_on_its_own() -> None:
    """The file may also be shorter than what was written, or hold zeros where a sector got lost."""
    found = outcomes(created(), SYNC_FOLDER, step(Kind.WROTE, sectors("xy")))

    assert found == files("", "00", "x0", "0y", "xy")


def test_an_overwritten_sector_is_old_or_of_any_write_since() -> None:
    """The kernel may have written it back at any time."""
    begun = (created(), step(Kind.WROTE, sectors("x")), SYNC, SYNC_FOLDER)

    assert outcomes(*begun, step(Kind.WROTE, sectors("y")), step(Kind.WROTE, sectors("z"))) == files("x", "y", "z")


def test_a_part_of_a_sector_does_not_damage_the_rest() -> None:
    """It is old, or new with everything that the page held at that time."""
    disk = Disk()
    for one in (created(), step(Kind.WROTE, sectors("x")), SYNC, SYNC_FOLDER, step(Kind.WROTE, b"yy", offset=10)):
        disk.apply(one)
    chance = Random(7)

    left = {bytes(disk.after_power_loss(FAIR, chance).contents()["a"]) for _ in range(100)}

    assert left == {sectors("x"), b"x" * 10 + b"yy" + b"x" * (SECTOR - 12)}


def test_an_unsynced_cut_may_be_undone() -> None:
    """Until the next sync of that file."""
    cut = step(Kind.CUT, offset=SECTOR)
    begun = (created(), step(Kind.WROTE, sectors("xy")), SYNC, SYNC_FOLDER)

    assert outcomes(*begun, cut) == files("x", "xy")
    assert outcomes(*begun, cut, SYNC) == files("x")


def test_a_rename_is_whole_or_has_not_happened() -> None:
    """The target is the old file or the new one, and never both names or none."""
    begun = (created(), created(b"b", file=2), step(Kind.WROTE, sectors("x"), file=2), step(Kind.SYNCED, file=2))

    found = outcomes(*begun, SYNC_FOLDER, step(Kind.RENAMED, b"b/a"))

    assert found == {(("a", ""), ("b", "x")), (("a", "x"),)}


def test_a_journal_keeps_the_order_of_names() -> None:
    """Without one, the later of two may be all that is left."""
    two = (created(), created(b"b", file=2))

    assert outcomes(*two, weather=ORDERLY) == {(), (("a", ""),), (("a", ""), ("b", ""))}
    assert outcomes(*two) == {(), (("a", ""),), (("b", ""),), (("a", ""), ("b", ""))}


def test_a_removed_file_may_come_back() -> None:
    """With what was durable of it."""
    begun = (created(), step(Kind.WROTE, sectors("x")), SYNC, SYNC_FOLDER, step(Kind.UNLINKED, b"a"))

    assert outcomes(*begun) == {()} | files("x")
    assert outcomes(*begun, SYNC_FOLDER) == {()}


def test_what_is_left_is_durable() -> None:
    """A second power loss takes nothing more."""
    disk = Disk()
    for one in (created(), step(Kind.WROTE, sectors("xyz"))):
        disk.apply(one)
    chance = Random(3)
    left = disk.after_power_loss(Weather(1.0, keeps_order=True), chance)

    assert left.after_power_loss(Weather(0.0, keeps_order=True), chance).contents() == left.contents()


def test_a_copy_goes_its_own_way() -> None:
    """What happens to the one does not happen to the other, and unsynced names follow their own files."""
    disk = Disk()
    disk.apply(created())
    other = disk.copy()
    disk.apply(step(Kind.WROTE, sectors("x")))

    assert other.contents() == {"a": b""}
    assert disk.contents() == {"a": sectors("x")}
