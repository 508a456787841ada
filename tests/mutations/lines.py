"""The safety lines: what is weakened, and which tests must notice.

A line that stays green when it is weakened is either not needed or not tested; neither may stand here.
"""

from __future__ import annotations

from tests.mutations.mutation import Mutation
from tests.mutations.stay_lines import STAYS
from tests.mutations.term_lines import TERMS

_STORAGE = "tests/storage"
_SERVER = "tests/server"

ON_DISK = (
    Mutation(
        name="answered before the commit",
        file="dtm/storage/atomic.py",
        line="        driver.execute(BEGIN_WRITING)\n",
        weakened="        if driver.in_transaction:\n"
        "            driver.commit()\n"
        "        driver.execute(BEGIN_WRITING)\n"
        "        real = driver\n"
        "        driver = type('Late', (), {'commit': lambda _: None, 'rollback': lambda _: real.rollback()})()\n",
        tests=(f"{_STORAGE}/test_store.py",),
    ),
    Mutation(
        name="commits that do not wait for the disk",
        file="dtm/storage/engine.py",
        line='"synchronous": 2,',
        weakened='"synchronous": 1,',
        tests=(f"{_STORAGE}/test_engine.py",),
    ),
    Mutation(
        name="settings that are not read back",
        file="dtm/storage/engine.py",
        line="    if found != value:\n",
        weakened="    if False:\n",
        tests=(f"{_STORAGE}/test_engine.py",),
    ),
    Mutation(
        name="a failed commit taken for a refusal",
        file="dtm/storage/atomic.py",
        line='        raise StoreFailed(\n            f"the database failed',
        weakened='        raise StoreBusy(\n            f"the database failed',
        tests=(f"{_STORAGE}/test_store.py",),
    ),
    Mutation(
        name="a wrong picture of the table committed",
        file="dtm/storage/transaction.py",
        line="        if changed != wanted:\n",
        weakened="        if False:\n",
        tests=(f"{_STORAGE}/test_store.py",),
    ),
    Mutation(
        name="a half-made database at the store's path",
        file="dtm/storage/draft.py",
        line='    draft = path.with_name(path.name + ".new")\n',
        weakened="    draft = path\n",
        tests=(f"{_STORAGE}/test_migrate.py",),
    ),
    Mutation(
        name="two servers on one store",
        file="dtm/storage/lock.py",
        line="            self._lock.acquire(timeout=wait_s)\n",
        weakened="            pass\n",
        tests=(f"{_STORAGE}/test_lock.py",),
    ),
    Mutation(
        name="one bad item fails its batch",
        file="dtm/storage/store.py",
        line="            return self._apply_singly(batch, now)\n",
        weakened="            raise StoreFailed('a bad item')\n",
        tests=(f"{_STORAGE}/test_store.py",),
    ),
)

FENCES = (
    Mutation(
        name="a result of an earlier assignment accepted",
        file="dtm/storage/reports.py",
        line="        assignments.c.outcome.is_(None),\n        tasks.c.assignment_id == assignments.c.id,\n",
        weakened="",
        tests=(f"{_STORAGE}/test_reports.py", f"{_STORAGE}/test_attempts.py"),
    ),
    Mutation(
        name="a result of another client accepted",
        file="dtm/storage/reports.py",
        line=" and attempt.client_id == report.client_id\n",
        weakened="\n",
        tests=(f"{_STORAGE}/test_reports.py",),
    ),
    Mutation(
        name="a repeated result called stale",
        file="dtm/storage/reports.py",
        line="accepted=may_repeat and self._is_repeated(report)",
        weakened="accepted=False",
        tests=(f"{_STORAGE}/test_reports.py",),
    ),
    Mutation(
        name="the same report counted twice in one batch",
        file="dtm/storage/reports.py",
        line="counted.setdefault(report.assignment_id, report)",
        weakened="counted[report.assignment_id] = report",
        tests=(f"{_STORAGE}/test_reports.py",),
    ),
    Mutation(
        name="work resumed by its number alone",
        file="dtm/storage/clients.py",
        line='        clients.c.name == bindparam("name"),\n'
        '        clients.c.instance.is_not_distinct_from(bindparam("instance")),\n',
        weakened='        bindparam("name") == bindparam("name"),\n'
        '        bindparam("instance").is_not_distinct_from(bindparam("instance")),\n',
        tests=(f"{_STORAGE}/test_clients.py",),
    ),
    Mutation(
        name="tasks given to a client that has just left",
        file="dtm/storage/store.py",
        line="    return [seat for seat in seats if seat.client_id not in gone]\n",
        weakened="    return list(seats)\n",
        tests=(f"{_STORAGE}/test_claim.py", f"{_STORAGE}/test_store.py"),
    ),
    Mutation(
        name="a key of another task not refused",
        file="dtm/storage/intake.py",
        line="        _require_same(task, known)\n",
        weakened="",
        tests=(f"{_STORAGE}/test_intake.py",),
    ),
    Mutation(
        name="keys not looked up",
        file="dtm/storage/intake.py",
        line="    if not keys:\n        return {}\n",
        weakened="    return {}\n",
        tests=(f"{_STORAGE}/test_intake.py",),
    ),
)

