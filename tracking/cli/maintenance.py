"""The group `maintenance`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from campaigns import partitions as event_partitions
from campaigns import queries
from campaigns.events import now_ms
from campaigns.partitions import Partition
from campaigns.times import from_ms, iso, to_ms
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import Json, Undrained, Yes, new_group
from tracking.cli.event import read_moment

group = new_group("maintenance", "What an operator seldom needs.")


@group.command("recount")
def recount(
    campaign_id: Annotated[int | None, typer.Argument(metavar="[CAMPAIGN]", help="The campaign's id; all campaigns unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what differs.")] = False,
    as_json: Json = False,
) -> None:
    """Count campaigns' numbers again from messages and events, and put right what differs.

    Writers wait while a campaign is counted, a second or two for a million messages; hits do not. What was counted by events that
    were dropped since with their partition stays.
    """
    from campaigns.recount import recount as count_again

    ids = list(queries.campaigns().order_by("id").values_list("pk", flat=True)) if campaign_id is None else [by_id.campaign(campaign_id).pk]
    found = {}
    with output.progress("Counting campaigns", len(ids)) as advance:
        for pk in ids:
            if differences := count_again(pk, fix=not dry_run):
                found[pk] = differences
            advance(1)
    if as_json:
        output.print_json(
            [
                {"campaign_id": pk, "name": name, "stored": stored, "counted": counted}
                for pk, differences in found.items()
                for name, (stored, counted) in differences.items()
            ]
        )
        return
    if found:
        heads = ["Campaign", "Number", "Stored", "Counted"]
        rows = [(pk, name, *pair) for pk, differences in found.items() for name, pair in differences.items()]
        output.say(output.table(heads, rows, right=["Campaign", "Stored", "Counted"], shorten="Number"))
    output.say(f"{output.counted(len(ids), 'campaign')} counted, {len(found)} {'differ' if dry_run else 'put right'}")


@group.command("partitions", cls=Undrained)
def partitions(
    ahead: Annotated[
        int | None,
        typer.Option(min=0, max=366, help="Make those of the present and of so many months or days that follow, and of what has none."),
    ] = None,
    by: Annotated[Literal["month", "day"] | None, typer.Option(help="How wide those are that --ahead makes; months unless given.")] = None,
    drop_before: Annotated[
        Any, typer.Option(parser=read_moment, metavar="TIME", help="Drop those that end by then, with their events (ISO 8601, UTC).")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """List the partitions of events by time, make new ones, drop old ones. PostgreSQL only.

    Once there are some, the ingester makes the next ones by itself. What was counted of events that are dropped stays: the states
    of messages, the numbers of campaigns, the timelines.
    """
    if by is not None and ahead is None:
        raise typer.BadParameter("it goes with --ahead", param_hint="--by")
    if drop_before is not None and to_ms(drop_before) > now_ms():
        raise typer.BadParameter("it is in the future", param_hint="--drop-before")
    made: list[str] = []
    dropped: list[Partition] = []
    left: list[Partition] = []
    if event_partitions.are_supported():
        if ahead is not None:
            made = event_partitions.make(by or "month", ahead)
        if drop_before is not None:
            dropped = _drop(to_ms(drop_before), yes)
        left = event_partitions.partitions()
    if as_json:
        output.print_json({"partitions": list(map(_record, left)), "made": made, "dropped": [each.name for each in dropped]})
    elif not left:
        output.say("SQLite has no partitions: nothing to do")
    else:
        for what, names in (("Made", made), ("Dropped", [each.name for each in dropped])):
            if names:
                output.say(f"{what} {output.counted(len(names), 'partition')}: {', '.join(names)}")
        heads = ["Partition", "From (UTC)", "To (UTC)", "Events", "MB"]
        rows = [(each.name, _moment(each.start), _moment(each.end), each.rows, f"{each.size / 1e6:.1f}") for each in left]
        output.say(output.table(heads, rows, right=["Events", "MB"]))


def _drop(before: int, yes: bool) -> list[Partition]:
    found = event_partitions.droppable(before)
    events = sum(each.rows for each in found)
    question = f"Drop {', '.join(each.name for each in found)} with about {output.counted(events, 'event')}?"
    if found and not yes and not output.confirm(question):
        raise typer.Abort
    event_partitions.drop(found)
    if default := next((each for each in event_partitions.partitions() if each.is_default and each.rows), None):
        output.note(f"{output.counted(default.rows, 'event')} in {default.name} stay; --ahead 0 makes partitions of them first")
    return found


def _record(partition: Partition) -> dict[str, Any]:
    bounds = {name: None if at is None else iso(from_ms(at)) for name, at in (("from", partition.start), ("to", partition.end))}
    return {"name": partition.name, **bounds, "events": partition.rows, "bytes": partition.size}


def _moment(at: int | None) -> str:
    return output.moment(None if at is None else from_ms(at))
