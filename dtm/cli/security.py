"""The options that protect a server: a section of their own in the help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dtm.cli.options import setting

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any] | click.Command)

_SECTION = "Security"
_FILES = (
    ("--token-file", "The tokens that clients must know, a line 'ROLE[,ROLE] TOKEN' each; for your eyes only."),
    ("--tls-cert", "Speak TLS, with this certificate and its chain (PEM)."),
    ("--tls-key", "The key of that certificate (PEM)."),
    ("--tls-client-ca", "Demand certificates of clients, signed by an authority of this file (PEM)."),
)


def security_options(command: _Decorated) -> _Decorated:
    """Add the options to a command."""
    insecure = setting(
        "--insecure",
        is_flag=True,
        default=False,
        help="Let other machines connect although there is no token or no TLS.",
        section=_SECTION,
    )
    for option in reversed([*(_file(flag, text) for flag, text in _FILES), insecure]):
        command = option(command)
    return command


def _file(flag: str, text: str) -> Callable[[Any], Any]:
    return setting(flag, metavar="FILE", type=click.Path(path_type=Path), help=text, section=_SECTION)
