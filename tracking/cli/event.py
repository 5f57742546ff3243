"""The group `event`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from campaigns import queries, records
from campaigns.choices import KIND_NUMBER
from campaigns.events import EventKind, Verdict
from campaigns.models import Event
from campaigns.times import parse_moment, to_ms
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import Json, Limit, new_group

group = new_group("event", "Events: everything that happened to messages.")


def read_moment(text: str) -> Any:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@group.command("list")
def list_events(
    campaign_id: Annotated[int | None, typer.Option(help="Only those of this campaign.")] = None,
    message_id: Annotated[int | None, typer.Option(help="Only those of this message.")] = None,
    kind: Annotated[EventKind | None, typer.Option(help="Only those of this kind.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only those found to be of this sort.")] = None,
    since: Annotated[Any, typer.Option(parser=read_moment, metavar="TIME", help="From this moment on (ISO 8601, UTC).")] = None,
    until: Annotated[Any, typer.Option(parser=read_moment, metavar="TIME", help="Before this moment (ISO 8601, UTC).")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List events, those stored last first."""
    found = queries.events()
    if campaign_id is not None:
        found = found.of_campaign(by_id.campaign(campaign_id).pk)
    if message_id is not None:
        found = found.filter(message_id=by_id.message(message_id).pk)
    if kind is not None:
        found = found.filter(kind=KIND_NUMBER[kind])
    if verdict is not None:
        found = found.filter(judgement__verdict=verdict)
    if since is not None:
        found = found.filter(occurred_at__gte=since)
    if until is not None:
        found = found.filter(occurred_at__lt=until)
    found = queries.narrowed(found, KIND_NUMBER[kind] if kind else None, to_ms(since) if since else None, campaign_id)
    listed = list(found[: limit + 1])  # one more tells whether there are more
    shown = listed[:limit]
    if as_json:
        output.print_json([records.event_record(event) for event in shown])
        return
    output.say(event_table(shown))
    if len(listed) > limit:
        output.note(f"The latest {limit}; --limit shows more")


def event_table(events: Sequence[Event], *, of_one_message: bool = False) -> str:
    """Events, a line each: what a click followed, why a bounce bounced, which agent fetched."""
    rows: list[list[object]] = []
    for event in events:
        record = records.event_record(event)
        detail = record["detail"] or {}
        told = record["url"] or ": ".join(detail[name] for name in ("bounce_type", "reason") if name in detail) or record["user_agent"]
        row = [output.moment(event.occurred_at), record["kind"], record["source"], output.short(told)]
        rows.append(row if of_one_message else [event.pk, event.message_id, *row])
    heads = ["Time (UTC)", "Kind", "Source", "Detail"]
    return output.table(heads if of_one_message else ["ID", "Message", *heads], rows, right=["ID", "Message"], shorten="Detail")
