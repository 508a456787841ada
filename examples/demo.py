"""dtm in twenty seconds: a server, three clients, a client killed at work, a dead letter brought back to life.

Runs the installed commands as anybody would, on a temporary database, and ends with 0 only if everything came true.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from gmpy2 import mpz  # type: ignore[import-untyped]

T = TypeVar("T")

BIN = Path(sys.executable).parent
DEADLINE_S = 30.0
MERSENNE_PRIME = str(mpz(2) ** 23_209 - 1)
"""A prime of 6,987 digits: seconds of work, long enough to be killed in."""


class Demo:
    """The processes of one demonstration."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._clients: dict[str, subprocess.Popen[bytes]] = {}
        self._server = ""

    def run(self) -> None:
        """Show it all."""
        self.start_server()
        say("Three clients. The third one is broken: every task it runs fails.")
        self.start_client("client-1", "--kinds", "CheckPrime")
        self.start_client("client-2", "--kinds", "CheckPrime")
        self.start_client("client-3", "--kinds", "HashText", "--failure-rate", "1")
        self.real_work()
        poisoned = self.submit("HashText", "hello")
        self.kill_a_client_at_work()
        self.revive(poisoned)
        say("What is left in the books:")
        print(self.admin("stats"), flush=True)

    def start_server(self) -> None:
        """Start a server and read its address from its log."""
        say("A server on a database that does not exist yet:")
        log = self._folder / "server.log"
        self.start("dtm-server", "--port", "0", "--retry-backoff", "200ms..1s", log=log)
        found = wait_for("the server's address", lambda: re.search(r"listening.*address=(\S+)", log.read_text()))
        self._server = found[1]
        print(f"  dtm-server --db tasks.db   listens on {self._server}", flush=True)

    def start_client(self, name: str, *options: str) -> None:
        """Start a worker."""
        command = ("dtm-client", "--name", name, "--server", self._server, *options)
        self._clients[name] = self.start(*command, log=self._folder / f"{name}.log")
        print(f"  dtm-client --name {name} {' '.join(options)}", flush=True)

    def real_work(self) -> None:
        """Check the numbers up to 20,000 and count the primes."""
        say("Real work: which of the numbers up to 20,000 are prime?")
        numbers = "\n".join(map(str, range(1, 20_001)))
        started_s = time.monotonic()
        answers = self.client("submit", "CheckPrime", "-", "--wait", stdin=numbers).split()
        took_s = time.monotonic() - started_s
        check("20,000 answers, 2,262 of them true", (len(answers), answers.count("true")) == (20_000, 2_262))
        print(f"  20,000 tasks finished in {took_s:.1f} s; 2,262 primes, as there should be", flush=True)

    def kill_a_client_at_work(self) -> None:
        """Kill the client that checks a hard number; another one must finish it."""
        say("A hard one: is 2**23209 - 1 prime? The client that takes it is killed with -9 at work.")
        task_id = self.submit("CheckPrime", "-", stdin=MERSENNE_PRIME)
        victim = wait_for("somebody to take the task", lambda: self.holder_of(task_id))
        self._clients[victim].kill()
        print(f"  {victim} had begun task {task_id} and was killed", flush=True)
        answer = self.client("result", str(task_id), "--wait").strip()
        attempts = [(attempt["client"], attempt["outcome"]) for attempt in self.show(task_id)["attempts"]]
        check("the task was finished by another client", answer == "true" and attempts[0] == (victim, "died"))
        check("it was finished once", [outcome for _, outcome in attempts] == ["died", "completed"])
        for client, outcome in attempts:
            print(f"  attempt on {client}: {outcome}", flush=True)

    def revive(self, task_id: int) -> None:
        """Show the dead letter, replace the broken client, reprocess."""
        say("Meanwhile the broken client has failed its task three times:")
        wait_for("the dead letter", lambda: self.show(task_id)["state"] == "dead")
        print(self.admin("deadletter", "list"), flush=True)
        say("The broken client is replaced, and the dead letter reprocessed:")
        self._clients["client-3"].terminate()
        self._clients["client-3"].wait(DEADLINE_S)
        self.start_client("client-4")
        print(f"  {self.admin('deadletter', 'reprocess', str(task_id), '--yes').strip()}", flush=True)
        answer = self.client("result", str(task_id), "--wait").strip()
        check("the hash is right", answer == hashlib.sha256(b"hello").hexdigest())
        print(f"  SHA-256 of hello: {answer}", flush=True)

    def submit(self, kind: str, payload: str, stdin: str = "") -> int:
        """Submit one task."""
        return int(self.client("submit", kind, payload, stdin=stdin))

    def holder_of(self, task_id: int) -> str | None:
        """Name the client that runs the task now."""
        running = [attempt["client"] for attempt in self.show(task_id)["attempts"] if attempt["outcome"] is None]
        return running[0] if running else None

    def show(self, task_id: int) -> Any:
        """Tell everything about a task."""
        return json.loads(self.admin("tasks", "show", str(task_id), "-o", "json"))

    def client(self, *words: str, stdin: str = "") -> str:
        """Run a command of dtm-client to its end."""
        return self.finish("dtm-client", *words, "--server", self._server, stdin=stdin)

    def admin(self, *words: str) -> str:
        """Run dtm-admin to its end."""
        return self.finish("dtm-admin", *words)

    def finish(self, program: str, *words: str, stdin: str = "") -> str:
        """Run a program to its end and give what it printed."""
        command = [str(BIN / program), *words]
        done = subprocess.run(
            command, input=stdin, stdout=subprocess.PIPE, text=True, cwd=self._folder, timeout=DEADLINE_S, check=True
        )
        return done.stdout

    def start(self, program: str, *words: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a program that goes on until the demonstration ends."""
        with log.open("wb") as file:
            process = subprocess.Popen([str(BIN / program), *words], cwd=self._folder, stderr=file)
        self._stack.callback(end, process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process in good order, or by force."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(what: str, look: Callable[[], T | None]) -> T:
    """Look again and again until there is something to see."""
    give_up_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < give_up_s:
        if found := look():
            return found
        time.sleep(0.05)
    raise SystemExit(f"demo: waited {DEADLINE_S:g} s in vain for {what}")


def check(claim: str, is_true: object) -> None:
    """End the demonstration if `claim` is not true."""
    if not is_true:
        raise SystemExit(f"demo: this did not come true: {claim}")


def say(line: str) -> None:
    """Print a headline."""
    print(f"\n== {line}", flush=True)


if __name__ == "__main__":
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dtm-demo-") as name, ExitStack() as everything:
        Demo(Path(name), everything).run()
    say(f"All of it true, in {time.monotonic() - began_s:.1f} s.")
