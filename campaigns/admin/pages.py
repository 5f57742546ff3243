"""A page a model. State, events and counters are read-only: `apply()` alone writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

from campaigns import lifecycle
from campaigns.admin.base import ReadOnlyAdmin, ServiceAdmin, living, moment, named
from campaigns.admin.forms import CampaignForm, MessageForm
from campaigns.choices import SOURCE_WORD
from campaigns.models import (
    BounceReasonCount,
    Campaign,
    CampaignCounters,
    DroppedEvents,
    Event,
    EventWatermark,
    ExternalEvent,
    HourlyCount,
    Judgement,
    Link,
    Message,
    UserAgent,
)
from campaigns.status import STATE_COLUMNS

COUNTERS = ("total", "sent", "delivered", "opened", "clicked", "bounced", "complained", "unsubscribed")

admin.site.site_header = "Email tracking"
admin.site.site_title = "Email tracking"
admin.site.index_title = "Data"
admin.site.site_url = "/dashboard"


def counter(name: str) -> Any:
    """A column for one of a campaign's counters."""

    @admin.display(description=name, ordering=f"counters__{name}")
    def shown(campaign: Campaign) -> str:
        return f"{getattr(campaign.counters, name):,}"

    return shown


class ArchivedFilter(admin.SimpleListFilter):
    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("no", "No"), ("yes", "Yes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(archived_at__isnull=self.value() == "no") if self.value() in ("no", "yes") else queryset


@admin.register(Campaign)
class CampaignAdmin(ServiceAdmin):
    form = CampaignForm
    list_display = [
        "name", moment("created_at"), counter("total"), counter("sent"), counter("opened"), counter("clicked"), counter("bounced"),
        moment("archived_at"),
    ]  # fmt: skip
    list_select_related = ["counters"]
    list_filter = [ArchivedFilter]
    search_fields = ["name"]
    readonly_fields = [moment("created_at")]
    actions = ["archive", "bring_back"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Campaign]:
        return Campaign.objects.living().order_by("-id")

    def get_fields(self, request: HttpRequest, obj: Campaign | None = None) -> list[Any]:
        fields: list[Any] = ["name", "template_id", "tags", "metadata"]
        return fields if obj is None else [*fields, "archived", *self.readonly_fields]

    def view_on_site(self, obj: Campaign) -> str:
        return reverse("dashboard-campaign", args=[obj.pk])

    def save_model(self, request: HttpRequest, obj: Campaign, form: Any, change: bool) -> None:
        if change:
            lifecycle.update_campaign(obj, form.changes())
            return
        made = lifecycle.create_campaign(**{name: form.cleaned_data[name] for name in ("name", "template_id", "tags", "metadata")})
        obj.pk, obj.created_at, obj._state.adding = made.pk, made.created_at, False

    def get_deleted_objects(self, objs: Iterable[Campaign], request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """What the confirmation lists: the campaigns and, from their counters, how many messages go with them."""
        campaigns = list(Campaign.objects.with_counters().filter(pk__in=[campaign.pk for campaign in objs]))
        total = sum(campaign.counters.total for campaign in campaigns)
        return (
            [f"{campaign.name}: {campaign.counters.total:,} messages with their events" for campaign in campaigns],
            {"campaigns": len(campaigns), "messages": total},
            set(),
            [],
        )

    def delete_model(self, request: HttpRequest, obj: Campaign) -> None:
        # After the admin's own transaction: the rows go in chunks, each a transaction, between which others write.
        transaction.on_commit(lambda: lifecycle.delete_campaign(obj))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> None:
        for campaign in queryset:
            self.delete_model(request, campaign)

    @admin.action(description="Archive selected campaigns", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> None:
        for campaign in queryset:
            lifecycle.update_campaign(campaign, {"archived": True})

    @admin.action(description="Bring selected campaigns back from the archive", permissions=["change"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Campaign]) -> None:
        for campaign in queryset:
            lifecycle.update_campaign(campaign, {"archived": False})


@admin.register(Message)
class MessageAdmin(ServiceAdmin):
    form = MessageForm
    list_display = ["recipient_email", "campaign", "status", moment("created_at"), moment("sent_at"), "open_count", "click_count"]
    list_display_links = ["recipient_email"]
    list_select_related = ["campaign"]
    list_filter = ["status"]
    sortable_by = ()  # only the id is in an order that costs nothing
    search_fields = ["recipient_email"]
    search_help_text = "A whole address, token or id."
    raw_id_fields = ["campaign"]
    actions = None

    _state = [moment(name) if name.endswith("_at") else name for name in STATE_COLUMNS if not name.startswith(("human", "prefetch"))]
    _fixed = ["campaign", "recipient_email", "tracking_token", moment("created_at"), *_state]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return living(Message.objects.order_by("-id"))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Message], search_term: str) -> tuple[QuerySet[Message], bool]:
        return (queryset.filter(named(search_term)) if search_term else queryset), False

    def get_fields(self, request: HttpRequest, obj: Message | None = None) -> list[Any]:
        editable: list[Any] = ["template_id", "tags", "metadata"]
        return [*editable, *self._fixed] if obj else ["campaign", "recipient_email", "tracking_token", *editable]

    def get_readonly_fields(self, request: HttpRequest, obj: Message | None = None) -> list[Any]:
        return self._fixed if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False  # messages go with their campaign

    def view_on_site(self, obj: Message) -> str:
        return reverse("dashboard-message", args=[obj.pk])

    def save_model(self, request: HttpRequest, obj: Message, form: Any, change: bool) -> None:
        if change:
            obj.save(update_fields=list(form.changes()))
            return
        fields = {name: form.cleaned_data[name] for name in ("recipient_email", "template_id", "tags", "metadata")}
        made = lifecycle.create_message(
            campaign_id=form.cleaned_data["campaign"].pk, tracking_token=form.cleaned_data["tracking_token"], **fields
        )
        obj.pk, obj.created_at, obj.tracking_token, obj._state.adding = made.pk, made.created_at, made.tracking_token, False


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = [moment("occurred_at"), "kind", "message", "campaign", "source_word", "link", "ip"]
    list_select_related = ["message", "campaign", "link"]
    list_filter = ["kind"]
    sortable_by = ()
    search_fields = ["message"]
    search_help_text = "The whole address, token or id of a message."
    fields = [
        "message",
        "campaign",
        "kind",
        moment("occurred_at"),
        "source_word",
        "link",
        "user_agent",
        "method",
        "judgement",
        "ip",
        "details",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return living(Event.objects.order_by("-id"))

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Event], search_term: str) -> tuple[QuerySet[Event], bool]:
        if not search_term:
            return queryset, False
        return queryset.filter(message__in=list(Message.objects.filter(named(search_term)).values_list("pk", flat=True)[:1000])), False

    @admin.display(description="method")
    def method(self, event: Event) -> str | None:
        return event.user_agent.method if event.user_agent else None

    @admin.display(description="details")
    def details(self, event: Event) -> str | None:
        return json.dumps(event.detail, ensure_ascii=False) if event.detail else None


