"""How many lines a batch takes, from how long others took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.ingest import pace as pace_module
from tracking.ingest.pace import COMPANY_SECONDS, MAX_BATCH, MIN_BATCH, Pace

holds = st.floats(0.01, 1.0)
batches = st.lists(st.tuples(st.integers(1, MAX_BATCH), st.floats(0.0, 100.0)), max_size=50)


@given(batches, holds, st.none() | st.floats(0.0, 1.0))
def test_a_batch_has_its_bounds_and_who_has_little_time_takes_no_more(
    before: list[tuple[int, float]], hold: float, left: float | None
) -> None:
    pace = Pace()
    for lines, seconds in before:
        pace.took(lines, seconds)
    assert (MIN_BATCH if left is None else 1) <= pace.lines(hold, left) <= pace.lines(hold, None) <= MAX_BATCH


@given(batches, holds, st.integers(1_000, 100_000))
def test_batches_come_to_last_as_long_as_they_may(before: list[tuple[int, float]], hold: float, rate: int) -> None:
    """A database that takes so many lines a second, whatever there was before."""
    pace = Pace()
    for lines, seconds in before:
        pace.took(lines, seconds)
    for _ in range(40):
        lines = pace.lines(hold, None)
        pace.took(lines, lines / rate)
    assert pace.lines(hold, None) == pytest.approx(max(MIN_BATCH, min(MAX_BATCH, rate * hold)), abs=1.01)


def test_one_slow_batch_halves_the_next_at_most() -> None:
    pace = Pace()
    usual = pace.lines(0.05, None)
    pace.took(usual, 30.0)
    assert pace.lines(0.05, None) == usual // 2


def test_others_are_expected_for_a_while_after_they_were_met(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now)
    pace = Pace()
    assert pace.alone
    pace.met_others()
    assert not pace.alone
    now += COMPANY_SECONDS
    assert pace.alone
