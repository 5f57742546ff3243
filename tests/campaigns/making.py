"""Events to test with, and what a campaign's numbers are when they are counted again from nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from campaigns.events import BounceType, EventKind, TrackingEvent, Verdict
from campaigns.models import BounceReasonCount, Campaign, CampaignCounters, Event, HourlyCount, Link, Message
from campaigns.status import COUNTED, STATE_COLUMNS

HOUR = 3_600_000
START = 1_705_312_200_000  # 2024-01-15T09:50:00Z

texts = st.sampled_from(["", "User unknown", "Invalid email", "mailbox full", "\0nul", "x" * 3000, "\ud800 lone", "ünï"]) | st.none()


@st.composite
def events(draw: st.DrawFn, messages: int = 3) -> TrackingEvent:
    """An event of message number 0 … messages - 1 (in `message_id`, to be replaced by a real one)."""
    kind = draw(st.sampled_from(EventKind))
    bounced = kind in (EventKind.BOUNCED, EventKind.DEFERRED)
    clicked = kind is EventKind.CLICKED
    judged = kind in (EventKind.OPENED, EventKind.CLICKED)
    verdict = draw(st.sampled_from([None, *Verdict])) if judged else None
    return TrackingEvent(
        kind,
        START + draw(st.integers(0, 5)) * HOUR // 2,
        draw(st.sampled_from(["hit", "sendgrid", "api"])),
        message_id=draw(st.integers(0, messages - 1)),
        user_agent=draw(st.sampled_from([None, "Mozilla/5.0", "curl/8"])),
        method=draw(st.sampled_from([None, "GET", "HEAD"])),
        ip=draw(st.sampled_from([None, "192.0.2.7", "2001:db8::7", "no address"])),
        url=draw(st.sampled_from(["https://a.example/", "https://b.example/x"])) if clicked else None,
        position=draw(st.sampled_from([None, "1", "2"])) if clicked else None,
        verdict=verdict,
        rule="some_rule" if verdict else None,
        confidence=0.9 if verdict else None,
        bounce_type=draw(st.sampled_from([None, *BounceType])) if bounced else None,
        bounce_subtype=draw(texts) if bounced else None,
        reason=draw(texts) if bounced else None,
        diagnostic_code=draw(texts) if bounced else None,
    )


def snapshot(campaign: Campaign) -> dict[str, Any]:
    """All that apply() writes of a campaign, without ids: equal for campaigns to which the same happened."""
    return {
        "messages": list(Message.objects.filter(campaign=campaign).order_by("id").values_list(*STATE_COLUMNS)),
        "counters": CampaignCounters.objects.filter(campaign=campaign).values("total", *COUNTED).get(),
        "reasons": sorted(BounceReasonCount.objects.filter(campaign=campaign).values_list("reason", "n")),
        "hours": sorted(HourlyCount.objects.filter(campaign=campaign).values_list("hour", "kind", "n", "human_n")),
        "links": sorted(Link.objects.filter(campaign=campaign).values_list("url", "position", "click_count", "human_click_count")),
        "events": sorted(
            map(
                repr,
                Event.objects.filter(campaign=campaign).values_list(
                    "kind", "occurred_at", "source", "user_agent__user_agent", "judgement__verdict", "link__url", "ip", "detail"
                ),
            )
        ),
    }
