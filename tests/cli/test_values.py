"""Option values: what a person may type, and what is said to the one who mistypes."""

from __future__ import annotations

import re
from math import inf

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dtm.cli.values import (
    ADDRESS,
    DURATION,
    DURATION_RANGE,
    SIZE,
    STAY,
    parse_duration_range,
)
from dtm.core.addresses import Address, parse_address

ADDRESSES = {
    "127.0.0.1:12345": Address("127.0.0.1", 12345),
    "[::1]:12345": Address("::1", 12345),
    "[fe80::1%eth0]:1": Address("fe80::1%eth0", 1),
    "localhost:0": Address("localhost", 0),
    "a-b.example.org:65535": Address("a-b.example.org", 65535),
}

BAD_ADDRESSES = {
    "": "found ''; add a port",
    "localhost": "found 'localhost'; add a port",
    "localhost:": "found 'localhost:'",
    ":12345": "found ':12345'",
    "12345": "; add a port",
    "localhost:65536": "a port from 0 to 65535",
    "localhost:99999999999999999999": "a port from 0 to 65535",
    "localhost:-1": "a port from 0 to 65535",
    "localhost:+1": "a port from 0 to 65535",
    "localhost:http": "a port from 0 to 65535",
    "localhost:1.5": "a port from 0 to 65535",
    "localhost:\u0661": "a port from 0 to 65535",
    "::1": "brackets: [::1]:PORT",
    "::1:12345": "put an IPv6 address into brackets",
    "fe80::1:2:3:4:12345": "brackets: [fe80::1:2:3:4]:PORT",
    "[localhost]:1": "found '[localhost]:1'",
    "[]:1": "found '[]:1'",
    "[::1]": "wanted HOST:PORT",
    "[::1]12345": "wanted HOST:PORT",
    "http://localhost:1": "wanted HOST:PORT",
    "me@localhost:1": "wanted HOST:PORT",
    "local host:1": "wanted HOST:PORT",
    "local\u00a0host:1": "wanted HOST:PORT",
    " localhost:1": "wanted HOST:PORT",
    "localhost:1\n": "wanted HOST:PORT",
}

BAD_RANGES = {
    "1s": "wanted two durations such as 1s..5m, found '1s'",
    "": "wanted two durations such as 1s..5m, found ''",
    "1s-5m": "wanted two durations",
    "5m..1s": "wanted the shorter duration first, found '5m..1s'; write 1s..5m",
    "1s..": "wanted a duration such as 500ms",
    "..5m": "wanted a duration such as 500ms",
    "1s..5x": "found '5x'",
    "1s...5m": "found '.5m'",
    "-1s..5m": "negative",
}


@pytest.mark.parametrize(("text", "address"), ADDRESSES.items())
def test_an_address_is_read_and_written_alike(text: str, address: Address) -> None:
    """What was typed is what logs and messages show."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(("text", "complaint"), BAD_ADDRESSES.items())
def test_another_text_is_no_address(text: str, complaint: str) -> None:
    """The message says what was wanted and, for the common slips, what to do."""
    with pytest.raises(ValueError, match=re.escape(complaint)) as refusal:
        parse_address(text)

    assert str(refusal.value).startswith("wanted HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:12345")


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_ip_address_is_read_and_written_alike(host: object, port: int) -> None:
    """Of both versions, with every port."""
    address = Address(str(host), port)

    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "pair"),
    [("1s..5m", (1.0, 300.0)), ("100ms..5s", (0.1, 5.0)), ("2s..2s", (2.0, 2.0)), ("0..1.5", (0.0, 1.5))],
)
def test_a_range_is_two_durations(text: str, pair: tuple[float, float]) -> None:
    """The shorter first; both may be equal."""
    assert parse_duration_range(text) == pair


@pytest.mark.parametrize(("text", "complaint"), BAD_RANGES.items())
def test_another_text_is_no_range(text: str, complaint: str) -> None:
    """The message says which part is wrong."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_duration_range(text)


@click.command()
@click.option("--every", type=DURATION, default="10s", show_default=True)
@click.option("--delay", type=DURATION_RANGE, default="1s..5m", show_default=True)
@click.option("--listen", type=ADDRESS, default="[::1]:12345", show_default=True)
def command(every: float, delay: tuple[float, float], listen: Address) -> None:
    """Show the values."""
    click.echo(f"{every!r} {delay!r} {listen}")


def test_options_take_these_values() -> None:
    """As defaults and as typed."""
    runner = CliRunner()

    assert runner.invoke(command, []).output == "10.0 (1.0, 300.0) [::1]:12345\n"
    typed = ["--every", "2m", "--delay", "5ms..5ms", "--listen", "h:0"]
    assert runner.invoke(command, typed).output == "120.0 (0.005, 0.005) h:0\n"


def test_help_shows_defaults_as_a_person_types_them() -> None:
    """`10s`, not 10.0."""
    output = CliRunner().invoke(command, ["--help"]).output

    assert "--every DURATION" in output
    assert "--delay DURATION..DURATION" in output
    assert "--listen HOST:PORT" in output
    for default in ("[default: 10s]", "[default: 1s..5m]", "[default: [::1]:12345]"):
        assert default in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--every", "x"], "Invalid value for '--every': wanted a duration"),
        (["--delay", "x"], "Invalid value for '--delay': wanted two durations"),
        (["--listen", "x"], "Invalid value for '--listen': wanted HOST:PORT"),
    ],
)
def test_a_bad_value_is_wrong_usage(arguments: list[str], complaint: str) -> None:
    """Exit code 2, and the message names the option."""
    result = CliRunner().invoke(command, arguments)

    assert result.exit_code == 2
    assert complaint in result.stderr


@pytest.mark.parametrize(
    ("kind", "value"),
    [(DURATION, 1.5), (STAY, 1.5), (STAY, inf), (DURATION_RANGE, (1.0, 2.0)), (ADDRESS, Address("h", 1)), (SIZE, 7)],
)
def test_a_value_already_converted_stays(kind: click.ParamType[object], value: object) -> None:
    """Click may convert a value twice."""
    assert kind.convert(value, None, None) == value


@pytest.mark.parametrize(("text", "seconds"), [("forever", inf), ("7d", 604_800.0), ("1h30m", 5_400.0)])
def test_a_stay_is_a_duration_or_for_ever(text: str, seconds: float) -> None:
    """One word more than other durations."""
    assert STAY.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["ever", "inf", "Forever", "", "-1s"])
def test_another_text_is_no_stay(text: str) -> None:
    """The message names the word."""
    with pytest.raises(click.BadParameter, match=r"wanted a duration .*; or write forever"):
        STAY.convert(text, None, None)


@pytest.mark.parametrize("seconds", [-1, -0.5, float("nan"), float("inf"), 1e12])
def test_seconds_out_of_range_are_refused_as_numbers_too(seconds: float) -> None:
    """A config file gives numbers, and gets no further than the command line."""
    with pytest.raises(click.BadParameter, match="wanted a"):
        DURATION.convert(seconds, None, None)
