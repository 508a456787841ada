"""Sizes: what can be written, what is refused, and that both ways agree."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.sizes import MOST_BYTES, format_size, parse_size

READ = {
    "0": 0,
    "4096": 4_096,
    "4096B": 4_096,
    "512KiB": 524_288,
    "64MiB": 67_108_864,
    "64 MiB": 67_108_864,
    "1.5GiB": 1_610_612_736,
    "0.3B": 0,
    " 2TiB ": 2_199_023_255_552,
    "1048576TiB": MOST_BYTES,
}
WRITTEN = {0: "0", 1: "1", 1_000: "1000", 1_024: "1KiB", 983_040: "960KiB", 2**20: "1MiB", 2**20 + 1: "1048577"}
REFUSED = {
    "": "found ''",
    "-1": "found '-1'",
    "64M": "there is no unit 'M'",
    "64mib": "there is no unit 'mib'",
    "1e9": "found '1e9'",
    "MiB": "found 'MiB'",
    "1048577TiB": "of at most 1048576TiB",
}


@pytest.mark.parametrize("text", READ)
def test_a_size_is_read(text: str) -> None:
    """In bytes, whatever its unit."""
    assert parse_size(text) == READ[text]


@pytest.mark.parametrize("size", WRITTEN)
def test_a_size_is_written(size: int) -> None:
    """In the largest unit that leaves no rest."""
    assert format_size(size) == WRITTEN[size]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_size_is_refused(text: str) -> None:
    """The message says what was wanted and what was found."""
    with pytest.raises(ValueError, match=f"wanted a size .*{re.escape(REFUSED[text])}"):
        parse_size(text)


@given(st.integers(0, MOST_BYTES))
def test_what_is_written_can_be_read(size: int) -> None:
    """Exactly, for every size."""
    assert parse_size(format_size(size)) == size
