"""The options with which a client shows who it is and checks who the server is.

Knows no command. A token stands in a file and is named by its path only: what is on a command line or in the
environment, others can read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec import structs

from dtm.cli.setting import setting
from dtm.security.files import CredentialFiles

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

_FILE = click.Path(path_type=Path)
_OPTIONS = (
    setting("--token-file", metavar="FILE", type=_FILE, help="The file with this client's token and its roles."),
    setting("--tls", is_flag=True, default=False, help="Speak TLS; trust the authorities that this system trusts."),
    setting("--tls-ca", metavar="FILE", type=_FILE, help="Speak TLS; trust the authorities of this PEM file only."),
    setting("--tls-cert", metavar="FILE", type=_FILE, help="This client's certificate, if the server wants one (PEM)."),
    setting("--tls-key", metavar="FILE", type=_FILE, help="The key of that certificate (PEM)."),
)


def credential_options(command: _Decorated) -> _Decorated:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_files(values: dict[str, Any]) -> CredentialFiles:
    """Take what the options say out of a command's values."""
    return CredentialFiles(**{field.name: values.pop(field.name) for field in structs.fields(CredentialFiles)})
