"""The group `report`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from campaigns import metrics, queries, records
from campaigns.choices import Kind
from campaigns.times import from_ms, iso
from tracking import by_id
from tracking.cli import output
from tracking.cli.base import CampaignId, Json, Limit, new_group

group = new_group("report", "Reports over campaigns.")


@group.command("summary")
def summary(as_json: Json = False) -> None:
    """Sum up all campaigns."""
    sums = queries.summary()
    if as_json:
        output.print_json(sums)
        return
    output.say("=== Email Tracking Summary ===")
    for name, key in (("Campaigns", "campaigns"), ("Messages", "messages"), ("Sent", "sent")):
        output.say(f"Total {name}: {sums[f'total_{key}']}")
    for key in ("opened", "clicked", "bounced"):
        output.say(f"Total {key.title()}: {sums[f'total_{key}']}")
    output.say()
    output.say("Aggregate Rates:")
    for key in ("open", "click", "bounce"):
        output.say(f"  {key.title()} Rate: {sums[f'{key}_rate']:.1f}%")


@group.command("bounces")
def bounces(
    campaign_id: Annotated[int | None, typer.Option(help="Only those of this campaign.")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List bounced messages, the latest bounce first, and how many bounced for which reason."""
    campaigns = list(queries.campaigns()) if campaign_id is None else [by_id.campaign(campaign_id)]
    reasons: dict[str, int] = {}
    for start in range(0, len(campaigns), 500):
        for counted in queries.bounce_reasons(campaign.pk for campaign in campaigns[start : start + 500]).values():
            for reason, n in counted:
                reasons[reason] = reasons.get(reason, 0) + n
    total = sum(campaign.counters.bounced for campaign in campaigns)
    commonest = metrics.commonest(reasons.items())
    shown = list(queries.bounces(campaign_id)[:limit])
    if as_json:
        messages = [records.message_record(message) for message in shown]
        output.print_json({"total_bounced": total, "bounce_reasons": commonest, "messages": messages})
        return
    rows = [
        (
            message.pk,
            message.campaign_id,
            message.recipient_email,
            message.bounce_type,
            output.short(message.bounce_reason),
            output.moment(message.bounced_at),
        )
        for message in shown
    ]
    heads = ["ID", "Campaign", "Email", "Type", "Reason", "Bounced (UTC)"]
    output.say(output.table(heads, rows, right=["ID", "Campaign"], shorten="Reason"))
    if commonest:
        output.say(output.table(["Reason", "Messages"], list(commonest.items()), right=["Messages"], shorten="Reason"))
    if len(shown) < total:
        output.note(f"{len(shown)} of {total} shown; --limit shows more")


@group.command("links")
def links(campaign_id: CampaignId, limit: Limit = 100, as_json: Json = False) -> None:
    """List the links of a campaign that were followed, most clicked first."""
    shown = list(queries.links(by_id.campaign(campaign_id).pk)[:limit])
    if as_json:
        output.print_json([records.link_record(link) for link in shown])
        return
    rows = [(link.click_count, link.position or None, output.short(link.url)) for link in shown]
    output.say(output.table(["Clicks", "Position", "Link"], rows, right=["Clicks"], shorten="Link"))


@group.command("timeline")
def timeline(
    campaign_id: CampaignId,
    interval: Annotated[Literal["hour", "day"], typer.Option(help="How long a line is.")] = "hour",
    as_json: Json = False,
) -> None:
    """Count the events of a campaign by hour or day (UTC), those without events left out."""
    points = queries.timeline(by_id.campaign(campaign_id).pk, interval)
    if as_json:
        none = dict.fromkeys(Kind.labels, 0)
        results = [{"at": iso(from_ms(point.at)), **none, **point.counts} for point in points]
        output.print_json({"interval": interval, "results": results})
        return
    kinds = [kind for kind in Kind.labels if any(kind in point.counts for point in points)]
    form = "%Y-%m-%d" if interval == "day" else "%Y-%m-%d %H:00"
    rows = [(from_ms(point.at).strftime(form), *(point.counts.get(kind, 0) for kind in kinds)) for point in points]
    heads = [f"{interval.title()} (UTC)", *(kind.title() for kind in kinds)]
    output.say(output.table(heads, rows, right=heads[1:]))
