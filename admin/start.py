"""Where dtm-admin begins: Ctrl-C ends it in one line, also while it imports what it needs."""

from __future__ import annotations

from dtm.cli.start import start


def main() -> None:
    """Run dtm-admin; the console script's entry."""
    start("dtm_admin.cli")
