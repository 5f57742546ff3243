from django.urls import path, register_converter
from django.urls.converters import StringConverter

from tracking import views
from tracking.metrics.views import metrics


class RestConverter(StringConverter):
    """All that is left of the address, line breaks too: whatever a token looks like, a mail's reader gets an answer of ours."""

    regex = r"[\s\S]+"


register_converter(RestConverter, "rest")

urlpatterns = [
    path("health", views.health, name="health"),
    path("health/ready", views.ready, name="health-ready"),
    path("metrics", metrics, name="metrics"),
    path("track/pixel/<rest:token>", views.pixel, name="pixel"),
    path("track/redirect/<rest:token>", views.redirect, name="redirect"),
]
