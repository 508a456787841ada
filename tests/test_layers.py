"""Every import follows an arrow of the design.

Reads source text and imports none of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

# Folder: the name under which its modules are imported.
PRODUCT = {"dtm": "dtm", "admin": "dtm_admin", "migrations": "dtm_migrations"}
# Not the product: may use all of it, but only by the installed names.
ONLOOKERS = ("tests", "bench", "examples")

# Room: the rooms that it may use besides itself. The bare `dtm` names what programs with tasks need.
ARROWS = {
    "dtm": {"dtm.core", "dtm.security", "dtm.client", "dtm.tasks"},
    "dtm.core": {"dtm"},
    "dtm.net": {"dtm"},
    "dtm.protocol": {"dtm", "dtm.core"},
    "dtm.security": {"dtm", "dtm.core", "dtm.protocol"},
    "dtm.storage": {"dtm", "dtm.core", "dtm_migrations"},
    "dtm.server": {"dtm", "dtm.core", "dtm.net", "dtm.protocol", "dtm.security", "dtm.storage"},
    "dtm.client": {"dtm", "dtm.core", "dtm.net", "dtm.protocol", "dtm.security"},
    "dtm.tasks": {"dtm", "dtm.core", "dtm.protocol", "dtm.security", "dtm.client"},
    "dtm.cli": {"dtm", "dtm.core", "dtm.protocol", "dtm.security", "dtm.server", "dtm.client", "dtm.tasks"},
    "dtm.testing": {"dtm", "dtm.core", "dtm.protocol", "dtm.security", "dtm.server", "dtm.client", "dtm.tasks"},
    "dtm_admin": {"dtm", "dtm.core", "dtm.protocol", "dtm.security", "dtm.storage"},
    "dtm_migrations": set[str](),
}
# A room and a single module that it may use although no arrow leads to that module's room.
DOORS = {("dtm_admin", "dtm.cli.options"), ("dtm_admin", "dtm.cli.start")}

LOGS = {"dtm.server", "dtm.client", "dtm.tasks", "dtm.testing", "dtm.cli"}
AWAITS = LOGS | {"dtm.net", "dtm_admin"}
KNOWS_SQL = {"dtm.storage", "dtm_migrations"}
IMPURE = ARROWS.keys() - {"dtm", "dtm.core", "dtm.protocol", "dtm.security"}
# Library: the rooms that may use it. What is not named here may be used anywhere.
LIBRARIES = {
    "logging": LOGS,
    "structlog": LOGS,
    "anyio": AWAITS,
    "asyncio": AWAITS,
    "uvloop": AWAITS,
    "alembic": KNOWS_SQL,
    "sqlalchemy": KNOWS_SQL,
    "random": IMPURE,
    "socket": IMPURE,
    "time": IMPURE,
}

# `--help` should not wait for the server's imports: the commands may put them off until they are needed.
MAY_BE_LAZY = {"dtm.cli", "dtm_admin"}
# uvloop does not exist on every system.
NEEDS_GUARD = {"uvloop"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where in its module a statement stands."""

    package: str
    in_function: bool = False
    conditional: bool = False

    def inside(self, node: ast.AST) -> Place:
        """Return the place of what stands directly inside `node`."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return replace(self, in_function=True, conditional=True)
            case ast.If() | ast.Try():
                return replace(self, conditional=True)
        return self


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, as the module (or the thing in a module) that it means."""

    name: str
    line: int
    relative: bool
    place: Place

    @property
    def top(self) -> str:
        """Return the first word of the name."""
        return self.name.partition(".")[0]


def violations(source: str, module: str, *, package: str) -> list[str]:
    """Say, a line each, which imports of `source`, the text of `module` in `package`, no arrow allows."""
    return [
        f"{module}:{found.line} imports {found.name}: {complaint}"
        for found in _imports(ast.parse(source), Place(package))
        for complaint in _complaints(found, module)
    ]


def _imports(node: ast.AST, place: Place) -> Iterator[Import]:
    match node:
        case ast.Import(names=names, lineno=line):
            yield from (Import(alias.name, line, False, place) for alias in names)
        case ast.ImportFrom(names=names, lineno=line, level=level):
            origin = _origin(node, place.package)
            yield from (Import(f"{origin}.{alias.name}", line, level > 0, place) for alias in names)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, place.inside(node))


def _origin(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])


def _complaints(found: Import, module: str) -> Iterator[str]:
    room = _room(module)
    if found.top in PRODUCT.keys() - PRODUCT.values():
        yield f"the installed name is {PRODUCT[found.top]}"
    if room is None:
        return
    yield from _arrow_complaints(found, room)
    if room not in LIBRARIES.get(found.top, ARROWS):
        yield f"{room} may not use {found.top}"
    if found.top in NEEDS_GUARD and not found.place.conditional:
        yield f"{found.top} may be missing: guard it"
    if found.place.in_function and room not in MAY_BE_LAZY:
        yield "imports stand at the top"


def _arrow_complaints(found: Import, room: str) -> Iterator[str]:
    target = _room(found.name)
    if target == room == "dtm_admin" and not found.relative:
        yield "admin modules import each other relatively"
    if target in ARROWS[room] | {room, None} or _door(found.name) in {d for r, d in DOORS if r == room}:
        return
    yield f"no arrow from {room} to {target}"


def _room(name: str) -> str | None:
    """Return the room that the dotted `name` lies in, None if it is not ours."""
    inward = (name.rsplit(".", cut)[0] for cut in range(name.count(".") + 1))
    return next((candidate for candidate in inward if candidate in ARROWS), None)


