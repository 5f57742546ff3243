"""The tables, column by column. Sorting is SQL on the counters; rates are shown as `campaigns.metrics` computes them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import django_tables2 as tables
from django.db.models import F, FloatField, QuerySet
from django.db.models.expressions import Expression, OrderBy
from django.db.models.functions import Cast, Coalesce, Lower, NullIf
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from campaigns import metrics
from campaigns.models import Campaign, Message
from campaigns.templatetags.dashboard import badge, number, percent, when


class CountColumn(tables.Column):
    """A counter of the campaign. The first click sorts the largest to the top."""

    attrs = {"th": {"class": "number"}, "td": {"class": "number"}}

    def __init__(self, counter: str, **extra: Any) -> None:
        super().__init__(accessor=f"counters__{counter}", initial_sort_descending=True, attrs=self.attrs, **extra)
        self.field = F(f"counters__{counter}")

    def render(self, value: int) -> str:
        return number(value)

    def order(self, queryset: QuerySet[Campaign], is_descending: bool) -> tuple[QuerySet[Campaign], bool]:
        return ordered(queryset, self.field, is_descending)


class RateColumn(tables.Column):
    """A rate by its key in `metrics.rates`, sorted in SQL by the same division; of nothing it is 0."""

    attrs = {"th": {"class": "number"}, "td": {"class": "number"}}

    def __init__(self, key: str, part: str, whole: str, **extra: Any) -> None:
        super().__init__(accessor="counters", initial_sort_descending=True, attrs=self.attrs, **extra)
        self.key = key
        self.share = Coalesce(Cast(F(f"counters__{part}"), FloatField()) / NullIf(F(f"counters__{whole}"), 0), 0.0)

    def render(self, value: metrics.Counters) -> str:
        return percent(metrics.rates(value)[self.key])

    def order(self, queryset: QuerySet[Campaign], is_descending: bool) -> tuple[QuerySet[Campaign], bool]:
        return ordered(queryset, self.share, is_descending)


def ordered(queryset: QuerySet[Campaign], by: Expression | F, is_descending: bool) -> tuple[QuerySet[Campaign], bool]:
    """As a table's order methods answer; among equals the newest first, so that pages do not overlap."""
    return queryset.order_by(OrderBy(by, descending=is_descending), "-id"), True


class CampaignTable(tables.Table):
    name = tables.Column(attrs={"td": {"class": "name"}, "th": {"class": "name"}})
    created_at = tables.Column("Created", initial_sort_descending=True, attrs={"th": {"class": "created"}, "td": {"class": "created"}})
    total = CountColumn("total", verbose_name="Total")
    sent = CountColumn("sent", verbose_name="Sent")
    delivered = CountColumn("delivered", verbose_name="Delivered")
    opened = CountColumn("opened", verbose_name="Opened")
    clicked = CountColumn("clicked", verbose_name="Clicked")
    bounced = CountColumn("bounced", verbose_name="Bounced")
    open_rate = RateColumn("open_rate", "opened", "sent", verbose_name="Open %")
    click_rate = RateColumn("click_rate", "clicked", "sent", verbose_name="Click %")
    bounce_rate = RateColumn("bounce_rate", "bounced", "total", verbose_name="Bounce %")

    class Meta:
        order_by = ("-created_at",)
        attrs = {"class": "table table-hover"}
        empty_text = "No campaign matches."

    def order_name(self, queryset: QuerySet[Campaign], is_descending: bool) -> tuple[QuerySet[Campaign], bool]:
        return ordered(queryset, Lower("name"), is_descending)

    def order_created_at(self, queryset: QuerySet[Campaign], is_descending: bool) -> tuple[QuerySet[Campaign], bool]:
        return queryset.order_by("-id" if is_descending else "id"), True  # ids are given in the order of creation

    def render_name(self, record: Campaign) -> SafeString:
        return format_html(
            '<a id="campaign-{}" href="{}" hx-boost="false">{}</a>{}',
            record.pk,
            reverse("dashboard-campaign", args=[record.pk]),
            record.name,
            format_html(" {}", badge("archived")) if record.archived_at else "",
        )

    def render_created_at(self, value: dt.datetime | None) -> SafeString:
        return when(value)


class MessageTable(tables.Table):
    recipient_email = tables.Column("Recipient", attrs={"td": {"class": "name"}, "th": {"class": "name"}})
    status = tables.Column()
    sent_at = tables.Column("Sent", empty_values=())
    opened_at = tables.Column("First opened", empty_values=())
    open_count = tables.Column("Opens", attrs=CountColumn.attrs)
    clicked_at = tables.Column("First clicked", empty_values=())
    click_count = tables.Column("Clicks", attrs=CountColumn.attrs)
    bounce_reason = tables.Column("Bounce", default="", attrs={"td": {"class": "reason"}})

    class Meta:
        orderable = False
        attrs = {"class": "table table-hover"}
        empty_text = "No message matches."

    def render_recipient_email(self, record: Message) -> SafeString:
        return format_html(
            '<a id="message-{}" href="{}" hx-boost="false">{}</a>',
            record.pk,
            reverse("dashboard-message", args=[record.pk]),
            record.recipient_email,
        )

    def render_status(self, record: Message) -> SafeString:
        facts = [word for word, at in (("complained", record.complained_at), ("unsubscribed", record.unsubscribed_at)) if at]
        return format_html("{}{}", badge(record.status), format_html(" {}" * len(facts), *map(badge, facts)) if facts else "")

    def render_sent_at(self, value: dt.datetime | None) -> SafeString:
        return when(value)

    def render_opened_at(self, value: dt.datetime | None) -> SafeString:
        return when(value)

    def render_clicked_at(self, value: dt.datetime | None) -> SafeString:
        return when(value)

    def render_open_count(self, value: int) -> str:
        return number(value)

    def render_click_count(self, value: int) -> str:
        return number(value)
