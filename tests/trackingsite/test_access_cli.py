"""The command group `key`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest

from tracking import keys as link_keys
from trackingsite.access import keys
from trackingsite.access.models import ApiKey

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:In Typer, only the parameter:DeprecationWarning"),  # django-typer's own way of asking for completion
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Carries out a line; gives its exit status, output and errors."""
    from tracking.cli import base
    from tracking.management.commands.tracking import Command

    monkeypatch.setattr(base, "prepare", lambda: None)  # the tests' database is

    def carry_out(*args: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        status = base.run(Command(), ["key", *args], base.PROGRAM)
        return (status, *capsys.readouterr())

    return carry_out


def test_a_key_is_printed_alone_and_works(run: Run) -> None:
    status, out, err = run("create", "--name", "ci")
    assert status == 0
    key = keys.verify(out.strip())
    assert (key.name, key.scopes) == ("ci", ["read", "write", "send"])
    assert "not shown again" in err
    assert out.strip() not in err


def test_the_first_key_is_said_to_end_the_local_rule(run: Run) -> None:
    assert "needs a key" in run("create", "--name", "first")[2]
    assert "needs a key" not in run("create", "--name", "second")[2]


def test_a_key_as_json(run: Run) -> None:
    status, out, _ = run("create", "--name", "ci", "--scope", "read", "--scope", "send", "--json")
    made = json.loads(out)
    assert status == 0
    assert set(made) == {"id", "name", "scopes", "key"}
    assert made["scopes"] == ["read", "send"]
    assert keys.verify(made["key"]).pk == made["id"]


def test_a_key_that_expires(run: Run) -> None:
    run("create", "--name", "ci", "--expires-days", "2")
    key = ApiKey.objects.get()
    assert key.expires_at is not None
    assert round((key.expires_at - key.created_at).total_seconds()) == 2 * 86_400


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["create"], 2),
        (["create", "--name", "ci", "--scope", "all"], 2),
        (["create", "--name", "ci", "--expires-days", "0"], 2),
        (["create", "--name", " "], 1),
        (["revoke"], 2),
        (["revoke", "nothing", "--yes"], 1),
        (["revoke", "1", "--yes"], 1),
    ],
)
def test_what_is_wrong_is_one_line_and_makes_nothing(run: Run, args: list[str], status: int) -> None:
    found, out, err = run(*args)
    assert (found, out) == (status, "")
    assert len(err.splitlines()) == 1
    assert not ApiKey.objects.exists()


def test_the_list_shows_states_and_no_secret(run: Run) -> None:
    key, text = keys.create("ci")
    keys.revoke(key)
    keys.create("mailer", ["send"])
    _, out, _ = run("list")
    assert f"etk_{key.prefix}_" in out
    assert text[13:] not in out
    listed = json.loads(run("list", "--json")[1])
    assert [(each["name"], each["state"], each["scopes"]) for each in listed] == [
        ("mailer", "active", ["send"]),
        ("ci", "revoked", ["read", "write", "send"]),
    ]
    assert listed[1]["revoked_at"].endswith("Z")
    assert listed[0]["expires_at"] is None


@pytest.mark.parametrize("answer", ["", "n\n", "\n", "no\n"])
def test_a_key_is_not_revoked_without_a_yes(run: Run, answer: str) -> None:
    key, text = keys.create("ci")
    assert run("revoke", str(key.pk), stdin=answer)[0] == 1
    assert keys.verify(text) == key


@pytest.mark.parametrize("by_prefix", [True, False])
def test_a_key_is_revoked_after_a_yes(run: Run, by_prefix: bool) -> None:
    key, text = keys.create("ci")
    status, out, err = run("revoke", key.prefix if by_prefix else str(key.pk), stdin="y\n")
    assert status == 0
    assert "revoked" in out
    assert "ci" in err
    with pytest.raises(keys.BadKey):
        keys.verify(text)
    assert run("revoke", key.prefix, "--json")[0] == 0  # it is already


def test_link_keys_rotate_and_older_ones_stay(run: Run) -> None:
    before = link_keys.signing_keys() or link_keys.sync()
    status, _, _ = run("rotate-links")
    after = link_keys.signing_keys()
    assert status == 0
    assert after[0] not in before
    assert set(before) < set(after)
    assert json.loads(run("rotate-links", "--json")[1]) == {"keys": len(after) + 1}
