from django.urls import path

from tracking import views

urlpatterns = [
    path("health", views.health, name="health"),
    path("health/ready", views.ready, name="health-ready"),
    path("track/pixel/<path:token>", views.pixel, name="pixel"),
    path("track/redirect/<path:token>", views.redirect, name="redirect"),
]