BLAME = (
    Mutation(
        name="one attempt too many",
        file="dtm/core/retry.py",
        line="    if not may_retry or retry_count + 1 >= max_retries:\n",
        weakened="    if not may_retry or retry_count >= max_retries:\n",
        tests=("tests/core/test_retry.py",),
    ),
    Mutation(
        name="a poisoned task kills clients for ever",
        file="dtm/core/retry.py",
        line="    if retry_count + 1 >= max_retries:\n",
        weakened="    if False:\n",
        tests=("tests/core/test_retry.py",),
    ),
    Mutation(
        name="a drain costs a retry",
        file="dtm/storage/batch.py",
        line="DEATHS = frozenset({Why.CONNECTION_LOST,",
        weakened="DEATHS = frozenset({Why.DRAINED, Why.CONNECTION_LOST,",
        tests=(f"{_SERVER}/test_app.py",),
    ),
    Mutation(
        name="no time to come back after a restart",
        file="dtm/server/app.py",
        line="monotonic_s() + self._settings.heartbeat_timeout_s",
        weakened="monotonic_s()",
        tests=(f"{_SERVER}/test_app.py",),
    ),
    Mutation(
        name="the server's own pause counted as silence",
        file="dtm/server/monitor.py",
        line="            hub.roster.forgive(late_s, now_s)\n",
        weakened="",
        tests=(f"{_SERVER}/test_monitor.py",),
    ),
    Mutation(
        name="a silent client never declared dead",
        file="dtm/server/roster.py",
        line="            if now_s - member.heard_s >= timeout_s and member.outlet.is_heard\n",
        weakened="            if False\n",
        tests=(f"{_SERVER}/test_monitor.py",),
    ),
)

CLIENT = (
    Mutation(
        name="a result forgotten once it is sent",
        file="dtm/client/workload.py",
        line="            self._results[message.assignment] = message\n",
        weakened="            pass\n",
        tests=("tests/client/test_worker.py", "tests/client/test_workload.py"),
    ),
    Mutation(
        name="a worker that does not name what it holds",
        file="dtm/client/workload.py",
        line="        return [*self._held, *self._returned]\n",
        weakened="        return []\n",
        tests=("tests/client/test_worker.py",),
    ),
)

AUDIT = (
    Mutation(
        name="a death without its audit row",
        file="dtm/storage/attempts.py",
        line='        tx.record("dead", fields)\n',
        weakened="",
        tests=(f"{_STORAGE}/test_reports.py", f"{_STORAGE}/test_deadletters.py"),
    ),
    Mutation(
        name="a torn line left in the log",
        file="dtm/server/audit_log.py",
        line="        if length < len(tail.data):\n",
        weakened="        if False:\n",
        tests=(f"{_SERVER}/test_audit_log.py", f"{_SERVER}/test_projector.py"),
    ),
    Mutation(
        name="another store's log continued",
        file="dtm/server/projector.py",
        line="        if not known or known[0] != AuditLine(seq, last):\n",
        weakened="        if False:\n",
        tests=(f"{_SERVER}/test_projector.py",),
    ),
    Mutation(
        name="a log that somebody moved written on",
        file="dtm/server/projector.py",
        line="        if not self._file.is_current:\n",
        weakened="        if self._position == 0:\n",
        tests=(f"{_SERVER}/test_projector.py",),
    ),
)

GATES = (
    Mutation(
        name="a symbolic link followed by the log",
        file="dtm/server/audit_log.py",
        line="        if self.path.is_symlink():\n",
        weakened="        if False:\n",
        tests=(f"{_SERVER}/test_audit_log.py",),
    ),
)

