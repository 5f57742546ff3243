"""The group `message`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

from campaigns import lifecycle, queries, records
from campaigns.events import BounceType, EventKind
from campaigns.models import Message
from campaigns.rules import Refused
from campaigns.times import occurred_at
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import Json, MessageId, Undrained, new_group
from tracking.cli.campaign import Metadata, Tags, read_metadata
from tracking.cli.event import event_table

group = new_group("message", "Messages: one mail to one recipient each.")

#: Events that `message show` lists, the latest ones.
EVENTS_SHOWN = 100


def read_time(text: str) -> str:
    """A time as it was typed, when it can be one of an event."""
    try:
        occurred_at(text, "it")
    except Refused as error:
        raise typer.BadParameter(str(error).removeprefix("it: ")) from None
    return text


At = Annotated[str | None, typer.Option("--at", parser=read_time, metavar="TIME", help="When it was (ISO 8601, UTC); now unless given.")]


@group.command("create", cls=Undrained)
def create(
    email: Annotated[str, typer.Option(help="The recipient's address.")],
    campaign_id: Annotated[int | None, typer.Option(help="Its campaign; the one named `default` unless given.")] = None,
    token: Annotated[str | None, typer.Option(help="Its tracking token; made unless given.")] = None,
    template_id: Annotated[int | None, typer.Option(help="A number of your own.")] = None,
    tag: Tags = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Make a message, before it is sent."""
    message = lifecycle.create_message(email, campaign_id, token, template_id, tag, read_metadata(metadata))
    if as_json:
        output.print_json(records.message_record(message))
    else:
        output.say(f"Created message {message.pk} to {output.clean(message.recipient_email)}, token {message.tracking_token}")


@group.command("show")
def show(message_id: MessageId, as_json: Json = False) -> None:
    """Show a message: its state, how it bounced, and what happened to it."""
    message = by_id.message(message_id)
    found = queries.events().filter(message_id=message.pk)
    listed = list(found[: EVENTS_SHOWN + 1])  # one more tells whether there are more
    events = sorted(listed[:EVENTS_SHOWN], key=lambda event: (event.occurred_at, event.pk))
    if as_json:
        output.print_json({**records.message_record(message), "events": [records.event_record(event) for event in events]})
        return
    output.say(output.facts(_facts(message)))
    if events:
        output.say()
        output.say(event_table(events, of_one_message=True))
    if len(listed) > EVENTS_SHOWN:
        output.note(f"The latest {EVENTS_SHOWN} events; `event list --message-id {message.pk} --limit {10 * EVENTS_SHOWN}` shows more")


def _facts(message: Message) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("Message", message.pk),
        ("Campaign", message.campaign_id),
        ("Email", message.recipient_email),
        ("Token", message.tracking_token),
        ("Template", message.template_id),
        ("Tags", ", ".join(message.tags) or None),
        ("Metadata", json.dumps(message.metadata, ensure_ascii=False) if message.metadata else None),
        ("Status", message.status),
        ("Created", output.moment(message.created_at)),
        ("Sent", output.moment(message.sent_at)),
        ("Delivered", output.moment(message.delivered_at)),
        ("Opened", _times(output.moment(message.opened_at), message.open_count)),
        ("Clicked", _times(output.moment(message.clicked_at), message.click_count)),
        ("Bounced", output.moment(message.bounced_at)),
        ("Bounce type", message.bounce_type),
    ]
    if message.bounced_at is not None:
        facts += [
            ("Bounce subtype", message.bounce_subtype),
            ("Bounce reason", message.bounce_reason),
            ("Diagnostic code", message.diagnostic_code),
        ]
    return facts


def _times(first: str, count: int) -> str:
    return first if count < 2 else f"{first} and {count - 1} more"


def _mark(kind: EventKind, message_id: int, at: str | None, as_json: bool, **details: Any) -> None:
    by_id.mark("cli", kind, message_id, at, **details)
    message = by_id.message(message_id)
    if as_json:
        output.print_json(records.message_record(message))
    else:
        status = "" if message.status == kind else f" (its status is {message.status})"
        output.say(f"Marked message {message.pk} as {kind}{status}")


def _simple(kind: EventKind, text: str) -> Callable[..., None]:
    def mark(message_id: MessageId, at: At = None, as_json: Json = False) -> None:
        _mark(kind, message_id, at, as_json)

    mark.__doc__ = text
    return mark


group.command("mark-sent")(_simple(EventKind.SENT, "Record that a message was sent."))
group.command("mark-delivered")(_simple(EventKind.DELIVERED, "Record that the recipient's server took a message."))
group.command("mark-opened")(_simple(EventKind.OPENED, "Record that a message was opened."))


@group.command("mark-clicked")
def mark_clicked(
    message_id: MessageId,
    url: Annotated[str | None, typer.Option(help="The link that was followed.")] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Record that a link of a message was followed."""
    _mark(EventKind.CLICKED, message_id, at, as_json, url=url)


@group.command("mark-bounced")
def mark_bounced(
    message_id: MessageId,
    reason: Annotated[str | None, typer.Option(help="Why, in a few words; bounces are counted by it.")] = None,
    bounce_type: Annotated[BounceType, typer.Option("--type", help="For good, or for now.")] = BounceType.PERMANENT,
    subtype: Annotated[str | None, typer.Option(help="The provider's finer word.")] = None,
    diagnostic_code: Annotated[str | None, typer.Option(help="What the server said, such as `smtp; 550 5.1.1 user unknown`.")] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Record that a message bounced."""
    _mark(
        EventKind.BOUNCED, message_id, at, as_json,
        reason=reason, bounce_type=bounce_type, bounce_subtype=subtype, diagnostic_code=diagnostic_code,
    )  # fmt: skip
