"""What providers report, by django-anymail's view and its signal, as its documentation shows it."""

from __future__ import annotations

from typing import Any

from anymail.signals import tracking
from django.db import transaction
from django.dispatch import receiver

from benchmarks.naive.models import Event, Message


@receiver(tracking)
def report(sender: Any, event: Any, esp_name: str, **kwargs: Any) -> None:
    token = event.esp_event.get("tracking_token")
    with transaction.atomic():
        message = Message.objects.filter(tracking_token=token).first()
        if message is None:
            return
        Event.objects.create(
            message=message,
            kind=event.event_type,
            occurred_at=event.timestamp,
            user_agent=event.user_agent or "",
            url=event.click_url or "",
        )
        if event.event_type == "opened":
            message.opened_at = message.opened_at or event.timestamp
            message.open_count += 1
        elif event.event_type == "clicked":
            message.clicked_at = message.clicked_at or event.timestamp
            message.click_count += 1
        elif event.event_type == "bounced":
            message.bounced_at = message.bounced_at or event.timestamp
        message.status = event.event_type
        message.save()
