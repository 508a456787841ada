"""The product as a user gets it: a built wheel in a venv of its own.

A plugin for test modules: `pytest_plugins = ("tests.wheel",)` brings the fixtures `wheel` and `wheel_bin`.
PYTEST_DONT_REWRITE: it asserts nothing, and test modules import `run` before pytest loads it as a plugin.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
# What the build reads. A copy, because setuptools would leave build/ in the tree and, worse, read it back.
INGREDIENTS = ("pyproject.toml", "LICENSE", "README.md", "dtm", "admin", "migrations")
# Far above the seconds that each step takes.
STEP_TIMEOUT_S = 300


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, offline, with the setuptools of the development requirements."""
    source = tmp_path_factory.mktemp("source")
    for name in INGREDIENTS:
        _copy(TOP / name, source / name)
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="session")
def wheel_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a fresh venv; return the folder that holds its commands and its python.

    The venv sees the dependencies of the running Python, but not its editable install: Python reads no
    .pth file in a folder that was itself named by one.
    """
    venv = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    purelib.joinpath("dependencies.pth").write_text("\n".join(_site_packages()), encoding="utf-8")
    return python.parent


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run `command` and return what it printed; fail the test, with all of it, if it fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy(source, target)


def _site_packages() -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
