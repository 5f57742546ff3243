from __future__ import annotations

import errno
import os
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


def away(*_: object) -> None:
    raise OperationalError("away")


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


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", [(keyfile, "write"), (keyfile.private, "open_private_file")], ids=["file", "lock"])
def test_on_a_full_disk_the_keys_of_the_database_count(monkeypatch, caplog, broken: tuple[object, str]) -> None:
    [old] = keys.signing_keys()
    LinkKey.objects.create(key="ab" * 32)  # on another machine
    with monkeypatch.context() as patch:
        patch.setattr(*broken, full)
        assert keys.reload_keys() == (bytes.fromhex("ab" * 32), old)
        keys.sync()
        assert [record.levelname for record in caplog.records] == ["WARNING"], "once"
        keys.rotate()
        assert keys.signing_keys()[1:] == (bytes.fromhex("ab" * 32), old)
        keys.forget_keys()  # as a worker that begins
        assert len(keys.sync()) == 3
    assert len(keyfile.read(settings.CONF.keys_file).link_keys) == 1
    keys.sync()
    assert len(keyfile.read(settings.CONF.keys_file).link_keys) == 3, "when there is room again"


def test_a_first_key_needs_no_room_on_the_disk(monkeypatch) -> None:
    monkeypatch.setattr(keyfile, "write", full)
    assert keys.signing_keys() == keys.reload_keys() != ()


def test_a_file_that_could_not_be_written_leaves_nothing(monkeypatch) -> None:
    keys.signing_keys()
    before = {path.name for path in settings.CONF.keys_file.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(keyfile.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            keyfile.write(settings.CONF.keys_file, keyfile.Keys("secret"))
    assert {path.name for path in settings.CONF.keys_file.parent.iterdir()} == before
    assert len(keyfile.read(settings.CONF.keys_file).link_keys) == 1


def test_a_key_that_is_known_is_not_forgotten_with_the_database_away_and_the_file_older(monkeypatch) -> None:
    [old] = keys.signing_keys()
    monkeypatch.setattr(keyfile, "write", full)
    keys.rotate()
    both = keys.signing_keys()
    monkeypatch.setattr(LinkKey.objects, "values_list", away)
    assert set(keys.reload_keys()) == set(both) > {old}


@pytest.mark.parametrize("content", ["no keys", None])
def test_a_file_that_cannot_be_read_is_no_reason_to_answer_nobody(content: str | None) -> None:
    made = keys.signing_keys()
    settings.CONF.keys_file.unlink()
    if content is None:
        settings.CONF.keys_file.mkdir()
    else:
        settings.CONF.keys_file.write_text(content)
    try:
        assert keys.reload_keys() == made
    finally:
        settings.CONF.keys_file.rmdir() if content is None else settings.CONF.keys_file.unlink()


def test_a_file_that_is_no_keys_file_is_one_clear_line() -> None:
    settings.CONF.keys_file.write_text("no keys")
    with pytest.raises(ValueError, match="is no keys file"):
        keys.signing_keys()
    settings.CONF.keys_file.unlink()
