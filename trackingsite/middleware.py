"""Middleware of the house itself."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

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
