"""Nobody gets in without access, except where everybody may."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from trackingsite import problems
from trackingsite.access.decision import Access, needed_scope

#: First parts of public addresses. Webhooks verify their senders themselves, the admin is Django's own.
PUBLIC = frozenset({"track", "health", "static", "favicon.ico", "webhooks", "admin"})
#: Of these, what is answered under any name: a link in a mail works whatever TRACKING_ALLOWED_HOSTS says today.
ANY_HOST = frozenset({"track", "health", "static"})


class AccessMiddleware:
    """Sets `request.access`, and refuses what it does not allow: GET needs `read`, every other method `write`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        access = request.access = Access(request)  # type: ignore[attr-defined]
        part = request.path_info[1:].partition("/")[0]
        if part not in ANY_HOST:
            try:
                request.get_host()
            except DisallowedHost as error:  # answered here: Django would log a traceback for each
                return problems.bad_request(request, error)
        if part in PUBLIC or request.path_info == "/" or access.may(needed_scope(request)):
            return self.get_response(request)
        return refuse(request, access)


def refuse(request: HttpRequest, access: Access) -> HttpResponse:
    """401 to who is unknown (403 to a browser, which gets a page), 403 to a key without the scope: in all cases how to get in."""
    if access.allowed:
        scope = needed_scope(request)
        response: HttpResponse = problems.problem(403, f"This API key lacks the scope {scope}; it has: {', '.join(sorted(access.scopes))}.")
        response["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{scope}"'
    elif problems.wants_page(request) and not access.bad_key:
        response = render(request, "access/refused.html", {"next": request.get_full_path(), "reason": access.not_local}, status=403)
    else:
        response = problems.problem(401, access.refusal)
        response["WWW-Authenticate"] = 'Bearer error="invalid_token"' if access.bad_key else "Bearer"
    response["Cache-Control"] = "no-store"
    return response
