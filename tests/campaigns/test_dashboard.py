from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from campaigns import lifecycle
from campaigns.apply import apply
from campaigns.dashboard import search, views
from campaigns.dashboard.chart import WIDTH, chart
from campaigns.events import BounceType, EventKind, TrackingEvent
from campaigns.models import Campaign, CampaignCounters, Message
from campaigns.templatetags.dashboard import ago

HOUR = 3_600_000
START = 1_705_312_800_000  # 2024-01-15T10:00:00Z
HTMX = {"HX-Request": "true", "HX-Target": "live"}


def event(message: Message, kind: EventKind, at: int = START, **more: Any) -> TrackingEvent:
    return TrackingEvent(kind, at, more.pop("source", "hit"), message_id=message.pk, **more)


@pytest.fixture
def page(client: Client) -> Callable[..., str]:
    def get(path: str, **headers: str) -> str:
        response = client.get(path, headers=headers)
        assert response.status_code == 200, response.content
        return re.sub(r"\s+", " ", response.content.decode())

    return get


def names(html: str) -> list[str]:
    return re.findall(r'<a id="campaign-\d+"[^>]*>([^<]+)</a>', html)


def cards(html: str) -> dict[str, str]:
    found = re.findall(r"<dt>([^<]+)</dt>\s*<dd>\s*([^<\s]+)", html.split("</dl>")[0])
    return dict(found)


def with_counters(name: str, **counters: int) -> Campaign:
    campaign = lifecycle.create_campaign(name)
    CampaignCounters.objects.filter(pk=campaign.pk).update(**counters)
    return campaign


# -- the dashboard


def test_cards_sum_all_campaigns(db: None, page: Callable[..., str]) -> None:
    with_counters("one", total=2000, sent=1900, opened=950, clicked=190, bounced=90)
    with_counters("two", total=0)
    assert cards(page("/dashboard")) == {
        "Total campaigns": "2",
        "Total emails sent": "1,900",
        "Open rate": "50.0%",
        "Click rate": "10.0%",
        "Bounce rate": "4.5%",
    }


def test_a_row_shows_the_counters_and_rates_and_leads_to_the_campaign(db: None, page: Callable[..., str]) -> None:
    campaign = with_counters("Newsletter", total=1000, sent=950, delivered=900, opened=475, clicked=95, bounced=45)
    html = page("/dashboard")
    assert f'href="/dashboard/campaigns/{campaign.pk}"' in html
    numbers = re.findall(r'<td class="number">([^<]+)</td>', html)
    assert numbers == ["1,000", "950", "900", "475", "95", "45", "50.0%", "10.0%", "4.5%"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", ["Newest", "bounces", "Alpha"]),
        ("created_at", ["Alpha", "bounces", "Newest"]),
        ("name", ["Alpha", "bounces", "Newest"]),
        ("-name", ["Newest", "bounces", "Alpha"]),
        ("-opened", ["Alpha", "bounces", "Newest"]),
        ("-open_rate", ["bounces", "Alpha", "Newest"]),
        ("open_rate", ["Newest", "Alpha", "bounces"]),
        ("-bounce_rate", ["bounces", "Newest", "Alpha"]),
        ("nonsense", ["Newest", "bounces", "Alpha"]),
    ],
)
def test_sorting_is_in_the_address(db: None, page: Callable[..., str], sort: str, expected: list[str]) -> None:
    with_counters("Alpha", total=100, sent=100, opened=10)
    with_counters("bounces", total=10, sent=4, opened=2, bounced=6)
    with_counters("Newest", total=5, sent=0)
    assert names(page(f"/dashboard?sort={sort}")) == expected


def test_the_sorted_column_says_so(db: None, page: Callable[..., str]) -> None:
    lifecycle.create_campaign("a")
    html = page("/dashboard?sort=-opened")
    assert len(re.findall("aria-sort=", html)) == 1
    assert re.search(r'aria-sort="descending">\s*<a id="sort-opened" href="\?sort=opened"', html)
    assert 'id="sort-clicked" href="?sort=-clicked"' in html  # numbers: the largest first


