"""`--app package.module[:name]`: a user's app, imported, and its handlers beside the others.

Every mistake becomes one line that says what was wanted, what was found and where.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from dtm.client.handlers import Handler, Handlers
from dtm.core.errors import DtmError
from dtm.core.escapes import escaped
from dtm.tasks.app import App


class BadApp(DtmError):
    """What `--app` names cannot be run."""


def load_handlers(builtin: Handlers, names: Iterable[str], app_dir: Path) -> Handlers:
    """Give the built-in handlers and those of the apps that are named.

    Raises:
        BadApp: one of them cannot be had, or two have the same kind.
    """
    handlers: dict[str, Handler] = dict(builtin)
    sources = dict.fromkeys(builtin, "dtm itself")
    for name in names:
        source, app = load_app(name, app_dir)
        for kind, handler in app.handlers.items():
            # An app may be named twice, and have got more tasks by what was imported the second time.
            if handlers.setdefault(kind, handler) is not handler:
                raise BadApp(
                    f"--app {name}: wanted one task for each kind, found {kind!r} here and in {sources[kind]};"
                    ' give one of them another kind="…"'
                )
            sources.setdefault(kind, source)
    return {kind: _found_through(handler, sources[kind]) for kind, handler in handlers.items()}


def _found_through(handler: Handler, source: str) -> Handler:
    """Let a process find the handler as it was found here, whatever name the task has in whatever module."""
    return replace(handler, source=source) if handler.executor == "process" else handler


def load_app(name: str, app_dir: Path) -> tuple[str, App]:
    """Import the app that `name` names, looking for its module in `app_dir` first; give its full name too.

    Raises:
        BadApp: there is none, or its module cannot be imported.
    """
    module_name, colon, path = name.partition(":")
    hint = "; leave out the '.py'" if module_name.endswith(".py") else ""
    if hint or not _is_dotted(module_name) or (colon and not _is_dotted(path)):
        raise BadApp(f"--app wanted package.module or package.module:name, found {name!r}{hint}")
    folder = str(app_dir.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = _imported(name, module_name, app_dir)
    path = path or _only(module, name)
    return f"{module_name}:{path}", _named(module, name, path)


def _is_dotted(text: str) -> bool:
    return all(word.isidentifier() for word in text.split("."))


def _imported(name: str, module_name: str, app_dir: Path) -> ModuleType:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise BadApp(
                f"--app {name}: there is no module {error.name!r} in {app_dir.resolve()} or on Python's path;"
                " name the folder that holds it with --app-dir"
            ) from error
        raise _unimportable(name, error) from error
    except (Exception, SystemExit) as error:
        raise _unimportable(name, error) from error


def _unimportable(name: str, error: BaseException) -> BadApp:
    words = f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}"
    if isinstance(error, SyntaxError) and error.filename:
        words = f"{type(error).__name__}: {error.msg}"
        where = f"{error.filename}:{error.lineno}"
    return BadApp(f"--app {name}: its module cannot be imported: {escaped(' '.join(words.split()))} ({where})")


def _named(module: ModuleType, name: str, path: str) -> App:
    found: object = module
    for word in path.split("."):
        try:
            found = getattr(found, word)
        except AttributeError:
            known = ", ".join(_apps(module)) or "none"
            raise BadApp(f"--app {name}: {module.__name__} has no {path!r}; the apps in it are: {known}") from None
    if not isinstance(found, App):
        raise BadApp(f"--app {name}: wanted a dtm.App, found {type(found).__name__}")
    return found


def _only(module: ModuleType, name: str) -> str:
    apps = _apps(module)
    if not apps:
        raise BadApp(f"--app {name}: wanted a dtm.App in {module.__name__}, found none; write app = dtm.App()")
    if len({id(app) for app in apps.values()}) > 1:
        raise BadApp(
            f"--app {name}: wanted one dtm.App in {module.__name__}, found {', '.join(apps)};"
            f" name one: --app {name}:{next(iter(apps))}"
        )
    return next(iter(apps))


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}
