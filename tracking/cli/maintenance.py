"""The group `maintenance`."""

from __future__ import annotations

from typing import Annotated

import typer

from campaigns import queries
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import Json, new_group

group = new_group("maintenance", "What an operator seldom needs.")


@group.command("recount")
def recount(
    campaign_id: Annotated[int | None, typer.Argument(metavar="[CAMPAIGN]", help="The campaign's id; all campaigns unless given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what differs.")] = False,
    as_json: Json = False,
) -> None:
    """Count campaigns' numbers again from messages and events, and put right what differs.

    Writers wait while a campaign is counted, a second or two for a million messages; hits do not.
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
