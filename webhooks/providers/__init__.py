"""The providers, one line each."""

from webhooks.providers.base import Provider
from webhooks.providers.gmail import Gmail
from webhooks.providers.sendgrid import SendGrid

PROVIDERS: tuple[Provider, ...] = (
    Gmail(),
    SendGrid(),
)
