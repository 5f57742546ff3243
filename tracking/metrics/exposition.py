"""All numbers as Prometheus reads them: what the processes of this machine counted, and how things stand now."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from itertools import accumulate

import django
from django.conf import settings
from django.db import connection
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tracking.brief_queries import NO_ANSWER, brief
from tracking.ingest import status
from tracking.ingest.drain import READ_BUDGET, drain, pending
from tracking.ingest.nginx_logs import pending_logs
from tracking.metrics.names import COUNTERS, HISTOGRAMS, STARTED, CounterFamily, HistogramFamily, recent_rate, split
from tracking.metrics.shared import Numbers
from tracking.models import DeadLetter, IngestCount
from tracking.spool.disk import disk_under


class Everything:
    """A collector. It looks at the spool first, and then applies it as any read does: so a backlog is shown as it was found, and
    counts have every hit that was answered before."""

    def collect(self) -> Iterator[Metric]:
        yield from _of_spool()
        if url := settings.CONF.spool_url:
            yield from _of_stream(url)
        drain(READ_BUDGET)
        yield from _of_database()
        numbers = status.read_numbers()
        for counter in COUNTERS:
            yield _counter(counter, numbers)
        for histogram in HISTOGRAMS:
            yield _histogram(histogram, numbers)
        yield from _of_processes(numbers)


def _of_spool() -> Iterator[Metric]:
    disk = disk_under(settings.CONF.spool_dir)
    can_write = status.can_write(disk, status.read_numbers())
    yield _gauge("tracking_spool_free_bytes", "Room on the disk of the spool.", disk.free)
    yield _gauge("tracking_spool_writable", "Whether hits can be written down (1), or are answered and lost (0).", can_write)
    try:
        with brief():
            waiting = status.backlog()
    except NO_ANSWER:
        waiting = None
    found = waiting.pending if waiting else pending() + pending_logs()
    yield _gauge("tracking_spool_bytes", "Hits that are not in the database yet, in bytes.", found)
    if waiting is None:
        return
    yield _gauge("tracking_spool_segments", "Segments of the spool that are not applied to their end.", waiting.segments)
    yield _gauge("tracking_spool_age_seconds", "Age of the oldest hit that is not in the database yet.", waiting.lag)


def _of_stream(url: str) -> Iterator[Metric]:
    from tracking.spool.stream import stream_status  # the client of Redis, which few have

    found = stream_status(url)
    yield _gauge("tracking_stream_up", "Whether Redis answers.", found["chunks"] is not None)
    if found["chunks"] is not None:
        yield _gauge("tracking_stream_chunks", "Chunks of spools on their way, of all machines.", found["chunks"])
        yield _gauge("tracking_stream_age_seconds", "Since the oldest of them was sent.", found["oldest_seconds"])


def _of_database() -> Iterator[Metric]:
    try:
        with brief():
            letters = DeadLetter.objects.count()
            counts = dict(IngestCount.objects.values_list("name", "n"))
    except NO_ANSWER:
        yield _gauge("tracking_database_up", "Whether the database answers.", 0)
        return
    yield _gauge("tracking_database_up", "Whether the database answers.", 1)
    yield _gauge("tracking_dead_letters", "Lines that could not be applied, in the whole database.", letters)
    yield CounterMetricFamily(
        "tracking_unknown_tokens", "Hits on tokens that no message has, in the whole database.", counts.get("unknown_tokens", 0)
    )


def _of_processes(numbers: Numbers) -> Iterator[Metric]:
    yield _gauge("tracking_ingesters", "Ingesters that are at work on this machine.", status.ingesters(numbers))
    yield _gauge("tracking_ingest_events_per_second", "Of the last minute, on this machine.", recent_rate(numbers.held))
    if started := [each[STARTED] for each in numbers.held if STARTED in each]:
        yield _gauge("process_start_time_seconds", "When the oldest process that answers requests began.", min(started))
    build = GaugeMetricFamily("tracking_build_info", "What is running.", labels=["version", "python", "django", "database"])
    build.add_metric([version(), platform.python_version(), django.get_version(), connection.vendor], 1)
    yield build


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, float(value))


def _counter(family: CounterFamily, numbers: Numbers) -> Metric:
    metric = CounterMetricFamily(family.name, family.help, labels=family.labels)
    found = dict.fromkeys(family.usual, 0) | dict(_numbers_of(family.name, numbers))
    for labels, n in sorted(found.items()):
        metric.add_metric(labels, n)
    return metric


def _histogram(family: HistogramFamily, numbers: Numbers) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    found: dict[tuple[str, ...], dict[str, int]] = {} if family.labels else {(): {}}
    for (*labels, what), n in _numbers_of(family.name, numbers):
        found.setdefault(tuple(labels), {})[what] = n
    bounds = [*(str(float(bound)) for bound in family.bounds), "+Inf"]
    for values, each in sorted(found.items()):
        upto = accumulate(each.get(str(bucket), 0) for bucket in range(len(bounds)))
        metric.add_metric(values, list(zip(bounds, upto, strict=True)), each.get("sum", 0) / 1e6)
    return metric


def _numbers_of(family: str, numbers: Numbers) -> Iterable[tuple[tuple[str, ...], int]]:
    for name, n in numbers.totals.items():
        first, *labels = split(name)
        if first == family:
            yield tuple(labels), n


@cache
def version() -> str:
    try:
        return metadata.version("email-tracking-service")
    except metadata.PackageNotFoundError:  # run from its folder, without having been installed
        return "unknown"
