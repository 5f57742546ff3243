from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import metrics
from campaigns.queries import Totals


def test_the_rates_of_a_campaign_are_what_people_expect() -> None:
    counters = Totals(
        total=1000, sent=950, delivered=905, opened=475, clicked=95, bounced=45, human_opened=300, unknown_opened=50, human_clicked=80
    )
    found = metrics.campaign_metrics(counters, [("User unknown", 30), ("Invalid email", 15)])
    assert found["queued"] == 50
    assert (found["open_rate"], found["click_rate"], found["bounce_rate"]) == (50.0, 10.0, 4.5)
    assert (found["delivery_rate"], found["human_open_rate"], found["human_click_rate"]) == (95.3, 33.3, 8.4)
    assert found["bounce_reasons"] == {"User unknown": 30, "Invalid email": 15}


def test_rates_of_nothing_are_nothing() -> None:
    assert set(metrics.rates(Totals()).values()) == {0.0}


@given(st.integers(-5, 10**12), st.integers(-5, 10**12))
def test_a_rate_is_never_an_error(part: int, whole: int) -> None:
    assert isinstance(metrics.rate(part, whole), float)


@pytest.mark.parametrize(("kinds", "other"), [(20, None), (21, 1), (25, 1 + 2 + 3 + 4 + 5)])
def test_the_twenty_commonest_reasons_are_listed_and_the_others_summed(kinds: int, other: int | None) -> None:
    listed = metrics.commonest((f"reason {n}", n) for n in range(1, kinds + 1))
    assert listed.get("other") == other
    assert len(listed) == min(kinds, 20) + (other is not None)
    assert next(iter(listed)) == f"reason {kinds}"
