"""All messages of a campaign as CSV, in chunks: flat memory, and no cursor or snapshot held while a slow client reads.

RFC 4180 (CRLF, quotes doubled), UTF-8 without a byte order mark, the fields and names of the API. Tags and metadata are JSON,
times ISO 8601 with Z, what is null is empty.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from django.db import connection

from campaigns.models import CampaignCounters
from campaigns.records import MESSAGE_FIELDS
from campaigns.sql.csv import CONTROLS, SIGNS, TRIMMED, postgresql_lines, sqlite_lines, writes_iso_dates
from campaigns.times import IsoTexts

#: Rows a query and a chunk: a megabyte of text and 25 ms, of which Python has its lock for one or two.
CHUNK = 5_000

_FORMULA = re.compile(f"[{CONTROLS}]|[{TRIMMED}]*[{re.escape(SIGNS)}]")

_ROWS = f"SELECT {', '.join(MESSAGE_FIELDS)} FROM messages WHERE campaign_id = %s AND id > %s ORDER BY id LIMIT %s"


def row_count(campaign_id: int) -> int:
    """How many rows the export has, by the campaign's counters: for a progress bar."""
    return CampaignCounters.objects.filter(pk=campaign_id).values_list("total", flat=True).first() or 0


def csv_chunks(campaign_id: int) -> Iterator[bytes]:
    """The file in parts, the header first. Each part is read in one query, finished before the part is given out."""
    for _, part in csv_parts(campaign_id):
        yield part


def csv_parts(campaign_id: int) -> Iterator[tuple[int, bytes]]:
    """`csv_chunks` with the number of rows in each part; the header counts as none."""
    yield 0, _csv([MESSAGE_FIELDS])
    last, count = 0, CHUNK
    while count == CHUNK:
        with connection.cursor() as cursor:
            count, last, part = _lines(cursor, campaign_id, last)
        if count:
            yield count, part


def _lines(cursor: Any, campaign_id: int, after: int) -> tuple[int, int, bytes]:
    """The next lines: how many, the last id, the lines."""
    if connection.vendor == "postgresql":
        return (postgresql_lines if writes_iso_dates(cursor) else plain_lines)(cursor, campaign_id, after, CHUNK)
    count, last, lines = sqlite_lines(cursor, campaign_id, after, CHUNK)
    return (count, last, lines) if b"\\u" not in lines else plain_lines(cursor, campaign_id, after, CHUNK)


def plain_lines(cursor: Any, campaign_id: int, after: int, limit: int) -> tuple[int, int, bytes]:
    """As `sqlite_lines`, without the database's help: half as fast, but JSON is readable."""
    cursor.execute(_ROWS, [campaign_id, after, limit])
    rows = cursor.fetchall()
    return len(rows), rows[-1][0] if rows else after, to_csv(rows)


def neutral(text: str | None) -> str | None:
    """The text with an apostrophe before it where a spreadsheet would take it for a formula."""
    return f"'{text}" if text and not text[0].isalnum() and _FORMULA.match(text) else text


def to_csv(rows: list[tuple[Any, ...]]) -> bytes:
    """Lines of rows as the database gives them: times in milliseconds, tags and metadata as JSON texts."""
    return _csv(_shown(rows))


def _shown(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Field by field, in the order of MESSAGE_FIELDS: with a loop over the fields an export took half as long again."""
    iso = IsoTexts()
    for (
        pk, campaign_id, email, token, template_id, tags, metadata, status, created, sent, delivered, opened, clicked, bounced,
        bounce_type, subtype, reason, diagnostic, opens, clicks, human_opens, human_clicks,
    ) in rows:  # fmt: skip
        yield (
            pk, campaign_id, neutral(email), neutral(token), template_id, _readable(tags), _readable(metadata), status,
            iso[created], iso[sent], iso[delivered], iso[opened], iso[clicked], iso[bounced],
            bounce_type, neutral(subtype), neutral(reason), neutral(diagnostic), opens, clicks, human_opens, human_clicks,
        )  # fmt: skip


def _readable(text: str) -> str:
    """JSON with its letters as they are; SQLite keeps what is not ASCII escaped."""
    return json.dumps(json.loads(text), ensure_ascii=False) if "\\u" in text else text


def _csv(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
