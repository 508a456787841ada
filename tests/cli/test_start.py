"""The first moments of the programs: an interrupt is one line, whatever is being imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The import of the program's own page is interrupted, as by Ctrl-C in the middle of it.
INTERRUPTED = """
import sys

class CtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, CtrlC())
from {entry} import {function}
{function}()
"""

PROGRAMS = [
    ("dtm.cli.server", "dtm.cli.start", "server"),
    ("dtm.cli.client", "dtm.cli.start", "client"),
    ("dtm_admin.cli", "dtm_admin.start", "main"),
]


@pytest.mark.parametrize(("module", "entry", "function"), PROGRAMS)
def test_an_interrupt_during_the_imports_is_one_line(module: str, entry: str, function: str) -> None:
    """And the exit code that shells know."""
    script = INTERRUPTED.format(module=module, entry=entry, function=function)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("entry", ["dtm.cli.start", "dtm_admin.start"])
def test_nothing_is_imported_before_an_interrupt_can_be_caught(entry: str) -> None:
    """The page where a program begins has nothing to wait for."""
    script = f"import sys; before = set(sys.modules); import {entry}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert {name.partition(".")[0] for name in done.stdout.split()} <= {"dtm", "dtm_admin", "__future__", "importlib"}


@pytest.mark.parametrize(("entry", "function"), [program[1:] for program in PROGRAMS])
def test_the_exit_code_is_the_programs(entry: str, function: str) -> None:
    """Wrong usage is 2 from here, too."""
    script = f"from {entry} import {function}; {function}()"
    words = [sys.executable, "-c", script, "--no-such-option"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
