"""The group `ingest`: the way of hits from the spool into the database."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer
from django.db.models import Max, QuerySet

from campaigns.times import iso
from tracking.cli import output
from tracking.cli.base import INTERRUPTED_STATUS, Failed, Json, Undrained, Yes, new_group
from tracking.models import DeadLetter

group = new_group("ingest", "Ingestion: from the spool of hits into the database.")

LINE_SHOWN = 60
LETTERS_SHOWN = 100


@group.command("run", cls=Undrained)
def run() -> None:
    """Take hits in until stopped (SIGTERM or Ctrl-C): those of this machine, and with TRACKING_SPOOL_URL those that others ship.

    A server takes in, or ships, its own by itself.
    """
    from tracking.ingest import worker

    stop, caught = threading.Event(), list[int]()

    def end(number: int, _frame: Any) -> None:
        caught.append(number)
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    output.note("taking hits in; Ctrl-C stops")
    try:
        worker.run(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in caught:
        raise typer.Exit(INTERRUPTED_STATUS)


@group.command("drain", cls=Undrained)
def drain(as_json: Json = False) -> None:
    """Take in what the spool, and nginx's logs (TRACKING_NGINX_LOGS), hold now."""
    from tracking.ingest.drain import drain as drain_spool
    from tracking.ingest.drain import pending, read_positions, spool
    from tracking.ingest.nginx_logs import drain_logs, logs, pending_logs

    read_positions([*spool(), *logs()])
    in_spool, in_logs = pending(), pending_logs()
    total = in_spool + in_logs
    before = DeadLetter.objects.aggregate(last=Max("pk"))["last"] or 0
    with output.progress("Taking in bytes", total) as advance:
        left = _take_in(drain_spool, in_spool, advance) + _take_in(drain_logs, in_logs, advance)
    if as_json:
        output.print_json({"applied": total - left, "pending": left})
        return
    output.say(f"Took in {output.counted(total - left, 'byte')}, {left} pending" if total else "Nothing is pending")
    if dead := DeadLetter.objects.filter(pk__gt=before).count():
        output.note(f"{output.counted(dead, 'new dead letter')}: lines that could not be applied; `ingest dead-letters` says why")


def _take_in(drain_for: Callable[..., int], left: int, advance: Callable[[int], None]) -> int:
    """Drain in parts until nothing more goes. Returns the bytes that are left; raises where the database is away."""
    while left:
        now = drain_for(0.5)
        more = now < left
        if not more:
            now = drain_for()  # as long as it takes
        advance(left - now)
        left = now
        if not more:
            break
    return left


@group.command("status", cls=Undrained)
def status(as_json: Json = False) -> None:
    """Show what is waiting and what was lost."""
    from tracking.ingest.status import ingest_status

    found = ingest_status()
    if as_json:
        output.print_json(found)
        return
    output.say(
        output.facts(
            [
                ("Pending", f"{found['pending']} bytes in {output.counted(found['segments'], 'segment')}"),
                ("Lag", f"{found['lag_seconds']} seconds"),
                ("Dead letters", found["dead_letters"]),
                ("Unknown tokens", found["unknown_tokens"]),
                ("Dropped", found["dropped"]),
                ("Rate", f"{found['events_per_second']} events a second, over the last minute"),
                ("Ingesters", found["ingesters"]),
                ("Disk", _disk(found["disk"])),
                *([("Stream", _stream(**found["stream"]))] if "stream" in found else []),
            ]
        )
    )


def _disk(disk: dict[str, Any]) -> str:
    return f"{output.size(disk['free_bytes'])} free" + ("" if disk["writable"] else "; hits cannot be written")


def _stream(chunks: int | None, oldest_seconds: float | None) -> str:
    if chunks is None:
        return "Redis is away, hits wait in the spools"
    return output.counted(chunks, "chunk") + (f", the oldest sent {oldest_seconds} seconds ago" if chunks else "")


@group.command("dead-letters", cls=Undrained)
def dead_letters(
    action: Annotated[Literal["list", "replay", "purge"], typer.Argument(help="What to do with them.")] = "list",
    pk: Annotated[list[int] | None, typer.Option("--id", help="Only this one; give it several times.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="At most so many. Unless given, 100 are listed, all tried again or dropped.")
    ] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """List lines of the spool that could not be applied, try them again, or drop them for good. The oldest come first.

    Trying again fails (status 1) where one could not be applied again; it stays, with the new reason.
    """
    from tracking.ingest import dead_letters as letters

    found = letters.letters() if pk is None else letters.letters_of(pk)
    if action == "list":
        _list(found[: limit or LETTERS_SHOWN], as_json)
    elif action == "replay":
        _replay(found[:limit], as_json)
    else:
        _purge(found[:limit], yes, as_json)


def _list(found: QuerySet[DeadLetter], as_json: bool) -> None:
    if as_json:
        output.print_json([_record(letter) for letter in found])
        return
    rows = [
        (letter.pk, output.moment(letter.created_at), output.short(letter.error), output.short(_line(letter), LINE_SHOWN))
        for letter in found
    ]
    output.say(output.table(["ID", "Time (UTC)", "Error", "Line"], rows, right=["ID"], shorten="Error"))


def _replay(found: QuerySet[DeadLetter], as_json: bool) -> None:
    from tracking.ingest import dead_letters as letters

    done = letters.replay(found)
    if as_json:
        output.print_json(vars(done))
    else:
        output.say(f"{done.applied} applied, {done.unknown} of no message, {done.failed} failed")
    if done.failed:
        raise Failed(f"{output.counted(done.failed, 'dead letter')} could not be applied again; `ingest dead-letters` says why")


def _purge(found: QuerySet[DeadLetter], yes: bool, as_json: bool) -> None:
    from tracking.ingest import dead_letters as letters

    count = found.count()
    if count and not yes and not output.confirm(f"Drop {output.counted(count, 'dead letter')} for good?"):
        raise typer.Abort
    purged = letters.purge(found)
    output.print_json({"purged": purged}) if as_json else output.say(f"Dropped {output.counted(purged, 'dead letter')}")


def _line(letter: Any) -> str:
    return bytes(letter.line).decode(errors="backslashreplace")


def _record(letter: Any) -> dict[str, Any]:
    return {
        "id": letter.pk,
        "segment": letter.segment,
        "position": letter.position,
        "line": _line(letter),
        "error": letter.error,
        "created_at": iso(letter.created_at),
    }
