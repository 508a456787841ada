"""The values that options take: durations, ranges of durations, sizes, addresses.

Knows no command and opens no connection.
"""

from __future__ import annotations

import math
from typing import Any

import click

from dtm.core.addresses import Address, parse_address
from dtm.core.durations import format_duration, parse_duration
from dtm.core.escapes import quoted
from dtm.core.sizes import parse_size

_EXCERPT = 60
FOREVER = "forever"


def parse_duration_range(text: str) -> tuple[float, float]:
    """Read `1s..5m` as seconds, the first not above the second.

    Raises:
        ValueError: `text` is something else.
    """
    first, dots, last = text.partition("..")
    if not dots:
        raise ValueError(f"wanted two durations such as 1s..5m, found {text!r}")
    first_s, last_s = parse_duration(first), parse_duration(last)
    if first_s > last_s:
        raise ValueError(f"wanted the shorter duration first, found {text!r}; write {last}..{first}")
    return first_s, last_s


class DurationType(click.ParamType[float]):
    """Seconds, written `10s` or `1h30m`; numbers are taken as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give seconds, of text or of a number."""
        try:
            return parse_duration(value if isinstance(value, str) else format_duration(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class StayType(DurationType):
    """Seconds, or `forever`, which is as many as there are."""

    name = "duration|forever"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Give seconds, of text or of a number."""
        if value in (FOREVER, math.inf):
            return math.inf
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            self.fail(f"{error.message}; or write {FOREVER}", param, ctx)


class DurationRangeType(click.ParamType[tuple[float, float]]):
    """Two lengths of time in seconds, written `1s..5m`."""

    name = "duration..duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, float]:
        """Give seconds for text; leave a pair as it is."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_duration_range(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SizeType(click.ParamType[int]):
    """Bytes, written `64MiB` or `4096`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Give bytes, of text or of a number."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WireTextType(click.ParamType[str]):
    """A text that a message can carry: not empty, not too long, and no bytes that are no UTF-8."""

    name = "text"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the text as it is."""
        text = str(value)
        data = text.encode("utf-8", "surrogateescape")
        if not 1 <= len(text) <= self._most:
            found = f"{len(text):,}: {quoted(data, _EXCERPT)}" if text else "none"
            self.fail(f"wanted 1 to {self._most} characters, found {found}", param, ctx)
        if not _is_utf8(data):
            self.fail(f"wanted UTF-8 text, found {quoted(data, _EXCERPT)}", param, ctx)
        return text


class AddressType(click.ParamType[Address]):
    """A host and a port, written `127.0.0.1:12345`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Give an address for text; leave an address as it is."""
        if isinstance(value, Address):
            return value
        try:
            return parse_address(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationType()
DURATION_RANGE = DurationRangeType()
STAY = StayType()
SIZE = SizeType()
ADDRESS = AddressType()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
