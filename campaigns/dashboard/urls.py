from django.urls import path

from campaigns.dashboard import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("/campaigns/<int:pk>", views.campaign, name="dashboard-campaign"),
    path("/messages/<int:pk>", views.message, name="dashboard-message"),
]