@admin.register(CampaignCounters)
class CampaignCountersAdmin(ReadOnlyAdmin):
    list_display = ["campaign", *COUNTERS]
    fields = ["campaign", *COUNTERS]
    list_select_related = ["campaign"]
    search_fields = ["campaign__name"]


@admin.register(BounceReasonCount)
class BounceReasonCountAdmin(ReadOnlyAdmin):
    list_display = ["reason", "n", "campaign"]
    list_select_related = ["campaign"]
    search_fields = ["reason", "campaign__name"]


@admin.register(HourlyCount)
class HourlyCountAdmin(ReadOnlyAdmin):
    list_display = [moment("hour"), "kind", "n", "campaign"]
    list_select_related = ["campaign"]
    list_filter = ["kind"]
    search_fields = ["campaign__name"]
    fields = ["campaign", moment("hour"), "kind", "n"]


@admin.register(Link)
class LinkAdmin(ReadOnlyAdmin):
    list_display = ["url", "position", "click_count", "campaign"]
    list_select_related = ["campaign"]
    search_fields = ["url", "campaign__name"]
    fields = ["campaign", "url", "position", "click_count"]


@admin.register(UserAgent)
class UserAgentAdmin(ReadOnlyAdmin):
    list_display = ["__str__", "method"]
    search_fields = ["user_agent"]
    fields = ["user_agent", "method", "headers"]


@admin.register(Judgement)
class JudgementAdmin(ReadOnlyAdmin):
    list_display = ["verdict", "rule", "confidence", "ruleset"]
    list_filter = ["verdict"]
    search_fields = ["rule"]


@admin.register(ExternalEvent)
class ExternalEventAdmin(ReadOnlyAdmin):
    list_display = ["external_id", "reporter", moment("received_at")]
    search_fields = ["=external_id"]
    fields = ["external_id", "reporter", moment("received_at")]

    @admin.display(description="source")
    def reporter(self, event: ExternalEvent) -> str:
        return SOURCE_WORD.get(event.source, str(event.source))


@admin.register(DroppedEvents)
class DroppedEventsAdmin(ReadOnlyAdmin):
    list_display = ["__str__", moment("dropped_at")]
    search_fields = ["=id"]
    fields = [moment("before"), moment("dropped_at")]


@admin.register(EventWatermark)
class EventWatermarkAdmin(ReadOnlyAdmin):
    list_display = ["event_id", moment("latest")]
    search_fields = ["=event_id"]
    fields = ["event_id", moment("latest")]
