"""What all tests share: the event loop of the product, and silence."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import structlog
from hypothesis import settings


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is left out."""
    return ["long fault tests: left out; `make soak` runs them"] if config.option.markexpr == "not soak" else []


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run as the programs do: uvloop where it is installed."""
    return "asyncio", {"use_uvloop": find_spec("uvloop") is not None}


@pytest.fixture(autouse=True)
def _no_log() -> None:
    """Drop what is logged, unless a test captures it."""
    structlog.reset_defaults()
    structlog.configure(processors=[_drop])


def _drop(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


# A busy machine may take long over an example that is quick by itself; pytest's own limit ends one that hangs.
settings.register_profile("dtm", deadline=None)
settings.load_profile("dtm")
