"""The group `key`: API keys, and the keys that sign links."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Annotated, Any

import typer

from campaigns import times
from campaigns.times import utc_now
from tracking.cli import output
from tracking.cli.base import Failed, Json, Undrained, Yes, new_group
from tracking.management.commands.tracking import Command

key = new_group("key", "API keys, and the keys that sign links.")


class Scope(enum.StrEnum):
    READ = "read"
    WRITE = "write"
    SEND = "send"


@key.command("create", cls=Undrained)
def create(
    name: Annotated[str, typer.Option(help="Who or what uses it.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="What it may do; give it several times. [default: all]")] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=36_500, help="Days from now after which it is refused.")] = None,
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown this once; only a hash of it is kept."""
    from trackingsite.access import keys
    from trackingsite.access.models import SCOPES

    first = not keys.ever_made()
    expires_at = utc_now() + dt.timedelta(days=expires_days) if expires_days else None
    made, text = keys.create(name, scope or SCOPES, expires_at)
    if as_json:
        output.print_json({"id": made.pk, "name": made.name, "scopes": made.scopes, "key": text})
    else:
        output.say(text)
        output.note(f"This is key {made.pk}, for {' '.join(made.scopes)}. Copy it now: it is not shown again.")
    if first:
        output.note("From now on every request to API and dashboard needs a key or a signed-in staff user, from this machine too.")


@key.command("list", cls=Undrained)
def list_keys(as_json: Json = False) -> None:
    """List the API keys, newest first, revoked ones too."""
    from trackingsite.access.models import ApiKey

    keys = list(ApiKey.objects.all())
    if as_json:
        output.print_json([_as_json(each) for each in keys])
        return
    rows = [
        (
            each.pk,
            each.name,
            f"etk_{each.prefix}_",
            " ".join(each.scopes),
            each.state,
            output.moment(each.created_at),
            output.moment(each.expires_at),
        )
        for each in keys
    ]
    output.say(
        output.table(["ID", "Name", "Begins with", "Scopes", "State", "Created (UTC)", "Expires (UTC)"], rows, right=["ID"], shorten="Name")
    )


@key.command("revoke", cls=Undrained)
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID|PREFIX", help="The number of the key, or what it begins with.")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Refuse an API key from now on. It cannot be taken back."""
    from trackingsite.access import keys

    found = keys.find(which)
    if found is None:
        raise Failed(f"there is no key {which[:20]!r}")
    if found.revoked_at is None:
        if not yes and not output.confirm(f"Revoke key {found.pk} ({found.name})? What uses it is refused at once."):
            raise typer.Abort
        keys.revoke(found)
    if as_json:
        output.print_json(_as_json(found))
    else:
        output.say(f"Key {found.pk} ({output.clean(found.name)}) is revoked.")


@key.command("rotate-links", cls=Undrained)
def rotate_links(as_json: Json = False) -> None:
    """Make a new key for signing links. Links in mail that was sent go on working."""
    from tracking import keys

    keys.rotate()
    if as_json:
        output.print_json({"keys": len(keys.signing_keys())})
    else:
        output.say("New links are signed with a new key; older links go on working.")


def _as_json(each: Any) -> dict[str, Any]:
    """A key without its secret, which nobody knows any more."""
    moments = {name: getattr(each, name) for name in ("created_at", "expires_at", "revoked_at")}
    return {
        "id": each.pk,
        "name": each.name,
        "prefix": each.prefix,
        "scopes": each.scopes,
        "state": each.state,
        **{name: value and times.iso(value) for name, value in moments.items()},
    }


Command.typer_app.add_typer(key)
