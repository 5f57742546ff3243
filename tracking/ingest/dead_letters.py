"""Lines that could not be applied: try them again, or drop them."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import DatabaseError, transaction
from django.db.models import QuerySet

from campaigns.apply import apply
from tracking.ingest.drain import AWAY
from tracking.models import DeadLetter
from tracking.spool.lines import BadLine, Lost, parse_line


@dataclass(frozen=True)
class Replayed:
    applied: int = 0
    unknown: int = 0  # no message has the token (any more); such letters are dropped too
    failed: int = 0  # still cannot be applied; they stay, with the new reason


def letters() -> QuerySet[DeadLetter]:
    """All of them, oldest first."""
    return DeadLetter.objects.order_by("id")


def replay(chosen: QuerySet[DeadLetter]) -> Replayed:
    """Apply letters again, each in a transaction of its own; what succeeds is no letter any more. Raises OperationalError."""
    applied = unknown = failed = 0
    for pk in list(chosen.values_list("pk", flat=True)):
        try:
            with transaction.atomic():
                letter = DeadLetter.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=pk).first()
                if letter is None:
                    continue
                said = parse_line(bytes(letter.line))
                result = None if isinstance(said, Lost) else apply([said])
                letter.delete()
        except AWAY:
            raise
        except (BadLine, DatabaseError, ValueError, TypeError, KeyError) as error:
            DeadLetter.objects.filter(pk=pk).update(error=f"{type(error).__name__}: {error}"[:1000])
            failed += 1
        else:
            applied += result.applied if result else 0
            unknown += result.unknown if result else 0
    return Replayed(applied, unknown, failed)


def purge(chosen: QuerySet[DeadLetter]) -> int:
    """Drop letters for good. Returns how many."""
    return chosen.delete()[0]
