from __future__ import annotations

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from benchmarks.naive.models import Event, Message
from benchmarks.raw import GIF


def pixel(request: HttpRequest, token: str) -> HttpResponse:
    now = timezone.now()
    with transaction.atomic():  # one commit in place of two
        message = get_object_or_404(Message, tracking_token=token)
        Event.objects.create(
            message=message,
            kind="opened",
            occurred_at=now,
            ip=request.META.get("REMOTE_ADDR"),
            user_agent=request.headers.get("User-Agent", ""),
        )
        message.opened_at = message.opened_at or now
        message.open_count += 1
        message.status = "opened"
        message.save(update_fields=["opened_at", "open_count", "status"])
    return HttpResponse(GIF, content_type="image/gif", headers={"Cache-Control": "no-store"})
