from __future__ import annotations

import stat

import pytest
from django.conf import settings
from django.db import OperationalError

from tracking import keyfile, keys
from tracking.models import LinkKey

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_keys(db: None) -> None:
    settings.CONF.keys_file.unlink(missing_ok=True)
    keys.forget_keys()


def test_a_first_key_is_made_and_copied_to_a_file_that_only_its_owner_reads() -> None:
    made = keys.signing_keys()
    assert [bytes.fromhex(row.key) for row in LinkKey.objects.all()] == list(made)
    assert [bytes.fromhex(stored.key) for stored in keyfile.read(settings.CONF.keys_file).link_keys] == list(made)
    assert stat.S_IMODE(settings.CONF.keys_file.stat().st_mode) == 0o600


def test_after_a_rotation_the_new_key_signs_and_the_old_one_still_verifies() -> None:
    [old] = keys.signing_keys()
    keys.rotate()
    new, kept = keys.signing_keys()
    assert kept == old != new
    for _ in range(5):  # within a millisecond, or with a clock that was set back
        before = keys.signing_keys()
        keys.rotate()
        assert keys.signing_keys()[1:] == before


def test_the_file_is_enough_when_the_database_is_away(monkeypatch) -> None:
    made = keys.signing_keys()
    keys.forget_keys()

    def away(*args: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(LinkKey.objects, "values_list", away)
    assert keys.signing_keys() == made
    assert keys.reload_keys() == made


def test_a_restored_database_alone_is_enough() -> None:
    made = keys.signing_keys()
    settings.CONF.keys_file.unlink()
    keys.forget_keys()
    assert keys.signing_keys() == made


def test_an_older_database_gets_back_the_keys_made_since() -> None:
    keys.signing_keys()
    keys.rotate()
    both = keys.signing_keys()
    LinkKey.objects.latest("created_at").delete()
    assert keys.sync() == both
    assert LinkKey.objects.count() == 2


def test_a_key_that_another_process_made_is_found_when_a_signature_does_not_verify() -> None:
    keys.signing_keys()
    LinkKey.objects.create(key="ab" * 32)
    assert bytes.fromhex("ab" * 32) not in keys.signing_keys()
    assert bytes.fromhex("ab" * 32) in keys.reload_keys()
    LinkKey.objects.create(key="cd" * 32)
    assert bytes.fromhex("cd" * 32) not in keys.reload_keys(), "not with every bad signature"


def test_a_file_that_is_no_keys_file_is_one_clear_line() -> None:
    settings.CONF.keys_file.write_text("no keys")
    with pytest.raises(ValueError, match="is no keys file"):
        keys.signing_keys()
    settings.CONF.keys_file.unlink()
