"""For `manage.py runserver`. Servers take `tracking.server:create_tracking_app()`, which also makes the database ready."""

from __future__ import annotations

import os
from typing import Any

import django
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trackingsite.settings")


class Request(WSGIRequest):
    """Django's request, but read as UTF-8 whatever charset it names: some are codecs that fail on any text (`base64`, `idna`)."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except ValueError:  # too long
            self.content_type, self.content_params = "", {}


class Handler(WSGIHandler):
    request_class = Request


def get_application() -> WSGIHandler:
    """Django as a WSGI application. Sets Django up."""
    django.setup(set_prefix=False)
    return Handler()


application = get_application()
