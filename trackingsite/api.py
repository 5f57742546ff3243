"""The addresses under `/api/`, the schema of them and the page that shows it."""

from __future__ import annotations

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.urls import path
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer, OpenApiYamlRenderer2
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from campaigns.api.viewsets import CampaignViewSet, EventViewSet, MessageViewSet, SummaryView
from trackingsite.access import openapi  # noqa: F401  drf-spectacular knows our authentication once this is imported

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("campaigns", CampaignViewSet, basename="campaign")
router.register("messages", MessageViewSet, basename="message")
router.register("events", EventViewSet, basename="event")


class SchemaView(SpectacularAPIView):
    """JSON unless YAML is asked for."""

    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer, OpenApiYamlRenderer2]


#: Swagger's page writes styles into elements; here alone is that allowed.
docs = csp_update({"style-src": [SELF, UNSAFE_INLINE]})(SpectacularSwaggerSplitView.as_view(url_name="api-schema"))

urlpatterns = [
    *router.urls,
    path("dashboard/summary", SummaryView.as_view(), name="dashboard-summary"),
    path("schema", SchemaView.as_view(), name="api-schema"),
    path("docs", docs, name="api-docs"),
]
