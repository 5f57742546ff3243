from __future__ import annotations

from django.urls import include, path

from benchmarks.naive import reports, views  # noqa: F401  # importing the receiver connects it

urlpatterns = [
    path("track/pixel/<str:token>", views.pixel),
    path("anymail/", include("anymail.urls")),
]
