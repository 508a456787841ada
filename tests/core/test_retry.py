"""What a lost attempt costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtm.core.backoff import Backoff, Growth
from dtm.core.lifecycle import ENDED, Event, State, next_state
from dtm.core.retry import AS_THE_SERVER, RetryPolicy, after_death, after_failure

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


# What can become of an attempt, and the event it is, with `retry_count` failed attempts before it.
FATES: dict[str, Callable[[int, int], Event]] = {
    "succeeded": lambda _, __: Event.SUCCEED,
    "failed": lambda retry_count, most: after_failure(retry_count, most, may_retry=True),
    "rejected": lambda retry_count, most: after_failure(retry_count, most, may_retry=False),
    "died": after_death,
    "released": lambda _, __: Event.RELEASE,
}
BLAMED = {"failed", "rejected", "died"}


@given(st.lists(st.sampled_from(sorted(FATES))), st.integers(1, 5))
def test_blame_is_bounded(fates: list[str], max_retries: int) -> None:
    """Whatever becomes of its attempts: a task ends by `max_retries` failed ones, and releases cost it none."""
    state, blamed = State.PENDING, 0
    for fate in fates:
        if state in ENDED:
            break
        if state is State.SCHEDULED:
            state = next_state(state, Event.FALL_DUE)
        state = next_state(next_state(state, Event.ASSIGN), FATES[fate](blamed, max_retries))
        blamed += fate in BLAMED

        assert blamed <= max_retries
        assert state is not State.DEAD or blamed == max_retries or fate == "rejected"
        assert (state in ENDED) == (fate in ("succeeded", "rejected") or blamed == max_retries)


# --- the policy of a task ----------------------------------------------------------------------------------------

SERVER = Backoff(1.0, 300.0)
NAMES = ["ConnectionResetError", "ConnectionError", "OSError"]

JUDGED: dict[str, tuple[RetryPolicy, bool]] = {
    "no rules": (RetryPolicy(), True),
    "its type is wanted": (RetryPolicy(retry_for=("KeyError", "ConnectionResetError")), True),
    "a kind of what is wanted": (RetryPolicy(retry_for=("OSError",)), True),
    "others are wanted": (RetryPolicy(retry_for=("KeyError",)), False),
    "its type is not wanted": (RetryPolicy(no_retry_for=("ConnectionResetError",)), False),
    "a kind of what is not wanted": (RetryPolicy(no_retry_for=("OSError",)), False),
    "others are not wanted": (RetryPolicy(no_retry_for=("KeyError",)), True),
    "wanted and not wanted": (RetryPolicy(retry_for=("OSError",), no_retry_for=("ConnectionError",)), False),
    "another case": (RetryPolicy(retry_for=("oserror",)), False),
}


@pytest.mark.parametrize(("policy", "again"), JUDGED.values(), ids=JUDGED.keys())
def test_a_failure_is_judged_by_its_type_and_what_that_is_a_kind_of(policy: RetryPolicy, *, again: bool) -> None:
    """Whoever names a type means those below it too; a no wins over a yes."""
    assert policy.tries_again(NAMES) is again


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_policy_that_says_nothing_waits_as_the_server_does(failures: int, uniform: float) -> None:
    """To the last digit."""
    assert AS_THE_SERVER.delay_s(failures, uniform, server=SERVER) == SERVER.delay_s(failures, uniform)


WAITS: dict[str, tuple[RetryPolicy, list[float]]] = {
    "a delay of its own": (RetryPolicy(delay=10, jitter=0), [10, 20, 40, 80, 160, 300]),
    "a delay above the server's cap": (RetryPolicy(delay=600, jitter=0), [600, 600]),
    "a cap of its own": (RetryPolicy(max_delay=3, jitter=0), [1, 2, 3, 3]),
    "a cap below its delay": (RetryPolicy(delay=10, max_delay=3, jitter=0), [3, 3]),
    "linear": (RetryPolicy(Growth.LINEAR, 10, 25, 0), [10, 20, 25, 25]),
    "constant": (RetryPolicy(Growth.CONSTANT, 10, jitter=0), [10, 10]),
    "no wait": (RetryPolicy(delay=0), [0, 0]),
    "a cap of nothing": (RetryPolicy(max_delay=0), [0, 0]),
}


@pytest.mark.parametrize(("policy", "delays"), WAITS.values(), ids=WAITS.keys())
def test_what_a_policy_says_replaces_what_the_server_does(policy: RetryPolicy, delays: list[float]) -> None:
    """What it leaves out is the server's, which is 1s..5m here."""
    assert [policy.delay_s(n, 0.9, server=SERVER) for n in range(1, len(delays) + 1)] == delays
