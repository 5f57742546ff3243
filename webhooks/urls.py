from django.urls import path

from webhooks.providers import PROVIDERS
from webhooks.views import WebhookView

urlpatterns = [path(provider.name, WebhookView.as_view(provider=provider), name=f"webhook-{provider.name}") for provider in PROVIDERS]
