"""dtm-client: run tasks, submit tasks, ask for results."""

from __future__ import annotations

import click

from dtm.cli.loading import BadApp
from dtm.cli.options import EXIT_USAGE, DefaultGroup, run_cli, version_option
from dtm.cli.program import leave
from dtm.cli.results import result
from dtm.cli.submit import submit
from dtm.cli.work import work
from dtm.client.link import Unreachable
from dtm.security.errors import Misconfigured

EXIT_CODES = {Unreachable: 3, Misconfigured: EXIT_USAGE, BadApp: EXIT_USAGE}


@click.group(cls=DefaultGroup, default_command="work")
@version_option
def client() -> None:
    """Run tasks for a dtm server, submit tasks to it, and fetch their results.

    \b
    Examples:
      dtm-client --server 127.0.0.1:12345
      dtm-client submit HashText hello --wait
      seq 1 100000 | dtm-client submit CheckPrime - --wait
    """


client.add_command(work)
client.add_command(submit)
client.add_command(result)


def main() -> None:
    """Run dtm-client."""
    leave(run_cli(client, exit_codes=EXIT_CODES))


if __name__ == "__main__":
    main()
