"""What every command line of dtm shares, on one page; dtm-admin uses it too.

Knows no command, and imports nothing that logs: that is slow, and dtm-admin has no log.
"""

from __future__ import annotations

from dtm.cli.config import config_option
from dtm.cli.credentials import credential_options, take_files
from dtm.cli.groups import DefaultGroup
from dtm.cli.program import EXIT_USAGE, run_cli, version_option
from dtm.cli.setting import SectionedCommand, Setting, setting
from dtm.cli.values import ADDRESS, DURATION, DURATION_RANGE, FOREVER, SIZE, STAY
from dtm.core.addresses import Address
from dtm.security.files import CredentialFiles

__all__ = [
    "ADDRESS",
    "DURATION",
    "DURATION_RANGE",
    "EXIT_USAGE",
    "FOREVER",
    "SIZE",
    "STAY",
    "Address",
    "CredentialFiles",
    "DefaultGroup",
    "SectionedCommand",
    "Setting",
    "config_option",
    "credential_options",
    "run_cli",
    "setting",
    "take_files",
    "version_option",
]
