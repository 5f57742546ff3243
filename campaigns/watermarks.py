"""Where in `events` the latest ones begin, on SQLite: `since` would look through all of it, and an index by time costs every event.

Ids grow in the order in which events are stored, which is nearly that in which they occur. A watermark says of the events up to an
id that none occurred after a moment, so who asks for later ones need not look at those. (PostgreSQL has a BRIN index for it, and
there events with smaller ids may be committed later.)
"""

from __future__ import annotations

from django.db import connection
from django.db.models import Max

from campaigns.models import Event, EventWatermark
from campaigns.times import from_ms

#: Events between two watermarks. To look through as many takes about a millisecond.
SPACING = 10_000
#: Watermarks set in one call: half a second, the first time in a large database.
AT_ONCE = 100


def keep_up() -> int:
    """What the ingester calls now and then: set watermarks up to the present, some at a time. Returns how many."""
    if connection.vendor != "sqlite":
        return 0
    last = EventWatermark.objects.order_by("-pk").first() or EventWatermark(event_id=0, latest=from_ms(0))
    newest = Event.objects.aggregate(newest=Max("pk"))["newest"] or 0
    made = 0
    while newest - last.event_id >= SPACING and made < AT_ONCE:
        upto = last.event_id + SPACING
        latest = Event.objects.filter(pk__gt=last.event_id, pk__lte=upto).aggregate(latest=Max("occurred_at"))["latest"]
        last = EventWatermark(event_id=upto, latest=last.latest if latest is None else max(latest, last.latest))
        EventWatermark.objects.bulk_create([last], ignore_conflicts=True)  # another ingester may say the same
        made += 1
    return made


def id_before(moment: int) -> int:
    """An id such that every event that occurred at `moment` (UTC milliseconds) or later has a larger one."""
    return EventWatermark.objects.filter(latest__lt=from_ms(moment)).aggregate(event_id=Max("event_id"))["event_id"] or 0
