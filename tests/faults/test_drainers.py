"""Two who drain at once, one of them far behind the other."""

from __future__ import annotations

import pytest
from django.conf import settings

from campaigns.events import EventKind, now_ms
from campaigns.models import Event, Message
from tracking.conf import SpoolKeep
from tracking.ingest import drain as drain_module
from tracking.ingest.drain import drain, tidy
from tracking.spool import reader, writer
from tracking.spool.lines import hit_line

pytestmark = pytest.mark.django_db


def test_who_comes_late_finds_that_another_applied_his_lines_however_little_is_kept(message: Message, monkeypatch) -> None:
    monkeypatch.setitem(settings.CONF.__dict__, "spool_keep", SpoolKeep(seconds=0, bytes=0))
    folder = settings.CONF.spool_dir
    assert writer.process_writer(folder).append(hit_line(EventKind.OPENED, "uuid-token", now_ms()))
    writer.close_writers()

    def another() -> None:
        """While the first one, with its lines in hand, waits for the database."""
        monkeypatch.undo()
        monkeypatch.setitem(settings.CONF.__dict__, "spool_keep", SpoolKeep(seconds=0, bytes=0))
        assert drain() == 0
        tidy()
        assert reader.segments(folder) == []

    monkeypatch.setattr(drain_module, "give_way", another)
    drain()
    assert Event.objects.count() == 1