SECURITY = (
    Mutation(
        name="an operator's command from anybody",
        file="dtm/server/admission.py",
        line="        if type(message) not in self._allowed and type(message) not in HANDSHAKE:\n",
        weakened="        if False:\n",
        tests=(f"{_SERVER}/test_admin.py",),
    ),
    Mutation(
        name="a token that nobody has",
        file="dtm/server/admission.py",
        line="        if grant is None:\n",
        weakened="        grant = grant or self._access.grants[0]\n        if grant is None:\n",
        tests=(f"{_SERVER}/test_admission.py",),
    ),
    Mutation(
        name="a server that proves nothing",
        file="dtm/security/introduction.py",
        line="                if not self._exchange.is_servers(bytes.fromhex(proof), self._token):\n",
        weakened="                if False:\n",
        tests=("tests/security/test_introduction.py",),
    ),
    Mutation(
        name="a proof made for somebody in between",
        file="dtm/security/handshake.py",
        line="        return self.client_nonce + self.server_nonce + self.channel\n",
        weakened="        return self.client_nonce + self.server_nonce\n",
        tests=("tests/security/test_handshake.py",),
    ),
    Mutation(
        name="a token file that others may read",
        file="dtm/security/tokens.py",
        line='        if os.name != "nt" and found.st_mode & _OTHERS:\n',
        weakened="        if False:\n",
        tests=("tests/security/test_tokens.py",),
    ),
    Mutation(
        name="a search that ends at the token it finds",
        file="dtm/security/handshake.py",
        line="                found = grant\n",
        weakened="                return grant\n",
        tests=("tests/security/test_handshake.py",),
    ),
    Mutation(
        name="a proof of one side taken for the other's",
        file="dtm/security/handshake.py",
        line="        return token.sign(_SERVER + self._transcript)\n",
        weakened="        return token.sign(_CLIENT + self._transcript)\n",
        tests=("tests/security/test_handshake.py",),
    ),
    Mutation(
        name="a client certificate not asked for",
        file="dtm/server/admission.py",
        line="        self._lacks_certificate = access.demands_certificate and not has_certificate\n",
        weakened="        self._lacks_certificate = False\n",
        tests=(f"{_SERVER}/test_secure.py",),
    ),
    Mutation(
        name="a certificate of any server taken for the record's",
        file="admin/approach.py",
        line="    if approach.pin is not None and not hmac.compare_digest(found, approach.pin):\n",
        weakened="    if False:\n",
        tests=("tests/admin/test_afar.py",),
    ),
    Mutation(
        name="a server that others reach without protection",
        file="dtm/cli/server.py",
        line="        await refuse_exposure(settings)\n",
        weakened="        await refuse_exposure(Settings())\n",
        tests=("tests/cli/test_security.py",),
    ),
    Mutation(
        name="a stranger's lines read to the end",
        file="dtm/server/connection.py",
        line="            if error.is_fatal or not self._session.is_known:\n",
        weakened="            if error.is_fatal:\n",
        tests=(f"{_SERVER}/test_admission.py",),
    ),
    Mutation(
        name="strangers with lines of a mebibyte",
        file="dtm/server/connection.py",
        line="        return self._hub.settings.limits.max_line if self._session.is_known else STRANGERS_MAX_LINE\n",
        weakened="        return self._hub.settings.limits.max_line\n",
        tests=(f"{_SERVER}/test_admission.py",),
    ),
    Mutation(
        name="TLS before 1.2",
        file="dtm/security/tls.py",
        line="    context.minimum_version = ssl.TLSVersion.TLSv1_2\n",
        weakened="    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED\n",
        tests=("tests/security/test_tls.py",),
    ),
)

_AT_RANDOM = "tests/faults/test_crash.py::test_promises_survive_random_crashes_and_power_losses"
_AT_EACH_CALL = "tests/faults/test_crash.py::test_a_restart_can_be_killed_at_every_call"
_UNSYNCED = "tests/faults/test_crash.py::test_nothing_is_spoken_of_that_only_the_page_cache_holds"

