"""Where everything is. No address ends with a slash, except under /admin/."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

handler400 = "trackingsite.problems.bad_request"
handler403 = "trackingsite.problems.permission_denied"
handler404 = "trackingsite.problems.not_found"
handler500 = "trackingsite.problems.server_error"

urlpatterns = [
    path("", RedirectView.as_view(url="/dashboard")),
    path("favicon.ico", RedirectView.as_view(url="/static/img/favicon.svg")),
    path("", include("tracking.urls")),  # /health, /health/ready, /track/…
    path("api/", include("trackingsite.api")),
    path("webhooks/", include("webhooks.urls")),
    path("dashboard", include("campaigns.dashboard.urls")),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
]
