"""The two ways to a store, and the slices in which a command goes there."""

from __future__ import annotations

from dtm.core.balance import LeastLoaded
from dtm.storage.batch import Batch, Clear, Command, Reprocess, Selection
from dtm.storage.errors import StoreHeld
from dtm.storage.lock import Holder, StoreLock
from dtm.storage.receipt import Resolved
from dtm.storage.store import Store
from dtm.storage.transaction import Policy
from dtm_admin.clock import utc_now
from dtm_admin.gateway import changing, live_server, settle
from dtm_admin.settling import carry_out, choose
from tests.admin.scene import SECRET, Scene

HOLDER = Holder(4711, "127.0.0.1", 12345, SECRET)
EVERYTHING = Selection(everything=True)


def test_selection_is_carried_out_in_slices(scene: Scene) -> None:
    """Each slice is one transaction, and the last takes what is left."""
    ids = scene.bury(count=7)
    chosen = choose(scene.db, EVERYTHING)

    assert list(carry_out(scene.db, Reprocess, chosen, clock=utc_now, slice_size=3)) == [3, 3, 1]
    assert scene.states(*ids) == ["pending"] * 7


def test_slices_end_with_the_last_letter(scene: Scene) -> None:
    """A number that divides evenly needs no empty slice."""
    scene.bury(count=6)
    chosen = choose(scene.db, EVERYTHING)

    assert list(carry_out(scene.db, Clear, chosen, clock=utc_now, slice_size=3)) == [3, 3]


def test_long_list_of_ids_is_divided() -> None:
    """No command names more ids than a slice has."""
    heard: list[Selection] = []

    def hear(command: Command) -> Resolved:
        assert isinstance(command, Clear)
        heard.append(command.selection)
        return Resolved(len(command.selection.ids or ()), 0)

    selection = Selection(ids=(1, 2, 3, 4, 5), kind="add", through=9)

    assert list(settle(hear, Clear, selection, slice_size=2)) == [2, 2, 1]
    assert heard == [Selection(ids=ids, kind="add", through=9) for ids in ((1, 2), (3, 4), (5,))]


def test_slices_end_where_nothing_moves() -> None:
    """Letters that stay where they are do not make it turn for ever."""
    answers = iter([Resolved(2, 1), Resolved(0, 1)])

    assert list(settle(lambda _: next(answers), Clear, EVERYTHING, slice_size=2)) == [2, 0]


def test_choice_is_bound_to_what_was_counted(scene: Scene) -> None:
    """Letters that come after the count are left alone, whatever the size of the slices."""
    scene.bury(count=4)
    chosen = choose(scene.db, EVERYTHING)
    (later,) = scene.bury()

    assert list(carry_out(scene.db, Clear, chosen, clock=utc_now, slice_size=3)) == [3, 1]
    assert scene.states(later) == ["dead"]


def test_id_beyond_64_bits_is_no_dead_letter(scene: Scene) -> None:
    """It is not found, as any other that does not exist."""
    scene.bury()
    chosen = choose(scene.db, Selection(ids=(1, 2**70)))

    assert (chosen.count, chosen.tasks, chosen.not_found) == (1, [1], [2**70])


def test_lock_is_held_while_the_file_is_written(scene: Scene) -> None:
    """No server starts in the middle, and one may start afterwards; what a killed one left is gone."""
    scene.bury()
    scene.announce_dead(HOLDER)
    with changing(scene.db, clock=utc_now, timeout_s=1) as way:
        assert way(Clear(EVERYTHING, 1)) == Resolved(1, 0)
        assert _is_held(scene)

    assert StoreLock(scene.db).holder() is None
    assert not _is_held(scene)


def test_writing_happens_at_the_time_of_the_clock(scene: Scene) -> None:
    """The clock is the caller's."""
    scene.bury()
    chosen = choose(scene.db, EVERYTHING)
    list(carry_out(scene.db, Reprocess, chosen, clock=lambda: 1_000_000))

    assert scene.audit()[-1]["at"] == "1970-01-01T00:00:01.000000Z"


def test_live_server_is_the_one_that_holds_the_lock(scene: Scene) -> None:
    """It announced itself, and its lock is taken."""
    with scene.held(HOLDER):
        assert live_server(scene.db) == HOLDER


def test_killed_server_leaves_no_trace_after_the_first_look(scene: Scene) -> None:
    """The record that it left goes, so that nobody tries the lock again."""
    scene.announce_dead(HOLDER)

    assert live_server(scene.db) is None
    assert StoreLock(scene.db).holder() is None


def test_looking_does_not_get_in_the_way_of_a_server_that_starts(scene: Scene) -> None:
    """Where nobody announced himself the lock is not touched."""
    with scene.held():
        assert live_server(scene.db) is None
        assert _is_held(scene)


def test_reading_goes_on_beside_a_writer(scene: Scene) -> None:
    """A choice is counted while a server works."""
    scene.bury()
    store = Store.open(scene.db, policy=Policy(3, lambda _, __: 0), balance=LeastLoaded())
    store.apply(Batch(), utc_now())

    assert choose(scene.db, EVERYTHING).count == 1
    store.close()


def _is_held(scene: Scene) -> bool:
    lock = StoreLock(scene.db)
    try:
        lock.acquire()
    except StoreHeld:
        return True
    lock.release()
    return False