def test_search_and_archive_are_in_the_address(db: None, page: Callable[..., str]) -> None:
    old = lifecycle.create_campaign("Spring sale")
    lifecycle.update_campaign(old, {"archived": True})
    lifecycle.create_campaign("Summer SALE")
    lifecycle.create_campaign("Newsletter")
    assert names(page("/dashboard")) == ["Newsletter", "Summer SALE"]
    assert names(page("/dashboard?q=sale")) == ["Summer SALE"]
    assert names(page("/dashboard?q=sale&archived=1")) == ["Summer SALE", "Spring sale"]
    assert names(page("/dashboard?q=%25")) == []
    assert cards(page("/dashboard?q=sale"))["Total campaigns"] == "3"


def test_pages_do_not_overlap(db: None, page: Callable[..., str]) -> None:
    for n in range(30):
        lifecycle.create_campaign(f"campaign {n}")
    first, second = names(page("/dashboard?sort=-opened")), names(page("/dashboard?sort=-opened&page=2"))
    assert (len(first), len(second)) == (25, 5)
    assert set(first).isdisjoint(second)
    assert names(page("/dashboard?page=999")) == names(page("/dashboard?page=2"))
    assert names(page("/dashboard?page=x")) == names(page("/dashboard"))


@pytest.mark.parametrize("query", ["q=%00a", "q=%ED%A0%80", "q=" + "x" * 5000, "sort=-", "sort=name&sort=-opened", "page=-1", "archived=2"])
def test_odd_addresses_are_answered(db: None, page: Callable[..., str], query: str) -> None:
    lifecycle.create_campaign("a")
    page(f"/dashboard?{query}")


def test_a_campaign_being_deleted_is_seen_nowhere(campaign: Campaign, message: Message, client: Client) -> None:
    lifecycle.create_campaign("other")
    Campaign.objects.filter(pk=campaign.pk).update(deleted_at=START)
    html = client.get("/dashboard?archived=1").content.decode()
    assert campaign.name not in html
    assert cards(html)["Total campaigns"] == "1"
    assert client.get(f"/dashboard/campaigns/{campaign.pk}").status_code == 404
    assert client.get(f"/dashboard/messages/{message.pk}").status_code == 404


def test_the_number_of_queries_does_not_grow_with_campaigns(db: None, client: Client) -> None:
    counts = []
    for n in (1, 20):
        for i in range(n):
            lifecycle.create_campaign(f"campaign {n}.{i}")
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/dashboard?sort=-open_rate").status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/campaigns/{campaign}", "/dashboard/messages/{message}"])
def test_a_get_opens_no_transaction_and_writes_nothing(path: str, client: Client) -> None:
    campaign = lifecycle.create_campaign("a")
    message = lifecycle.create_message("user@example.com", campaign.pk)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path.format(campaign=campaign.pk, message=message.pk)).status_code == 200
    assert captured.captured_queries
    assert all(query["sql"].startswith("SELECT") for query in captured.captured_queries)


def test_pages_cannot_be_written_to_and_are_not_stored(campaign: Campaign, client: Client) -> None:
    assert client.post("/dashboard").status_code == 405
    response = client.get("/dashboard")
    assert "no-store" in response["Cache-Control"]
    assert "HX-Request" in response["Vary"]


# -- refreshing


def test_a_refresh_answers_only_with_what_changes(campaign: Campaign, message: Message, page: Callable[..., str]) -> None:
    for path in ("/dashboard", f"/dashboard/campaigns/{campaign.pk}", f"/dashboard/messages/{message.pk}"):
        html = page(path, **HTMX)
        assert "<html" not in html
        assert 'id="search"' not in html  # what is being typed stays
        assert re.search(r"Updated <time [^>]*>\d\d:\d\d:\d\d</time> UTC", html)
        assert "<html" in page(path, **HTMX, **{"HX-History-Restore-Request": "true"})


def test_the_page_changes_when_the_first_campaign_comes(db: None, client: Client) -> None:
    assert "HX-Refresh" not in client.get("/dashboard?empty=1", headers=HTMX)
    campaign = lifecycle.create_campaign("first")
    assert client.get("/dashboard?empty=1", headers=HTMX)["HX-Refresh"] == "true"
    assert "HX-Refresh" not in client.get("/dashboard", headers=HTMX)
    lifecycle.delete_campaign(campaign)
    assert client.get("/dashboard", headers=HTMX)["HX-Refresh"] == "true"


