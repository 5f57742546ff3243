"""Fixtures that every room uses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from django.conf import settings

from campaigns import lifecycle
from campaigns.apply import forget_interned
from campaigns.models import Campaign, Message
from tracking import keys
from tracking.ingest import drain
from tracking.metrics import shared
from tracking.spool import writer


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Each test begins with an empty spool and remembers nothing of the database of the one before."""
    yield
    writer.close_writers()
    for opened in writer._writers.values():
        opened.lost = 0
        opened._retry_at = 0.0
    shutil.rmtree(settings.CONF.spool_dir, ignore_errors=True)
    shared.close_counters()
    for page in shared.process_counters(settings.CONF.spool_dir)._pages():  # of processes that a test killed
        page.unlink(missing_ok=True)
    drain.forget_positions()
    forget_interned()
    keys.forget_keys()


@pytest.fixture
def campaign(db: None) -> Campaign:
    return lifecycle.create_campaign("Newsletter Q1 2024", template_id=1)


@pytest.fixture
def message(campaign: Campaign) -> Message:
    return lifecycle.create_message("user@example.com", campaign.pk, tracking_token="uuid-token")
