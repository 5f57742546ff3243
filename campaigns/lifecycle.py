"""The making and ending of campaigns and messages, the same for API, CLI, Python and admin."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from campaigns import rules
from campaigns.models import BounceReasonCount, Campaign, CampaignCounters, Event, HourlyCount, Link, Message
from campaigns.partitions import may_delete_events
from campaigns.rules import Refused
from campaigns.sql import sqlite
from campaigns.sql.common import bulk_transaction, chunks
from campaigns.times import utc_now
from campaigns.tokens import make_token

#: Rows of messages that one transaction of a delete takes: some 20 ms on SQLite.
DELETE_CHUNK = 2_000
MESSAGE_FIELDS = frozenset({"campaign_id", "recipient_email", "tracking_token", "template_id", "tags", "metadata"})


def create_campaign(
    name: str, template_id: int | None = None, tags: list[str] | None = None, metadata: dict[str, Any] | None = None
) -> Campaign:
    """A new campaign with its counters. Raises Refused."""
    campaign = Campaign(
        name=rules.check_name(name),
        template_id=rules.check_template_id(template_id),
        tags=rules.check_tags(tags),
        metadata=rules.check_metadata(metadata),
    )
    with transaction.atomic():
        campaign.save(force_insert=True)
        campaign.counters = CampaignCounters.objects.create(campaign=campaign)
    return campaign


def update_campaign(campaign: Campaign, changes: Mapping[str, Any]) -> Campaign:
    """Change name, template_id, tags, metadata or archived (a truth value). Raises Refused."""
    checks = {
        "name": rules.check_name,
        "template_id": rules.check_template_id,
        "tags": rules.check_tags,
        "metadata": rules.check_metadata,
    }
    fields = []
    for field, value in changes.items():
        if field == "archived":
            if not isinstance(value, bool):
                raise Refused("archived is true or false", field="archived")
            campaign.archived_at = (campaign.archived_at or utc_now()) if value else None
            fields.append("archived_at")
        elif field in checks:
            setattr(campaign, field, checks[field](value))
            fields.append(field)
        else:
            raise Refused(f"{field} cannot be changed; name, template_id, tags, metadata and archived can", field=field)
    if fields and not Campaign.objects.living().filter(pk=campaign.pk).update(**{field: getattr(campaign, field) for field in fields}):
        raise Refused(f"there is no campaign {campaign.pk}", status=404)
    return campaign


def default_campaign() -> Campaign:
    """Where messages without a campaign go: the oldest campaign named `default`, made when there is none."""
    found = Campaign.objects.living().filter(name="default").order_by("id").first()
    return found or create_campaign("default")


def create_message(
    recipient_email: str,
    campaign_id: int | None = None,
    tracking_token: str | None = None,
    template_id: int | None = None,
    tags: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Message:
    """A new message, queued. Without a token it gets one of ours. Raises Refused: 404 for an unknown campaign, 409 for a taken token."""
    item = {
        "recipient_email": recipient_email,
        "campaign_id": campaign_id,
        "tracking_token": tracking_token,
        "template_id": template_id,
        "tags": tags,
        "metadata": metadata,
    }
    return _create([_checked(item)])[0]


def create_messages(items: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Many new messages, all or none, in the order given; each with the fields of `create_message`.

    Raises Refused; its text says which item it was, counted from 0.
    """
    checked = []
    for index, item in enumerate(items):
        if index >= rules.MAX_BULK:
            raise Refused(f"more than {rules.MAX_BULK} messages at once; send them in parts")
        if not isinstance(item, Mapping):
            raise Refused(f"item {index}: a message is a JSON object")
        try:
            checked.append(_checked(item))
        except Refused as error:
            raise Refused(f"item {index}: {error}", field=error.field, status=error.status) from None
    if not checked:
        return []
    return _create(checked)


