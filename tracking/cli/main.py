"""The console script `email-tracking-cli`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def main() -> int:
    """Carry out the process's line; returns the exit status."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
    os.environ.setdefault("TYPER_USE_RICH", "0")  # its help is a screen of boxes, and costs a tenth of a second
    _open_streams()
    import django
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management.base import CommandError, handle_default_options

    args = sys.argv[1:]
    try:
        from tracking.cli.base import PROGRAM, run, split_options

        with suppress(CommandError):  # run() says what is wrong
            handle_default_options(split_options(args)[0])
        django.setup()
        from tracking.management.commands.tracking import Command

        return run(Command(), args, PROGRAM)
    except ImproperlyConfigured as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _open_streams() -> None:
    """Neither a closed stream nor a terminal without UTF-8 is a reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
