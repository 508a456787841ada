"""The options of commands that talk to a server: where it is, what it can be told, and how to print what it says."""

from __future__ import annotations

from typing import get_args

import click

from dtm.cli.options import ADDRESS, setting
from dtm.cli.output import OutputFormat
from dtm.cli.values import WireTextType
from dtm.protocol.messages import MAX_NAME

NAME = WireTextType(MAX_NAME)
"""A kind or a key, or a client's name."""

NUMBERED_NAME = WireTextType(MAX_NAME - len("-9223372036854775807"))
"""One to which a number may be added."""

server_option = setting("--server", type=ADDRESS, default="127.0.0.1:12345", help="The server.")
output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(get_args(OutputFormat)),
    default="text",
    help="text: results alone. json: id, state, result and error.",
)
