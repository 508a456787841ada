"""The guides hold: each page is carried out from its top to its end, against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.guide import blocks, carry_out, require_said

DOCS = Path(__file__).parents[2] / "docs"
GUIDES = ("getting-started", "writing-tasks", "running-workers", "testing", "from-celery")


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_says_what_happens(name: str, tmp_path: Path) -> None:
    """Whoever types what it says gets what it shows."""
    assert carry_out(DOCS / f"{name}.md", tmp_path) > 0


def test_what_was_not_said_is_noticed() -> None:
    """Numbers and blanks may differ, words may not, nor their order; between two lines there may be others."""
    require_said(["task 7 done", "…", "b"], "task  12  done\na\nb\n")

    for wanted in (["task done"], ["b", "task 7 done"]):
        with pytest.raises(AssertionError, match="wanted"):
            require_said(wanted, "task 12 done\na\nb\n")


def test_a_page_that_fails_is_noticed(tmp_path: Path) -> None:
    """By its exit code, and by what it prints."""
    page = tmp_path / "page.md"
    for text in ("```python\nraise SystemExit(3)\n```\n", '```python\nprint("a")\n```\n\n```text\nb\n```\n'):
        page.write_text(text)
        assert blocks(page)
        with pytest.raises(AssertionError):
            carry_out(page, tmp_path)
