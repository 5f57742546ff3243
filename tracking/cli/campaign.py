"""The group `campaign`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from campaigns import export as csv_export
from campaigns import lifecycle, metrics, queries, records
from campaigns.models import Campaign, Message
from campaigns.status import Status
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import CampaignId, Json, Limit, Offset, Undrained, Yes, new_group

group = new_group("campaign", "Campaigns: what messages are grouped and measured by.")

Metadata = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object of at most 4 KB.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; give it several times.")]


def read_metadata(text: str | None) -> Any:
    """What `--metadata` holds; its shape is checked where it is used."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"it is no JSON: {error}", param_hint="--metadata") from None


def as_records(campaigns: list[Campaign]) -> list[dict[str, Any]]:
    """Campaigns with their metrics, the bounce reasons of a few hundred at a time."""
    found = []
    for start in range(0, len(campaigns), 500):
        some = campaigns[start : start + 500]
        numbers = queries.campaign_metrics(some)
        found += [records.campaign_record(campaign, numbers[campaign.pk]) for campaign in some]
    return found


@group.command("create", cls=Undrained)
def create(
    name: Annotated[str, typer.Option(help="What it is called.")],
    template_id: Annotated[int | None, typer.Option(help="A number of your own.")] = None,
    tag: Tags = None,
    metadata: Metadata = None,
    as_json: Json = False,
) -> None:
    """Make a campaign."""
    campaign = lifecycle.create_campaign(name, template_id, tag, read_metadata(metadata))
    if as_json:
        output.print_json(as_records([campaign])[0])
    else:
        output.say(f"Created campaign {campaign.pk}: {output.clean(campaign.name)}")


@group.command("list")
def list_campaigns(
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: Json = False,
) -> None:
    """List campaigns with their numbers, newest first."""
    found = queries.campaigns() if tag is None else queries.campaigns().tagged(tag)
    shown = list((found if archived else found.active())[:limit])
    if as_json:
        output.print_json(as_records(shown))
        return
    output.say(output.campaign_table([_row(campaign) for campaign in shown]))
    hidden = 0 if archived else found.exclude(archived_at=None).count()
    if not shown and not hidden:
        output.note('There is no campaign yet. Make one: email-tracking-cli campaign create --name "Summer Sale 2024"')
    if hidden:
        output.note(f"{hidden} archived not shown; --archived shows them too")


def _row(campaign: Campaign) -> tuple[int, str, int, int, int, int, int, float, float, float]:
    numbers = campaign.counters
    rates = metrics.rates(numbers)
    return (
        campaign.pk, campaign.name, numbers.total, numbers.sent, numbers.opened, numbers.clicked, numbers.bounced,
        rates["open_rate"], rates["click_rate"], rates["bounce_rate"],
    )  # fmt: skip


@group.command("show")
def show(campaign_id: CampaignId, as_json: Json = False) -> None:
    """Show a campaign with all its numbers."""
    campaign = by_id.campaign(campaign_id)
    record = as_records([campaign])[0]
    if as_json:
        output.print_json(record)
        return
    numbers = record["metrics"]
    output.say(
        output.facts(
            [
                ("Campaign", campaign.pk),
                ("Name", campaign.name),
                ("Template", campaign.template_id),
                ("Tags", ", ".join(campaign.tags) or None),
                ("Metadata", json.dumps(campaign.metadata, ensure_ascii=False) if campaign.metadata else None),
                ("Created", output.moment(campaign.created_at)),
                ("Archived", output.moment(campaign.archived_at)),
                ("Total", numbers["total"]),
                ("Queued", numbers["queued"]),
                ("Sent", numbers["sent"]),
                ("Delivered", f"{numbers['delivered']} ({numbers['delivery_rate']}%)"),
                ("Opened", f"{numbers['opened']} ({numbers['open_rate']}%)"),
                ("Clicked", f"{numbers['clicked']} ({numbers['click_rate']}%)"),
                ("Bounced", f"{numbers['bounced']} ({numbers['bounce_rate']}%)"),
                ("Complained", numbers["complained"]),
                ("Unsubscribed", numbers["unsubscribed"]),
            ]
        )
    )
    if numbers["bounce_reasons"]:
        output.say()
        output.say(output.table(["Bounce reason", "Messages"], list(numbers["bounce_reasons"].items()), right=["Messages"]))


