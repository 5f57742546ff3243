"""API keys: made, kept as a hash, revoked; in Python and in the admin."""

from __future__ import annotations

import datetime as dt
import io
import re

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from campaigns.rules import Refused
from campaigns.times import utc_now
from trackingsite.access import keys
from trackingsite.access.models import ApiKey

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.trackingsite.access_urls")]

KEY = re.compile(r"etk_[0-9a-f]{8}_[0-9a-f]{40}")


def dump() -> str:
    out = io.StringIO()
    call_command("dumpdata", stdout=out)
    return out.getvalue()


def test_a_key_has_at_least_128_bits_of_chance_and_no_two_are_alike() -> None:
    texts = {keys.create("k")[1] for _ in range(20)}
    assert len(texts) == 20
    assert all(KEY.fullmatch(text) for text in texts)
    assert len({text[13:] for text in texts}) == 20
    assert 4 * len(next(iter(texts))[13:]) >= 128


def test_a_dump_of_the_database_holds_no_key() -> None:
    key, text = keys.create("ci")
    content = dump()
    assert key.prefix in content
    assert text not in content
    assert text.rsplit("_")[-1] not in content


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\x00b"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="name"):
        keys.create(name)


@pytest.mark.parametrize("scopes", [[], ["admin"], ["read", "admin"]])
def test_scopes_that_are_none_are_refused(scopes: list[str]) -> None:
    with pytest.raises(Refused, match="scope"):
        keys.create("ci", scopes)
    with pytest.raises(ValidationError):
        ApiKey(name="ci", prefix="12345678", secret_hash="0" * 64, scopes=scopes).full_clean()


def test_scopes_are_kept_once_and_in_order() -> None:
    assert keys.create("ci", ["write", "read", "write"])[0].scopes == ["read", "write"]


def test_a_key_is_found_by_its_prefix_by_its_text_and_by_its_id() -> None:
    key, text = keys.create("ci")
    for name in (key.prefix, f"etk_{key.prefix}", f"etk_{key.prefix}_", text, str(key.pk)):
        assert keys.find(name) == key
    for name in ("", "0", "-1", "x", "9" * 30, "etk_", key.prefix[:-1], "\x00", "١"):
        assert keys.find(name) is None


def test_a_key_is_revoked_once() -> None:
    key, _ = keys.create("ci")
    keys.revoke(key)
    before = key.revoked_at
    assert before is not None
    keys.revoke(key)
    assert key.revoked_at == before


def test_states() -> None:
    key, _ = keys.create("ci")
    assert key.state == "active"
    key.expires_at = utc_now() - dt.timedelta(seconds=1)
    assert key.state == "expired"
    keys.revoke(key)
    assert key.state == "revoked"


def test_that_a_key_was_made_is_known_for_good() -> None:
    assert not keys.ever_made()
    key, _ = keys.create("ci")
    keys.revoke(key)
    assert keys.ever_made()


# -- the admin


@pytest.fixture
def admin(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ada", password="correct horse"))
    return client


ADD = "admin:access_apikey_add"


def test_a_key_made_in_the_admin_is_shown_once_and_works(admin: Client) -> None:
    response = admin.post(reverse(ADD), {"name": "mailer", "scopes": ["read", "send"]}, follow=True)
    found = KEY.search(response.content.decode())
    assert found is not None
    key = ApiKey.objects.get()
    assert keys.verify(found[0]) == key
    assert key.scopes == ["read", "send"]
    secret = found[0].rsplit("_")[-1]
    for page in ("admin:access_apikey_changelist", "admin:index"):
        assert secret not in admin.get(reverse(page)).content.decode()
    assert secret not in admin.get(reverse("admin:access_apikey_change", args=[key.pk])).content.decode()
    assert secret not in dump()


def test_the_admin_refuses_a_key_without_scopes(admin: Client) -> None:
    assert admin.post(reverse(ADD), {"name": "mailer"}).status_code == 200
    assert not ApiKey.objects.exists()


def test_only_the_name_of_a_key_can_be_changed(admin: Client) -> None:
    key, text = keys.create("old", ["read"])
    change = {"name": "new", "scopes": ["read", "write"], "expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}
    admin.post(reverse("admin:access_apikey_change", args=[key.pk]), change)
    key.refresh_from_db()
    assert (key.name, key.scopes, key.expires_at) == ("new", ["read"], None)
    assert keys.verify(text) == key


def test_keys_are_revoked_in_the_admin_and_never_deleted(admin: Client) -> None:
    key, text = keys.create("old")
    assert admin.post(reverse("admin:access_apikey_delete", args=[key.pk]), {"post": "yes"}).status_code == 403
    choice = {"action": "delete_selected", "_selected_action": [key.pk], "post": "yes"}
    admin.post(reverse("admin:access_apikey_changelist"), choice)
    assert ApiKey.objects.filter(revoked_at=None).count() == 1
    response = admin.post(reverse("admin:access_apikey_changelist"), {**choice, "action": "revoke"}, follow=True)
    assert "1 revoked" in response.content.decode()
    with pytest.raises(keys.BadKey, match="revoked"):
        keys.verify(text)


def test_the_admin_lists_and_finds_keys_without_a_query_for_each(admin: Client, django_assert_max_num_queries: object) -> None:
    for number in range(30):
        keys.create(f"key number {number}")
    with django_assert_max_num_queries(8):  # type: ignore[operator]
        page = admin.get(reverse("admin:access_apikey_changelist") + "?q=number").content.decode()
    assert "key number 29" in page
    assert "active" in page
