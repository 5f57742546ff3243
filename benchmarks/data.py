"""Big data sets, made in the database by a statement a table, the same on SQLite and PostgreSQL.

Tokens and addresses come in the order of their indexes, as our own tokens do: in random order 3 M rows take 90 s.
"""

from __future__ import annotations

from django.db import connection, transaction

from campaigns.models import CampaignCounters
from campaigns.times import HOUR

#: 2024-01-15T00:00:00Z, in UTC milliseconds.
START = 1_705_276_800_000
#: How long a campaign's mails are opened and clicked, in hours.
HOURS = 168

_NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i < %s - 1)"

#: Every second message was opened, every eighth of those clicked, one in a hundred bounced.
_MESSAGES = f"""
INSERT INTO messages (
    campaign_id, recipient_email, tracking_token, template_id, tags, metadata, created_at, status, sent_at, delivered_at, opened_at,
    clicked_at, bounced_at, bounce_type, bounce_subtype, bounce_reason, diagnostic_code,
    open_count, click_count, human_open_count, human_click_count, prefetch_open_count
)
{_NUMBERS}
SELECT %s + i / %s, 'recipient' || (10000000 + i) || '@example.com', '{{prefix}}' || (10000000 + i), 5, '["july"]', '{{{{"segment": 7}}}}',
    %s + i, CASE WHEN i %% 100 = 99 THEN 'bounced' WHEN i %% 16 = 0 THEN 'clicked' WHEN i %% 2 = 0 THEN 'opened' ELSE 'delivered' END,
    %s + i, CASE WHEN i %% 100 <> 99 THEN %s + i END, CASE WHEN i %% 2 = 0 THEN %s + i * 7 END,
    CASE WHEN i %% 16 = 0 THEN %s + i * 8 END, CASE WHEN i %% 100 = 99 THEN %s + i END,
    CASE WHEN i %% 100 = 99 THEN 'permanent' END, NULL, CASE WHEN i %% 100 = 99 THEN 'User unknown' END,
    CASE WHEN i %% 100 = 99 THEN '5.1.1' END,
    CASE WHEN i %% 2 = 0 THEN 1 ELSE 0 END, CASE WHEN i %% 16 = 0 THEN 1 ELSE 0 END, 0, 0, 0
FROM numbers
"""

#: What the counters hold, counted from the rows: also the peer of a list of campaigns.
COUNTS = """
    count(*) AS total, count(sent_at) AS sent, count(coalesce(delivered_at, opened_at, clicked_at)) AS delivered,
    count(opened_at) AS opened, count(clicked_at) AS clicked, count(CASE WHEN status = 'bounced' THEN 1 END) AS bounced,
    count(complained_at) AS complained, count(unsubscribed_at) AS unsubscribed,
    count(CASE WHEN human_open_count > 0 THEN 1 END) AS human_opened,
    count(CASE WHEN prefetch_open_count > 0 AND prefetch_open_count = open_count THEN 1 END) AS unknown_opened,
    count(CASE WHEN human_click_count > 0 THEN 1 END) AS human_clicked
"""
COUNTED = (
    "total", "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed",
    "human_opened", "unknown_opened", "human_clicked",
)  # fmt: skip
TOKEN_PREFIX = "01jq00000000000000"


def make_messages(messages: int, campaigns: int = 1) -> list[str]:
    """Campaigns with their messages, equally many each, and their counters: the tokens of the messages."""
    from campaigns.lifecycle import create_campaign

    made = [create_campaign(f"campaign {number}", template_id=5).pk for number in range(campaigns)]
    assert made == list(range(made[0], made[0] + campaigns))
    with transaction.atomic(), connection.cursor() as cursor:
        share = messages // campaigns
        cursor.execute(_MESSAGES.format(prefix=TOKEN_PREFIX), [share * campaigns, made[0], share, *[START] * 6])
        CampaignCounters.objects.filter(pk__in=made).delete()
        cursor.execute(
            f"INSERT INTO campaign_counters (campaign_id, {', '.join(COUNTED)})"
            f" SELECT campaign_id, {COUNTS} FROM messages GROUP BY campaign_id"
        )
        cursor.execute("ANALYZE")
    return [f"{TOKEN_PREFIX}{10_000_000 + number}" for number in range(share * campaigns)]


def make_events(events: int, messages: int) -> int:
    """A campaign with this many opens and clicks over HOURS, of `messages` messages, and its hourly counts: its id."""
    from campaigns.lifecycle import create_campaign

    campaign = create_campaign("with events").pk
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO events (message_id, campaign_id, kind, occurred_at, source) {_NUMBERS}"
            f" SELECT 1 + i %% %s, %s, CASE WHEN i %% 8 = 0 THEN 5 ELSE 4 END, %s + (i %% {HOURS}) * {HOUR} + i %% {HOUR}, 1 FROM numbers",
            [events, messages, campaign, START],
        )
        cursor.execute(
            "INSERT INTO hourly_counts (campaign_id, hour, kind, n, human_n)"
            f" SELECT campaign_id, occurred_at - occurred_at %% {HOUR}, kind, count(*), 0 FROM events"
            " WHERE campaign_id = %s GROUP BY 1, 2, 3",
            [campaign],
        )
        cursor.execute("ANALYZE")
    return campaign
