"""A campaign's events over time, as bars that a template can draw."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass

from django.db.models import BigIntegerField, ExpressionWrapper, F, Max, Min, Sum

from campaigns.choices import KIND_WORD
from campaigns.models import HourlyCount
from campaigns.times import DAY, HOUR, from_ms, to_ms

#: Widths of a bar, the first that gives few enough of them is taken.
WIDTHS = ((HOUR, "hour"), (6 * HOUR, "6 hours"), (DAY, "day"), (7 * DAY, "7 days"), (28 * DAY, "28 days"), (364 * DAY, "52 weeks"))
MAX_BARS = 96

#: The drawing's own units; it is stretched to the width of the page.
WIDTH, HEIGHT = 960.0, 40.0


@dataclass(frozen=True)
class Bar:
    at: dt.datetime
    n: int
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True)
class Series:
    kind: str
    total: int
    peak: int
    bars: list[Bar]


@dataclass(frozen=True)
class Chart:
    """`rows` are the same numbers for reading: (beginning, [n of each series])."""

    unit: str
    first: dt.datetime
    last: dt.datetime  # the beginning of the last bar
    series: list[Series]
    rows: list[tuple[dt.datetime, list[int]]]


def chart(campaign_id: int) -> Chart | None:
    """The whole life of a campaign in at most 96 bars a kind; None before its first event. Two queries."""
    hours = HourlyCount.objects.filter(campaign_id=campaign_id, n__gt=0)
    span = hours.aggregate(first=Min("hour"), last=Max("hour"))
    if span["first"] is None:
        return None
    first, last = to_ms(span["first"]), to_ms(span["last"])
    width, unit = next(((width, unit) for width, unit in WIDTHS if last // width - first // width < MAX_BARS), WIDTHS[-1])
    bucket = ExpressionWrapper(F("hour") / width, output_field=BigIntegerField())
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for slot, kind, n in hours.order_by().annotate(slot=bucket).values_list("slot", "kind").annotate(sum=Sum("n")).order_by("kind", "slot"):
        counts[KIND_WORD[kind]][slot] = n
    start, bars = first // width, last // width - first // width + 1
    slots = sorted({slot for series in counts.values() for slot in series}, reverse=True)
    return Chart(
        unit,
        from_ms(start * width),
        from_ms((last // width) * width),
        [_series(kind, found, start, bars, width) for kind, found in counts.items()],
        [(from_ms(slot * width), [found.get(slot, 0) for found in counts.values()]) for slot in slots],
    )


def _series(kind: str, found: dict[int, int], start: int, bars: int, width: int) -> Series:
    peak, step = max(found.values()), WIDTH / max(bars, 12)
    drawn = []
    for slot, n in found.items():
        height = max(1.5, HEIGHT * n / peak)  # one event of many is still seen
        drawn.append(
            Bar(
                from_ms(slot * width),
                n,
                f"{(slot - start) * step:.2f}",
                f"{HEIGHT - height:.2f}",
                f"{step * 0.86:.2f}",
                f"{height:.2f}",
            )
        )
    return Series(kind, sum(found.values()), peak, drawn)
