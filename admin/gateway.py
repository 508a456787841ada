"""How commands reach a store: straight into its file, or through the server that holds it.

The only page here that opens the file, and the lock beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from msgspec.structs import replace

from dtm.core.balance import LeastLoaded
from dtm.security.errors import Misconfigured
from dtm.storage.batch import Batch, Command
from dtm.storage.compaction import Compacted
from dtm.storage.errors import StoreHeld
from dtm.storage.lock import Holder, StoreLock
from dtm.storage.reader import Reader
from dtm.storage.receipt import Refused, Resolved
from dtm.storage.store import Store
from dtm.storage.transaction import Policy

from .approach import from_afar, to_holder
from .clock import Clock
from .errors import CommandRefused, ServerUnreachable
from .lookout import Lookout
from .place import Afar, Place
from .remote import Conversation, conversation
from .selecting import AnySelection

# A list of rare tasks may mean a look at every task there is.
LOOK_TIMEOUT_S = 60.0

CarryOut = Callable[[Command], Resolved]

# No command adds a task or fails an attempt, and no client gets one: nothing here is ever asked for. The values
# are those of a server, should that change.
_UNUSED_POLICY = Policy(max_retries=3, retry_delay=lambda _, __: 0)


def reading_file(path: Path) -> closing[Reader]:
    """Open the store at `path` for looking on, for the length of a `with`."""
    return closing(Reader.open(path))


@contextmanager
def reading(place: Place) -> Iterator[Reader | Lookout]:
    """Open the store at `place` for looking on, for the length of a `with`."""
    if isinstance(place, Path):
        with reading_file(place) as reader:
            yield reader
    else:
        with _from_afar(place, timeout_s=LOOK_TIMEOUT_S) as server:
            yield Lookout(server)


def live_server(path: Path) -> Holder | None:
    """Say which server holds the store now; None if none does.

    Only where a server announced itself is the lock tried, once: an attempt could get in the way of a server that is
    just starting. Giving the lock back removes what a killed server left.
    """
    lock = StoreLock(path)
    if lock.holder() is None:
        return None
    try:
        lock.acquire()
    except StoreHeld:
        return lock.holder()
    lock.release()
    return None


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep every server away from `path` as long as the `with` lasts.

    Raises:
        StoreHeld: one is at work there.
    """
    lock = StoreLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def changing(place: Place, *, clock: Clock, timeout_s: float) -> Iterator[CarryOut]:
    """Find the way to change the store at `place`; the commands of one `with` all go there.

    Raises:
        ServerUnreachable: another process holds the store, and cannot be talked to.
        NotAdmitted: it does not take this operator for one, or is not the server it should be.
        StoreRefused: there is no store of this version.
    """
    with _reached(place, timeout_s=timeout_s) as reached:
        if isinstance(reached, Store):
            yield lambda command: _apply(reached, command, clock())
        else:
            yield reached.carry_out


def compact(place: Place, *, timeout_s: float) -> Compacted:
    """Have the free pages of the store at `place` given back; the answer may take `timeout_s`.

    Raises:
        NoRoom: the disk is too small for that; nothing has changed.
        CommandRefused: the server says so.
        ServerUnreachable: as `changing`, and so are NotAdmitted and StoreRefused.
    """
    with _reached(place, timeout_s=timeout_s) as reached:
        return reached.compact(0) if isinstance(reached, Store) else reached.ask("compact", Compacted)


def settle(
    carry_out: CarryOut, command: Callable[[AnySelection, int], Command], selection: AnySelection, *, slice_size: int
) -> Iterator[int]:
    """Carry out a command on the whole selection, slice by slice; tell after each how many it settled."""
    for part in _parts(selection, slice_size):
        is_over = False
        while not is_over:
            resolved = carry_out(command(part, slice_size))
            yield resolved.done
            is_over = resolved.left == 0 or resolved.done == 0


def _from_afar(place: Afar, *, timeout_s: float) -> AbstractContextManager[Conversation]:
    token = place.credentials.token
    if token is None:
        raise Misconfigured(f"wanted a token of role admin for {place}, found none; name its file with --token-file")
    return conversation(from_afar(place, token), timeout_s=timeout_s)


def _try(lock: StoreLock) -> StoreHeld | None:
    try:
        lock.acquire()
    except StoreHeld as held:
        return held
    return None


@contextmanager
def _reached(place: Place, *, timeout_s: float) -> Iterator[Store | Conversation]:
    """Open the store itself, or speak with the server that holds it."""
    if not isinstance(place, Path):
        with _from_afar(place, timeout_s=timeout_s) as server:
            yield server
        return
    lock = StoreLock(place)
    held = _try(lock)
    if held is None:
        try:
            with closing(Store.open(place, policy=_UNUSED_POLICY, balance=LeastLoaded())) as store:
                yield store
        finally:
            lock.release()
        return
    holder = lock.holder()
    if holder is None:
        raise ServerUnreachable(
            f"{held}, and that process has not said how to reach it; try again shortly, as it may be starting"
        )
    with conversation(to_holder(holder), timeout_s=timeout_s) as server:
        yield server


def _apply(store: Store, command: Command, now: int) -> Resolved:
    # No client can report while no server runs: what is overdue is for the server to judge.
    (answer,) = store.apply(Batch(commands=[command], spares_overdue=True), now).commands
    if isinstance(answer, Refused):
        raise CommandRefused(answer.reason)
    return answer


def _parts(selection: AnySelection, size: int) -> Iterator[AnySelection]:
    """Divide a long list of ids: a line of the wire holds only so many."""
    if selection.ids is None:
        yield selection
        return
    for start in range(0, len(selection.ids), size):
        yield replace(selection, ids=selection.ids[start : start + size])
