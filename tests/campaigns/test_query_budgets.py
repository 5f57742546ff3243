"""Pages and lists ask the database a fixed number of questions, however much is in it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from campaigns import lifecycle
from campaigns.api import pagination
from campaigns.apply import apply
from campaigns.events import EventKind, TrackingEvent, Verdict
from campaigns.models import Campaign, Message
from tests.campaigns.making import HOUR, START

pytestmark = pytest.mark.django_db

#: Queries: whether an API key was made, the page of rows, their count where no counter has it, what belongs to all the rows.
BUDGETS = {
    "/api/campaigns": 4,
    "/api/campaigns?name=c&ordering=-opened": 4,
    "/api/campaigns?tag=a": 4,
    "/api/campaigns/{campaign}": 3,
    "/api/campaigns/{campaign}/messages": 3,
    "/api/campaigns/{campaign}/messages?status=opened": 3,
    "/api/campaigns/{campaign}/timeline": 3,
    "/api/campaigns/{campaign}/timeline?interval=day": 3,
    "/api/campaigns/{campaign}/links": 4,
    "/api/messages": 4,
    "/api/messages?campaign_id={campaign}": 3,
    "/api/messages?recipient_email=0@example.com": 3,
    "/api/messages?metadata.k=v": 3,
    "/api/messages/{message}": 2,
    "/api/messages/{message}/events": 3,
    "/api/events": 2,
    "/api/events?campaign_id={campaign}&kind=opened": 3,
    "/api/events?since=2024-01-01": 3,
    "/api/dashboard/summary": 3,
    "/dashboard": 5,
    "/dashboard?sort=-open_rate&q=c": 5,
    "/dashboard/campaigns/{campaign}": 7,
    "/dashboard/campaigns/{campaign}?status=opened": 7,
    "/dashboard/messages/{message}": 4,
}


def fill(campaigns: int, messages: int, events: int) -> tuple[Campaign, Message]:
    """So many campaigns with so many messages each, with so many events of each kind each: the last campaign and message."""
    for number in range(campaigns):
        campaign = lifecycle.create_campaign(f"c{number}", tags=["a"])
        items = [{"campaign_id": campaign.pk, "recipient_email": f"{n}@example.com", "metadata": {"k": "v"}} for n in range(messages)]
        made = lifecycle.create_messages(items)
        apply([event(message, kind, n) for message in made for kind in EventKind for n in range(events)])
    return campaign, made[-1]


def event(message: Message, kind: EventKind, number: int) -> TrackingEvent:
    details: dict[str, Any] = {"user_agent": f"agent {number}", "ip": "192.0.2.7"}
    if kind is EventKind.CLICKED:
        details |= {"url": f"https://example.com/{number}", "verdict": Verdict.HUMAN, "rule": f"rule {number}", "confidence": 1.0}
    if kind is EventKind.BOUNCED:
        details |= {"reason": f"reason {message.pk}"}
    return TrackingEvent(kind, START + number * HOUR, "hit", message_id=message.pk, **details)


def asked(client: Client, path: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        response = client.get(path)
        response.getvalue()
    assert response.status_code == 200, response.getvalue()
    return [query["sql"] for query in captured]


@pytest.mark.parametrize("path", BUDGETS)
def test_a_page_costs_the_same_whatever_is_in_the_database(client: Client, path: str) -> None:
    few = asked(client, path.format(**ids(fill(1, 1, 1))))
    many = asked(client, path.format(**ids(fill(4, 5, 3))))
    assert len(few) == len(many), many
    assert len(many) <= BUDGETS[path], many


@pytest.mark.parametrize(
    "path",
    [
        "/api/campaigns?ordering=-opened",
        "/api/campaigns/{campaign}/messages?ordering=-id",
        "/api/campaigns/{campaign}/links",
        "/api/messages?status=bounced",
    ],
)
def test_a_deep_page_has_the_same_rows_in_the_same_order(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = path.format(**ids(fill(4, 5, 3))) + ("&" if "?" in path else "?") + "limit=2&offset={}"
    usual = [client.get(path.format(offset)).json() for offset in range(30)]
    monkeypatch.setattr(pagination, "DEEP", 1)
    assert [client.get(path.format(offset)).json() for offset in range(30)] == usual
    assert len(usual[1]["results"]) == 2
    assert len(asked(client, path.format(1))) == len(asked(client, path.format(0))) + 1


def ids(made: tuple[Campaign, Message]) -> dict[str, int]:
    return {"campaign": made[0].pk, "message": made[1].pk}
