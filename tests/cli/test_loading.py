"""`--app`: what it names is found, or said in one line why not."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw

from dtm.cli.loading import BadApp, load_app, load_handlers
from dtm.client.current import CurrentTask
from dtm.client.handlers import Success
from dtm.client.pool.processes import Processes
from dtm.client.work import Work
from dtm.tasks.builtin import BUILTIN
from tests.cli.site import Terminal

GOOD = """
import dtm
app = dtm.App()
@app.task
def resize(path: str, width: int = 800) -> str:
    return path
"""


PLAIN = """
def triple(number: int) -> int:
    return 3 * number
"""

RENAMED = """
import plain_h
from app_h import app
def double(number: int) -> int:
    return 2 * number
doubler = app.task(executor="process")(double)
tripler = app.task(executor="process")(plain_h.triple)
"""


@pytest.fixture(autouse=True)
def _own_modules() -> Iterator[None]:
    """Forget what a test has imported."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


def write(folder: Path, **modules: str) -> Path:
    """Write modules; two underscores in a name stand for a folder."""
    for name, text in modules.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize("name", ["shop_a__tasks", "shop_b__tasks:app", "shop_c__tasks:Home.app"])
def test_an_app_is_found(tmp_path: Path, name: str) -> None:
    """By its module, where it is the only one, or by its name."""
    module, _, _ = name.partition(":")
    write(tmp_path, **{module: f"{GOOD}\nclass Home:\n    app = app\n"})
    source, app = load_app(name.replace("__", "."), tmp_path)

    assert pkgutil.resolve_name(source) is app
    assert list(app.tasks) == ["resize"]
    assert list(load_handlers(BUILTIN, [name.replace("__", ".")], tmp_path)) == ["CheckPrime", "HashText", "resize"]


def test_an_app_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    """Also by a module that imports it from another, and has more tasks for it."""
    write(tmp_path, first_d=GOOD, second_d="from first_d import app\n@app.task\ndef more() -> None: ...\n")
    handlers = load_handlers({}, ["first_d", "second_d", "first_d:app"], tmp_path)

    assert list(handlers) == ["resize", "more"]


def test_a_process_finds_a_task_whatever_its_name_is(tmp_path: Path) -> None:
    """Through the app, although the module keeps the plain function under its own name, or has it from elsewhere."""
    write(tmp_path, plain_h=PLAIN, app_h="import dtm\napp = dtm.App()", tasks_h=RENAMED)
    handlers = load_handlers({}, ["app_h", "tasks_h"], tmp_path)
    pool = Processes()
    found = {}
    for kind, handler in handlers.items():
        found[kind] = pool.run(Work(1, handler, b'{"number":4}', CurrentTask(1, kind, 1)), max_value=1_000)
    pool.close()

    assert found == {"double": Success(Raw(b"8")), "triple": Success(Raw(b"12"))}


@pytest.mark.parametrize(
    ("text", "name", "complaint"),
    [
        (GOOD, "nowhere_e", "there is no module 'nowhere_e' in "),
        (GOOD, "nowhere_e.deeper", "there is no module 'nowhere_e' in "),
        (GOOD, "tasks_e:", "--app wanted package.module or package.module:name, found 'tasks_e:'"),
        (GOOD, ":app", "--app wanted package.module or package.module:name"),
        (GOOD, "../tasks_e", "--app wanted package.module or package.module:name, found '../tasks_e'"),
        (
            GOOD,
            "tasks_e.py",
            "--app wanted package.module or package.module:name, found 'tasks_e.py'; leave out the '.py'",
        ),
        (GOOD, "tasks_e:apps", "tasks_e has no 'apps'; the apps in it are: app"),
        (GOOD, "tasks_e:resize", "wanted a dtm.App, found FunctionTask"),
        ("x = 1", "tasks_e", "wanted a dtm.App in tasks_e, found none; write app = dtm.App()"),
        ("import dtm\none, two = dtm.App(), dtm.App()", "tasks_e", "found one, two; name one: --app tasks_e:one"),
        ("import nothing_like_it", "tasks_e", "No module named 'nothing_like_it' ("),
        ("def f(:", "tasks_e", "its module cannot be imported: SyntaxError: invalid syntax ("),
        ("1 / 0", "tasks_e", "its module cannot be imported: ZeroDivisionError: division by zero ("),
        ("raise OSError('no\\nluck')", "tasks_e", "its module cannot be imported: OSError: no luck ("),
        ("raise SystemExit(3)", "tasks_e", "its module cannot be imported: SystemExit: 3 ("),
        (f"{GOOD}@app.task\ndef f(*a): ...", "tasks_e", "BadTask: f: wanted parameters that each have a name"),
        (f"{GOOD}@app.task(kind='HashText')\ndef f(): ...", "tasks_e", "'HashText' here and in dtm itself"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_wrong_usage(
    tmp_path: Path, terminal: Terminal, text: str, name: str, complaint: str
) -> None:
    """With the place, and what to do."""
    write(tmp_path, tasks_e=text)
    outcome = terminal.run("work", "--app", name, "--app-dir", str(tmp_path))

    assert outcome.code == 2
    assert complaint in outcome.err
    assert outcome.err.startswith("Error: --app")
    assert len(outcome.err.splitlines()) == 1


def test_two_apps_with_one_kind_are_refused(tmp_path: Path) -> None:
    """With both names."""
    write(tmp_path, one_f=GOOD, two_f=GOOD)
    with pytest.raises(BadApp, match=r"--app two_f: wanted one task for each kind, found 'resize' here and in one_f"):
        load_handlers(BUILTIN, ["one_f", "two_f"], tmp_path)


def test_kinds_are_picked_from_all(tmp_path: Path, terminal: Terminal) -> None:
    """The built-in ones and the user's own."""
    write(tmp_path, tasks_g=GOOD)
    outcome = terminal.run("work", "--app", "tasks_g", "--app-dir", str(tmp_path), "--kinds", "resize,nothing")

    assert outcome.code == 1
    assert "the kinds known here are: CheckPrime, HashText, resize" in outcome.err
