"""A sample campaign or two, to look around in: `make demo`. Does nothing where there are campaigns already."""

from __future__ import annotations

import random
import sys
from typing import Any

from campaigns.times import DAY

CAMPAIGNS = (
    # name, template, messages, days ago, delivered, opened, clicked
    ("Summer Sale 2024", 5, 1000, 9, 0.95, 0.50, 0.10),
    ("Weekly Newsletter", 2, 640, 4, 0.98, 0.41, 0.14),
    ("Password resets", None, 120, 1, 0.99, 0.78, 0.66),
)
REASONS = ("User unknown", "Mailbox full", "Invalid email", "Domain not found")
AGENTS = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:128.0) Gecko/20100101 Thunderbird/128.0",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
)
URLS = ("https://example.com/offer", "https://example.com/offer?color=blue", "https://example.com/account")


def main() -> int:
    from tracking.prepare import NotReady, start

    try:
        start()
    except NotReady as error:
        print(error, file=sys.stderr)
        return 1
    from campaigns.models import Campaign

    if Campaign.objects.exists():
        return 0
    chance = random.Random(7)
    for row in CAMPAIGNS:
        _make(chance, *row)
    print("A demo database with three sample campaigns is ready.")
    return 0


def _make(
    chance: random.Random, name: str, template: int | None, size: int, days: int, delivered: float, opened: float, clicked: float
) -> None:
    from campaigns import lifecycle
    from campaigns.apply import apply
    from campaigns.events import BounceType, EventKind, TrackingEvent, now_ms
    from campaigns.models import Campaign, Message

    campaign = lifecycle.create_campaign(name, template, tags=["demo"])
    messages = lifecycle.create_messages(
        {"campaign_id": campaign.pk, "recipient_email": f"person{n}@example.com", "template_id": template} for n in range(size)
    )
    begin, now = now_ms() - days * DAY, now_ms()
    Campaign.objects.filter(pk=campaign.pk).update(created_at=begin)
    Message.objects.filter(campaign=campaign).update(created_at=begin)
    events: list[TrackingEvent] = []
    for message in messages[: int(size * 0.97)]:
        at = begin + chance.randrange(DAY // 12)

        def happened(kind: EventKind, at: int, pk: int = message.pk, **more: Any) -> None:
            if at < now:
                events.append(TrackingEvent(kind, at, "hit" if "method" in more else "api", message_id=pk, **more))

        happened(EventKind.SENT, at)
        if chance.random() > delivered:
            kind = chance.choice([BounceType.PERMANENT, BounceType.PERMANENT, BounceType.TEMPORARY])
            happened(EventKind.BOUNCED, at + 2000, bounce_type=kind, reason=chance.choice(REASONS), diagnostic_code="smtp; 550 5.1.1")
            continue
        happened(EventKind.DELIVERED, at + chance.randrange(1000, 90_000))
        who: dict[str, Any] = {"method": "GET", "user_agent": chance.choice(AGENTS), "ip": f"203.0.113.{chance.randrange(1, 255)}"}
        read = at + int(chance.expovariate(1 / (DAY / 3)))
        if chance.random() < opened:
            for again in range(chance.choice([1, 1, 1, 2, 3])):
                happened(EventKind.OPENED, read + again * chance.randrange(60_000, DAY), **who)
            if chance.random() < clicked / opened:
                happened(EventKind.CLICKED, read + chance.randrange(5_000, 300_000), url=chance.choice(URLS), position="1", **who)
    for start_ in range(0, len(events), 2000):
        apply(events[start_ : start_ + 2000])


if __name__ == "__main__":
    sys.exit(main())
