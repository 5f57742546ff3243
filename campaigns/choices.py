"""The small numbers that stand for words in the lean `events` table, and the words of `messages`. Numbers are never reused."""

from __future__ import annotations

from django.db import models

from campaigns.events import EventKind
from campaigns.status import Status

STATUS_CHOICES = [(status.value, status.value) for status in Status]


class Kind(models.IntegerChoices):
    SENT = 1, EventKind.SENT.value
    DELIVERED = 2, EventKind.DELIVERED.value
    DEFERRED = 3, EventKind.DEFERRED.value
    OPENED = 4, EventKind.OPENED.value
    CLICKED = 5, EventKind.CLICKED.value
    REPLIED = 6, EventKind.REPLIED.value
    BOUNCED = 7, EventKind.BOUNCED.value
    COMPLAINED = 8, EventKind.COMPLAINED.value
    UNSUBSCRIBED = 9, EventKind.UNSUBSCRIBED.value


class Source(models.IntegerChoices):
    """Who reported an event. To add a provider is to add a line."""

    HIT = 1, "hit"  # our own pixel or link
    API = 2, "api"
    CLI = 3, "cli"
    PYTHON = 4, "python"
    ADMIN = 5, "admin"
    SENDGRID = 10, "sendgrid"
    GMAIL = 11, "gmail"


#: Words to numbers and back, as tables: both stand on the way of every event.
KIND_NUMBER = {kind.label: kind.value for kind in Kind}
KIND_WORD = {kind.value: kind.label for kind in Kind}
SOURCE_NUMBER = {source.label: source.value for source in Source}
SOURCE_WORD = {source.value: source.label for source in Source}
