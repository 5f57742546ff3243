"""The door that providers knock at."""

from __future__ import annotations

import dataclasses

from django.conf import settings
from django.http import UnreadablePostError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from campaigns.rules import Refused
from tracking.metrics.names import WEBHOOK_ITEMS
from tracking.metrics.shared import process_counters
from webhooks.providers import PROVIDERS
from webhooks.providers.base import Provider
from webhooks.receive import receive


class WebhookView(APIView):
    """Takes the raw body, whatever its Content-Type says, and answers what became of it. The sender is verified by `receive()`."""

    provider: Provider = PROVIDERS[0]
    http_method_names = ["post"]
    authentication_classes = []
    permission_classes = []
    throttle_classes = []
    schema = None  # providers call it, no program that reads our schema

    def post(self, request: Request) -> Response:
        try:
            body = request.body
        except UnreadablePostError:
            raise Refused("The body ended too early.") from None
        access = request.access  # type: ignore[attr-defined]  # set by the middleware
        received = dataclasses.asdict(receive(self.provider, body, request.headers, lambda: access.local))
        counters = process_counters(settings.CONF.spool_dir)
        for outcome, n in received.items():
            if n:
                counters.add(WEBHOOK_ITEMS.of(self.provider.name, outcome), n)
        return Response(received)

    def get_authenticate_header(self, request: Request) -> str:
        return 'Basic realm="webhook"'

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[BaseRenderer, str]:
        """JSON, whatever Accept says: an odd header is no reason to lose events."""
        return super().perform_content_negotiation(request, force=True)  # type: ignore[no-any-return]
