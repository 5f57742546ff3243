#!/usr/bin/env python
"""Django's command line: `python manage.py tracking --help` is the same tree as `email-tracking-cli --help`."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # a wrong setting: its line is enough
        sys.exit(str(error))


if __name__ == "__main__":
    main()
