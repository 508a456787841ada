"""What a lost attempt costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.lifecycle import Event
from dtm.core.retry import after_death, after_failure

counts = st.integers(0, 10**6)
maxima = st.integers(1, 10**6)


@pytest.mark.parametrize(
    ("failed_before", "then"), [(0, Event.RETRY_LATER), (1, Event.RETRY_LATER), (2, Event.GIVE_UP), (3, Event.GIVE_UP)]
)
def test_the_third_failure_is_the_last(failed_before: int, then: Event) -> None:
    """With `max_retries` 3 a task fails three times and no fourth."""
    assert after_failure(failed_before, 3, may_retry=True) is then


@pytest.mark.parametrize(
    ("failed_before", "then"), [(0, Event.RETRY_NOW), (1, Event.RETRY_NOW), (2, Event.GIVE_UP), (3, Event.GIVE_UP)]
)
def test_the_third_death_is_the_last(failed_before: int, then: Event) -> None:
    """A death costs as much as a failure, but there is nothing to wait for before the next try."""
    assert after_death(failed_before, 3) is then


@given(counts, maxima)
def test_a_worker_that_says_no_is_believed(failed_before: int, max_retries: int) -> None:
    """Where another attempt cannot go better, none is made, however many are left."""
    assert after_failure(failed_before, max_retries, may_retry=False) is Event.GIVE_UP


@given(counts, maxima)
def test_failures_and_deaths_share_one_account(failed_before: int, max_retries: int) -> None:
    """Either way the last attempt is the one that makes the count reach `max_retries`."""
    is_last = failed_before + 1 >= max_retries

    assert (after_failure(failed_before, max_retries, may_retry=True) is Event.GIVE_UP) == is_last
    assert (after_death(failed_before, max_retries) is Event.GIVE_UP) == is_last


def test_one_allowed_attempt_means_one() -> None:
    """`max_retries` 1 is a task that runs once."""
    assert after_failure(0, 1, may_retry=True) is Event.GIVE_UP
    assert after_death(0, 1) is Event.GIVE_UP
