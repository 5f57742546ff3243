"""What lists can be narrowed by. A filter that is unknown, empty or given twice is refused: ignored, it would return everything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import django_filters as filters
from django import forms
from django.db.models import QuerySet, Value
from django.db.models.functions import Lower
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from campaigns import queries
from campaigns.choices import KIND_NUMBER, Kind
from campaigns.events import Verdict
from campaigns.models import Event, Message
from campaigns.models.event import EventQuerySet
from campaigns.models.labels import LabelledQuerySet
from campaigns.models.message import MessageQuerySet
from campaigns.status import Status
from campaigns.times import parse_moment, to_ms

METADATA = "metadata."


def check_parameters(request: Request, known: Collection[str], metadata: bool = False) -> None:
    """Refuse query parameters that are not `known`, empty or given twice. `metadata` allows `metadata.<key>`."""
    for name, values in request.query_params.lists():
        is_metadata = metadata and name.startswith(METADATA) and name != METADATA
        if name not in known and name != "format" and not is_metadata:
            allowed = ", ".join([*sorted(known), *(["metadata.<key>"] if metadata else [])])
            raise ValidationError({name: [f"there is no such parameter; there are: {allowed or 'none'}"]})
        if len(values) > 1:
            raise ValidationError({name: ["is given twice"]})
        if not values[0] and not is_metadata:
            raise ValidationError({name: ["is empty"]})
        if "\0" in name + values[0]:
            raise ValidationError({name.replace("\0", ""): ["has NUL characters"]})


class StrictFilterBackend(DjangoFilterBackend):
    """django-filter on lists alone, where what the filterset does not know is refused."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        filterset_class = self.get_filterset_class(view, queryset)
        names = set(filterset_class.base_filters) if filterset_class else set()
        labelled = filterset_class is not None and issubclass(filterset_class, LabelledFilter)
        check_parameters(request, names | view.paginator.parameters, metadata=labelled)
        return super().filter_queryset(request, queryset, view)  # type: ignore[no-any-return]


class IdFilter(filters.NumberFilter):
    field_class = forms.IntegerField

    def __init__(self, **options: Any) -> None:
        super().__init__(min_value=0, max_value=2**63 - 1, **options)


class WordFilter(filters.ChoiceFilter):
    """One of a few words. Who writes another is told which they are."""

    def __init__(self, words: Sequence[str], **options: Any) -> None:
        error = {"invalid_choice": f"write one of {', '.join(words)}"}
        super().__init__(choices=[(word, word) for word in words], null_label=None, error_messages=error, **options)


class TruthField(forms.Field):
    words = {"true": True, "1": True, "false": False, "0": False}

    def to_python(self, value: Any) -> bool | None:
        if value in self.empty_values:
            return None
        if str(value).lower() not in self.words:
            raise forms.ValidationError("write true or false")
        return self.words[str(value).lower()]


class TruthFilter(filters.BooleanFilter):
    field_class = TruthField


class MomentField(forms.Field):
    def to_python(self, value: Any) -> dt.datetime | None:
        if value in self.empty_values:
            return None
        try:
            return parse_moment(value)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None


class MomentFilter(filters.IsoDateTimeFilter):
    field_class = MomentField


class UniqueOrdering(filters.OrderingFilter):
    """Ordered by id where what is asked for is equal, so that pages neither repeat nor miss a row."""

    def __init__(self, fields: Mapping[str, str], **options: Any) -> None:
        words = [sign + name for name in fields.values() for sign in ("", "-")]
        error = {"invalid_choice": f"write one of {', '.join(words)}, or several with commas between"}
        super().__init__(fields=fields, error_messages=error, **options)

    def filter(self, qs: QuerySet[Any], value: Any) -> QuerySet[Any]:
        if not value:
            return qs
        return super().filter(qs, value if {"id", "-id"} & set(value) else [*value, "-id"])  # type: ignore[no-any-return]


class LabelledFilter(FilterSet):
    """By tag, and by `metadata.<key>`."""

    tag = filters.CharFilter(method="tagged", label="One of its tags, exactly.")

    def tagged(self, queryset: LabelledQuerySet[Any], _name: str, value: str) -> QuerySet[Any]:
        return queryset.tagged(value)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        found = super().filter_queryset(queryset)
        for name, value in self.data.items():
            if name.startswith(METADATA):
                found = found.with_metadata(name.removeprefix(METADATA), value)
        return found  # type: ignore[no-any-return]


class CampaignFilter(LabelledFilter):
    name = filters.CharFilter(lookup_expr="icontains", label="A part of its name, in any letter case.")
    archived = TruthFilter(field_name="archived_at", lookup_expr="isnull", exclude=True, label="Archived ones only, or none of them.")
    ordering = UniqueOrdering(
        fields={
            "id": "id", "name": "name", "created_at": "created_at", "counters__total": "total", "counters__sent": "sent",
            "counters__opened": "opened", "counters__clicked": "clicked", "counters__bounced": "bounced",
        },
        label="By what to order; `-` before it turns it round. Newest first unless given.",
    )  # fmt: skip


class CampaignMessageFilter(LabelledFilter):
    """Messages of one campaign."""

    recipient_email = filters.CharFilter(method="to", label="The whole address, in any letter case.")
    status = WordFilter([status.value for status in Status])
    ordering = UniqueOrdering(fields={"id": "id"}, label="`id`, oldest first, or `-id`, newest first.")

    def to(self, queryset: QuerySet[Message], _name: str, value: str) -> QuerySet[Message]:
        """Both sides folded by the database, so that its index is used and they agree on letters beyond ASCII."""
        return queryset.alias(address=Lower("recipient_email")).filter(address=Lower(Value(value)))


class MessageFilter(CampaignMessageFilter):
    campaign_id = IdFilter(method="of_campaign", label="The campaign's id.")

    def of_campaign(self, queryset: MessageQuerySet, _name: str, value: int) -> MessageQuerySet:
        return queryset.of_campaign(value)


class MessageEventFilter(FilterSet):
    """Events of one message."""

    kind = WordFilter(Kind.labels, method="of_kind")
    verdict = WordFilter([verdict.value for verdict in Verdict], field_name="judgement__verdict")
    since = MomentFilter(field_name="occurred_at", lookup_expr="gte", label="From this moment on (UTC unless it has a zone).")
    until = MomentFilter(field_name="occurred_at", lookup_expr="lt", label="Before this moment.")

    def of_kind(self, queryset: QuerySet[Event], _name: str, value: str) -> QuerySet[Event]:
        return queryset.filter(kind=KIND_NUMBER[value])


class EventFilter(MessageEventFilter):
    campaign_id = IdFilter(method="of_campaign", label="The campaign's id.")
    message_id = IdFilter(label="The message's id.")

    def of_campaign(self, queryset: EventQuerySet, _name: str, value: int) -> EventQuerySet:
        return queryset.of_campaign(value)

    def filter_queryset(self, queryset: QuerySet[Event]) -> QuerySet[Event]:
        found = super().filter_queryset(queryset)
        asked = self.form.cleaned_data
        since = to_ms(asked["since"]) if asked["since"] else None
        return queries.narrowed(found, KIND_NUMBER.get(asked["kind"]), since, asked["campaign_id"])