def _checked(item: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(item) - MESSAGE_FIELDS
    if unknown:
        name = min(unknown, key=str)
        raise Refused(f"{name} is no field of a message; {', '.join(sorted(MESSAGE_FIELDS))} are", field=str(name))
    campaign_id = item.get("campaign_id")
    if campaign_id is not None and (isinstance(campaign_id, bool) or not isinstance(campaign_id, int)):
        raise Refused("a campaign_id is a whole number", field="campaign_id")
    token = item.get("tracking_token")
    return {
        "campaign_id": campaign_id,
        "recipient_email": rules.check_email(item.get("recipient_email")),
        "tracking_token": make_token() if token is None else rules.check_token(token),
        "template_id": rules.check_template_id(item.get("template_id")),
        "tags": rules.check_tags(item.get("tags")),
        "metadata": rules.check_metadata(item.get("metadata")),
    }


def _create(items: list[dict[str, Any]]) -> list[Message]:
    tokens = [item["tracking_token"] for item in items]
    if len(set(tokens)) < len(tokens):
        seen: set[str] = set()
        twice = next(token for token in tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
        raise Refused(f"the tracking_token {twice!r} stands twice in the request", field="tracking_token", status=409)
    if any(item["campaign_id"] is None for item in items):
        default_id = default_campaign().pk
        items = [{**item, "campaign_id": default_id} if item["campaign_id"] is None else item for item in items]
    wanted = {item["campaign_id"] for item in items}
    _check_campaigns(wanted, len(items))
    now = utc_now()
    messages = [Message(created_at=now, **item) for item in items]
    totals: dict[int, int] = {}
    for item in items:
        totals[item["campaign_id"]] = totals.get(item["campaign_id"], 0) + 1
    insert = _prepared_insert(messages)
    try:
        with transaction.atomic():
            insert()
            for pk in sorted(totals):
                CampaignCounters.objects.filter(pk=pk).update(total=F("total") + totals[pk])
    except IntegrityError:
        taken = next((token for some in chunks(tokens) for token in _taken(some)), None)
        if taken is None:
            _check_campaigns(wanted, len(items))  # one was deleted just now
            raise
        raise Refused(f"the tracking_token {taken!r} is taken", field="tracking_token", status=409) from None
    return messages


def _prepared_insert(messages: list[Message]) -> Callable[[], object]:
    """What inserts the messages and gives them their ids.

    On SQLite everything but the insert itself is done before the write lock is taken, which everybody else waits for meanwhile:
    10,000 messages hold it for some 100 ms, by `bulk_create` it was 750.
    """
    if connection.vendor != "sqlite" or len(messages) < 100:
        return lambda: Message.objects.bulk_create(messages)
    fields = [field for field in Message._meta.concrete_fields if not field.primary_key]
    own = [field for field in fields if field.attname in MESSAGE_FIELDS]
    same = [field for field in fields if field.attname not in MESSAGE_FIELDS]  # of a new message: state, and the time of this call
    columns = [str(field.column) for field in (*same, *own)]
    alike = [field.get_db_prep_save(getattr(messages[0], field.attname), connection) for field in same]
    rows = [[*alike, *(field.get_db_prep_save(getattr(message, field.attname), connection) for field in own)] for message in messages]

    def insert() -> None:
        with connection.cursor() as cursor:
            first = sqlite.insert_messages(cursor, columns, rows)
        for number, message in enumerate(messages):
            message.pk = first + number
            message._state.adding = False

    return insert


def _check_campaigns(wanted: set[int], items: int) -> None:
    known = set(Campaign.objects.living().filter(pk__in=[pk for pk in wanted if abs(pk) < 2**63]).values_list("pk", flat=True))
    if missing := wanted - known:
        raise Refused(f"there is no campaign {min(missing)}", field="campaign_id", status=404 if items == 1 else 400)


def _taken(tokens: Sequence[str]) -> list[str]:
    return list(Message.objects.filter(tracking_token__in=tokens).values_list("tracking_token", flat=True)[:1])


def delete_campaign(campaign: Campaign, seconds: float = 0.5) -> None:
    """Delete a campaign with all that belongs to it: seen at once, its rows in chunks.

    What is not gone after `seconds` the ingester finishes; `purge_deleted()` is what it calls.
    """
    Campaign.objects.living().filter(pk=campaign.pk).update(deleted_at=utc_now())
    until = time.monotonic() + seconds
    for _ in purge_deleted():
        if time.monotonic() >= until:
            return


def purge_deleted() -> Iterator[int]:
    """Remove the rows of deleted campaigns, a chunk a transaction; yields the number of messages removed by each.

    Between chunks whoever waits to write goes first. Ends early while events are moved into partitions: what is left is for later.
    """
    for campaign_id in list(Campaign.objects.exclude(deleted_at=None).order_by("pk").values_list("pk", flat=True)):
        removed = 1
        while removed:
            with bulk_transaction():
                if not may_delete_events():
                    return
                removed = _purge_chunk(campaign_id)
            yield removed


def _purge_chunk(campaign_id: int) -> int:
    """Remove some of a campaign's messages, at the end the campaign. Returns the number of messages.

    The campaign is locked, so that two who purge take turns (not against its key, which a link that `apply()` adds refers to); then
    the messages, in the order in which `apply()` locks them, so that none of its events comes after the delete.
    """
    if Campaign.objects.select_for_update(no_key=True).filter(pk=campaign_id).first() is None:
        return 0
    messages = Message.objects.select_for_update().of_campaign(campaign_id).order_by("pk")
    ids = list(messages.values_list("pk", flat=True)[:DELETE_CHUNK])
    for some in chunks(ids):
        Event.objects.filter(message_id__in=some)._raw_delete("default")
        Message.objects.filter(pk__in=some)._raw_delete("default")
    if ids:
        CampaignCounters.objects.filter(pk=campaign_id).update(total=F("total") - len(ids))
    else:
        for model in (Link, HourlyCount, BounceReasonCount, CampaignCounters):
            model._default_manager.filter(campaign_id=campaign_id)._raw_delete("default")
        Campaign.objects.filter(pk=campaign_id)._raw_delete("default")
    return len(ids)
