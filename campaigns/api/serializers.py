"""The shapes of requests and answers, for the schema and for the names they allow. Rules are in `lifecycle` and `rules`,
what is answered in `records`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request

from campaigns import queries, records
from campaigns.choices import STATUS_CHOICES, Kind
from campaigns.events import BounceType, Verdict
from campaigns.metrics import MAX_REASONS
from campaigns.models import Campaign, Event, Link, Message
from campaigns.rules import MAX_EMAIL, MAX_NAME, MAX_TAG, MAX_TAGS, Refused

BOUNCE_TYPES = [(kind.value, kind.value) for kind in BounceType]


class Body(serializers.Serializer[Any]):
    """An object that is sent; it has these fields and no others."""


def read_body(request: Request, shape: type[Body]) -> dict[str, Any]:
    """The JSON object sent, with none but the shape's names. Values are checked where they are used. Raises Refused."""
    body = request.data
    if not isinstance(body, Mapping):
        raise Refused("The body must be a JSON object.")
    known = list(shape().fields)
    for name in body:
        if name not in known:
            raise Refused(f"{name[:100]} is no field here; there are: {', '.join(known)}", field=name[:100])
    return dict(body)


def moment(text: str, **options: Any) -> serializers.DateTimeField:
    return serializers.DateTimeField(help_text=text, **options)


class Tags(serializers.ListField):
    child = serializers.CharField(max_length=MAX_TAG)
    max_length = MAX_TAGS


@extend_schema_field({"type": "object", "additionalProperties": {}})
class Metadata(serializers.JSONField):
    """Any JSON object of at most 4 KB."""


class MetricsSerializer(serializers.Serializer[Any]):
    """Numbers of messages, and rates in per cent to one decimal."""

    total = serializers.IntegerField()
    queued = serializers.IntegerField(help_text="total less sent")
    sent = serializers.IntegerField(help_text="sent, or proven to be by anything that came after")
    delivered = serializers.IntegerField()
    opened = serializers.IntegerField()
    human_opened = serializers.IntegerField(help_text="opened by a person")
    unknown_opened = serializers.IntegerField(help_text="fetched ahead of any reading only: opened or not, nobody knows")
    clicked = serializers.IntegerField()
    human_clicked = serializers.IntegerField()
    bounced = serializers.IntegerField()
    complained = serializers.IntegerField()
    unsubscribed = serializers.IntegerField()
    open_rate = serializers.FloatField(help_text="opened of sent")
    click_rate = serializers.FloatField(help_text="clicked of sent")
    bounce_rate = serializers.FloatField(help_text="bounced of total")
    human_open_rate = serializers.FloatField(help_text="human_opened of those sent whose opens can be judged")
    human_click_rate = serializers.FloatField(help_text="human_clicked of sent")
    delivery_rate = serializers.FloatField(help_text="delivered of sent")
    bounce_reasons = serializers.DictField(
        child=serializers.IntegerField(), help_text=f"messages by reason: the {MAX_REASONS} commonest, the rest as `other`"
    )


class CampaignListSerializer(serializers.ListSerializer[Any]):
    """The bounce reasons of all campaigns of a page are read at once."""

    def to_representation(self, data: Any) -> list[dict[str, Any]]:
        campaigns = list(data)
        metrics = queries.campaign_metrics(campaigns)
        return [records.campaign_record(campaign, metrics[campaign.pk]) for campaign in campaigns]


@extend_schema_serializer(component_name="Campaign")
class CampaignSerializer(serializers.ModelSerializer[Campaign]):
    tags = Tags()
    metadata = Metadata()
    created_at = moment("when it was made")
    archived_at = moment("when it was archived; null while it is in use", allow_null=True)
    metrics = MetricsSerializer()

    class Meta:
        model = Campaign
        list_serializer_class = CampaignListSerializer
        fields = ["id", "name", "template_id", "tags", "metadata", "created_at", "archived_at", "metrics"]
        read_only_fields = fields

    def to_representation(self, instance: Campaign) -> dict[str, Any]:
        return records.campaign_record(instance, queries.campaign_metrics([instance])[instance.pk])


@extend_schema_serializer(component_name="Message")
class MessageSerializer(serializers.ModelSerializer[Message]):
    campaign_id = serializers.IntegerField()
    tags = Tags()
    metadata = Metadata()
    status = serializers.ChoiceField(STATUS_CHOICES, help_text="the furthest step, unless a bounce overrules it")
    created_at = moment("when it was made")
    sent_at = moment("the first report", allow_null=True)
    delivered_at = moment("the first report", allow_null=True)
    opened_at = moment("the first open", allow_null=True)
    clicked_at = moment("the first click", allow_null=True)
    bounced_at = moment("the bounce that is shown", allow_null=True)
    bounce_type = serializers.ChoiceField(BOUNCE_TYPES, allow_null=True)

    class Meta:
        model = Message
        fields = records.MESSAGE_FIELDS
        read_only_fields = fields

    def to_representation(self, instance: Message) -> dict[str, Any]:
        return records.message_record(instance)


