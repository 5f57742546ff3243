#!/usr/bin/env python
"""Django's command line: `python manage.py tracking --help` is the same tree as `email-tracking-cli --help`."""

import os
import sys

#: Commands that people give before the first start, and that can do nothing without tables.
NEED_TABLES = ("createsuperuser", "changepassword")
#: With these the command does nothing, or with the settings of another project.
NOT_OURS = ("-h", "--help", "--version", "--settings", "--pythonpath")


def needs_tables(command: str = "", *arguments: str) -> bool:
    return command in NEED_TABLES and not any(argument.startswith(NOT_OURS) for argument in arguments)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    from tracking import prepare

    try:
        if needs_tables(*sys.argv[1:]):
            prepare.start()
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, prepare.NotReady) as error:  # its line is enough
        sys.exit(str(error))


if __name__ == "__main__":
    main()
