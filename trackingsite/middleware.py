"""Middleware of the house itself."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from tracking.hits.client_ip import is_trusted
from trackingsite import problems

Handler = Callable[[HttpRequest], HttpResponse]


def tolerate_trailing_slash(get_response: Handler) -> Handler:
    """Addresses have no slash at their end; one is tolerated, except under /admin/, which has its own."""

    def middleware(request: HttpRequest) -> HttpResponse:
        path = request.path_info
        if len(path) > 1 and path.endswith("/") and not path.startswith(("/admin/", "/static/")):
            request.path_info = path[:-1]
            request.path = request.path[:-1]
        return get_response(request)

    return middleware


def say_what_is_allowed(get_response: Handler) -> Handler:
    """Give the bare 405 of Django's decorators a body, as every other error has."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code == 405 and not response.content and request.method != "HEAD":
            told = problems.answer(request, 405, f"{request.method} is not allowed here; {response['Allow']} are.")
            told["Allow"] = response["Allow"]
            return told
        return response

    return middleware


def believe_proxies(get_response: Handler) -> Handler:
    """Only a trusted proxy may say that a request came by HTTPS. (Whose request it was, `tracking.hits.client_ip` finds out.)"""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "HTTP_X_FORWARDED_PROTO" in request.META and not is_trusted(request.META.get("REMOTE_ADDR", ""), settings.CONF.trusted_proxies):
            del request.META["HTTP_X_FORWARDED_PROTO"]
        return get_response(request)

    return middleware
