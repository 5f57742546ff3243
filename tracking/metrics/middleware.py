"""Counts and times every request that reaches Django."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from tracking.metrics.names import DURATION, REQUESTS, STARTED, count_hits
from tracking.metrics.shared import Counters, process_counters

Handler = Callable[[HttpRequest], HttpResponse]

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
#: First parts of addresses, for what was answered before Django looked where it leads (a refusal, a static file).
PARTS = frozenset({"admin", "api", "dashboard", "health", "metrics", "static", "track", "webhooks"})

_started = int(time.time())


def count_requests(get_response: Handler) -> Handler:
    """The outermost middleware, so that it sees what all others answer.

    The page of a process that answers is there from its start: what it loses to a full disk it can then tell the others.
    """
    _hold_start(process_counters(settings.CONF.spool_dir))

    def middleware(request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = get_response(request)
        _count(process_counters(settings.CONF.spool_dir), request, response.status_code, time.perf_counter() - began)
        return response

    return middleware


def _hold_start(counters: Counters) -> None:
    if not counters.held(STARTED):  # nor in a child of the process that loaded this
        counters.hold(STARTED, _started)


def _count(counters: Counters, request: HttpRequest, status: int, seconds: float) -> None:
    _hold_start(counters)
    match = request.resolver_match
    if match is not None and match.url_name in ("pixel", "redirect"):
        count_hits(counters, match.url_name, status)
        return
    route = route_of(request.path_info, None if match is None else match.route)
    method = request.method if request.method in METHODS else "other"
    counters.add(REQUESTS.of(route, method or "other", str(status)))
    DURATION.observe(counters, seconds, route)


def route_of(path: str, pattern: str | None) -> str:
    """A label for where a request went: one of the site's own patterns, never what a client wrote.

    `pattern` is Django's, None where the address was not looked up. All of the admin is one.
    """
    if pattern is not None and not pattern.startswith("admin/"):
        return _readable(pattern)
    part = path[1:].partition("/")[0]
    return f"/{part}" if part in PARTS else "other"


@lru_cache(maxsize=1000)
def _readable(pattern: str) -> str:
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", pattern)
