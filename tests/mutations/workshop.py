"""Copies of the tree in which lines are weakened and tests run; the tree itself is never touched."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from tests.mutations.mutation import TOP, Mutation

TIMEOUT_S = 600.0
_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
# The packages, under the names by which they are imported.
_PACKAGES = {"dtm": "dtm", "dtm_admin": "admin", "dtm_migrations": "migrations"}
_SOME_TESTS_FAILED = 1


class Outcome(StrEnum):
    """What the tests said."""

    RED = "red"
    GREEN = "GREEN"
    HUNG = "HUNG"
    BROKEN = "BROKEN"  # not a failed test: the tests could not even run


class Run(Struct, frozen=True):
    """How the tests went, and which one failed first."""

    outcome: Outcome
    witness: str
    text: str


class Workshop:
    """One copy of the tree."""

    def __init__(self, place: Path) -> None:
        self._tree = place / "tree"
        self._imports = place / "imports"
        for name in _tracked_files():
            target = self._tree / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target)
        self._imports.mkdir()
        for name, folder in _PACKAGES.items():
            (self._imports / name).symlink_to(self._tree / folder)
        self._require_own_copy()

    def try_out(self, mutation: Mutation) -> Run:
        """Run a mutation's tests on the weakened tree, and mend the tree again."""
        mutation.apply(self._tree)
        try:
            return self.test(mutation.tests)
        finally:
            shutil.copy2(TOP / mutation.file, self._tree / mutation.file)

    def test(self, tests: Sequence[str]) -> Run:
        """Run tests until the first one fails."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=self._tree,
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return Run(Outcome.HUNG, "", "")
        found = _FAILED_TEST.search(done.stdout)
        outcome = {0: Outcome.GREEN, _SOME_TESTS_FAILED: Outcome.RED}.get(done.returncode, Outcome.BROKEN)
        return Run(outcome, found[1] if found else "", done.stdout + done.stderr)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self._imports), "PYTHONDONTWRITEBYTECODE": "1"}

    def _require_own_copy(self) -> None:
        """Make sure that the copy is what its tests import, and not the installed product."""
        ask = f"import {', '.join(_PACKAGES)}\nfor m in ({', '.join(_PACKAGES)}): print(*m.__path__)"
        done = subprocess.run(
            [sys.executable, "-c", ask],
            check=False,
            cwd=self._tree,
            env=self._environment(),
            capture_output=True,
            text=True,
        )
        for path in done.stdout.split():
            if not Path(path).resolve().is_relative_to(self._tree.resolve()):
                raise RuntimeError(f"wanted imports from {self._tree}, found {path}")
        if done.returncode:
            raise RuntimeError(f"the copy cannot be imported: {done.stderr}")


def _tracked_files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
        text=True,
    )
    return [name for name in listed.stdout.splitlines() if (TOP / name).is_file()]
