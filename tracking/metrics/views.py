"""`/metrics`, for who may read (`trackingsite.access`)."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from tracking.metrics.exposition import Everything


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """All numbers in Prometheus's text format, or in OpenMetrics' where that is asked for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    response = HttpResponse(encode(Everything()), content_type=content_type)
    response["Cache-Control"] = "no-store"
    return response
