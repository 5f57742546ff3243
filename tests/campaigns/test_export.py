from __future__ import annotations

import csv
import io
import json
import tracemalloc
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from campaigns import export, lifecycle
from campaigns.apply import apply
from campaigns.events import EventKind, manual_mark
from campaigns.models import Campaign, Message
from campaigns.records import MESSAGE_FIELDS
from campaigns.sql.csv import CONTROLS, SIGNS, TRIMMED
from campaigns.status import Status
from tests.campaigns.calls import Api

#: The cells that others write.
TEXT_CELLS = [
    MESSAGE_FIELDS.index(name) for name in ("recipient_email", "tracking_token", "bounce_subtype", "bounce_reason", "diagnostic_code")
]
START = 1_705_312_800_000  # 2024-01-15T10:00:00Z


def read(parts: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(b"".join(parts).decode(), newline=""), strict=True))


def fill(campaign: Campaign, count: int) -> None:
    Message.objects.bulk_create(
        (Message(campaign=campaign, recipient_email=f"u{n}@example.com", tracking_token=f"t{campaign.pk}-{n}") for n in range(count)),
        10_000,
    )


@pytest.mark.django_db
def test_the_file_has_the_fields_of_a_message_in_their_order(api: Api, campaign: Campaign) -> None:
    message = lifecycle.create_message("a@example.com", campaign.pk, "tok", 7, ["x, y", "ü"], {"k": "é", "n": 1})
    apply(
        [manual_mark(EventKind.BOUNCED, "api", message.pk, START + 250, reason='said "no",\nthen left', diagnostic_code="smtp; 550 5.1.1")]
    )
    answer = api.client.get(f"/api/campaigns/{campaign.pk}/export")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="campaign_{campaign.pk}.csv"'
    header, row = read(answer)  # type: ignore[misc]
    assert tuple(header) == MESSAGE_FIELDS
    shown = api.get(f"/api/messages/{message.pk}")
    cells = dict(zip(header, row, strict=True))
    assert (json.loads(cells.pop("tags")), json.loads(cells.pop("metadata"))) == (shown.pop("tags"), shown.pop("metadata"))
    assert cells == {name: "" if value is None else str(value) for name, value in shown.items()}
    assert cells["bounced_at"] == "2024-01-15T10:00:00.250Z"


@pytest.mark.django_db
def test_letters_beyond_ascii_are_readable(campaign: Campaign) -> None:
    lifecycle.create_message("ü@example.com", campaign.pk, tags=["é", "\\u00e9"], metadata={"k": "日本"})
    text = b"".join(export.csv_chunks(campaign.pk)).decode()
    row = read([text.encode()])[1]
    assert "日本" in text
    assert (row[2], json.loads(row[5])) == ("ü@example.com", ["é", "\\u00e9"])


@pytest.mark.django_db
def test_a_campaign_without_messages_is_a_header(api: Api, campaign: Campaign) -> None:
    assert read(api.client.get(f"/api/campaigns/{campaign.pk}/export")) == [list(MESSAGE_FIELDS)]


@pytest.mark.django_db
@pytest.mark.parametrize("accept", ["text/csv", "*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json"])
def test_any_client_gets_the_file(api: Api, campaign: Campaign, accept: str) -> None:
    answer = api.client.get(f"/api/campaigns/{campaign.pk}/export", headers={"accept": accept})
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    missing = api.client.get("/api/campaigns/999/export", headers={"accept": accept})
    assert (missing.status_code, missing["Content-Type"]) == (404, "application/problem+json")


@pytest.mark.django_db
def test_a_filter_is_refused_for_all_are_exported(api: Api, campaign: Campaign) -> None:
    assert "status" in api.refused("get", f"/api/campaigns/{campaign.pk}/export?status=sent")