@extend_schema_serializer(component_name="Event")
class EventSerializer(serializers.ModelSerializer[Event]):
    message_id = serializers.IntegerField()
    campaign_id = serializers.IntegerField()
    kind = serializers.ChoiceField([(label, label) for label in Kind.labels])
    occurred_at = moment("when it happened")
    verdict = serializers.ChoiceField([(verdict.value, verdict.value) for verdict in Verdict], allow_null=True, help_text="who did it")
    rule = serializers.CharField(allow_null=True, help_text="what gave the verdict")
    confidence = serializers.FloatField(allow_null=True, help_text="of the verdict, 0 to 1")
    ip = serializers.CharField(allow_null=True)
    user_agent = serializers.CharField(allow_null=True)
    url = serializers.CharField(allow_null=True, help_text="of a click")
    source = serializers.CharField(help_text="who reported it: hit is our own pixel or link")  # type: ignore[assignment]
    detail = serializers.DictField(
        child=serializers.CharField(), allow_null=True, help_text="of a bounce: bounce_type, bounce_subtype, reason, diagnostic_code"
    )

    class Meta:
        model = Event
        fields = [
            "id", "message_id", "campaign_id", "kind", "occurred_at", "verdict", "rule", "confidence",
            "ip", "user_agent", "url", "source", "detail",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, instance: Event) -> dict[str, Any]:
        return records.event_record(instance)


@extend_schema_serializer(component_name="Link")
class LinkSerializer(serializers.ModelSerializer[Link]):
    position = serializers.CharField(allow_null=True, help_text="of the link in its mail")

    class Meta:
        model = Link
        fields = ["id", "url", "position", "click_count", "human_click_count"]
        read_only_fields = fields

    def to_representation(self, instance: Link) -> dict[str, Any]:
        return records.link_record(instance)


TimelinePointSerializer = type(
    "TimelinePointSerializer",
    (serializers.Serializer,),
    {"at": moment("the beginning of the hour or day, UTC"), **{kind: serializers.IntegerField() for kind in Kind.labels}},
)


class TimelineSerializer(serializers.Serializer[Any]):
    """Events by hour or day, oldest first; those without events are left out."""

    interval = serializers.ChoiceField(["hour", "day"])
    results = TimelinePointSerializer(many=True)


class SummarySerializer(serializers.Serializer[Any]):
    """The sum over all campaigns, archived ones too; rates in per cent."""

    total_campaigns = serializers.IntegerField()
    total_messages = serializers.IntegerField()
    total_sent = serializers.IntegerField()
    total_delivered = serializers.IntegerField()
    total_opened = serializers.IntegerField()
    total_clicked = serializers.IntegerField()
    total_bounced = serializers.IntegerField()
    total_complained = serializers.IntegerField()
    total_unsubscribed = serializers.IntegerField()
    open_rate = serializers.FloatField()
    click_rate = serializers.FloatField()
    bounce_rate = serializers.FloatField()
    delivery_rate = serializers.FloatField()


# -- what is sent


class NewCampaign(Body):
    name = serializers.CharField(max_length=MAX_NAME)
    template_id = serializers.IntegerField(required=False, allow_null=True)
    tags = Tags(required=False, allow_null=True)
    metadata = Metadata(required=False, allow_null=True)


class CampaignChanges(NewCampaign):
    archived = serializers.BooleanField(required=False)


class NewMessage(Body):
    campaign_id = serializers.IntegerField(
        required=False, allow_null=True, help_text="without it the message goes to the campaign named `default`"
    )
    recipient_email = serializers.RegexField(r"^\S+@\S+$", max_length=MAX_EMAIL)
    tracking_token = serializers.RegexField(
        r"^[A-Za-z0-9_.~-]{1,128}$", required=False, allow_null=True, help_text="unique; made by us when absent"
    )
    template_id = serializers.IntegerField(required=False, allow_null=True)
    tags = Tags(required=False, allow_null=True)
    metadata = Metadata(required=False, allow_null=True)


class SentMark(Body):
    sent_at = moment("now unless given; UTC unless it has a zone", required=False, allow_null=True)


class DeliveredMark(Body):
    delivered_at = moment("now unless given; UTC unless it has a zone", required=False, allow_null=True)


class OpenedMark(Body):
    opened_at = moment("now unless given; UTC unless it has a zone", required=False, allow_null=True)


class ClickedMark(Body):
    clicked_at = moment("now unless given; UTC unless it has a zone", required=False, allow_null=True)
    url = serializers.URLField(required=False, allow_null=True, help_text="the link that was followed")


class BounceMark(Body):
    bounced_at = moment("now unless given; UTC unless it has a zone", required=False, allow_null=True)
    bounce_type = serializers.ChoiceField(BOUNCE_TYPES, required=False, allow_null=True, help_text="permanent unless given")
    bounce_reason = serializers.CharField(required=False, allow_null=True)
    bounce_subtype = serializers.CharField(required=False, allow_null=True)
    diagnostic_code = serializers.CharField(required=False, allow_null=True)
