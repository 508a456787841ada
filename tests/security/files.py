"""Token files as an operator makes them."""

from __future__ import annotations

from pathlib import Path

WORKER = "w" * 31 + "1"
PRODUCER = "p" * 31 + "1"
ADMIN = "a" * 31 + "1"
BOTH = "b" * 31 + "1"


def token_file(folder: Path, *lines: str, name: str = "tokens", mode: int = 0o600) -> Path:
    """Write a token file."""
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(mode)
    return path
