"""Lines that could not be applied: try them again, or drop them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import QuerySet

from campaigns.apply import Applied, apply
from campaigns.rules import BIGGEST, Refused
from campaigns.times import to_ms
from tracking.ingest.drain import AWAY, BAD_DATA, believed, count
from tracking.models import DeadLetter
from tracking.spool.lines import Lost, parse_line


@dataclass(frozen=True)
class Replayed:
    applied: int = 0
    unknown: int = 0  # no message has the token (any more); such letters are dropped too
    failed: int = 0  # still cannot be applied; they stay, with the new reason


def letters() -> QuerySet[DeadLetter]:
    """All of them, oldest first."""
    return DeadLetter.objects.order_by("id")


def letters_of(ids: Collection[int]) -> QuerySet[DeadLetter]:
    """Those with these ids, oldest first. Raises Refused (404) where there is none with one of them: a slip is not passed over."""
    found = letters().filter(pk__in=[pk for pk in ids if 0 < pk <= BIGGEST])
    if unknown := sorted(set(ids) - set(found.values_list("pk", flat=True))):
        raise Refused(f"there is no dead letter {', '.join(map(str, unknown))}", status=404)
    return found


def replay(chosen: QuerySet[DeadLetter]) -> Replayed:
    """Apply letters again, each in a transaction of its own; what succeeds is no letter any more. Raises OperationalError."""
    applied = unknown = failed = 0
    for pk in list(chosen.values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                letter = DeadLetter.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=pk).first()
                if letter is None:
                    continue
                said = believed(parse_line(bytes(letter.line)), to_ms(letter.created_at))
                result = Applied() if isinstance(said, Lost) else apply([said])
                with connection.cursor() as cursor:
                    count(cursor, unknown_tokens=result.unknown, dropped=said.hits if isinstance(said, Lost) else 0)
                letter.delete()
        except AWAY:
            raise
        except BAD_DATA as error:
            DeadLetter.objects.filter(pk=pk).update(error=f"{type(error).__name__}: {error}"[:1000])
            failed += 1
        else:
            applied += result.applied
            unknown += result.unknown
    return Replayed(applied, unknown, failed)


def purge(chosen: QuerySet[DeadLetter]) -> int:
    """Drop letters for good. Returns how many."""
    return DeadLetter.objects.filter(pk__in=chosen.values("pk")).delete()[0]  # `chosen` may have a limit, which DELETE has not
