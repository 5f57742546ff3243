"""All messages of a campaign as CSV, beside a loop over `iterator()` that writes the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.child import run_child
from benchmarks.ingest import postgresql_settings
from benchmarks.results import Row, alone, paired
from benchmarks.servers import service_environment

#: Rounds of this: each takes half a minute.
ROUNDS = 2


def export(bench: Bench) -> list[Row]:
    rows = []
    many = f"{bench.messages:,}"
    for vendor, goal in (("SQLite", "≥ 2.2"), ("PostgreSQL", "≥ 8")):
        folder = bench.folder / vendor
        folder.mkdir()
        environment = service_environment(folder, **({} if vendor == "SQLite" else postgresql_settings(bench, folder)))
        campaign = run_child("benchmarks.export:make", environment, messages=bench.messages)
        before, peak = run_child("benchmarks.export:memory", environment, campaign=campaign)
        print(f"  CSV, {vendor}: the process has {before:.0f} MB when it begins, {peak:.0f} MB at its peak")
        rates = run_child("benchmarks.export:measure", environment, campaign=campaign, rounds=min(ROUNDS, bench.rounds))
        rows.append(paired(f"CSV of {many} messages / iterator(), {vendor} (rows/s)", rates["ours"], rates["iterator"], goal))
        rows.append(alone(f"CSV of {many} messages, {vendor}: memory it takes at its peak (MB)", peak - before, "≤ 64"))
    return rows


def make(messages: int) -> int:
    """A campaign with this many messages: its id."""
    from benchmarks.data import make_messages
    from campaigns.models import Campaign

    make_messages(messages)
    return Campaign.objects.values_list("pk", flat=True).get()


def memory(campaign: int) -> tuple[float, float]:
    """The most memory that the process had before an export and after it, in MB: interpreter, Django and all."""
    before = _peak_memory()
    _consume(lambda: _ours(campaign))
    return before, _peak_memory()


def _peak_memory() -> float:
    """Of this program: `ru_maxrss` would begin with the peak of the one that started it."""
    [kilobytes] = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def measure(campaign: int, rounds: int) -> dict[str, list[float]]:
    """Rows a second, a round each. Both write the same file."""
    from campaigns.models import Message

    count = Message.objects.count()
    ways: dict[str, Callable[[], Iterator[bytes]]] = {"ours": lambda: _ours(campaign), "iterator": lambda: _by_iterator(campaign)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        written = set()
        for name, way in ways.items():
            began = time.perf_counter()
            written.add(_consume(way))
            rates[name].append(count / (time.perf_counter() - began))
        assert len(written) == 1
    return rates


def _consume(way: Callable[[], Iterator[bytes]]) -> str:
    """The digest of what was written; sha1 of a gigabyte takes a second, which both pay."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in way():
        digest.update(part)
    return digest.hexdigest()


def _ours(campaign: int) -> Iterator[bytes]:
    from campaigns.export import csv_chunks

    return csv_chunks(campaign)


def _by_iterator(campaign: int) -> Iterator[bytes]:
    """Row by row through the model, as Django's documentation shows it for large files."""
    from campaigns.export import neutral
    from campaigns.models import Message
    from campaigns.records import MESSAGE_FIELDS
    from campaigns.times import iso

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(MESSAGE_FIELDS)

    def moment(value: Any) -> str:
        return "" if value is None else iso(value)

    for number, message in enumerate(Message.objects.filter(campaign_id=campaign).order_by("id").iterator()):
        writer.writerow(
            [
                message.id, message.campaign_id, neutral(message.recipient_email), neutral(message.tracking_token), message.template_id,
                json.dumps(message.tags), json.dumps(message.metadata), message.status,
                moment(message.created_at), moment(message.sent_at), moment(message.delivered_at), moment(message.opened_at),
                moment(message.clicked_at), moment(message.bounced_at),
                message.bounce_type, neutral(message.bounce_subtype), neutral(message.bounce_reason), neutral(message.diagnostic_code),
                message.open_count, message.click_count, message.human_open_count, message.human_click_count,
            ]
        )  # fmt: skip
        if number % 2_000 == 1_999:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
