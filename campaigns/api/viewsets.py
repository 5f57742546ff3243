"""The views of `/api/`: they parse, bound and delegate."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import export, lifecycle, queries
from campaigns.api import marks
from campaigns.api.base import METHODS, ApiView, ApiViewSet, CsvRenderer
from campaigns.api.filters import CampaignFilter, CampaignMessageFilter, EventFilter, MessageEventFilter, MessageFilter, check_parameters
from campaigns.api.pagination import EventPagination
from campaigns.api.schema import METADATA, ApiSchema
from campaigns.api.serializers import (
    BounceMark,
    CampaignChanges,
    CampaignSerializer,
    ClickedMark,
    DeliveredMark,
    EventSerializer,
    LinkSerializer,
    MessageSerializer,
    NewCampaign,
    NewMessage,
    OpenedMark,
    SentMark,
    SummarySerializer,
    TimelineSerializer,
    read_body,
)
from campaigns.apply import apply
from campaigns.choices import Kind
from campaigns.models import Campaign, Message
from campaigns.rules import Refused
from campaigns.times import from_ms, iso, parse_moment, to_ms


class CampaignViewSet(ApiViewSet):
    serializer_class = CampaignSerializer
    filterset_class = CampaignFilter

    def get_queryset(self) -> Any:
        return queries.campaigns()

    @extend_schema(parameters=[METADATA])
    def list(self, request: Request) -> Response:
        """List campaigns with their metrics

        Newest first, archived ones too unless `archived` says otherwise.
        """
        return self.page(self.get_queryset())

    @extend_schema(request=NewCampaign, responses={201: CampaignSerializer})
    def create(self, request: Request) -> Response:
        """Create a campaign"""
        body = read_body(request, NewCampaign)
        campaign = lifecycle.create_campaign(body.pop("name", None), **body)
        return Response(self.get_serializer(campaign).data, status=201)

    def retrieve(self, request: Request, pk: int) -> Response:
        """Get a campaign with its metrics"""
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=CampaignChanges)
    def partial_update(self, request: Request, pk: int) -> Response:
        """Change a campaign: name, template_id, tags, metadata, archived"""
        campaign = lifecycle.update_campaign(self.get_object(), read_body(request, CampaignChanges))
        return Response(self.get_serializer(campaign).data)

    def destroy(self, request: Request, pk: int) -> Response:
        """Delete a campaign with its messages and events"""
        lifecycle.delete_campaign(self.get_object())
        return Response(status=204)

    @extend_schema(parameters=[METADATA], responses=MessageSerializer(many=True))
    @action(detail=True, filterset_class=CampaignMessageFilter, serializer_class=MessageSerializer)
    def messages(self, request: Request, pk: int) -> Response:
        """List the messages of a campaign

        Oldest first unless `ordering=-id`, so that pages stay what they are while messages are added.
        """
        self.campaign: Campaign = self.get_object()
        return self.page(Message.objects.of_campaign(pk).order_by("id"))

    def known_count(self) -> int | None:
        if self.action == "messages" and not self.is_filtered(self.request):
            return self.campaign.counters.total
        return None

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    @action(detail=True, renderer_classes=[JSONRenderer, CsvRenderer], pagination_class=None, filterset_class=None)
    def export(self, request: Request, pk: int) -> HttpResponseBase:
        """Export the messages of a campaign as CSV

        All of them, oldest first, with the fields of a message as columns. A cell that a spreadsheet would run as a formula
        has an apostrophe before it.
        """
        check_parameters(request, ())
        self.get_object()
        response = StreamingHttpResponse(export.csv_chunks(pk), content_type="text/csv; charset=utf-8")
        response["Content-Disposition"] = f'attachment; filename="campaign_{pk}.csv"'
        return response

    @extend_schema(
        responses=TimelineSerializer,
        parameters=[
            OpenApiParameter("interval", str, enum=["hour", "day"], description="`hour` unless given"),
            OpenApiParameter("since", OpenApiTypes.DATETIME, description="Hours that begin at or after this."),
            OpenApiParameter("until", OpenApiTypes.DATETIME, description="Hours that begin before this."),
        ],
    )
    @action(detail=True, pagination_class=None, filterset_class=None)
    def timeline(self, request: Request, pk: int) -> Response:
        """Count the events of a campaign by hour or day (UTC)

        Events, not messages: a message opened twice counts twice. Hours and days without events are left out.
        """
        check_parameters(request, ("interval", "since", "until"))
        interval = request.query_params.get("interval", "hour")
        if interval not in ("hour", "day"):
            raise ValidationError({"interval": ["write hour or day"]})
        self.get_object()
        points = queries.timeline(pk, interval, _time_of(request, "since"), _time_of(request, "until"))
        none = dict.fromkeys(Kind.labels, 0)
        return Response({"interval": interval, "results": [{"at": iso(from_ms(point.at)), **none, **point.counts} for point in points]})

    @extend_schema(responses=LinkSerializer(many=True))
    @action(detail=True, filterset_class=None, serializer_class=LinkSerializer)
    def links(self, request: Request, pk: int) -> Response:
        """List the links of a campaign that were clicked, most clicked first"""
        self.get_object()
        return self.page(queries.links(pk))


class MessageViewSet(ApiViewSet):
    serializer_class = MessageSerializer
    filterset_class = MessageFilter

    def get_queryset(self) -> Any:
        return queries.messages()

    @extend_schema(parameters=[METADATA])
    def list(self, request: Request) -> Response:
        """List messages

        Newest first unless `ordering=id`.
        """
        return self.page(self.get_queryset())

    def known_count(self) -> int | None:
        return None if self.is_filtered(self.request) else queries.totals().total

    @extend_schema(request=NewMessage, responses={201: MessageSerializer})
    def create(self, request: Request) -> Response:
        """Create a message"""
        body = read_body(request, NewMessage)
        message = lifecycle.create_message(body.pop("recipient_email", None), **body)
        return Response(self.get_serializer(message).data, status=201)

    @extend_schema(request=NewMessage(many=True), responses={201: MessageSerializer(many=True)}, filters=False)
    @action(detail=False, methods=["post"], pagination_class=None)
    def bulk(self, request: Request) -> Response:
        """Create up to 10,000 messages, all or none

        Answers with the messages in the order sent.
        """
        if not isinstance(request.data, list):
            raise Refused("The body must be a JSON array of messages.")
        return Response(self.get_serializer(lifecycle.create_messages(request.data), many=True).data, status=201)

    def retrieve(self, request: Request, pk: int) -> Response:
        """Get a message"""
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=SentMark)
    @action(detail=True, methods=["post"])
    def sent(self, request: Request, pk: int) -> Response:
        """Mark a message as sent"""
        return self.mark(request, SentMark)

    @extend_schema(request=DeliveredMark)
    @action(detail=True, methods=["post"])
    def delivered(self, request: Request, pk: int) -> Response:
        """Mark a message as delivered"""
        return self.mark(request, DeliveredMark)

    @extend_schema(request=OpenedMark)
    @action(detail=True, methods=["post"])
    def opened(self, request: Request, pk: int) -> Response:
        """Mark a message as opened"""
        return self.mark(request, OpenedMark)

    @extend_schema(request=ClickedMark)
    @action(detail=True, methods=["post"])
    def clicked(self, request: Request, pk: int) -> Response:
        """Mark a message as clicked"""
        return self.mark(request, ClickedMark)

    @extend_schema(request=BounceMark)
    @action(detail=True, methods=["post"])
    def bounce(self, request: Request, pk: int) -> Response:
        """Report a bounce of a message"""
        return self.mark(request, BounceMark)

    def mark(self, request: Request, shape: Any) -> Response:
        """Apply what somebody reports; the answer is the message as it is then."""
        event = marks.read(self.get_object(), read_body(request, shape), shape)
        if apply([event]).unknown:
            raise NotFound(f"There is no message {self.kwargs['pk']}.")
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses=EventSerializer(many=True))
    @action(detail=True, filterset_class=MessageEventFilter, pagination_class=EventPagination, serializer_class=EventSerializer)
    def events(self, request: Request, pk: int) -> Response:
        """List the events of a message, newest first"""
        self.get_object()
        return self.page(queries.events().filter(message_id=pk))


class EventViewSet(ApiViewSet):
    serializer_class = EventSerializer
    filterset_class = EventFilter
    pagination_class = EventPagination

    def get_queryset(self) -> Any:
        return queries.events()

    def list(self, request: Request) -> Response:
        """List events, newest first

        Newest by when they were stored. `next` leads to older ones; there is no count.
        """
        return self.page(self.get_queryset())


class SummaryView(ApiView):
    schema = ApiSchema()
    http_method_names = METHODS

    @extend_schema(responses=SummarySerializer, operation_id="dashboard_summary")
    def get(self, request: Request) -> Response:
        """Sum up all campaigns"""
        return Response(queries.summary())


def _time_of(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    try:
        return None if text is None else to_ms(parse_moment(text))
    except ValueError as error:
        raise ValidationError({name: [str(error)]}) from None
