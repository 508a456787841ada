"""Crashes and power losses at every call that changes a file, and what must hold afterwards.

A schedule is one chain of crashes. The real server's parts (lock, migration, store, projector, log) run in one process
without sockets, on a folder in memory, while `shim.c`, loaded by LD_PRELOAD, writes down each call that changes a file
of that folder and, between the calls, what was intended and what was acknowledged. One such record holds every crash
that could have happened on the way: the process killed before, half-way through or after each call. `disk.py` computes
what is then in the files, by the rules below; the same parts recover from it, again under the shim; and `oracle.py`
looks at the result. That recovery's record is crashed in turn, up to three times in a row, so that a restart may be
killed in the middle, and what the first run left in the page cache is still not durable in the second.

Why records and not a killed process a schedule: a process that works in one thread and is killed leaves exactly what
the calls until then have done, so a record holds all its crashes for the price of one run. That this is so is tested
and not assumed: the walk (`walk.py`) kills a real process with SIGKILL at every single call, three ways, compares the
files it left byte by byte with what the record says, and recovers from those files themselves.

What survives a power loss:

- **Contents.** A sector is 512 bytes, and is whole or not written (SQLite builds on the same, "powersafe overwrite";
  a smaller piece does not damage its neighbours in the sector). What was written before the last fsync or fdatasync of
  that file is there. Of what was written since, each sector is on its own as it was at that fsync or after any later
  write to it, in any order.
- **Sizes.** The file is as long as it was at its last fsync or after any later call, and a cut that came later may be
  undone. What lies inside the size and was never written is zeros (ext4 with data=ordered, XFS, btrfs), not garbage.
- **Names.** Creation, rename and removal are durable once the *folder* was synced, and only then: an fsync of the file
  itself does not help its name, although ext4 is kinder. Of those since, either the first few happened (a journal) or
  each did or did not on its own (worse than any file system we know). A rename happens whole or not at all.
- **`-shm`** has no durable content: it is gone, or garbage. (Killed for real, it is as the process left it.)

A drive that lies about fsync, that tears a sector, or that rots what was durable is not modelled.
"""
