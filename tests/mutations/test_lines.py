"""The list of mutations keeps up with the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.lines import MUTATIONS
from tests.mutations.mutation import TOP, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_line_stands_where_the_list_says(mutation: Mutation) -> None:
    """Once, and it is really weakened; a line that moved would leave its mutation without effect."""
    assert (TOP / mutation.file).read_text().count(mutation.line) == 1
    assert mutation.weakened != mutation.line
    compile((TOP / mutation.file).read_text().replace(mutation.line, mutation.weakened), mutation.file, "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_witness_exists(mutation: Mutation) -> None:
    """The files of tests that are to turn red are there."""
    assert mutation.tests
    assert all((TOP / Path(test.split("::")[0])).exists() for test in mutation.tests)


def test_names_are_unique() -> None:
    """So that one can be picked."""
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 20
