"""What is built, installed and started is the whole product, from any folder, and pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from tests.wheel import TOP, run

pytest_plugins = ("tests.wheel",)

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
COMMANDS: list[str] = sorted(PROJECT["project"]["scripts"])
DATA = {"dtm/py.typed", "dtm_admin/py.typed", "dtm_migrations/script.py.mako"}


def source_modules() -> set[str]:
    """Return every module of the source tree, as its path in the wheel."""
    return {
        f"{installed}/{path.relative_to(TOP / folder).as_posix()}"
        for installed, folder in FOLDERS.items()
        for path in (TOP / folder).rglob("*.py")
    }


def test_package_list_is_complete() -> None:
    """The explicit list names each folder that holds a module, and no other."""
    listed = PROJECT["tool"]["setuptools"]["packages"]

    assert sorted(listed) == sorted({str(Path(name).parent).replace("/", ".") for name in source_modules()})


def test_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    """Every module and data file is in the wheel; no test, no cache, no stray top-level package."""
    names = set(ZipFile(wheel).namelist())

    assert {name for name in names if ".dist-info/" not in name} == source_modules() | DATA


def test_wheel_carries_its_licence(wheel: Path) -> None:
    """The licence travels as a file and as an SPDX expression."""
    with ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
        names = archive.namelist()

    assert "License-Expression: MIT\n" in text
    assert metadata.replace("METADATA", "licenses/LICENSE") in names


@pytest.mark.parametrize("package", sorted(FOLDERS))
def test_installed_package_is_not_the_source_tree(package: str, wheel_bin: Path, tmp_path: Path) -> None:
    """The venv of the wheel imports the wheel: what is tested in it is what was built."""
    where = run(wheel_bin / "python", "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path)

    assert Path(where).is_relative_to(wheel_bin.parent)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_helps_from_any_folder(command: str, wheel_bin: Path, tmp_path: Path) -> None:
    """An installed command needs nothing of the source tree to explain itself."""
    assert "Usage:" in run(wheel_bin / command, "--help", cwd=tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_tells_the_version_of_the_project(command: str, wheel_bin: Path, tmp_path: Path) -> None:
    """`--version` and pyproject.toml agree."""
    assert PROJECT["project"]["version"] in run(wheel_bin / command, "--version", cwd=tmp_path)


@pytest.mark.parametrize(
    ("file", "wanted"),
    [
        ("runtime.txt", PROJECT["project"]["dependencies"]),
        ("dev.txt", PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]),
    ],
)
def test_lock_satisfies_the_project(file: str, wanted: list[str]) -> None:
    """Each declared dependency is pinned to a version within its bound: `make lock` was not forgotten."""
    pins = _pins(file)
    requirements = [Requirement(text) for text in wanted]

    assert [str(r) for r in requirements if r.name not in pins or not r.specifier.contains(pins[r.name])] == []


@pytest.mark.parametrize("file", ["runtime.txt", "dev.txt", "peers.txt"])
def test_lock_names_hashes_and_no_index(file: str) -> None:
    """A pin without a hash would fail to install; an address would tie the project to one registry."""
    text = (TOP / "requirements" / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]

    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text


def test_both_locks_agree() -> None:
    """What is tested is what is meant for production."""
    assert _pins("runtime.txt").items() <= _pins("dev.txt").items()


def _pins(file: str) -> dict[str, str]:
    text = (TOP / "requirements" / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, flags=re.MULTILINE))
