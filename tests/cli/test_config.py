"""The config file: what it may hold, and what is said of what it may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from dtm.cli.config import config_option
from dtm.cli.setting import setting
from dtm.cli.values import ADDRESS, DURATION, DURATION_RANGE, SIZE


@click.command()
@config_option
@setting("--name")
@setting("--listen", type=ADDRESS, default="127.0.0.1:1")
@setting("--poll-every", type=DURATION, default="10s")
@setting("--retry-delay", type=DURATION_RANGE, default="1s..5m")
@setting("--max-line", type=SIZE, default="1MiB")
@setting("--capacity", type=click.IntRange(1, 100), default=4)
@setting("--failure-rate", type=click.FloatRange(0, 1), default=0.0)
@setting("--kind", "kinds", multiple=True)
@setting("--pair", nargs=2, type=int)
@setting("--color/--no-color", default=True)
@setting("--mode", type=click.Choice(["fast", "safe"]), default="safe")
@click.option("--dry-run", is_flag=True)
def serve(**values: Any) -> None:
    """Show the settings."""
    for name, value in sorted(values.items()):
        click.echo(f"{name}={value}")


Serve = Callable[..., Result]


@pytest.fixture
def serve_with(tmp_path: Path) -> Serve:
    """Run the command with a config file of this text."""

    def run(text: str | bytes, *arguments: str) -> Result:
        path = tmp_path / "dtm.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return CliRunner().invoke(serve, ["--config", str(path), *arguments])

    return run


def test_every_kind_of_setting_can_stand_in_the_file(serve_with: Serve) -> None:
    """Each as TOML writes it: text, numbers, booleans, arrays; durations as text or as seconds."""
    result = serve_with(
        """
        name = "büro"
        listen = "[::1]:2"
        poll-every = "1m30s"
        retry_delay = "2s..2m"
        max-line = "64KiB"
        capacity = 8
        failure-rate = 1
        kind = ["A", "B"]
        pair = [1, 2]
        color = false
        mode = "fast"
        """
    )

    assert result.output.splitlines() == [
        "capacity=8",
        "color=False",
        "dry_run=False",
        "failure_rate=1.0",
        "kinds=('A', 'B')",
        "listen=[::1]:2",
        "max_line=65536",
        "mode=fast",
        "name=büro",
        "pair=(1, 2)",
        "poll_every=90.0",
        "retry_delay=(2.0, 120.0)",
    ]


@pytest.mark.parametrize("text", ["poll-every = 5", "poll_every = 5.0", 'poll-every = "5"', 'poll_every = "5s"'])
def test_a_key_takes_dashes_or_underscores(serve_with: Serve, text: str) -> None:
    """Both spellings are the same setting; a bare number is seconds."""
    assert "poll_every=5.0\n" in serve_with(text).output


def test_an_empty_file_changes_nothing(serve_with: Serve) -> None:
    """Nor does one that holds only comments."""
    assert serve_with("").output == serve_with("# nothing\n").output == CliRunner().invoke(serve, []).output


def test_a_byte_order_mark_is_no_error(serve_with: Serve) -> None:
    """Windows editors write one."""
    assert "capacity=9\n" in serve_with(b"\xef\xbb\xbfcapacity = 9").output


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    """DTM_CONFIG stands for --config."""
    path = tmp_path / "dtm.toml"
    path.write_text("capacity = 9")

    assert "capacity=9\n" in CliRunner().invoke(serve, [], env={"DTM_CONFIG": str(path)}).output


@click.command()
@setting("--capacity", type=int, default=4)
@config_option
def late(capacity: int) -> None:
    """Declare the file last."""
    click.echo(capacity)


def test_the_file_counts_wherever_its_option_is_declared(tmp_path: Path) -> None:
    """It is read before any other setting is looked for."""
    path = tmp_path / "dtm.toml"
    path.write_text("capacity = 9")

    assert CliRunner().invoke(late, [], env={"DTM_CONFIG": str(path)}).output == "9\n"
    assert CliRunner().invoke(late, ["--config", str(path)]).output == "9\n"


REFUSED = {
    'nmae = "x"': "'nmae' is no setting of 'serve'; did you mean 'name'?",
    "poll_evry = 1": "'poll_evry' is no setting of 'serve'; did you mean 'poll-every'?",
    "zzz = 1": "'zzz' is no setting of 'serve'; its settings are: capacity, color, failure-rate, kind, listen,",
    "[serve]\nname = 'x'": "'serve' is no setting of 'serve'",
    'config = "other.toml"': "'config' is no setting",
    "help = true": "'help' is no setting",
    "dry-run = true": "'dry-run' is no setting",
    'kinds = ["A"]': "'kinds' is no setting of 'serve'; did you mean 'kind'?",
    "poll-every = 1\npoll_every = 2": "'poll_every' is there twice",
    "name = 5": "'name': wanted a string, found an integer",
    "name = true": "'name': wanted a string, found a boolean",
    "name = ['x']": "'name': wanted a string, found an array",
    "name = {}": "'name': wanted a string, found a table",
    "name = 2026-01-02": "'name': wanted a string, found a date",
    "name = 2026-01-02T03:04:05Z": "'name': wanted a string, found a date and time",
    "name = 03:04:05": "'name': wanted a string, found a time",
    "capacity = true": "'capacity': wanted an integer, found a boolean",
    'capacity = "8"': "'capacity': wanted an integer, found a string",
    "capacity = 8.5": "'capacity': wanted an integer, found a float",
    "capacity = 0": "'capacity': 0 is not in the range 1<=x<=100.",
    'failure-rate = "0.1"': "'failure-rate': wanted an integer or a float, found a string",
    "failure-rate = 2": "'failure-rate': 2.0 is not in the range",
    "poll-every = true": "'poll-every': wanted a string or an integer or a float, found a boolean",
    'poll-every = "soon"': "'poll-every': wanted a duration such as",
    "poll-every = -1": "'poll-every': wanted a finite number of seconds from 0 up, found -1",
    "max-line = 1.5": "'max-line': wanted a string or an integer, found a float",
    'max-line = "1M"': "'max-line': wanted a size such as",
    "poll-every = 1e12": "'poll-every': wanted a duration such as 500ms",
    "poll-every = nan": "'poll-every': wanted a finite",
    "poll-every = inf": "'poll-every': wanted a finite",
    "poll-every = -1.0": "'poll-every': wanted a finite",
    'retry-delay = "5m..1s"': "'retry-delay': wanted the shorter duration first",
    "retry-delay = 5": "'retry-delay': wanted a string, found an integer",
    'listen = "x"': "'listen': wanted HOST:PORT",
    'color = "yes"': "'color': wanted a boolean, found a string",
    "color = 1": "'color': wanted a boolean, found an integer",
    'kind = "A"': "'kind': wanted an array, found a string",
    'kind = ["A", 5]': "'kind': wanted a string, found an integer",
    "pair = [1]": "'pair': Takes 2 values but 1 was given",
    "pair = 1": "'pair': wanted an array, found an integer",
    'mode = "slow"': "'mode': 'slow' is not one of 'fast', 'safe'.",
    "name": "wanted TOML, found something else: ",
    "name = 'x'\nname = 'y'": "wanted TOML, found something else: ",
    "capacity = " + "9" * 5_000: "wanted TOML, found something else: ",
    "name = " + "[" * 10_000: "wanted TOML, found something else: ",
}


@pytest.mark.parametrize(("text", "complaint"), REFUSED.items(), ids=[key[:40] for key in REFUSED])
def test_what_the_command_cannot_use_is_wrong_usage(
    serve_with: Serve, tmp_path: Path, text: str, complaint: str
) -> None:
    """Exit code 2; the message names the file and the key, what was wanted and what was found."""
    result = serve_with(text)

    assert result.exit_code == 2
    assert f"Error: config file {tmp_path / 'dtm.toml'}: {complaint}" in result.stderr


def test_a_bad_value_is_refused_even_where_a_flag_overrides_it(serve_with: Serve) -> None:
    """The mistake in the file is found now, and not on the day that the flag is left out."""
    assert serve_with("capacity = 0", "--capacity", "5").exit_code == 2


def test_a_file_that_is_no_text_is_refused(serve_with: Serve) -> None:
    """Such as a database named by mistake."""
    assert "wanted UTF-8 text, found other bytes" in serve_with(b"SQLite format 3\0\xff\xfe").stderr


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file and a folder are named with the reason."""
    missing = CliRunner().invoke(serve, ["--config", str(tmp_path / "none.toml")])
    folder = CliRunner().invoke(serve, ["--config", str(tmp_path)])

    assert missing.exit_code == folder.exit_code == 2
    assert f"config file {tmp_path / 'none.toml'}: it cannot be read: No such file" in missing.stderr
    assert f"config file {tmp_path}: it cannot be read: " in folder.stderr


def test_each_command_of_a_group_has_its_own_file(tmp_path: Path) -> None:
    """A key of one command is an error for another, and the message names the whole command."""

    @click.group()
    def client() -> None:
        pass

    client.add_command(serve, "serve")
    client.command("stop")(config_option(lambda: None))
    path = tmp_path / "dtm.toml"
    path.write_text("capacity = 9")

    assert "capacity=9\n" in CliRunner().invoke(client, ["serve", "--config", str(path)]).output
    refused = CliRunner().invoke(client, ["stop", "--config", str(path)])
    assert "'capacity' is no setting of 'client stop'; its settings are: none" in refused.stderr
