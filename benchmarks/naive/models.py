from __future__ import annotations

from django.db import models


class Message(models.Model):
    recipient_email = models.EmailField()
    tracking_token = models.CharField(max_length=64, unique=True)
    status = models.CharField(max_length=16, default="sent")
    opened_at = models.DateTimeField(null=True)
    clicked_at = models.DateTimeField(null=True)
    bounced_at = models.DateTimeField(null=True)
    open_count = models.PositiveIntegerField(default=0)
    click_count = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.recipient_email


class Event(models.Model):
    message = models.ForeignKey(Message, models.CASCADE)
    kind = models.CharField(max_length=16)
    occurred_at = models.DateTimeField()
    ip = models.GenericIPAddressField(null=True)
    user_agent = models.TextField(blank=True)
    url = models.TextField(blank=True)

    def __str__(self) -> str:
        return self.kind