@group.command("messages")
def messages(
    campaign_id: CampaignId,
    limit: Limit = 100,
    offset: Offset = 0,
    status: Annotated[Status | None, typer.Option(help="Only those with this status.")] = None,
    as_json: Json = False,
) -> None:
    """List the messages of a campaign, oldest first."""
    campaign = by_id.campaign(campaign_id)
    found = Message.objects.of_campaign(campaign.pk).order_by("id")
    if status is not None:
        found = found.filter(status=status)
    shown = list(found[offset : offset + limit])
    if as_json:
        output.print_json([records.message_record(message) for message in shown])
        return
    rows = [
        (
            message.pk, message.recipient_email, message.status, output.moment(message.sent_at),
            message.open_count, message.click_count, message.tracking_token,
        )
        for message in shown
    ]  # fmt: skip
    heads = ["ID", "Email", "Status", "Sent (UTC)", "Opens", "Clicks", "Token"]
    output.say(output.table(heads, rows, right=["ID", "Opens", "Clicks"], shorten="Email"))
    total = campaign.counters.total if status is None else found.count()
    if len(shown) < total:
        output.note(f"{len(shown)} of {total} shown" + (f"; --offset {offset + limit} shows the next" if offset + limit < total else ""))


@group.command("export")
def export(
    campaign_id: CampaignId,
    to: Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="The file to write; else it is printed.")] = None,
    as_json: Json = False,
) -> None:
    """Export the messages of a campaign as CSV. --json prints what was written where."""
    if as_json and to is None:
        raise typer.BadParameter("it tells of the file that --output names", param_hint="--json")
    campaign = by_id.campaign(campaign_id)
    if to is None:
        _print_csv(campaign)
        return
    rows = _write_file(campaign, to)
    if as_json:
        output.print_json({"campaign_id": campaign.pk, "output": str(to), "messages": rows})
    else:
        output.say(f"Wrote {output.counted(rows, 'message')} of campaign {campaign.pk} to {output.clean(to)}")


def _print_csv(campaign: Campaign) -> None:
    """Byte for byte into a pipe; on a terminal without what it would obey, and without a bar between the lines."""
    if not sys.stdout.isatty():
        sys.stdout.flush()
        _write_csv(campaign, sys.stdout.buffer)
        return
    for part in csv_export.csv_chunks(campaign.pk):
        for line in part.decode().removesuffix("\r\n").split("\r\n"):
            output.say(output.clean(line))


def _write_file(campaign: Campaign, path: Path) -> int:
    """Whole or not at all: written beside its place and renamed. What is no plain file (a pipe, /dev/stdout) is written to."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            return _write_csv(campaign, file)
    path = path.resolve()  # a link goes on naming the file
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            rows = _write_csv(campaign, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        if error.filename == str(partial):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return rows


def _write_csv(campaign: Campaign, file: BinaryIO) -> int:
    rows = 0
    with output.progress("Exporting messages", campaign.counters.total) as advance:
        for count, part in csv_export.csv_parts(campaign.pk):
            file.write(part)
            rows += count
            advance(count)
    file.flush()
    return rows


@group.command("archive")
def archive(
    campaign_id: CampaignId,
    undo: Annotated[bool, typer.Option("--undo", help="Put it back among those in use.")] = False,
    as_json: Json = False,
) -> None:
    """Take a campaign out of the lists; everything of it is kept and goes on being counted."""
    campaign = lifecycle.update_campaign(by_id.campaign(campaign_id), {"archived": not undo})
    if as_json:
        output.print_json(as_records([campaign])[0])
    else:
        output.say(f"Campaign {campaign.pk} is {'in use again' if undo else 'archived'}: {output.clean(campaign.name)}")


@group.command("delete")
def delete(campaign_id: CampaignId, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a campaign with its messages and events. It cannot be taken back."""
    campaign = by_id.campaign(campaign_id)
    total = campaign.counters.total
    if not yes and not output.confirm(f"Delete campaign {campaign.pk} ({campaign.name}) with its {output.counted(total, 'message')}?"):
        raise typer.Abort
    lifecycle.delete_campaign(campaign, seconds=0)
    with output.progress("Deleting messages", total) as advance:
        advance(min(total, lifecycle.DELETE_CHUNK))
        for count in lifecycle.purge_deleted():
            advance(count)
    if as_json:
        output.print_json({"campaign_id": campaign_id, "deleted": True, "messages": total})
    else:
        output.say(f"Deleted campaign {campaign_id} with {output.counted(total, 'message')}: {output.clean(campaign.name)}")
