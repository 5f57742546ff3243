"""What a page's address asks for. All of it is bounded here; what makes no sense is left out, not refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import QuerySet
from django.db.models.functions import Lower
from django.db.models.lookups import Contains, Exact

from campaigns import metrics, queries
from campaigns.events import clean_text
from campaigns.models import Campaign, Message
from campaigns.rules import MAX_EMAIL, MAX_NAME
from campaigns.status import Status

MESSAGES_PER_PAGE = 50


@dataclass(frozen=True)
class CampaignSearch:
    """`q` is part of a name; archived campaigns are hidden unless asked for."""

    q: str
    archived: bool

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> CampaignSearch:
        return cls(_text(parameters, "q", MAX_NAME), parameters.get("archived") == "1")

    def campaigns(self) -> QuerySet[Campaign]:
        found = queries.campaigns()
        if not self.archived:
            found = found.filter(archived_at=None)
        return found.filter(name__icontains=self.q) if self.q else found


@dataclass(frozen=True)
class MessagePage:
    """Messages of a campaign, newest first, and the ids from which the pages beside it start (None: there is none)."""

    rows: list[Message]
    newer: int | None
    older: int | None


@dataclass(frozen=True)
class MessageSearch:
    """Pages go by id and know no total: counting a million rows at each refresh would take longer than all else.

    `q` is a whole address (found by its index) or a part of one.
    """

    status: str
    q: str
    before: int | None
    after: int | None

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> MessageSearch:
        status = parameters.get("status", "")
        return cls(
            status if status in set(Status) else "",
            _text(parameters, "q", MAX_EMAIL),
            _id(parameters, "before"),
            _id(parameters, "after"),
        )

    def page(self, campaign: Campaign) -> MessagePage:
        found = self.messages(campaign)
        if self.after is not None:
            rows = list(found.filter(id__gt=self.after).order_by("id")[: MESSAGES_PER_PAGE + 1])
            if len(rows) > MESSAGES_PER_PAGE:
                rows = rows[MESSAGES_PER_PAGE - 1 :: -1]
                return MessagePage(rows, rows[0].pk, rows[-1].pk)
        elif self.before is not None:
            rows = list(found.filter(id__lt=self.before).order_by("-id")[: MESSAGES_PER_PAGE + 1])
            if rows:
                return MessagePage(
                    rows[:MESSAGES_PER_PAGE], rows[0].pk, rows[MESSAGES_PER_PAGE - 1].pk if len(rows) > MESSAGES_PER_PAGE else None
                )
        rows = list(found.order_by("-id")[: MESSAGES_PER_PAGE + 1])
        return MessagePage(rows[:MESSAGES_PER_PAGE], None, rows[MESSAGES_PER_PAGE - 1].pk if len(rows) > MESSAGES_PER_PAGE else None)

    def messages(self, campaign: Campaign) -> QuerySet[Message]:
        found = Message.objects.of_campaign(campaign.pk)
        if self.status:
            # No message has a status that the counters have none of, and saying so needs no look at the rows.
            if metrics.campaign_metrics(campaign.counters, ())[self.status] == 0:
                return found.none()
            found = found.filter(status=self.status)
        if self.q:
            address, asked = Lower("recipient_email"), self.q.lower()
            exactly = found.filter(Exact(address, asked))
            found = exactly if "@" in asked.strip("@") and exactly.exists() else found.filter(Contains(address, asked))
        return found


def _text(parameters: Mapping[str, str], name: str, limit: int) -> str:
    return (clean_text(parameters.get(name), limit) or "").strip()


def _id(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