def test_pending_hits_are_said(campaign: Campaign, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "The newest hits are still being taken in"
    assert note not in client.get("/dashboard").content.decode()
    monkeypatch.setattr("tracking.middleware.drain", lambda budget: 17)
    assert note in client.get("/dashboard").content.decode()


# -- an empty installation


def test_an_empty_installation_shows_how_to_begin(db: None, page: Callable[..., str]) -> None:
    html = page("/dashboard")
    assert "curl -X POST http://testserver/api/campaigns" in html
    assert "email-tracking-cli campaign create" in html
    assert "from tracking import Database" in html
    assert "http://testserver/track/pixel/my-first-mail" in html
    assert "http://testserver/track/redirect/my-first-mail?url=https%3A%2F%2Fexample.com%2F&amp;sig=" in html
    assert "Authorization" not in html
    assert '<dl class="cards">' not in html


def test_commands_for_another_machine_carry_a_key(db: None, admin_client: Client) -> None:
    html = admin_client.get("/dashboard", REMOTE_ADDR="192.0.2.7").content.decode()
    assert html.count("Authorization: Bearer YOUR_KEY") == 2
    assert "email-tracking-cli key create" in html


def test_links_to_paste_begin_with_the_public_address(db: None, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("base_url", "default_base_url"):
        monkeypatch.setitem(settings.CONF.__dict__, name, "https://tracking.example.com")
    html = admin_client.get("/dashboard").content.decode()
    assert "https://tracking.example.com/track/pixel/my-first-mail" in html
    assert "curl -X POST http://testserver/api/campaigns" in html


# -- a campaign


def bounced(message: Message, reason: str = "User unknown") -> TrackingEvent:
    return event(
        message, EventKind.BOUNCED, bounce_type=BounceType.PERMANENT, reason=reason, diagnostic_code="smtp; 550 5.1.1 user unknown"
    )


def test_a_campaign_shows_its_numbers_reasons_and_links(campaign: Campaign, page: Callable[..., str]) -> None:
    lifecycle.update_campaign(campaign, {"tags": ["vip"], "metadata": {"owner": "Ann"}, "archived": True})
    one, two, three, _ = lifecycle.create_messages([{"recipient_email": f"u{n}@example.com", "campaign_id": campaign.pk} for n in range(4)])
    apply(
        [
            event(one, EventKind.DELIVERED),
            event(one, EventKind.OPENED, START + HOUR),
            event(one, EventKind.CLICKED, START + 2 * HOUR, url="https://example.com/offer"),
            event(two, EventKind.COMPLAINED),
            event(two, EventKind.UNSUBSCRIBED),
            bounced(three),
        ]
    )
    html = page(f"/dashboard/campaigns/{campaign.pk}")
    assert cards(html) == {
        "Messages": "4", "Sent": "3", "Delivered": "1", "Opened": "1", "Clicked": "1", "Bounced": "1", "Complained": "1",
        "Unsubscribed": "1",
    }  # fmt: skip
    assert "33.3% of sent" in html
    assert "25.0% of all" in html
    assert re.search(r"User unknown</td>\s*<td class=\"number\">1<", html)
    assert re.search(r"https://example.com/offer</td>\s*<td class=\"number\">1<", html)
    assert f'href="/api/campaigns/{campaign.pk}/export"' in html
    assert '<span class="badge status-archived">archived</span>' in html
    assert "vip" in html
    assert "&quot;owner&quot;: &quot;Ann&quot;" in html
    assert "human" not in html


def test_the_chart_draws_every_kind_by_the_hour(campaign: Campaign, message: Message, page: Callable[..., str]) -> None:
    apply(
        [
            event(message, EventKind.OPENED, START),
            event(message, EventKind.OPENED, START + 1),
            event(message, EventKind.OPENED, START + 3 * HOUR),
        ]
    )
    html = page(f"/dashboard/campaigns/{campaign.pk}")
    assert "Events per hour" in html
    assert re.findall(r"<title>([^<]+)</title></rect>", html) == ["2024-01-15 10:00 UTC: 2 opened", "2024-01-15 13:00 UTC: 1 opened"]
    assert 'aria-label="3 opened, at most 2 per hour"' in html


@pytest.mark.parametrize(
    ("days", "unit"), [(3, "hour"), (20, "6 hours"), (80, "day"), (600, "7 days"), (2000, "28 days"), (20_000, "52 weeks")]
)
def test_the_chart_of_a_long_life_has_few_bars(campaign: Campaign, message: Message, days: int, unit: str) -> None:
    apply(
        [
            event(message, EventKind.OPENED, START - days * 24 * HOUR),
            event(message, EventKind.OPENED, START),
            event(message, EventKind.SENT, START),
        ]
    )
    drawn = chart(campaign.pk)
    assert drawn is not None
    assert drawn.unit == unit
    assert [(series.kind, series.total) for series in drawn.series] == [("sent", 1), ("opened", 2)]
    assert all(0 <= float(bar.x) < WIDTH for series in drawn.series for bar in series.bars)
    assert sum(sum(counts) for _, counts in drawn.rows) == 3


def recipients(html: str) -> list[str]:
    return re.findall(r'<a id="message-\d+"[^>]*>([^<]+)</a>', html)


def test_messages_are_filtered_by_status_and_recipient(campaign: Campaign, page: Callable[..., str]) -> None:
    made = lifecycle.create_messages(
        [{"recipient_email": name, "campaign_id": campaign.pk} for name in ("Ann@example.com", "ann@example.com.au", "bob@example.com")]
    )
    apply([event(made[0], EventKind.OPENED), bounced(made[2])])
    path = f"/dashboard/campaigns/{campaign.pk}"
    assert recipients(page(path)) == ["bob@example.com", "ann@example.com.au", "Ann@example.com"]
    assert recipients(page(f"{path}?status=opened")) == ["Ann@example.com"]
    assert recipients(page(f"{path}?status=queued")) == ["ann@example.com.au"]
    assert recipients(page(f"{path}?status=clicked")) == []
    assert recipients(page(f"{path}?status=nonsense")) == recipients(page(path))
    assert recipients(page(f"{path}?q=bob")) == ["bob@example.com"]
    assert recipients(page(f"{path}?q=ANN@example.com")) == ["Ann@example.com"]  # a whole address
    assert recipients(page(f"{path}?q=@example.com.au")) == ["ann@example.com.au"]
    assert recipients(page(f"{path}?q=%25&before=x&after=99999999999999999999")) == []


@pytest.mark.parametrize("count", [7, 9, 10])
def test_messages_are_paged_older_and_newer(
    campaign: Campaign, page: Callable[..., str], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(search, "MESSAGES_PER_PAGE", 3)
    lifecycle.create_messages([{"recipient_email": f"u{n}@example.com", "campaign_id": campaign.pk} for n in range(count)])
    everyone = [f"u{n}@example.com" for n in reversed(range(count))]

    def walk(path: str, link: str) -> list[list[str]]:
        pages = []
        while True:
            html = page(path)
            pages.append(recipients(html))
            found = re.search(rf'id="{link}"[^>]*href="([^"]+)"', html)
            if not found:
                return pages
            last = path = f"/dashboard/campaigns/{campaign.pk}{found[1].replace('&amp;', '&')}"
            ends.append(last)

    ends: list[str] = []
    older = walk(f"/dashboard/campaigns/{campaign.pk}?status=queued", "page-older")
    assert [name for names in older for name in names] == everyone
    newer = walk(ends[-1], "page-newer")
    assert newer[-1] == everyone[:3]
    assert {name for names in newer for name in names} == set(everyone)
    assert all("status=queued" in end for end in ends)


# -- a message


def test_a_message_shows_its_fields_and_its_events_the_newest_last(campaign: Campaign, message: Message, page: Callable[..., str]) -> None:
    apply(
        [
            event(
                message,
                EventKind.CLICKED,
                START + 2,
                url="https://example.com/offer",
                ip="192.0.2.7",
                user_agent="Agent/5.0",
                method="HEAD",
            ),
            event(message, EventKind.SENT, START, source="api"),
            event(message, EventKind.DEFERRED, START + 1, source="sendgrid", reason="greylisted"),
            bounced(message),
        ]
    )
    html = page(f"/dashboard/messages/{message.pk}")
    assert f'href="/dashboard/campaigns/{campaign.pk}"' in html
    assert "uuid-token" in html
    assert "smtp; 550 5.1.1 user unknown" in html
    timeline = html[html.index('<ol class="timeline"') :]
    assert re.findall(r"badge status-(\w+)", timeline) == ["sent", "bounced", "deferred", "clicked"]
    for text in ("https://example.com/offer", "192.0.2.7", "Agent/5.0 (HEAD)", "via sendgrid", "greylisted", "2024-01-15 10:00:00 UTC"):
        assert text in timeline
    assert 'datetime="2024-01-15T10:00:00.001Z"' in timeline
    assert "human" not in html


def test_the_latest_of_many_events_are_shown_first(message: Message, page: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "EVENTS_PER_PAGE", 2)
    apply([event(message, EventKind.OPENED, START + n * 1000) for n in range(5)])
    path = f"/dashboard/messages/{message.pk}"

    def seconds(html: str) -> list[str]:
        timeline = html[html.index('<ol class="timeline"') :]
        return re.findall(r'datetime="2024-01-15T10:00:(\d\d)', timeline)

    assert seconds(page(path)) == ["03", "04"]
    assert 'id="page-earlier" href="?page=2"' in page(path)
    assert seconds(page(f"{path}?page=3")) == ["00"]
    assert 'id="page-later" href="?page=2"' in page(f"{path}?page=3")


def test_a_message_with_many_events_takes_as_many_queries_as_one_with_few(message: Message, client: Client) -> None:
    counts = []
    for n in (1, 30):
        apply(
            [
                event(message, EventKind.CLICKED, START + i, url=f"https://example.com/{n}/{i}", user_agent=f"agent {n} {i}")
                for i in range(n)
            ]
        )
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/dashboard/messages/{message.pk}")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize("path", ["/dashboard/campaigns/{}", "/dashboard/messages/{}"])
@pytest.mark.parametrize("pk", [0, 4711, 10**30])
def test_what_does_not_exist_is_a_404(db: None, client: Client, path: str, pk: int) -> None:
    assert client.get(path.format(pk)).status_code == 404


def test_what_strangers_send_is_shown_as_text(campaign: Campaign, page: Callable[..., str]) -> None:
    attack = '"><svg onload=alert(1)>'
    named = lifecycle.create_campaign(f"<script>alert(1)</script>{attack}", tags=[attack], metadata={"a": attack})
    message = lifecycle.create_message('"<img/src=x/onerror=alert(1)>"@ex.example', named.pk)
    apply(
        [
            event(message, EventKind.CLICKED, url="javascript:alert(1)", user_agent=attack),
            event(message, EventKind.BOUNCED, reason=attack, diagnostic_code=attack, bounce_type=BounceType.PERMANENT),
        ]
    )
    for path in ("/dashboard", f"/dashboard/campaigns/{named.pk}", f"/dashboard/messages/{message.pk}", f"/dashboard?q={attack}"):
        html = page(path)
        for payload in ("<svg onload", "<script>alert", "<img/src", 'href="javascript:'):
            assert payload not in html, path
        assert "&lt;" in html


def test_signing_out_is_offered_to_who_is_signed_in(campaign: Campaign, admin_client: Client, client: Client) -> None:
    assert 'action="/admin/logout/"' in admin_client.get("/dashboard").content.decode()
    client.logout()
    assert 'href="/admin/login/?next=%2Fdashboard%3Fq%3Da%26sort%3Dname"' in client.get("/dashboard?q=a&sort=name").content.decode()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86400 * 45, "1 month ago"),
        (86400 * 800, "2 years ago"),
        (-120, "in 2 minutes"),
    ],
)
def test_relative_times_have_one_unit(seconds: int, text: str) -> None:
    now = dt.datetime(2024, 1, 15, 10, tzinfo=dt.UTC)
    assert ago(now - dt.timedelta(seconds=seconds), now) == text


@pytest.mark.parametrize("query", ["per_page=-1", "per_page=999999", "per_page=x", "page=-1", "page=999", "page=x"])
def test_no_number_in_the_address_breaks_or_swells_the_page(client: Client, campaign: Campaign, query: str) -> None:
    for number in range(30):
        lifecycle.create_campaign(f"campaign {number}")
    answer = client.get(f"/dashboard?{query}")
    assert answer.status_code == 200
    assert answer.content.count(b'href="/dashboard/campaigns/') <= 25
