from __future__ import annotations

import pytest
from django.test import Client

from campaigns.models import Message
from tracking import keys
from tracking.models import DeadLetter, LinkKey

LETTERS = "/admin/tracking/deadletter/"


@pytest.fixture
def letter(db: None) -> DeadLetter:
    return DeadLetter.objects.create(segment="a", position=7, line=b'{"broken": \xff', error="BadLine: no JSON")


def test_no_page_shows_a_link_key(admin_client: Client) -> None:
    keys.rotate()
    for key in LinkKey.objects.all():
        for page in ("/admin/tracking/linkkey/", f"/admin/tracking/linkkey/{key.pk}/change/", "/admin/tracking/linkkey/?q=a"):
            response = admin_client.get(page)
            assert response.status_code == 200
            assert key.key not in response.content.decode()
        assert admin_client.post(f"/admin/tracking/linkkey/{key.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_dead_letter_is_shown_and_purged(letter: DeadLetter, admin_client: Client) -> None:
    page = admin_client.get(f"{LETTERS}{letter.pk}/change/").content.decode()
    assert "BadLine: no JSON" in page
    assert "\\xff" in page
    body = {"action": "delete_selected", "_selected_action": [letter.pk], "post": "yes"}
    assert admin_client.post(LETTERS, body).status_code == 302
    assert not DeadLetter.objects.exists()


def test_a_dead_letter_that_still_fails_stays_when_replayed(letter: DeadLetter, message: Message, admin_client: Client) -> None:
    response = admin_client.post(LETTERS, {"action": "replay", "_selected_action": [letter.pk]}, follow=True)
    assert "0 applied, 0 of unknown tokens, 1 failed again." in response.content.decode()
    assert DeadLetter.objects.count() == 1
