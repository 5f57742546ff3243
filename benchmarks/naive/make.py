"""python -m benchmarks.naive.make TOKENS: its tables, with a message for each line of a file of tokens."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django


def make(tokens: list[str]) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.naive.settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)

    from benchmarks.naive.models import Message

    Message.objects.bulk_create(
        [Message(recipient_email=f"{token}@example.com", tracking_token=token) for token in tokens], batch_size=1000
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]).read_text().split())