def _door(name: str) -> str:
    """Return the module part of `name`, three words at most."""
    return ".".join(name.split(".")[:3])


def _modules() -> Iterator[tuple[Path, str, str]]:
    """Yield each file with its module's name and package."""
    for folder in (*PRODUCT, *ONLOOKERS):
        for path in sorted((TOP / folder).rglob("*.py")):
            parts = path.relative_to(TOP).with_suffix("").parts
            words = [PRODUCT.get(folder, folder), *parts[1:]]
            package = ".".join(words[:-1])
            yield path, package if words[-1] == "__init__" else ".".join(words), package


@pytest.mark.parametrize(
    ("path", "module", "package"), [pytest.param(*m, id=str(m[0].relative_to(TOP))) for m in _modules()]
)
def test_file_imports_only_what_the_design_draws(path: Path, module: str, package: str) -> None:
    """No file of the product, its tests or its benchmarks takes a short cut."""
    assert violations(path.read_text(encoding="utf-8"), module, package=package) == []


def test_every_room_is_inhabited() -> None:
    """The check above reads all rooms: a renamed folder would otherwise pass unread."""
    assert {_room(module) for _, module, _ in _modules()} == {*ARROWS, None}


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("dtm.core.x", "import time", "may not use time"),
        ("dtm.core.x", "from random import choice", "may not use random"),
        ("dtm.core.x", "import dtm.protocol.framing", "no arrow from dtm.core to dtm.protocol"),
        ("dtm.core.x", "from ..storage.store import Store", "no arrow from dtm.core to dtm.storage"),
        ("dtm.core.x", "if TYPE_CHECKING:\n    from dtm.storage import Store", "no arrow from dtm.core"),
        ("dtm.core.x", "def f():\n    import heapq", "imports stand at the top"),
        ("dtm.protocol.x", "import socket", "may not use socket"),
        ("dtm.protocol.x", "import sqlalchemy.exc", "may not use sqlalchemy"),
        ("dtm.security.x", "import socket", "may not use socket"),
        ("dtm.security.x", "import anyio", "may not use anyio"),
        ("dtm.security.x", "from dtm.storage import lock", "no arrow from dtm.security to dtm.storage"),
        ("dtm.protocol.x", "from dtm.security import tokens", "no arrow from dtm.protocol to dtm.security"),
        ("dtm.storage.x", "import structlog", "may not use structlog"),
        ("dtm.storage.x", "import anyio.to_thread", "may not use anyio"),
        ("dtm.storage.x", "from dtm import server", "no arrow from dtm.storage to dtm.server"),
        ("dtm.server.x", "from dtm.client.worker import Worker", "no arrow from dtm.server to dtm.client"),
        (
            "dtm.server.x",
            "async def f():\n    async with g():\n        import anyio",
            "imports stand at the top",
        ),
        ("dtm.server.x", "import uvloop", "guard it"),
        ("dtm.server.x", "import sqlalchemy", "may not use sqlalchemy"),
        ("dtm.client.x", "from dtm.server import app", "no arrow from dtm.client to dtm.server"),
        ("dtm.client.x", "from dtm.storage import Store", "no arrow from dtm.client to dtm.storage"),
        ("dtm.cli.x", "from dtm.storage import Store", "no arrow from dtm.cli to dtm.storage"),
        ("dtm.cli.x", "import dtm_admin.cli", "no arrow from dtm.cli to dtm_admin"),
        ("dtm_admin.x", "from dtm_admin.tables import show", "relatively"),
        ("dtm_admin.x", "from admin.tables import show", "the installed name is dtm_admin"),
        ("dtm_admin.x", "from dtm.cli.server import main", "no arrow from dtm_admin to dtm.cli"),
        ("dtm_admin.x", "from dtm.cli import options, client", "no arrow from dtm_admin to dtm.cli"),
        ("dtm_admin.x", "import logging", "may not use logging"),
        ("dtm_migrations.versions.x", "import dtm", "no arrow from dtm_migrations to dtm"),
        ("dtm_migrations.versions.x", "from dtm.storage import schema", "no arrow from dtm_migrations"),
        ("tests.x", "import admin", "the installed name is dtm_admin"),
        ("bench.x", "from migrations import env", "the installed name is dtm_migrations"),
    ],
)
def test_planted_violation_is_caught(module: str, source: str, complaint: str) -> None:
    """The check can fail: each arrow that is not drawn, drawn, is one complaint."""
    (found,) = violations(source, module, package=module.rpartition(".")[0])

    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dtm.core.x", "from dtm.core.errors import DtmError\nfrom . import retry\nimport heapq, msgspec"),
        ("dtm.storage.x", "import time, sqlalchemy\nimport dtm_migrations"),
        ("dtm.server.x", "try:\n    import uvloop\nexcept ImportError:\n    uvloop = None"),
        ("dtm.cli.x", "from dtm import __version__\ndef main():\n    from dtm.server import app"),
        (
            "dtm_admin.x",
            "from .tables import show\nfrom dtm.cli.options import address\nfrom dtm.cli import options",
        ),
        ("dtm_migrations.versions.x", "import sqlalchemy as sa\nfrom alembic import op"),
        ("tests.x", "from dtm.server import app\nfrom dtm_admin import cli\nfrom .admin import case"),
    ],
)
def test_drawn_arrow_passes(module: str, source: str) -> None:
    """The check does not cry wolf."""
    assert violations(source, module, package=module.rpartition(".")[0]) == []
