"""Fresh reads: whoever asks sees every hit that this machine answered before."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tracking.ingest.drain import READ_BUDGET, drain

READS = re.compile(r"/(?:api|dashboard|admin)(?:/|$)")
#: These POSTs answer with a message.
MARKS = re.compile(r"/api/messages/\d+/")

Handler = Callable[[HttpRequest], HttpResponse]


class DrainBeforeReads:
    """Applies the spool before a read, for 250 ms at most. What is then still missing, `Tracking-Pending` says in bytes.

    Views know nothing of it. With nothing pending it costs a look into the spool's folder and no query.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        left = drain(READ_BUDGET) if self.reads(request) else 0
        request.tracking_pending = left  # type: ignore[attr-defined]
        response = self.get_response(request)
        if left:
            response["Tracking-Pending"] = str(left)
        return response

    @staticmethod
    def reads(request: HttpRequest) -> bool:
        path = request.path_info
        if request.method in ("GET", "HEAD"):
            return READS.match(path) is not None
        return request.method == "POST" and MARKS.match(path) is not None
