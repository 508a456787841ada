"""Settings: four places to look, in one order, all shown by --help."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dtm.cli.options import DURATION, Setting, config_option, setting


@click.command()
@config_option
@setting("--poll-every", "-p", type=DURATION, default="4s", help="How often to look.")
@setting("--log", "log_file")
@setting("--color/--no-color", default=True)
def watch(poll_every: float, *, log_file: str | None, color: bool) -> None:
    """Show the settings."""
    click.echo(f"{poll_every:g} {log_file} {color}")


@pytest.mark.parametrize(("flag", "variable", "file"), list(product([True, False], repeat=3)))
def test_the_first_place_that_has_a_value_wins(tmp_path: Path, *, flag: bool, variable: bool, file: bool) -> None:
    """Flag before variable before file before default, in all eight combinations."""
    path = tmp_path / "dtm.toml"
    path.write_text('poll-every = "3s"' if file else "")
    result = CliRunner().invoke(
        watch,
        ["--config", str(path), *(["--poll-every", "1s"] if flag else [])],
        env={"DTM_POLL_EVERY": "2s" if variable else None},
    )

    expected = 1 if flag else 2 if variable else 3 if file else 4
    assert result.output == f"{expected} None True\n"


def test_the_variable_is_named_after_the_long_flag() -> None:
    """Not after the short flag, the second flag or the Python name."""
    names = {option.name: option.envvar for option in watch.params if isinstance(option, Setting)}

    assert names == {
        "config": "DTM_CONFIG",
        "poll_every": "DTM_POLL_EVERY",
        "log_file": "DTM_LOG",
        "color": "DTM_COLOR",
    }


def test_a_variable_can_switch_a_flag_off() -> None:
    """A flag is set by the usual words."""
    assert CliRunner().invoke(watch, [], env={"DTM_COLOR": "off"}).output == "4 None False\n"


def test_an_empty_variable_counts_as_not_set() -> None:
    """`DTM_POLL_EVERY= dtm-client` takes the default."""
    assert CliRunner().invoke(watch, [], env={"DTM_POLL_EVERY": ""}).output == "4 None True\n"


def test_a_bad_variable_is_named() -> None:
    """The user learns that the value came from the environment."""
    result = CliRunner().invoke(watch, [], env={"DTM_POLL_EVERY": "soon"})

    assert result.exit_code == 2
    assert "Invalid value for '--poll-every' / '-p' (env var: 'DTM_POLL_EVERY'): wanted a duration" in result.stderr


def test_help_shows_variables_and_defaults() -> None:
    """Every setting is documented by its own declaration."""
    output = " ".join(CliRunner().invoke(watch, ["--help"]).output.split())

    assert "--config FILE" in output
    assert "[env var: DTM_CONFIG]" in output
    assert "How often to look. [env var: DTM_POLL_EVERY; default: 4s]" in output
    assert "[env var: DTM_LOG]" in output
    assert "[env var: DTM_COLOR; default: color]" in output