@pytest.mark.django_db
@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 400])
def test_each_message_is_there_once_whatever_the_chunks(campaign: Campaign, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CHUNK", 200)
    other = lifecycle.create_campaign("other")
    fill(campaign, count // 2)
    fill(other, 10)
    Message.objects.bulk_create(
        Message(campaign=campaign, recipient_email="b@example.com", tracking_token=f"b{n}") for n in range(count - count // 2)
    )
    parts = list(export.csv_parts(campaign.pk))
    ids = [int(row[0]) for row in read(part for _, part in parts)[1:]]
    assert ids == list(Message.objects.filter(campaign=campaign).order_by("id").values_list("pk", flat=True))
    assert sum(rows for rows, _ in parts) == count


@pytest.mark.django_db
def test_each_part_is_one_finished_query_and_messages_added_meanwhile_come_along(campaign: Campaign) -> None:
    fill(campaign, export.CHUNK)
    parts = export.csv_parts(campaign.pk)
    with CaptureQueriesContext(connection) as captured:
        assert next(parts)[0] == 0
        assert len(captured) == 0
        assert next(parts)[0] == export.CHUNK
        assert len(captured) == 1
    lifecycle.create_message("late@example.com", campaign.pk)
    assert b"late@example.com" in next(parts)[1]
    assert next(parts, None) is None


@pytest.mark.django_db
def test_the_number_of_rows_is_known_before(campaign: Campaign, message: Message) -> None:
    assert export.row_count(campaign.pk) == 1
    assert export.row_count(999) == 0


@pytest.mark.parametrize(
    "cell",
    [
        "=cmd|'/c calc'!A1", "+1", "-1", "@x", "\t=1", "\rx", " =1", "\u00a0=1", "\ufeff=1", " \u200b@x", "\n=1", "＝1", "－1",
        "+tag@example.com",
    ],
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert export.neutral(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "user@example.com", "550 5.1.1 -- no", "a=1", "'=1", "smtp; 550", "(=1)"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert export.neutral(cell) == cell


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    ['"', '""', ",", "\r", "\n", "\r\n", "=1", " =1", "'", "'=1", "a\rb", "a\n=1"]
)


@given(st.lists(st.tuples(*[TEXTS] * len(TEXT_CELLS)), min_size=1, max_size=5))
@example([("a\rb", "\r", "\n", "a,b", '"')])
def test_what_is_written_is_read_back_apart_from_the_apostrophe(texts: list[tuple[str, ...]]) -> None:
    rows = []
    for number, cells in enumerate(texts):
        row: list[Any] = [None] * len(MESSAGE_FIELDS)
        row[0], row[5], row[6] = number, "[]", "{}"
        for index, cell in zip(TEXT_CELLS, cells, strict=True):
            row[index] = cell
        rows.append(tuple(row))
    back = read([export.to_csv(rows)])
    assert [[row[index] for index in TEXT_CELLS] for row in back] == [[export.neutral(cell) for cell in cells] for cells in texts]
    assert all(not cell or cell[0] not in "=+-@\t\r" for row in back for cell in row)


NASTY = (
    TEXTS
    | st.builds(
        "".join,
        st.lists(
            st.sampled_from(["=", "+", "＝", " ", "\u3000", "\ufeff", "\u200b", "\t", "\r", "\n", ",", '"', "a", "9", "é"]), max_size=5
        ),
    )
    | st.builds(str.__add__, st.sampled_from(TRIMMED + SIGNS + CONTROLS), TEXTS)
)
LATEST = 8_000_000_000  # seconds; 2223
MOMENTS = st.integers(0, LATEST * 1000) | st.integers(0, LATEST).map(lambda seconds: seconds * 1000)
JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NASTY
MESSAGES = st.fixed_dictionaries(
    {
        "recipient_email": NASTY,
        "tracking_token": NASTY,
        "template_id": st.none() | st.integers(-(2**63), 2**63 - 1),
        "tags": st.lists(NASTY, max_size=2),
        "metadata": st.dictionaries(NASTY, JSON, max_size=2),
        "status": st.sampled_from([status.value for status in Status]),
        "created_at": MOMENTS,
        **{name: st.none() | MOMENTS for name in MESSAGE_FIELDS if name.endswith("_at") and name != "created_at"},
        "bounce_type": st.sampled_from([None, "permanent", "temporary"]),
        "bounce_subtype": st.none() | NASTY,
        "bounce_reason": st.none() | NASTY,
        "diagnostic_code": st.none() | NASTY,
        "open_count": st.integers(0, 2**31 - 1),
    }
)


@pytest.mark.django_db
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(MESSAGES, min_size=1, max_size=6, unique_by=lambda message: message["tracking_token"]))
def test_what_the_database_makes_is_what_python_makes_to_the_byte(campaign: Campaign, messages: list[dict[str, Any]]) -> None:
    Message.objects.all()._raw_delete("default")
    Message.objects.bulk_create(Message(campaign=campaign, **fields) for fields in messages)
    with connection.cursor() as cursor:
        assert export._lines(cursor, campaign.pk, 0) == export.plain_lines(cursor, campaign.pk, 0, export.CHUNK)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="of PostgreSQL")
@pytest.mark.django_db
def test_another_style_of_dates_changes_nothing(campaign: Campaign, message: Message) -> None:
    usual = list(export.csv_chunks(campaign.pk))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL datestyle TO German")
    assert list(export.csv_chunks(campaign.pk)) == usual


@pytest.mark.django_db
def test_python_makes_only_what_the_database_cannot(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.create_message("ü@example.com", campaign.pk, tags=["a, b"], metadata={"k": 'say "no"'})
    lifecycle.create_message("=1@example.com", campaign.pk)
    with connection.cursor() as cursor:
        plain = export.plain_lines(cursor, campaign.pk, 0, export.CHUNK)[2]
    monkeypatch.delattr(export, "to_csv")
    assert b"".join(export.csv_chunks(campaign.pk)).partition(b"\r\n")[2] == plain
    lifecycle.create_message("a@example.com", campaign.pk, tags=["é"])
    if connection.vendor == "sqlite":
        with pytest.raises(NameError):
            list(export.csv_chunks(campaign.pk))


@pytest.mark.slow
@pytest.mark.django_db
def test_memory_stays_flat_however_long_the_file(campaign: Campaign) -> None:
    fill(campaign, 30_000)
    size = 0
    tracemalloc.start()
    try:
        for part in export.csv_chunks(campaign.pk):
            size += len(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 2_000_000
    assert peak < 8_000_000