POWER = (
    Mutation(
        name="commits that a power loss takes back",
        file="dtm/storage/engine.py",
        line='"synchronous": 2,',
        weakened='"synchronous": 1,',
        tests=(_AT_RANDOM,),
    ),
    Mutation(
        name="no epoch commit at the start",
        file="dtm/storage/store.py",
        line="                connection.execute(_NEXT_EPOCH)\n"
        "                sequences = _read_sequences(connection, numbers_above)\n"
        "        except BaseException:\n"
        "            connection.close()\n"
        "            raise\n"
        "        identity = Witness(found.store, found.epoch + 1)\n",
        # With a witness that says the same, or it is that which is noticed.
        weakened="                sequences = _read_sequences(connection, numbers_above)\n"
        "        except BaseException:\n"
        "            connection.close()\n"
        "            raise\n"
        "        identity = Witness(found.store, found.epoch)\n",
        tests=(f"{_UNSYNCED}[killed-in-commit-75]",),
    ),
    Mutation(
        name="no sync of the folder at the start",
        file="dtm/storage/migrate.py",
        line="    sync(path.parent)\n    if found",
        weakened="    if found",
        tests=(f"{_AT_EACH_CALL}[killed-in-creation]",),
    ),
    Mutation(
        name="no sync of a new store's name",
        file="dtm/storage/draft.py",
        line="        draft.replace(path)\n        sync(path.parent)\n",
        weakened="        draft.replace(path)\n",
        tests=(_AT_RANDOM,),
    ),
    Mutation(
        name="no sync of the log's lines",
        file="dtm/server/audit_log.py",
        line="data[written:])\n            os.fsync(self._descriptor)\n",
        weakened="data[written:])\n",
        tests=(_AT_RANDOM,),
    ),
    Mutation(
        name="no sync of what a crash left in the log",
        file="dtm/server/audit_log.py",
        line="        os.fsync(descriptor)\n        return last, end\n",
        weakened="        return last, end\n",
        tests=(f"{_UNSYNCED}[killed-in-log-300]",),
    ),
    Mutation(
        name="no sync of the log's name",
        file="dtm/server/audit_log.py",
        line="            sync(self.path.parent)  # a new name",
        weakened="            pass  # a new name",
        tests=(f"{_UNSYNCED}[killed-in-log-300]",),
    ),
)

FILES = (
    Mutation(
        name="a new log begun at line one while a rotated file holds the rest",
        file="dtm/server/audit_log.py",
        line="earlier = last_rotated(self.path) if last is None else None",
        weakened="earlier = None",
        tests=(f"{_SERVER}/test_projector.py",),
    ),
    Mutation(
        name="a server at work on a backup",
        file="dtm/storage/migrate.py",
        line="    require_no_backup(path)\n",
        weakened="",
        tests=(f"{_STORAGE}/test_backup.py",),
    ),
    Mutation(
        name="an older copy in the store's place passed over",
        file="dtm/storage/store.py",
        line="                witness.require_not_older(path, found)\n",
        weakened="",
        tests=(f"{_STORAGE}/test_backup.py", f"{_SERVER}/test_restore.py"),
    ),
    Mutation(
        name="fencing numbers that go on where an old copy stood",
        file="dtm/server/app.py",
        line="numbers_above=machine.clock.now()",
        weakened="numbers_above=0",
        tests=(f"{_SERVER}/test_restore.py",),
    ),
    Mutation(
        name="numbers of the lost time given out again after a restore",
        file="dtm/storage/backup.py",
        line="    floor = max(now, seq, *numbers.values())\n",
        weakened="    floor = max(seq, *numbers.values())\n",
        tests=(f"{_STORAGE}/test_backup.py",),
    ),
    Mutation(
        name="a new store beside the write-ahead log of another",
        file="dtm/storage/migrate.py",
        line="        require_no_remains(path)\n",
        weakened="",
        tests=(f"{_STORAGE}/test_backup.py",),
    ),
    Mutation(
        name="a changed line taken for a whole one",
        file="dtm/storage/verify.py",
        line=" or not auditline.is_whole(line)",
        weakened="",
        tests=("tests/admin/test_audit.py",),
    ),
    Mutation(
        name="any file overwritten by a backup",
        file="dtm/storage/backup.py",
        line="    elif not is_backup(target):\n",
        weakened="    elif False:\n",
        tests=(f"{_STORAGE}/test_backup.py",),
    ),
)

MUTATIONS = (*POWER, *ON_DISK, *FENCES, *BLAME, *CLIENT, *AUDIT, *GATES, *FILES, *SECURITY, *STAYS, *TERMS)
