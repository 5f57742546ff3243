"""System checks: what `manage.py check` and `manage.py check --deploy` say of the settings."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning


@register(Tags.security)
def spool_can_be_written(**_: Any) -> list[CheckMessage]:
    folder = settings.CONF.spool_dir
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(place, os.W_OK | os.X_OK):
        return []
    return [
        Error(
            f"The spool {folder} cannot be written: every hit would be lost.",
            hint=f"Give this user the right to write {place}, or set TRACKING_DATA_DIR.",
            id="tracking.E001",
        )
    ]


@register(Tags.security, deploy=True)
def unsigned_links_are_confirmed(**_: Any) -> list[CheckMessage]:
    if settings.CONF.unsigned_links != "allow":
        return []
    return [
        CheckWarning(
            "Links without a signature redirect anywhere for whoever knows a token: they can be used for phishing in your name.",
            hint="Set TRACKING_UNSIGNED_LINKS=confirm, or refuse; hosts of your own go into TRACKING_REDIRECT_HOSTS.",
            id="tracking.W001",
        )
    ]


@register(Tags.security, deploy=True)
def links_have_a_public_address(**_: Any) -> list[CheckMessage]:
    if settings.CONF.base_url:
        return []
    return [
        CheckWarning(
            "Links that are made outside a request (by the command line and Python) start with http://localhost.",
            hint="Set TRACKING_BASE_URL=https://tracking.example.com",
            id="tracking.W002",
        )
    ]
