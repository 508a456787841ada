"""Waking those who wait."""

from __future__ import annotations

from asyncio import Event


def pulse(event: Event) -> None:
    """Wake those who wait for `event` now, and nobody who comes later."""
    event.set()
    event.clear()
